"""A submission is whole: every checkpoint, the zip, and what a kill leaves behind."""

import io
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from unlearning.challenge import write_checkpoints, zip_submission

ROOT = Path(__file__).resolve().parents[2]

# Run by another interpreter, and killed in its third network.
KILLED = """
import os, signal, sys
from torch import nn
from unlearning.challenge import write_checkpoints

def unlearn(seed):
    if seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, seed)
    return model

write_checkpoints(unlearn, unlearn(0), sys.argv[1], count=4, n_jobs=1)
"""


def read(file):
    return torch.load(file, weights_only=True)


def constant(value):
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, value)
    return model


@pytest.mark.parametrize("half, n_jobs", [(False, 1), (True, 2)])
def test_checkpoint_i_holds_the_weights_of_seed_i(tmp_path, perturbed, half, n_jobs):
    options = {"count": 3, "seed": 5, "half": half, "n_jobs": n_jobs}
    files = write_checkpoints(perturbed, perturbed(), tmp_path, **options)
    assert [file.name for file in files] == [f"unlearned_checkpoint_{i}.pth" for i in range(3)]
    for number, file in enumerate(files):
        wanted = perturbed(5 + number).state_dict()
        if half:  # weights are rounded, counts of batches are kept
            wanted = {k: t.half() if t.is_floating_point() else t for k, t in wanted.items()}
        torch.testing.assert_close(read(file), dict(wanted), rtol=0, atol=0)
        perturbed().load_state_dict(read(file))


def test_a_view_of_a_large_tensor_is_written_alone(tmp_path):
    view = constant(0)
    view.weight = nn.Parameter(torch.zeros(100_000, 1, 1)[0])
    (file,) = write_checkpoints(lambda seed: view, constant(0), tmp_path, count=1, n_jobs=1)
    assert file.stat().st_size < 10_000  # all of it takes 400,000


def test_a_second_call_makes_what_is_missing_damaged_or_new(tmp_path, perturbed):
    made, files = [], write_checkpoints(perturbed, perturbed(), tmp_path, count=4, n_jobs=1)
    contents = [file.read_bytes() for file in files]
    files[1].unlink()
    files[2].write_bytes(contents[2][:-100])
    write_checkpoints(
        lambda seed: made.append(seed) or perturbed(seed), perturbed(), tmp_path, count=6, n_jobs=1
    )
    assert made == [1, 2, 4, 5]
    assert [file.read_bytes() for file in files] == contents and len([*tmp_path.glob("*.pth")]) == 6


def flip(content):
    """One bit in the middle, among the weights."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def saved(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


DAMAGED = {
    "half": lambda good: good[: len(good) // 2],
    "a bit flipped": flip,
    "another zip": lambda good: zipped(hello="text"),
    "no tensors": lambda good: saved({"weight": 3}),
    "not finite": lambda good: saved({"weight": torch.full((200, 1), torch.nan)}),
}
OTHER = {
    "another shape": lambda good: saved({"weight": torch.zeros(201, 1)}),
    "another name": lambda good: saved({"heavy": torch.zeros(200, 1)}),
}


@pytest.mark.parametrize("spoil", (DAMAGED | OTHER).values(), ids=(DAMAGED | OTHER).keys())
def test_a_checkpoint_that_is_not_one_of_the_network_is_made_again(tmp_path, spoil):
    original = nn.Linear(1, 200, bias=False)
    options = {"original": original, "folder": tmp_path, "count": 2, "n_jobs": 1}
    files = write_checkpoints(lambda seed: original, **options)
    good = files[1].read_bytes()
    files[1].write_bytes(spoil(good))
    if spoil in DAMAGED.values():
        with pytest.raises(ValueError, match=r"checkpoint_1\.pth is damaged: call write_check"):
            zip_submission(tmp_path, tmp_path / "submission.zip", count=2)
    write_checkpoints(lambda seed: original, **options)
    assert files[1].read_bytes() == good


@pytest.mark.parametrize("name", ["../../x", "a/b", "a\\b", "/tmp/x", "", "."])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    folder = tmp_path / "in" / "it"
    with pytest.raises(ValueError, match="name must start the names of files"):
        write_checkpoints(constant, constant(0), folder, count=1, n_jobs=1, name=name)
    with pytest.raises(ValueError, match="name must start the names of files"):
        zip_submission(folder, tmp_path / "a.zip", count=1, name=name)
    assert list(tmp_path.iterdir()) == []


def test_a_seed_that_is_no_whole_number_is_refused(tmp_path):
    with pytest.raises(ValueError, match="seeds must be whole numbers"):
        write_checkpoints(constant, constant(0), tmp_path, count=1, n_jobs=1, seed=1.5)


def test_a_folder_of_other_checkpoints_is_refused(tmp_path, perturbed):
    usual = {"configuration": {"lr": 0.1}, "count": 1, "n_jobs": 1}
    usual |= {"original": perturbed(), "folder": tmp_path}
    write_checkpoints(perturbed, **usual)
    for options, difference in (
        ({"configuration": {"lr": 0.2}}, r"lr=0\.1, not 0\.2"),
        ({"half": True}, "half=False, not True"),
        ({"seed": 1}, "seed=0, not 1"),
        ({"original": perturbed(1)}, "original='"),
    ):
        with pytest.raises(ValueError, match=f"made with {difference}.*another folder"):
            write_checkpoints(perturbed, **{**usual, **options})
    (tmp_path / "configuration.json").unlink()
    with pytest.raises(ValueError, match=r"holds unlearned_checkpoint_0\.pth but no configuration"):
        write_checkpoints(perturbed, **usual)


def test_weights_of_another_shape_or_not_finite_are_refused(tmp_path):
    for model, half, words in (
        (nn.Linear(3, 4, bias=False), False, r"weight has shape \(4, 3\) and .* \(1, 1\)"),
        (constant(float("nan")), False, "weight of .* is not finite$"),
        (constant(1e6), True, "weight of .* is not finite in half precision$"),
    ):
        options = {"count": 1, "half": half, "n_jobs": 1}
        with pytest.raises(ValueError, match=words):
            write_checkpoints(lambda seed, m=model: m, constant(0), tmp_path / str(half), **options)
    assert not list(tmp_path.rglob("*.pth"))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_run_continues_where_it_stopped(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(tmp_path.glob("*.pth"))) == 2
    options = {"count": 4, "n_jobs": 1}
    files = write_checkpoints(lambda seed: constant(10 + seed), constant(0), tmp_path, **options)
    assert [float(read(file)["weight"]) for file in files] == [0, 1, 12, 13]


def test_the_zip_holds_the_checkpoints_whole_and_nothing_else_uncompressed(written, tmp_path):
    path = zip_submission(written, tmp_path / "submission.zip", count=12)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [f"unlearned_checkpoint_{i}.pth" for i in range(12)]
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            assert archive.read(entry) == (written / entry.filename).read_bytes()
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 13 .* .*checkpoint_12\.pth"):
        zip_submission(written, path, count=13)
    with pytest.raises(ValueError, match=r"checkpoint_11\.pth is not one of the 11"):
        zip_submission(written, path, count=11)
    damaged = written / "unlearned_checkpoint_7.pth"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"checkpoint_7\.pth is damaged"):
        zip_submission(written, path, count=12)
    assert not path.exists()


def test_a_zip_that_cannot_be_finished_leaves_the_old_one(written, tmp_path, monkeypatch):
    path, write = tmp_path / "submission.zip", zipfile.ZipFile.write
    path.write_bytes(b"old")

    def until_full(archive, file, name):
        if name.endswith("_5.pth"):
            raise OSError(28, "No space left on device")
        write(archive, file, name)

    monkeypatch.setattr(zipfile.ZipFile, "write", until_full)
    with pytest.raises(OSError, match=r"submission\.zip could not be written \(No space left"):
        zip_submission(written, path, count=12)
    assert path.read_bytes() == b"old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoints", "submission.zip"]
