"""many: groups are made once and kept, whatever dies, on processes and on a cluster alike."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch

from unlearning.many import (
    DIED,
    as_they_come,
    batches_of,
    load_or_run,
    name_of,
    run_many,
    surviving,
    train_many,
)
from unlearning.training import load_or_train

ROOT = Path(__file__).resolve().parent.parent

# Run by another interpreter and so killed alone. The function is one of __main__, as a notebook's.
KILLED = """
import os, signal, sys, time, uuid
from pathlib import Path
import numpy as np
from unlearning.many import run_many

folder, caller = Path(sys.argv[1]), os.getpid()

def measure(seeds):
    (folder / "calls" / f"{seeds[0]}-{uuid.uuid4().hex}").touch()
    if len(list(folder.glob("groups/*/*.npz"))) >= 2:
        os.kill(caller, signal.SIGKILL)
        time.sleep(60)
    return {"doubled": 2 * np.array(seeds)}

run_many(measure, range(12), path=folder / "groups", configuration={"lr": 0.1}, group=2, n_jobs=2)
"""


@pytest.fixture
def two_processes():
    """Of two threads each, if nobody sees to it that they have one."""
    with joblib.parallel_config(backend="loky", n_jobs=2, inner_max_num_threads=2):
        yield


@pytest.fixture
def counting(tmp_path):
    """A measure that leaves a file a call, and how often each group was called."""
    calls = tmp_path / "calls"
    calls.mkdir()

    def measure(seeds):
        import uuid

        import numpy as np

        (calls / f"{seeds[0]}-{uuid.uuid4().hex}").touch()
        return {"doubled": 2 * np.array(seeds)}

    def count():
        return Counter(int(file.name.split("-")[0]) for file in calls.iterdir())

    return measure, count


def arrays_of(seeds):
    seeds = np.array(seeds)
    return {"confidences": seeds[:, None] + np.array([0.0, 0.25]), "accuracy": seeds / 100}


def files_in(folder):
    return sorted(folder.glob("*/*.npz"))


def kept_in(folder):
    """First seeds of the groups that are kept."""
    return {int(file.name.split("-")[1]) for file in files_in(folder)}


# ------------------------------------------------------------------------------------------------
# In this process


def test_arrays_are_stacked_in_the_order_of_the_seeds(tmp_path):
    seeds = [7, 3, 11, 0, 5]
    found = run_many(arrays_of, seeds, path=tmp_path, configuration={}, group=2, n_jobs=1)
    expected = arrays_of(seeds)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    assert len(files_in(tmp_path)) == 3  # groups of 2, 2 and 1


def test_one_process_is_this_one_and_keeps_its_threads(tmp_path):
    def measure(seeds):
        return {"process": [os.getpid()] * len(seeds)}

    threads = torch.get_num_threads()
    with joblib.parallel_config(n_jobs=1):
        configured = run_many(measure, range(3), path=tmp_path / "1", configuration={}, group=2)
    told = run_many(measure, range(3), path=tmp_path / "2", configuration={}, group=2, n_jobs=1)
    assert {*configured["process"], *told["process"]} == {os.getpid()}
    assert torch.get_num_threads() == threads


def test_on_a_gpu_one_process_is_the_default(tmp_path, monkeypatch):
    def measure(seeds):
        return {"process": [os.getpid()] * len(seeds)}

    monkeypatch.setattr("unlearning.many.pick_device", lambda: torch.device("cuda"))
    found = run_many(measure, range(3), path=tmp_path / "1", configuration={}, group=1)
    assert set(found["process"]) == {os.getpid()}
    with joblib.parallel_config(n_jobs=2):  # as the caller says
        found = run_many(measure, range(3), path=tmp_path / "2", configuration={}, group=1)
    assert os.getpid() not in found["process"]


def test_tensors_come_back_as_arrays(tmp_path):
    def measure(seeds):
        return {"logits": torch.tensor(seeds, dtype=torch.float32, requires_grad=True)[:, None]}

    found = run_many(measure, range(3), path=tmp_path, configuration={}, group=2, n_jobs=1)
    assert found["logits"].dtype == np.float32
    assert found["logits"].tolist() == [[0.0], [1.0], [2.0]]


def test_second_call_measures_nothing_and_gives_the_same(tmp_path, counting):
    measure, count = counting
    options = {"path": tmp_path / "groups", "configuration": {"lr": 0.1}, "group": 2, "n_jobs": 1}
    first = run_many(measure, range(5), **options)
    second = run_many(measure, range(5), **options)
    assert count() == {0: 1, 2: 1, 4: 1}
    np.testing.assert_array_equal(first["doubled"], second["doubled"])


def test_more_seeds_reuse_the_groups_that_are_there(tmp_path, counting):
    measure, count = counting
    options = {"path": tmp_path / "groups", "configuration": {}, "group": 2, "n_jobs": 1}
    run_many(measure, range(4), **options)
    found = run_many(measure, range(8), **options)
    assert count() == {0: 1, 2: 1, 4: 1, 6: 1}
    assert found["doubled"].tolist() == [0, 2, 4, 6, 8, 10, 12, 14]


def test_another_configuration_or_grouping_is_another_folder(tmp_path, counting):
    measure, count = counting
    for configuration, group in (({"lr": 0.1}, 2), ({"lr": 0.2}, 2), ({"lr": 0.1}, 4)):
        options = {"configuration": configuration, "group": group, "n_jobs": 1}
        run_many(measure, range(4), path=tmp_path / "groups", **options)
    assert count() == {0: 3, 2: 2}
    spelled_out = [json.loads(file.read_text()) for file in tmp_path.glob("groups/*/*.json")]
    assert sorted((one["configuration"]["lr"], one["group"]) for one in spelled_out) == [
        (0.1, 2),
        (0.1, 4),
        (0.2, 2),
    ]


def test_folder_that_says_another_configuration_is_refused(tmp_path):
    run_many(arrays_of, range(2), path=tmp_path, configuration={"lr": 0.1}, n_jobs=1)
    (file,) = tmp_path.glob("*/configuration.json")
    file.write_text(file.read_text().replace("0.1", "0.2"))
    with pytest.raises(ValueError, match=r"made with lr=0\.2, not 0\.1: name another folder"):
        run_many(arrays_of, range(2), path=tmp_path, configuration={"lr": 0.1}, n_jobs=1)
    file.unlink()
    with pytest.raises(ValueError, match=r"holds seeds-0-1-\w+\.npz but no configuration\.json"):
        run_many(arrays_of, range(2), path=tmp_path, configuration={"lr": 0.1}, n_jobs=1)


def test_group_file_of_another_run_is_refused(tmp_path):
    for lr in (0.1, 0.2):
        run_many(arrays_of, range(2), path=tmp_path / str(lr), configuration={"lr": lr}, n_jobs=1)
    (mine,), (other,) = files_in(tmp_path / "0.1"), files_in(tmp_path / "0.2")
    mine.write_bytes(other.read_bytes())
    with pytest.raises(ValueError, match=r"made with lr=0\.2, not 0\.1: move it away"):
        run_many(arrays_of, range(2), path=tmp_path / "0.1", configuration={"lr": 0.1}, n_jobs=1)


@pytest.mark.parametrize(
    "spoil",
    [lambda content: b"", lambda content: content[: len(content) // 2], lambda content: b"text"],
    ids=["empty", "half", "another format"],
)
def test_group_file_that_cannot_be_read_is_made_again(tmp_path, counting, capsys, spoil):
    measure, count = counting
    options = {"path": tmp_path / "groups", "configuration": {}, "group": 2, "n_jobs": 1}
    run_many(measure, range(4), **options)
    damaged = files_in(tmp_path / "groups")[0]
    damaged.write_bytes(spoil(damaged.read_bytes()))
    found = run_many(measure, range(4), **options)
    assert found["doubled"].tolist() == [0, 2, 4, 6]
    assert count() == {0: 2, 2: 1}
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{damaged} cannot be read") and "made again" in line


def test_bad_arguments_are_one_sentence(tmp_path):
    options = {"path": tmp_path, "n_jobs": 1}
    with pytest.raises(ValueError, match="there are no seeds"):
        run_many(arrays_of, [], configuration={}, **options)
    with pytest.raises(ValueError, match="seed 3 is named twice"):
        run_many(arrays_of, [3, 1, 3], configuration={}, **options)
    with pytest.raises(ValueError, match="at least one seed, not 0"):
        run_many(arrays_of, [1], configuration={}, group=0, **options)
    with pytest.raises(ValueError, match=r"numbers, texts, lists and dicts .*ndarray"):
        run_many(arrays_of, [1], configuration={"lr": np.zeros(2)}, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        ({}, "no array"),
        ({"a": np.zeros(3)}, r"a must be numbers of shape \(2, \.\.\.\), .* shape \(3,\)"),
        ({"a": np.float64(1)}, r"a must be numbers of shape"),
        ({"a": np.array([None, 1])}, "a must be numbers .* object"),
        ({"file": np.zeros(2)}, "must not call an array 'file'"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, returned, sentence):
    with pytest.raises(ValueError, match=sentence):
        run_many(lambda seeds: returned, [0, 1], path=tmp_path, configuration={}, n_jobs=1)
    assert files_in(tmp_path) == []


def test_arrays_that_cannot_be_stacked_are_refused(tmp_path):
    def measure(seeds):
        return {"a": np.zeros((len(seeds), 2 + seeds[0]))}

    with pytest.raises(ValueError, match="seeds 2, 3 and another group differ in 'a'"):
        run_many(measure, range(4), path=tmp_path, configuration={}, group=2, n_jobs=1)


def test_what_is_no_mapping_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"must return \{name: array\}, not list"):
        run_many(lambda seeds: [0], [0], path=tmp_path, configuration={}, n_jobs=1)


def test_item_beside_a_deadly_one_is_not_blamed():
    """A pool in which one death ends all: item 1 is told from the others by running each alone."""
    pools, found = [], []

    def pool(task, items):
        pools.append(list(items))
        for item in pools[-1]:
            yield (item, None, DIED) if 1 in pools[-1] else task(item)

    with pytest.raises(RuntimeError, match=r"worked on seed 1 died 3 times, .*\(1 such"):
        for item, result in surviving(pool, lambda seed: 10 * seed, range(3)):
            found.append((item, result))
    assert found == [(0, 0), (2, 20)]
    assert pools == [[0, 1, 2], [0, 1, 2], [0], [1], [2]]


def test_names_of_items():
    items = (3, (0, 1, 2, 3), (1, 5), (4,), ("a.pth", "b.pth"))
    named = ["seed 3", "seeds 0 to 3", "seeds 1, 5", "seed 4", "a.pth, b.pth"]
    assert [name_of(item) for item in items] == named


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_killed_run_goes_on_and_has_lost_the_group_in_hand_alone(tmp_path, counting):
    measure, count = counting
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    kept = kept_in(tmp_path / "groups")
    started = count()
    assert len(kept) >= 2 and max(started.values()) == 1 and len(started) <= len(kept) + 2
    found = run_many(
        measure,
        range(12),
        path=tmp_path / "groups",
        configuration={"lr": 0.1},
        group=2,
        n_jobs=1,
    )
    assert found["doubled"].tolist() == list(range(0, 24, 2))
    assert count() == started + Counter({0, 2, 4, 6, 8, 10} - kept)


# ------------------------------------------------------------------------------------------------
# On processes


def test_processes_have_one_thread_each_and_finish_out_of_order(tmp_path, two_processes):
    def measure(seeds):
        import os
        import time

        import numpy as np
        import torch
        from threadpoolctl import threadpool_info

        while seeds[0] == 4 and not (tmp_path / "last").exists():
            time.sleep(0.01)  # the first group is the last to be done
        threads = [torch.get_num_threads(), *(pool["num_threads"] for pool in threadpool_info())]
        if seeds[0] == 1:
            (tmp_path / "last").touch()
        facts = [os.getpid(), max(threads)]
        return {"seed": np.array(seeds), "facts": np.array([facts] * len(seeds))}

    seeds = [4, 5, 9, 8, 1, 0]
    found = run_many(measure, seeds, path=tmp_path / "groups", configuration={}, group=2)
    assert found["seed"].tolist() == seeds
    processes, threads = found["facts"].T
    assert os.getpid() not in processes and len(set(processes)) == 2
    assert set(threads) == {1}


def test_exception_is_passed_on_after_the_groups_in_hand_are_kept(tmp_path, two_processes):
    class Unpicklable(Exception):
        def __init__(self, seed, reason):
            super().__init__(f"seed {seed}: {reason}")

    def measure(seeds):
        import time

        import numpy as np

        if seeds[0] == 0:
            raise ZeroDivisionError("no network of seed 0")
        time.sleep(0.3)
        return {"seed": np.array(seeds)}

    with pytest.raises(ZeroDivisionError, match="no network of seed 0") as caught:
        run_many(measure, range(40), path=tmp_path, configuration={}, group=2)
    assert "in measure" in str(caught.value.__cause__)  # the traceback in the worker
    assert "seeds 0, 1" in str(caught.value.__cause__)
    kept = kept_in(tmp_path)
    assert 2 in kept and len(kept) < 10  # the one in hand beside it, and no new ones

    def refuse(seeds):
        raise Unpicklable(3, "diverged")

    with pytest.raises(RuntimeError, match="Unpicklable: seed 3: diverged"):
        run_many(refuse, range(4), path=tmp_path / "other", configuration={}, group=2)


def test_what_is_not_read_to_its_end_is_not_run(tmp_path, two_processes):
    def call(seed):
        (tmp_path / str(seed)).touch()
        return seed

    results = as_they_come(call, range(1000))
    next(results)
    results.close()
    time.sleep(0.2)
    assert 1 <= len(list(tmp_path.iterdir())) < 100


def test_worker_that_dies_loses_its_group_which_is_run_again(tmp_path, counting, two_processes):
    measure, count = counting
    marker = tmp_path / "died"

    def die_once(seeds):
        import os
        import time

        if seeds[0] == 2 and not marker.exists():
            marker.touch()
            time.sleep(0.2)
            os._exit(1)
        return measure(seeds)

    found = run_many(die_once, range(8), path=tmp_path / "groups", configuration={}, group=2)
    assert found["doubled"].tolist() == list(range(0, 16, 2))
    assert marker.exists() and count()[2] == 1


# ------------------------------------------------------------------------------------------------
# On a cluster


@pytest.fixture(scope="module")
def cluster():
    """Two workers, each a process with a nanny that starts it again."""
    distributed = pytest.importorskip("distributed")
    dask = pytest.importorskip("dask")
    with (
        dask.config.set(
            {
                "distributed.scheduler.allowed-failures": 0,
                "distributed.nanny.pre-spawn-environ.OMP_NUM_THREADS": 2,
            }
        ),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as running,
        distributed.Client(running),
    ):
        yield running


def test_the_same_call_runs_on_a_dask_cluster(tmp_path, cluster):
    def measure(seeds):
        import os

        import numpy as np
        import torch

        facts = [os.getpid(), torch.get_num_threads()]
        return {"seed": np.array(seeds), "facts": np.array([facts] * len(seeds))}

    with joblib.parallel_config(backend="dask"):
        found = run_many(measure, [9, 8, 1, 0, 5, 6], path=tmp_path, configuration={}, group=1)
    assert found["seed"].tolist() == [9, 8, 1, 0, 5, 6]
    processes, threads = found["facts"].T
    workers = {nanny.pid for nanny in cluster.workers.values()}
    assert set(processes) <= workers
    assert set(threads) == {1}
    assert len(files_in(tmp_path)) == 6


def test_exception_on_a_cluster_is_passed_on(tmp_path, cluster):
    def measure(seeds):
        raise ZeroDivisionError("no network")

    with joblib.parallel_config(backend="dask"), pytest.raises(ZeroDivisionError) as caught:
        run_many(measure, range(100), path=tmp_path, configuration={}, group=2)
    assert "in measure" in str(caught.value.__cause__)


def test_death_of_a_cluster_worker_is_survived(tmp_path, cluster, counting):
    """With no failure allowed, dask gives the group up at once, and it is run_many that goes on."""
    measure, count = counting
    marker = tmp_path / "died"

    def die_once(seeds):
        import os

        if seeds[0] == 2 and not marker.exists():
            marker.touch()
            os._exit(1)
        return measure(seeds)

    with joblib.parallel_config(backend="dask"):
        found = run_many(die_once, range(8), path=tmp_path / "groups", configuration={}, group=2)
    assert found["doubled"].tolist() == list(range(0, 16, 2))
    assert marker.exists() and count()[2] == 1


def test_group_that_always_dies_on_a_cluster_is_named(tmp_path, cluster, counting, monkeypatch):
    """And not waited for without end, as joblib's own way to dask does."""
    measure, _ = counting
    monkeypatch.setattr("unlearning.many.TRIES", 2)

    def die(seeds):
        import os

        if seeds[0] == 2:
            os._exit(1)
        return measure(seeds)

    with joblib.parallel_config(backend="dask"), pytest.raises(RuntimeError) as caught:
        run_many(die, range(6), path=tmp_path / "groups", configuration={}, group=2)
    assert "worked on seeds 2, 3 died 2 times" in str(caught.value)
    assert kept_in(tmp_path / "groups") == {0, 4}


# ------------------------------------------------------------------------------------------------
# What notebooks keep


def test_what_was_measured_is_one_file_and_read_from_it(tmp_path, counting):
    measure, count = counting
    about = {"configuration": {"lr": 0.1}, "groups": tmp_path / "groups", "group": 2, "n_jobs": 1}
    first = load_or_run(tmp_path / "kept.npz", measure, range(4), **about)
    assert count() == {0: 1, 2: 1}
    for file in files_in(tmp_path / "groups"):
        file.unlink()
    again = load_or_run(tmp_path / "kept.npz", measure, range(4), **about)
    assert count() == {0: 1, 2: 1}
    assert first.keys() == again.keys() == {"doubled"}
    np.testing.assert_array_equal(again["doubled"], [0, 2, 4, 6])


def test_a_file_of_other_seeds_or_another_configuration_is_made_anew(tmp_path, counting):
    measure, count = counting
    file, about = tmp_path / "kept.npz", {"groups": tmp_path / "groups", "group": 2, "n_jobs": 1}
    load_or_run(file, measure, range(2), configuration={"lr": 0.1}, **about)
    found = load_or_run(file, measure, range(4), configuration={"lr": 0.1}, **about)
    assert found["doubled"].tolist() == [0, 2, 4, 6] and count() == {0: 1, 2: 1}
    load_or_run(file, measure, range(4), configuration={"lr": 0.2}, **about)
    assert count() == {0: 2, 2: 2}


def test_kept_numbers_are_single_precision_whether_made_or_read(tmp_path):
    options = {"configuration": {}, "groups": tmp_path / "groups", "n_jobs": 1}
    made, read = (load_or_run(tmp_path / "kept.npz", arrays_of, [3, 5], **options) for _ in "ab")
    for arrays in (made, read):
        assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
        np.testing.assert_allclose(arrays["accuracy"], [0.03, 0.05])


def same_weights(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in pairs)


@pytest.mark.parametrize("augment", [False, True])
def test_networks_of_many_seeds_are_those_of_load_or_train(tiny, tmp_path, augment):
    recipe = {"model": "mlp", "epochs": 2, "lr": 0.1, "batch_size": 16, "augment": augment}
    together = train_many(tiny, [4, 5], **recipe)
    for seed, member in zip([4, 5], together.members(), strict=True):
        alone = train_many(tiny, [seed], **recipe)
        wanted = load_or_train(tiny, seed=seed, folder=tmp_path, device="cpu", **recipe).model
        assert type(alone) is type(wanted) and same_weights(alone, wanted)
        assert same_weights(member, wanted)


def test_seeds_that_do_not_follow_each_other_are_no_ensemble(tiny):
    with pytest.raises(ValueError, match="seeds must follow each other"):
        batches_of(tiny, [0, 2], 16)
