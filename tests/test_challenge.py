"""challenge: its layout is read as it is, a submission is whole, and its score is what it says."""

import copy
import io
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from unlearning.challenge import (
    Measured,
    attack_table,
    load_challenge,
    measure_checkpoints,
    measuring,
    quality_table,
    score_submission,
    write_checkpoints,
    zip_submission,
)
from unlearning.ensemble import Ensemble
from unlearning.metrics import accuracy
from unlearning.metrics.forgetting_quality import (
    challenge_score,
    forgetting_quality,
    logit_scaled_confidence,
)
from unlearning.metrics.per_example import klom, rmia, roc, u_lira
from unlearning.models import build
from unlearning.splitting import forget_random
from unlearning.training import predict

ROOT = Path(__file__).resolve().parent.parent
SIZES = {"retain": 40, "forget": 12, "validation": 15, "test": 25}

# Run by another interpreter and killed in its third network.
KILLED = """
import os, signal, sys
from pathlib import Path
from torch import nn
import torch
from unlearning.challenge import write_checkpoints

folder = Path(sys.argv[1])
original = nn.Linear(3, 2)
original.load_state_dict(torch.load(sys.argv[2], weights_only=True))

def unlearn(seed):
    if seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    model = nn.Linear(3, 2)
    nn.init.constant_(model.weight, seed)
    nn.init.constant_(model.bias, seed)
    return model

write_checkpoints(unlearn, original, folder, count=4, n_jobs=1)
"""


def make_faces(folder):
    """Faces of random pixels, 8 x 8, in the challenge's layout; returns pixels by image_id."""
    generator = np.random.default_rng(0)
    number, pixels = 0, {}
    for part, size in SIZES.items():
        rows = []
        for _ in range(size):
            person = int(generator.integers(9, 12))  # folders 9, 10, 11: text and number differ
            name, number = f"{person}-{number}", number + 1
            pixels[name] = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            file = folder / "images" / str(person) / f"{number - 1}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[name]).save(file)
            age = int(generator.integers(0, 100))
            rows.append((name, age // 10, age, person))
        columns = ["image_id", "age_group", "age", "person_id"]
        pd.DataFrame(rows, columns=columns).to_csv(folder / f"{part}.csv", index=False)
    return pixels


@pytest.fixture
def faces(tmp_path):
    folder = tmp_path / "faces"
    folder.mkdir()
    make_faces(folder)
    return folder


def edit(file, change):
    rows = pd.read_csv(file)
    change(rows).to_csv(file, index=False)


# ------------------------------------------------------------------------------------------------
# Data


def test_images_labels_and_records_are_those_of_the_files(tmp_path):
    pixels = make_faces(tmp_path)
    found = load_challenge(tmp_path)
    for part, size in SIZES.items():
        images, records = getattr(found, part), found.records[part]
        assert images.images.shape == (size, 3, 8, 8) and images.num_classes == 10
        written = pd.read_csv(tmp_path / f"{part}.csv").set_index("image_id")
        assert set(records.image_id) == set(written.index)
        expected = np.stack([pixels[name] for name in records.image_id]).transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(images.images.numpy(), expected)
        expected = written.loc[records.image_id]
        assert images.labels.tolist() == expected.age_group.tolist()
        assert records.age.tolist() == expected.age.tolist()
        assert records.person_id.tolist() == expected.person_id.tolist()
        paths = [f"images/{name.replace('-', '/')}.png" for name in records.image_id]
        assert paths == sorted(paths)  # as the organisers' notebook orders them
    assert found.split.forget is found.forget and found.split.retain is found.retain


def test_pixels_go_to_255_unless_normalised(faces):
    plain = load_challenge(faces).forget
    (images, labels) = next(iter(plain.batches(100)))
    torch.testing.assert_close(images, plain.images.float())
    torch.testing.assert_close(labels, plain.labels)
    scaled = load_challenge(faces, mean=(0.5,), std=(0.25,)).forget
    (images, _) = next(iter(scaled.batches(100)))
    torch.testing.assert_close(images, (plain.images / 255 - 0.5) / 0.25)


def test_sets_that_the_challenge_kept_back_are_none(faces):
    (faces / "test.csv").unlink()
    found = load_challenge(faces)
    assert found.test is None and len(found.validation) == SIZES["validation"]


def test_grey_image_has_three_channels(faces):
    file = next((faces / "images").rglob("*.png"))
    Image.fromarray(np.full((8, 8), 7, dtype=np.uint8)).save(file)
    found = load_challenge(faces)
    sets = [getattr(found, part) for part in SIZES]
    assert sum(int((one.images == 7).all((1, 2, 3)).sum()) for one in sets) == 1


def test_missing_files_are_named(faces):
    (faces / "images" / "9").rename(faces / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"\d+ of the 40 images .*retain\.csv .*images/9/"):
        load_challenge(faces)
    (faces / "forget.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"forget\.csv is not there"):
        load_challenge(faces)


def test_image_in_two_sets_is_refused(faces):
    shared = pd.read_csv(faces / "retain.csv").iloc[:2]
    edit(faces / "forget.csv", lambda rows: pd.concat([rows, shared]))
    sentence = rf"image {shared.image_id[0]}|{shared.image_id[1]} is in .*retain.* forget.*2 are"
    with pytest.raises(ValueError, match=sentence):
        load_challenge(faces)


def test_image_named_twice_is_refused(faces):
    edit(faces / "test.csv", lambda rows: pd.concat([rows, rows[:1]]))
    with pytest.raises(ValueError, match=r"is in test\.csv and in test\.csv"):
        load_challenge(faces)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda rows: rows.drop(columns="age_group"), "it has no age_group"),
        (lambda rows: rows[:0], "it has no rows"),
        (lambda rows: rows.assign(age_group=10), "is of age group 10, but there are 10"),
        (lambda rows: rows.assign(age_group="old"), "is of age group old"),
        (lambda rows: rows.assign(age_group=2.5), "is of age group 2.5"),
    ],
)
def test_csv_that_does_not_fit_is_refused(faces, change, sentence):
    edit(faces / "forget.csv", change)
    with pytest.raises(ValueError, match=f"forget.csv.*{sentence}"):
        load_challenge(faces)


def test_empty_csv_is_refused(faces):
    (faces / "forget.csv").write_text("")
    with pytest.raises(ValueError, match="it has no image_id"):
        load_challenge(faces)


def test_image_of_another_size_or_kind_is_named(faces):
    file = next((faces / "images" / "11").glob("*.png"))
    Image.new("RGB", (8, 9)).save(file)
    with pytest.raises(ValueError, match=rf"{file.name} is of height and width \(9, 8\), but"):
        load_challenge(faces)
    for content in (b"no image", next((faces / "images" / "10").glob("*.png")).read_bytes()[:90]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=f"{file.name} cannot be read as an image"):
            load_challenge(faces)


# ------------------------------------------------------------------------------------------------
# A submission


def network(seed=0):
    """3 x 8 x 8 pixels from 0 to 255 to ten logits of size one; BatchNorm counts its batches."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        linear = nn.Linear(3 * 8 * 8, 10)
    with torch.no_grad():
        linear.weight /= 64
    return nn.Sequential(nn.Flatten(), linear, nn.BatchNorm1d(10)).eval()


def perturbed(seed):
    """The original with noise of its own."""
    model = network()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.3 * parameter.abs().mean()
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    return model


def read(file):
    return torch.load(file, weights_only=True)


def assert_same_weights(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


def test_checkpoint_i_holds_the_weights_of_seed_i(tmp_path):
    files = write_checkpoints(perturbed, network(), tmp_path, count=3, seed=5, n_jobs=1)
    assert [file.name for file in files] == [f"unlearned_checkpoint_{i}.pth" for i in range(3)]
    for number, file in enumerate(files):
        assert_same_weights(read(file), perturbed(5 + number).state_dict())


def test_half_precision_rounds_weights_and_keeps_counts(tmp_path):
    (file,) = write_checkpoints(perturbed, network(), tmp_path, count=1, half=True, n_jobs=1)
    for name, tensor in perturbed(0).state_dict().items():
        expected = tensor.half() if tensor.is_floating_point() else tensor
        torch.testing.assert_close(read(file)[name], expected, rtol=0, atol=0)
    loaded = network()
    loaded.load_state_dict(read(file))
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


def test_view_of_a_large_stack_is_written_alone(tmp_path):
    def member(seed):
        model = nn.Linear(100, 1, bias=False)
        model.weight = nn.Parameter(torch.zeros(1000, 1, 100)[seed])
        return model

    (file,) = write_checkpoints(member, nn.Linear(100, 1, bias=False), tmp_path, count=1, n_jobs=1)
    assert file.stat().st_size < 10_000  # the stack takes 400,000


def test_second_call_makes_what_is_missing_damaged_or_new(tmp_path):
    made = []

    def unlearn(seed):
        made.append(seed)
        return perturbed(seed)

    files = write_checkpoints(unlearn, network(), tmp_path, count=4, n_jobs=1)
    contents = [file.read_bytes() for file in files]
    files[1].unlink()
    files[2].write_bytes(contents[2][:-100])
    made.clear()
    assert len(write_checkpoints(unlearn, network(), tmp_path, count=6, n_jobs=1)) == 6
    assert made == [1, 2, 4, 5]
    assert [file.read_bytes() for file in files] == contents


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"configuration": {"lr": 0.2}}, r"lr=0\.1, not 0\.2"),
        ({"half": True}, "half=False, not True"),
        ({"seed": 1}, "seed=0, not 1"),
        ({"original": network(1)}, "original='"),
    ],
)
def test_folder_of_other_checkpoints_is_refused(tmp_path, options, difference):
    usual = {"original": network(), "configuration": {"lr": 0.1}, "count": 1, "n_jobs": 1}
    write_checkpoints(perturbed, folder=tmp_path, **usual)
    with pytest.raises(ValueError, match=f"made with {difference}.*: name another folder"):
        write_checkpoints(perturbed, folder=tmp_path, **{**usual, **options})
    (tmp_path / "configuration.json").unlink()
    with pytest.raises(ValueError, match=r"holds unlearned_checkpoint_0\.pth but no configuration"):
        write_checkpoints(perturbed, folder=tmp_path, **usual)


def test_network_that_is_not_the_original_s_or_not_finite_is_refused(tmp_path):
    original = nn.Linear(3, 2)

    def with_weight(value):
        model = copy.deepcopy(original)
        nn.init.constant_(model.weight, value)
        return model

    refused = [
        (lambda seed: nn.Linear(3, 4), False, r"weight is of shape \(4, 3\) and .* \(2, 3\)"),
        (lambda seed: with_weight(float("nan")), False, "weight of .* is not finite$"),
        (lambda seed: with_weight(1e6), True, "weight of .* is not finite in half precision$"),
    ]
    for number, (unlearn, half, sentence) in enumerate(refused):
        folder = tmp_path / str(number)
        with pytest.raises(ValueError, match=sentence):
            write_checkpoints(unlearn, original, folder, count=1, half=half, n_jobs=1)
        assert not list(folder.glob("*.pth"))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_killed_writing_goes_on_where_it_was(tmp_path):
    original, made = nn.Linear(3, 2), []
    torch.save(original.state_dict(), tmp_path / "original.pth")
    folder = tmp_path / "checkpoints"
    command = [sys.executable, "-c", KILLED, str(folder), str(tmp_path / "original.pth")]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(folder.glob("*.pth"))) == 2

    def unlearn(seed):
        made.append(seed)
        return nn.Linear(3, 2)

    files = write_checkpoints(unlearn, original, folder, count=4, n_jobs=1)
    assert made == [2, 3]
    assert [float(read(file)["bias"][0]) for file in files[:2]] == [0, 1]


def test_processes_write_and_measure_what_one_does(tmp_path, faces):
    with joblib.parallel_config(backend="loky", n_jobs=2, inner_max_num_threads=2):
        two = write_checkpoints(perturbed, network(), tmp_path / "two", count=18)
        found = load_challenge(faces)
        sets = {"retain": found.retain, "forget": found.forget, "test": found.test}
        by_two = measure_checkpoints(tmp_path / "two", network, **sets, device="cpu")
    one = write_checkpoints(perturbed, network(), tmp_path / "one", count=18, n_jobs=1)
    assert [file.read_bytes() for file in two] == [file.read_bytes() for file in one]
    by_one = measure_checkpoints(tmp_path / "one", network, **sets, device="cpu", n_jobs=1)
    for ours, theirs in zip(by_two, by_one, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.fixture
def written(tmp_path):
    folder = tmp_path / "checkpoints"
    write_checkpoints(perturbed, network(), folder, count=12, n_jobs=1)
    return folder


def test_zip_holds_the_checkpoints_and_nothing_else_uncompressed(written, tmp_path):
    path = zip_submission(written, tmp_path / "submission.zip", count=12)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = [f"unlearned_checkpoint_{i}.pth" for i in range(12)]
        assert archive.namelist() == names
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        for name in names:
            assert archive.read(name) == (written / name).read_bytes()


def test_zip_is_refused_when_a_checkpoint_is_missing_damaged_or_extra(written, tmp_path):
    path = tmp_path / "submission.zip"
    with pytest.raises(
        FileNotFoundError, match=r"1 of 13 .* unlearned_checkpoint_12\.pth|_12\.pth"
    ):
        zip_submission(written, path, count=13)
    with pytest.raises(ValueError, match=r"checkpoint_11\.pth is not among the 11"):
        zip_submission(written, path, count=11)
    damaged = written / "unlearned_checkpoint_7.pth"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"checkpoint_7\.pth is damaged"):
        zip_submission(written, path, count=12)
    assert not path.exists()


def test_zip_that_cannot_be_finished_leaves_the_old_one(written, tmp_path, monkeypatch):
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


# ------------------------------------------------------------------------------------------------
# Its score


def by_hand(models, images):
    """f = log p_y - log(1 - p_y) in float64 and accuracies, one network and example at a time."""
    confidences, accuracies = [], []
    for model in models:
        rows, right = [], []
        for pixels, label in zip(images.images, images.labels, strict=True):
            with torch.inference_mode():
                probabilities = model(pixels[None].float())[0].double().softmax(0)
            rows.append(float(probabilities[label].log() - (1 - probabilities[label]).log()))
            right.append(int(probabilities.argmax()) == int(label))
        confidences.append(rows)
        accuracies.append(np.mean(right))
    return np.array(confidences), np.array(accuracies)


@pytest.fixture
def submissions(tmp_path, faces):
    """Folders of 8 unlearned and twice 7 retrained networks, and the sets."""
    sets = load_challenge(faces)
    folders = {}
    for name, count, seed in (("unlearned", 8, 0), ("retrained", 7, 100), ("second", 7, 200)):
        folders[name] = tmp_path / name
        options = {"count": count, "seed": seed, "name": f"{name}_checkpoint", "n_jobs": 1}
        write_checkpoints(perturbed, network(), folders[name], **options)
    parts = {"retain": sets.retain, "forget": sets.forget, "test": sets.test}
    return folders, {**parts, "device": "cpu", "n_jobs": 1}


def test_score_is_what_a_direct_computation_gives(submissions):
    folders, options = submissions
    found = score_submission(
        folders["unlearned"],
        folders["retrained"],
        network,
        **options,
        second_retrained=folders["second"],
        original=network(),
    )
    ours = [perturbed(seed) for seed in range(8)]
    theirs = [perturbed(100 + seed) for seed in range(7)]
    second = [perturbed(200 + seed) for seed in range(7)]
    forget = options["forget"]
    reference, _ = by_hand(theirs, forget)
    quality = forgetting_quality(by_hand(ours, forget)[0], reference).quality
    means = {
        (side, part): by_hand(models, options[part])[1].mean()
        for side, models in (("ours", ours), ("theirs", theirs))
        for part in ("retain", "test")
    }
    retain_ratio = means["ours", "retain"] / means["theirs", "retain"]
    test_ratio = means["ours", "test"] / means["theirs", "test"]
    assert quality > 0.1 and retain_ratio != 1 != test_ratio  # so that each factor counts
    assert found.quality == pytest.approx(quality)
    assert found.retain_accuracy == pytest.approx(means["ours", "retain"])
    assert found.retrained_test_accuracy == pytest.approx(means["theirs", "test"])
    assert found.retain_ratio == pytest.approx(retain_ratio)
    assert found.test_ratio == pytest.approx(test_ratio)
    assert found.score == pytest.approx(quality * retain_ratio * test_ratio)
    ceiling = forgetting_quality(by_hand(second, forget)[0], reference).quality
    assert found.ceiling == pytest.approx(ceiling) and ceiling > 0.1
    assert found.floor == 0  # copies of one network are told from any sample
    assert found.details.eps.shape == (len(forget),)


def test_slow_method_scores_nothing_and_others_are_not_asked_for(submissions):
    folders, options = submissions
    pair = folders["unlearned"], folders["retrained"], network
    slow = score_submission(*pair, **options, seconds=21, retraining_seconds=100)
    fast = score_submission(*pair, **options, seconds=19, retraining_seconds=100)
    assert slow.score == 0 and fast.score > 0 and slow.quality == fast.quality
    assert slow.ceiling is None and slow.floor is None


def test_folder_zip_and_measured_networks_score_the_same(submissions, tmp_path):
    folders, options = submissions
    name = "unlearned_checkpoint"
    path = zip_submission(folders["unlearned"], tmp_path / "submission.zip", count=8, name=name)
    theirs = measure_checkpoints(folders["retrained"], network, **options)
    assert isinstance(theirs, Measured) and theirs.confidences.shape == (7, SIZES["forget"])
    from_folder = score_submission(folders["unlearned"], folders["retrained"], network, **options)
    from_zip = score_submission(path, theirs, network, **options)
    assert from_zip[:-1] == from_folder[:-1]


def test_checkpoints_are_read_in_the_order_of_their_numbers(written, faces, tmp_path):
    """And in a zip from folders too, as the organisers' notebook zips them."""
    sets = load_challenge(faces)
    options = {"retain": sets.retain, "forget": sets.forget, "test": sets.test, "n_jobs": 1}
    path = tmp_path / "theirs.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(written.glob("*.pth")):  # 0, 1, 10, 11, 2, ...
            archive.write(file, f"kaggle/tmp/{file.name}")
    expected, _ = by_hand([perturbed(seed) for seed in range(12)], sets.forget)
    for source in (written, path):
        found = measure_checkpoints(source, network, **options, device="cpu")
        np.testing.assert_allclose(found.confidences, expected, atol=1e-4)


def test_checkpoints_that_cannot_be_read_are_named(written, faces, tmp_path):
    sets = load_challenge(faces)
    options = {"retain": sets.retain, "forget": sets.forget, "test": sets.test, "n_jobs": 1}
    with pytest.raises(FileNotFoundError, match="nowhere is not there"):
        measure_checkpoints(tmp_path / "nowhere", network, **options)
    with pytest.raises(ValueError, match="holds no checkpoints"):
        measure_checkpoints(faces, network, **options)
    with pytest.raises(ValueError, match="cannot be read as a zip"):
        measure_checkpoints(faces / "retain.csv", network, **options)
    with pytest.raises(ValueError, match=r"checkpoint_0\.pth of .* this network \(RuntimeError"):
        measure_checkpoints(written, lambda: nn.Linear(2, 2), **options)

    class Code:
        def __reduce__(self):
            return os.getpid, ()

    content = io.BytesIO()
    torch.save({"weight": Code()}, content)
    (written / "unlearned_checkpoint_3.pth").write_bytes(content.getvalue())
    with pytest.raises(ValueError, match=r"checkpoint_3\.pth of .* \(UnpicklingError"):
        measure_checkpoints(written, network, **options)


# ------------------------------------------------------------------------------------------------
# Methods against each other


def fresh(seeds):
    networks = []
    for seed in seeds:
        torch.manual_seed(seed)
        networks.append(build("mlp", 4, 1, 8).eval())
    return networks


@pytest.mark.parametrize("at_once", [False, True])
def test_measuring_reduces_each_network_to_what_the_score_needs(tiny, at_once):
    split, calls = forget_random(tiny, count=20, seed=0), []

    def make(seeds):
        calls.append(list(seeds))
        networks = fresh([seed for seed in calls[-1] for _ in range(1 + at_once)])
        return Ensemble(networks) if at_once else networks[0]

    found = measuring(make, split, tiny, unseen=10)([5, 6])
    assert calls == [[5], [6]]  # on a CPU one by one
    networks = fresh([5, 5, 6, 6] if at_once else [5, 6])
    for row, network in enumerate(networks):
        confidences = logit_scaled_confidence(*predict(network, split.forget.batches(1000)))
        np.testing.assert_allclose(found["confidences"][row], confidences, rtol=1e-4, atol=1e-5)
        read = predict(network, split.retain.batches(1000))
        assert found["retain_accuracy"][row] == accuracy(*read)
        seen = logit_scaled_confidence(*predict(network, tiny.batches(10)))[:10]
        np.testing.assert_allclose(found["unseen_confidences"][row], seen, atol=2e-3)
    assert found.keys() == {*Measured._fields, "unseen_confidences", "seconds"}
    assert (found["seconds"] > 0).all() and len(found["seconds"]) == len(networks)


@pytest.fixture(scope="module")
def kinds():
    """Three kinds of networks, of which "unmoved" still knows what it was to forget."""
    generator = np.random.default_rng(0)
    shifts = {"retrained": 0.0, "retrained again": 0.0, "unmoved": 6.0}
    return {
        name: {
            "confidences": generator.normal(shift, size=(40, 30)),
            "unseen_confidences": generator.normal(size=(40, 20)).astype(np.float16),
            "retain_accuracy": np.full(40, 0.9),
            "forget_accuracy": np.full(40, 0.5),
            "test_accuracy": np.full(40, 0.8 - shift / 100),
            "seconds": np.full(40, 0.1 + shift / 60),
        }
        for name, shift in shifts.items()
    }


def test_the_table_has_quality_ceiling_score_and_time(kinds):
    kinds = {**kinds, "copy": {**kinds["retrained again"], "seconds": np.full(40, 0.01)}}
    table, found = quality_table(kinds, resamples=3)
    assert list(table.index) == ["retrained again", "unmoved", "copy"] == list(found)
    theirs = kinds["retrained"]["confidences"]
    for name in table.index:
        result = forgetting_quality(kinds[name]["confidences"], theirs, resamples=3)
        assert table.loc[name, "F"] == result.quality == found[name].quality
        half = (result.interval_networks[1] - result.interval_networks[0]) / 2
        assert table.loc[name, "F, half width"] == pytest.approx(half)
    assert table.loc["retrained again", "F / ceiling"] == 1
    assert table.loc["unmoved", "F"] == 0
    accuracies = {"retain_accuracy": 0.9, "test_accuracy": 0.8}
    goals = {f"retrained_{name}": value for name, value in accuracies.items()}
    score = challenge_score(table.loc["copy", "F"], **accuracies, **goals)
    assert table.loc["copy", "score"] == pytest.approx(score)
    assert table.loc["copy", "score, 20 % rule"] == pytest.approx(score)  # a tenth of the time
    assert table.loc["retrained again", "score, 20 % rule"] == 0  # all of it
    assert table.loc["unmoved", "time (% of retraining)"] == pytest.approx(200)
    assert table.loc["unmoved", "test accuracy (%)"] == pytest.approx(74)


def test_other_measures_are_those_of_direct_calls(kinds):
    table = attack_table(kinds, references=3)
    assert list(table.index) == ["retrained again", "unmoved"]
    theirs = kinds["retrained"]

    def p(values):
        return 1 / (1 + np.exp(-values.astype(np.float64)))

    for name, ours in kinds.items():
        if name == "retrained":
            continue
        lira = u_lira(ours["confidences"], theirs["confidences"])
        assert table.loc[name, "U-LiRA AUC"] == lira.auc
        assert table.loc[name, "U-LiRA TPR at 1 % FPR"] == lira.tpr_at_1_percent_fpr
        distances = klom(ours["confidences"], theirs["confidences"])
        assert table.loc[name, "KLOM, mean"] == pytest.approx(distances.mean())
        unseen, known = ours["unseen_confidences"], theirs["unseen_confidences"][:3]
        z = p(unseen[:, :10]), p(known[:, :10])
        members = rmia(p(ours["confidences"]), p(theirs["confidences"][:3]), *z, offline_a=0.3)
        others = rmia(p(unseen[:, 10:]), p(known[:, 10:]), *z, offline_a=0.3)
        assert table.loc[name, "RMIA AUC"] == pytest.approx(roc(members, others).auc)
    assert table.loc["retrained again", "U-LiRA AUC"] == pytest.approx(0.5, abs=0.05)
    assert table.loc["unmoved", "U-LiRA AUC"] > 0.99
    assert table.loc["unmoved", "RMIA AUC"] > 0.9
