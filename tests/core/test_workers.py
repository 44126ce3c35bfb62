"""core.workers: results as they finish, from processes that may die, one thread each."""

import os
import time

import joblib
import pytest
import torch

from unlearning.core import workers
from unlearning.core.workers import DIED, _with_retries, describe, imap_unordered


@pytest.fixture
def two_processes():
    """Of two threads each, unless somebody makes sure that they have one."""
    with joblib.parallel_config(backend="loky", n_jobs=2, inner_max_num_threads=2):
        yield


def test_one_process_is_this_one_and_the_default_on_a_gpu(monkeypatch):
    def call(seed):
        return seed, os.getpid()

    expected, threads = [(seed, (seed, os.getpid())) for seed in (3, 1)], torch.get_num_threads()
    assert list(imap_unordered(call, [3, 1], n_jobs=1)) == expected
    with joblib.parallel_config(n_jobs=1):
        assert list(imap_unordered(call, [3, 1])) == expected
    monkeypatch.setattr(workers, "pick_device", lambda: torch.device("cuda"))
    assert list(imap_unordered(call, [3, 1])) == expected
    assert torch.get_num_threads() == threads


def test_processes_have_one_thread_each_and_finish_out_of_order(tmp_path, two_processes):
    def call(item):
        import os
        import time

        import torch
        from threadpoolctl import threadpool_info

        while item == "first" and not (tmp_path / "last").exists():
            time.sleep(0.01)  # the first item is the last to be done
        if item == "last":
            (tmp_path / "last").touch()
        pools = [pool["num_threads"] for pool in threadpool_info()]
        return os.getpid(), max([torch.get_num_threads(), *pools])

    found = list(imap_unordered(call, ["first", "a", "b", "last"]))
    assert [item for item, _ in found] == ["a", "b", "last", "first"]
    processes, threads = zip(*(result for _, result in found), strict=True)
    assert os.getpid() not in processes and len(set(processes)) == 2
    assert set(threads) == {1}


def test_exception_is_passed_on_after_the_items_in_flight(two_processes):
    def call(seed):
        import time

        if seed == 0:
            raise ZeroDivisionError("no network of seed 0")
        time.sleep(0.3)
        return seed

    found = []
    with pytest.raises(ZeroDivisionError, match="no network of seed 0") as caught:
        for item, _ in imap_unordered(call, range(40)):
            found.append(item)
    assert "in call" in str(caught.value.__cause__)  # the traceback in the worker
    assert "on seed 0" in str(caught.value.__cause__)
    assert 1 in found and len(found) < 10  # the one in flight, and no new ones


def test_exception_that_cannot_be_pickled_is_named(two_processes):
    class Unpicklable(Exception):
        def __init__(self, seed, reason):
            super().__init__(f"seed {seed}: {reason}")

    def call(seed):
        raise Unpicklable(3, "diverged")

    with pytest.raises(RuntimeError, match="Unpicklable: seed 3: diverged"):
        list(imap_unordered(call, range(4)))


def test_what_is_not_read_to_the_end_is_not_run(tmp_path, two_processes):
    def call(seed):
        (tmp_path / str(seed)).touch()
        return seed

    results = imap_unordered(call, range(1000))
    next(results)
    results.close()
    time.sleep(0.2)
    assert 1 <= len(list(tmp_path.iterdir())) < 100


def test_item_of_a_worker_that_dies_is_run_again(tmp_path, two_processes):
    def die_once(seed):
        import os
        import time

        marker = tmp_path / "died"
        if seed == 1 and not marker.exists():
            marker.touch()
            time.sleep(0.2)
            os._exit(1)
        return 10 * seed

    assert dict(imap_unordered(die_once, range(4))) == {0: 0, 1: 10, 2: 20, 3: 30}
    assert (tmp_path / "died").exists()


def test_item_in_flight_with_a_crashing_one_is_not_blamed():
    """A pool in which one death ends all: item 1 is told from the others by running each alone."""
    pools, found = [], []

    def pool(task, items):
        pools.append(list(items))
        for item in pools[-1]:
            yield (item, None, DIED) if 1 in pools[-1] else task(item)

    with pytest.raises(RuntimeError, match=r"worked on seed 1 died 3 times, .*\(1 such"):
        for item, result in _with_retries(pool, lambda seed: 10 * seed, range(3)):
            found.append((item, result))
    assert found == [(0, 0), (2, 20)]
    assert pools == [[0, 1, 2], [0, 1, 2], [0], [1], [2]]


def test_names_of_items():
    items = (3, (0, 1, 2, 3), (1, 5), (4,), ("a.pth", "b.pth"))
    named = ["seed 3", "seeds 0 to 3", "seeds 1, 5", "seed 4", "a.pth, b.pth"]
    assert [describe(item) for item in items] == named


# ------------------------------------------------------------------------------------------------
# On a cluster


@pytest.fixture(scope="module")
def cluster():
    """Two workers, each a process with a nanny that starts it again."""
    distributed = pytest.importorskip("distributed")
    dask = pytest.importorskip("dask")
    settings = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.nanny.pre-spawn-environ.OMP_NUM_THREADS": 2,
    }
    options = {"threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    with (
        dask.config.set(settings),
        distributed.LocalCluster(n_workers=2, **options) as running,
        distributed.Client(running),
    ):
        yield running


def test_the_same_call_runs_on_a_dask_cluster(cluster):
    def call(seed):
        import os

        import torch

        return os.getpid(), torch.get_num_threads()

    with joblib.parallel_config(backend="dask"):
        found = dict(imap_unordered(call, range(6)))
    assert found.keys() == set(range(6))
    workers = {nanny.pid for nanny in cluster.workers.values()}
    assert {process for process, _ in found.values()} <= workers
    assert {threads for _, threads in found.values()} == {1}


def test_item_that_always_dies_on_a_cluster_is_run_again_and_named(tmp_path, cluster, monkeypatch):
    """With no failure allowed, dask gives the item up at once; joblib's own way waits forever."""
    monkeypatch.setattr(workers, "TRIES", 2)

    def die(seed):
        import os
        import uuid

        (tmp_path / f"{seed}-{uuid.uuid4().hex}").touch()
        return os._exit(1) if seed == 2 else seed

    found = []
    with joblib.parallel_config(backend="dask"), pytest.raises(RuntimeError) as caught:
        for item, _ in imap_unordered(die, range(4)):
            found.append(item)
    assert "worked on seed 2 died 2 times" in str(caught.value)
    assert sorted(found) == [0, 1, 3] and len(list(tmp_path.glob("2-*"))) == 2
