"""Run work on joblib's processes or a dask cluster, one thread each, though workers may die."""

from __future__ import annotations

import os
import traceback
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import islice, takewhile
from typing import Any, TypeVar

import cloudpickle
import numpy as np
import torch
from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend
from threadpoolctl import threadpool_limits

from .devices import pick_device

TRIES = 3  # for an item whose process dies; the last time it runs alone
AHEAD = 2  # items per core that are sent to a cluster at a time
DIED = "died"

Item = TypeVar("Item", bound=Hashable)


class InWorker(Exception):
    """The traceback of an exception in another process, as text."""


def imap_unordered(
    call: Callable[[Item], Any], items: Iterable[Item], *, n_jobs: int | None = None
) -> Iterator[tuple[Item, Any]]:
    """Yield (item, ``call(item)``) in the order in which they finish; see ``run_many``.

    Close it (``contextlib.closing``) if you do not read it to the end: the rest is then not run.

    Args:
        call: any function, including closures and functions of a notebook.
        items: hashable, each once: a seed or a tuple of seeds. A single one is not worth a process
            of its own, and is run in this one unless ``n_jobs`` or joblib says otherwise.
        n_jobs: as ``run_many``.

    Raises:
        RuntimeError: if an item's process died ``TRIES`` times; raised once all others are done.
        Exception: what ``call`` raised, after the results of items in flight were yielded.
    """
    backend, configured = get_active_backend()
    on_a_cluster = n_jobs is None and hasattr(backend, "client")
    items = list(items)
    if n_jobs is None:
        alone = len(items) == 1 or pick_device().type != "cpu"
        n_jobs = configured or (1 if alone else -1)
    if on_a_cluster:
        return _with_retries(partial(_on_dask, backend), call, items)
    if effective_n_jobs(n_jobs) == 1:
        return ((item, call(item)) for item in items)
    return _with_retries(partial(_on_workers, n_jobs), call, items)


def local_processes(n_jobs: int | None) -> int:
    """On how many processes of this machine ``imap_unordered`` works; 1 on a cluster or a GPU."""
    backend, configured = get_active_backend()
    if n_jobs is None and (hasattr(backend, "client") or pick_device().type != "cpu"):
        return 1
    return effective_n_jobs(n_jobs or configured or -1)


def _with_retries(
    way: Callable, call: Callable, items: Iterable[Item]
) -> Iterator[tuple[Item, Any]]:
    """Run items on workers that may die.

    When one process of a pool dies, the others are ended with it, and it is not known which item
    was the cause. So all items in flight are run again after the others. Those in flight when a
    process dies again are then run one at a time, which leaves no doubt.
    """
    deaths, failures, crashing = dict.fromkeys(items, 0), [], []
    while deaths:
        fewest = min(deaths.values())
        batch = [item for item, count in deaths.items() if count == fewest]
        batch = batch[:1] if fewest == TRIES - 1 else batch
        handed_out = takewhile(lambda _: not failures, batch)
        with closing(way(_one_threaded(call), handed_out)) as outcomes:
            for item, result, trouble in outcomes:
                if trouble is None:
                    del deaths[item]
                    yield item, result
                elif trouble == DIED:
                    deaths[item] += 1
                else:
                    failures.append((item, *trouble))
        if failures:
            _raise_here(*failures[0])
        crashing += [item for item, count in deaths.items() if count == TRIES]
        deaths = {item: count for item, count in deaths.items() if count < TRIES}
    if crashing:
        raise RuntimeError(
            f"the process that worked on {describe(crashing[0])} died {TRIES} times, the last time "
            "running alone: it needs more memory than there is, or ends itself "
            f"({len(crashing)} such; all others are finished and kept)"
        )


def _one_threaded(call: Callable[[Item], Any]) -> Callable[[Item], tuple]:
    """What a worker runs: (item, result, None), or (item, None, (exception pickled, traceback)).

    An inner function is sent by value, so that a worker imports this package only if ``call``
    needs it. Exceptions, also that of ``sys.exit``, are returned, since joblib drops other results
    when one is raised.
    """

    def task(item: Item) -> tuple:
        torch.set_num_threads(1)
        try:
            with threadpool_limits(1):
                return item, call(item), None
        except BaseException as error:
            trace = traceback.format_exc()
            try:
                return item, None, (cloudpickle.dumps(error), trace)
            except Exception:  # it holds a lock or a file, for example
                return item, None, (b"", trace)

    return task


def _watching() -> Callable:
    """What a worker runs first: it watches its caller, then runs the user's own initializer.

    A worker ends when the caller that started it is gone, killed for example: otherwise it would
    keep its memory for ever, and work on an item that the next run does again. The inner function
    is sent by value and imports nothing that is slow, so that it watches from the worker's start.
    """

    def start(caller: int, initializer: Callable | None = None, arguments: tuple = ()) -> None:
        import os
        import threading
        import time

        def watch() -> None:
            while os.getppid() == caller:
                time.sleep(0.2)
            os._exit(1)

        threading.Thread(target=watch, name="ends with the caller", daemon=True).start()
        if initializer is not None:
            initializer(*arguments)

    return start


_watch_caller = _watching()  # always the same, or joblib would start other workers for every call


def _raise_here(item: Hashable, pickled: bytes, trace: str) -> None:
    """Raise a worker's exception here, with its traceback there as the cause."""
    try:
        error = cloudpickle.loads(pickled)
    except Exception:
        error = RuntimeError(trace.strip().splitlines()[-1])
    if not isinstance(error, Exception):  # it would end this process too
        error = RuntimeError(f"{describe(item)} ended with {error!r}: raise an Exception instead")
    raise error from InWorker(f"on {describe(item)}, in a process of its own\n\n{trace}")


def _on_workers(n_jobs: int, task: Callable, items: Iterable[Item]) -> Iterator[tuple]:
    """Outcomes of ``task`` from joblib's workers; DIED for all items in flight when one dies."""
    in_flight, pickled = set(), np.frombuffer(cloudpickle.dumps(task), np.uint8)

    def run(pickled: np.ndarray, item: Item) -> tuple:
        return cloudpickle.loads(pickled)(item)

    def handing_out() -> Iterator:
        for item in items:
            in_flight.add(item)
            yield delayed(run)(pickled, item)  # joblib writes a large array once, for all items

    given = getattr(get_active_backend()[0], "backend_kwargs", {})  # of joblib.parallel_config
    initial = os.getpid(), given.get("initializer"), given.get("initargs", ())
    parallel = Parallel(
        n_jobs,
        return_as="generator_unordered",
        batch_size=1,
        pre_dispatch="n_jobs",
        initializer=_watch_caller,
        initargs=initial,
    )
    try:
        with _closing_silently(parallel(handing_out())) as outcomes:
            for outcome in outcomes:
                in_flight.remove(outcome[0])
                yield outcome
    except Exception as error:
        if type(error).__name__ != "TerminatedWorkerError":  # loky's, as joblib vendors it
            raise
        yield from [(item, None, DIED) for item in in_flight]


@contextmanager
def _closing_silently(results: Iterator) -> Iterator[Iterator]:
    """Close joblib's generator without its warning about results that were not read."""
    try:
        yield results
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results.close()


def _on_dask(backend: Any, task: Callable, items: Iterable[Item]) -> Iterator[tuple]:
    """Outcomes of ``task`` from the cluster of joblib's dask backend.

    It uses futures, because joblib's own dask backend waits forever for an item whose workers keep
    dying. Dask itself reruns an item whose worker died, three times unless configured otherwise.
    """
    from distributed import as_completed

    client, items, in_flight, waiting = backend.client, iter(items), {}, as_completed()

    def hand_out() -> None:
        room = AHEAD * max(1, sum(client.ncores().values())) - len(in_flight)
        for item in islice(items, max(0, room)):
            future = client.submit(task, item, pure=False, **backend.submit_kwargs)
            in_flight[future] = item
            waiting.add(future)

    try:
        hand_out()
        for future in waiting:
            item, error = in_flight.pop(future), future.exception()
            if error is not None and type(error).__name__ != "KilledWorker":
                raise error
            yield (item, None, DIED) if error else future.result()
            hand_out()
    finally:
        if in_flight:
            client.cancel(list(in_flight))


def describe(item: Hashable) -> str:
    """Name an item: "seed 3", "seeds 0 to 15", "seeds 1, 5" or "a.pth, b.pth"."""
    if not isinstance(item, tuple):
        return f"seed {item}"
    if isinstance(item[0], str):
        return ", ".join(map(str, item))
    if len(item) > 2 and item == tuple(range(item[0], item[-1] + 1)):
        return f"seeds {item[0]} to {item[-1]}"
    return f"{'seed' if len(item) == 1 else 'seeds'} {', '.join(map(str, item))}"
