"""many: groups are made once and kept, whatever dies, and stacked in the order of the seeds."""

import json
import signal
import subprocess
import sys
import uuid
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from unlearning.core import files
from unlearning.many import load_or_run, run_many

PACKAGE = Path(__file__).resolve().parents[1] / "unlearning"

# Run by another interpreter and so killed alone. The function is one of __main__, as a notebook's.
KILLED = """
import os, signal, sys, time, types, uuid
from pathlib import Path
import numpy as np
package = types.ModuleType("unlearning")  # the whole package takes seconds to import
package.__path__ = [sys.argv[2]]
sys.modules["unlearning"] = package
from unlearning.many import run_many

folder, caller = Path(sys.argv[1]), os.getpid()

def measure(seeds):
    (folder / "calls" / f"{seeds[0]}-{uuid.uuid4().hex}").touch()
    if len(list(folder.glob("groups/*/*.npz"))) >= 2:
        os.kill(caller, signal.SIGKILL)
        time.sleep(200)
    return {"doubled": 2.0 * np.array(seeds)}

run_many(measure, range(12), path=folder / "groups", configuration={"lr": 0.1}, group=2, n_jobs=2)
"""


@pytest.fixture
def counting(tmp_path):
    """A measure that leaves one file per call, and how often each group was called."""
    calls = tmp_path / "calls"
    calls.mkdir()

    def measure(seeds):
        (calls / f"{seeds[0]}-{uuid.uuid4().hex}").touch()
        return {"doubled": 2.0 * np.array(seeds)}

    def count():
        return Counter(int(file.name.split("-")[0]) for file in calls.iterdir())

    return measure, count


def arrays_of(seeds):
    seeds = np.array(seeds)
    confidences = torch.tensor(seeds[:, None] + np.array([0.0, 0.25]), requires_grad=True)
    return {"confidences": confidences, "accuracy": seeds / 100}


def files_in(folder):
    return sorted(folder.glob("*/*.npz"))


def test_arrays_are_stacked_in_the_order_of_the_seeds(tmp_path):
    seeds = [7, 3, 11, 0, 5]
    found = run_many(arrays_of, np.array(seeds), path=tmp_path, configuration={}, group=2, n_jobs=1)
    np.testing.assert_array_equal(found["confidences"], [[s, s + 0.25] for s in seeds])
    np.testing.assert_array_equal(found["accuracy"], np.array(seeds) / 100)
    assert len(files_in(tmp_path)) == 3  # groups of 2, 2 and 1


def test_groups_that_exist_are_not_measured_again_and_one_that_is_damaged_is(
    tmp_path, counting, capsys
):
    measure, count = counting
    options = {"path": tmp_path / "groups", "configuration": {"lr": 0.1}, "group": 2, "n_jobs": 1}
    for n in (4, 4, 8):
        assert run_many(measure, range(n), **options)["doubled"].tolist() == [*range(0, 2 * n, 2)]
    assert count() == {0: 1, 2: 1, 4: 1, 6: 1}
    damaged = files_in(tmp_path / "groups")[0]
    damaged.write_bytes(damaged.read_bytes()[:300])
    assert run_many(measure, range(4), **options)["doubled"].tolist() == [0, 2, 4, 6]
    assert count() == {0: 2, 2: 1, 4: 1, 6: 1}
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{damaged} cannot be read") and "made again" in line


def run_of(seeds):
    about = {"configuration": {"lr": 0.1}, "group": 4, "seeds": seeds}
    return np.array(json.dumps(about))


SPOILT = {
    "rows for three seeds": {"doubled": np.zeros(3)},
    "other names": {"tripled": np.zeros(4)},
    "other names and more": {"doubled": np.zeros(4), "more": np.zeros(4)},
    "another type": {"doubled": np.zeros(4, np.float32)},
    "another shape": {"doubled": np.zeros((4, 2))},
    "no arrays": {},
    "a reserved name": {"doubled": np.zeros(4), "allow_pickle": np.zeros(4)},
    "no configuration": {"doubled": np.zeros(4), "run": np.array("")},
}


@pytest.mark.parametrize("others", [1, 2])
@pytest.mark.parametrize("arrays", SPOILT.values(), ids=SPOILT.keys())
def test_readable_group_with_other_content_is_reported_and_made_again(
    tmp_path, counting, capsys, arrays, others
):
    measure, _ = counting
    seeds = range(4 * (others + 1))
    options = {"path": tmp_path / "groups", "configuration": {"lr": 0.1}, "group": 4, "n_jobs": 1}
    run_many(measure, seeds, **options)
    spoilt = files_in(tmp_path / "groups")[0]
    content = {"run": run_of([*range(4)]), **arrays}
    with zipfile.ZipFile(spoilt, "w") as archive:
        for name, array in content.items():
            with archive.open(f"{name}.npy", "w") as opened:
                np.lib.format.write_array(opened, array)
    assert run_many(measure, seeds, **options)["doubled"].tolist() == [2 * s for s in seeds]
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"{spoilt} cannot be read (") for line in lines)
    assert len(lines) == 1 or (others == 1 and len(lines) == 2)  # of two, either may be wrong
    assert run_many(measure, seeds, **options)["doubled"].tolist() == [2 * s for s in seeds]
    assert capsys.readouterr().out == ""


def test_folder_and_file_of_another_run_are_refused(tmp_path):
    def run(lr):
        options = {"path": tmp_path / str(lr), "configuration": {"lr": lr}, "n_jobs": 1}
        return run_many(arrays_of, range(2), **options)

    run(0.1), run(0.2)
    (mine,), (other,) = files_in(tmp_path / "0.1"), files_in(tmp_path / "0.2")
    mine.write_bytes(other.read_bytes())
    with pytest.raises(ValueError, match=r"made with lr=0\.2, not 0\.1: move it away"):
        run(0.1)
    (file,) = tmp_path.glob("0.2/*/configuration.json")
    file.write_text(file.read_text().replace("0.2", "0.3"))
    with pytest.raises(ValueError, match=r"made with lr=0\.3, not 0\.2: choose another folder"):
        run(0.2)


@pytest.mark.parametrize(
    ("returned", "options", "words"),
    [
        ({}, {"group": 0}, "at least one seed, not 0"),
        ({}, {"configuration": {"lr": np.zeros(2)}}, "numbers, texts, lists and dicts"),
        ({}, {"configuration": {"lr": np.nan}}, "finite numbers"),
        ([0, 1], {}, r"must return \{name: array\}, not list"),
        ({"a": np.zeros(3)}, {}, r"a must be numbers of shape \(2, \.\.\.\), .* shape \(3,\)"),
        ({"file": np.zeros(2)}, {}, "must not call an array 'file'"),
    ],
)
def test_what_cannot_be_kept_is_refused(tmp_path, returned, options, words):
    options = {"path": tmp_path, "configuration": {}, "n_jobs": 1} | options
    with pytest.raises((TypeError, ValueError), match=words):
        run_many(lambda seeds: returned, [0, 1], **options)
    assert files_in(tmp_path) == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_killed_run_continues_and_has_lost_only_the_groups_in_flight(tmp_path, counting):
    measure, count = counting
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(PACKAGE)]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=100)
    # it was no timeout: the pipe is closed, so its workers ended with it
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    kept = {int(file.name.split("-")[1]) for file in files_in(tmp_path / "groups")}
    started = count()
    assert len(kept) >= 2 and max(started.values()) == 1 and len(started) <= len(kept) + 2
    options = {"path": tmp_path / "groups", "configuration": {"lr": 0.1}, "group": 2, "n_jobs": 1}
    found = run_many(measure, range(12), **options)
    assert found["doubled"].tolist() == list(range(0, 24, 2))
    assert count() == started + Counter({0, 2, 4, 6, 8, 10} - kept)


def test_one_file_is_read_unless_it_has_other_seeds_or_another_configuration(tmp_path, counting):
    measure, count = counting

    def run(seeds, lr):
        options = {"groups": tmp_path / "groups", "group": 2, "n_jobs": 1}
        file = tmp_path / "kept.npz"
        return load_or_run(file, measure, seeds, configuration={"lr": lr}, **options)

    for _ in range(2):
        found = run(range(2), 0.1)["doubled"]
        assert found.tolist() == [0, 2] and found.dtype == np.float32 and count() == {0: 1}
        for file in files_in(tmp_path / "groups"):
            file.unlink()
    assert run(range(4), 0.1)["doubled"].tolist() == [0, 2, 4, 6] and count() == {0: 2, 2: 1}
    run(range(4), 0.2)
    assert count() == {0: 3, 2: 2}


def test_where_results_go_to_a_folder_of_their_own_the_shipped_file_is_read_and_never_written(
    tmp_path, counting, monkeypatch
):
    measure, count = counting
    mine, shipped = tmp_path / "saved/mine", tmp_path / "saved"
    monkeypatch.setattr(files, "SAVED", shipped)

    def run(folder, lr):
        monkeypatch.setattr(files, "RESULTS", folder)
        options = {"groups": tmp_path / "groups", "group": 2, "n_jobs": 1}
        return load_or_run(
            folder / "a/b.npz", measure, range(2), configuration={"lr": lr}, **options
        )

    run(shipped, 0.1)
    before = (shipped / "a/b.npz").read_bytes()
    assert run(mine, 0.1)["doubled"].tolist() == [0, 2] and count() == {0: 1}
    assert not mine.exists()  # nothing is copied
    for _ in range(2):
        run(mine, 0.2)
    assert count() == {0: 2} and (mine / "a/b.npz").exists()
    run(mine, 0.1)  # its own file does not fit, the shipped one does
    assert count() == {0: 2} and (shipped / "a/b.npz").read_bytes() == before
