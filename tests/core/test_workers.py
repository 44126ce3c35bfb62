"""core.workers: results as they finish, from processes that may die, one thread each."""

import os
import signal
import subprocess
import sys

import joblib
import pytest
import torch

from unlearning.core import workers
from unlearning.core.files import ROOT
from unlearning.core.workers import DIED, _with_retries, imap_unordered

# Run by another interpreter and so killed alone; its workers hold its output open.
KILLED = """
import multiprocessing, os, signal, sys, threading, time
from unlearning.core.workers import imap_unordered

moment, caller = sys.argv[1], os.getpid()

def call(seed):
    if moment == "at work" and seed > 1:
        os.kill(caller, signal.SIGKILL)
    while moment == "at work" and seed > 1:
        pass
    return seed

def kill_at_start():
    while not multiprocessing.active_children():
        time.sleep(0.001)
    os.kill(caller, signal.SIGKILL)

if moment == "at start":
    threading.Thread(target=kill_at_start).start()
for item in imap_unordered(call, range(8), n_jobs=2):
    if moment == "idle" and item[0] > 1:
        time.sleep(1)  # all that was sent is done
        os.kill(caller, signal.SIGKILL)
"""


@pytest.fixture
def two_processes():
    """Of two threads each, unless somebody makes sure that they have one."""
    with joblib.parallel_config(backend="loky", n_jobs=2, inner_max_num_threads=2):
        yield


def test_one_process_is_this_one_and_the_default_on_a_gpu(monkeypatch):
    def call(seed):
        return seed, os.getpid()

    expected = [(seed, (seed, os.getpid())) for seed in (3, 1)]
    assert list(imap_unordered(call, [3, 1], n_jobs=1)) == expected
    with joblib.parallel_config(n_jobs=1):
        assert list(imap_unordered(call, [3, 1])) == expected
    monkeypatch.setattr(workers, "pick_device", lambda: torch.device("cuda"))
    assert list(imap_unordered(call, [3, 1])) == expected


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
    assert [item for item, _ in found][:2] == ["a", "b"] and len(found) == 4
    processes, threads = zip(*(result for _, result in found), strict=True)
    assert os.getpid() not in processes and len(set(processes)) == 2 and set(threads) == {1}


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
    cause = str(caught.value.__cause__)  # the traceback in the worker
    assert "in call" in cause and "on seed 0" in cause
    assert 1 in found and len(found) < 10  # the one in flight, and no new ones


@pytest.mark.parametrize("leave", ["sys.exit(3)", "raise KeyboardInterrupt", "raise GeneratorExit"])
def test_what_ends_a_worker_is_named_and_does_not_end_the_caller(two_processes, leave):
    def call(seed):
        import sys  # noqa: F401, what leaves uses it

        if seed == 1:
            exec(leave)

    with pytest.raises(RuntimeError, match=r"^seed 1 ended with .*: raise an Exception instead$"):
        list(imap_unordered(call, range(3)))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize("moment", ["at start", "at work", "idle"])
def test_workers_end_with_their_caller_at_whatever_moment_it_is_killed(moment):
    command = [sys.executable, "-c", KILLED, moment]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    # it was no timeout: the pipe is closed, so no worker is left
    assert killed.returncode == -signal.SIGKILL, killed.stderr


def test_the_initializer_of_joblib_s_own_configuration_still_runs(tmp_path):
    def touch(name):
        (tmp_path / name).touch()

    options = {"initializer": touch, "initargs": ("started",)}
    with joblib.parallel_config(backend="loky", n_jobs=2, **options):
        list(imap_unordered(str, range(2)))
    assert (tmp_path / "started").exists()


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


@pytest.fixture(scope="module")
def cluster():
    """Two workers, each a process with a nanny that starts it again."""
    distributed = pytest.importorskip("distributed")
    dask = pytest.importorskip("dask")
    settings = {"scheduler.allowed-failures": 0, "nanny.pre-spawn-environ.OMP_NUM_THREADS": 2}
    options = {"threads_per_worker": 1, "silence_logs": 50}
    options |= {"host": "127.0.0.1", "dashboard_address": None}  # nothing for the network
    with (
        dask.config.set({f"distributed.{name}": value for name, value in settings.items()}),
        distributed.LocalCluster(n_workers=2, **options) as running,
        distributed.Client(running),
    ):
        yield running


def test_a_dask_cluster_runs_all_items_and_names_the_one_that_always_dies(
    tmp_path, cluster, monkeypatch
):
    """With no failure allowed, dask gives the item up at once; joblib's own way waits forever."""
    monkeypatch.setattr(workers, "TRIES", 2)

    def die(seed):
        import os
        import uuid

        import torch

        (tmp_path / f"{seed}-{uuid.uuid4().hex}").touch()
        return os._exit(1) if seed == 2 else torch.get_num_threads()

    found = []
    with joblib.parallel_config(backend="dask"), pytest.raises(RuntimeError) as caught:
        for item in imap_unordered(die, range(4)):
            found.append(item)
    assert "worked on seed 2 died 2 times" in str(caught.value)
    assert sorted(found) == [(0, 1), (1, 1), (3, 1)]
    assert len(list(tmp_path.glob("2-*"))) == 2


def test_a_single_item_is_not_worth_a_process():
    def here(_):
        return os.getpid()

    assert list(imap_unordered(here, [7])) == [(7, os.getpid())]
    ((_, elsewhere),) = imap_unordered(here, [7], n_jobs=2)
    assert elsewhere != os.getpid()


def test_what_a_call_holds_is_pickled_once_however_many_items_there_are(two_processes):
    """So a set of images does not go through a pipe for every network."""
    pickled = []

    class Held:
        def __reduce__(self):
            pickled.append(True)
            return object, ()

    held = Held()
    found = imap_unordered(lambda item: (item, held is None), range(6))
    assert sorted(found) == [(item, (item, False)) for item in range(6)]
    assert len(pickled) == 1
