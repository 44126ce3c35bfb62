"""Work handed to joblib's processes or to a dask cluster, one thread each; workers may die."""

from __future__ import annotations

import os
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import islice, takewhile
from typing import Any, TypeVar

import cloudpickle
import torch
from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend
from threadpoolctl import threadpool_limits

from .devices import pick_device

TRIES = 3  # of an item whose process dies, the last one alone
AHEAD = 2  # items per core that a cluster is given at a time
DIED = "died"

Item = TypeVar("Item", bound=Hashable)


class InWorker(Exception):
    """Where in another process an exception was raised: the traceback there, as text."""


def imap_unordered(
    call: Callable[[Item], Any], items: Iterable[Item], *, n_jobs: int | None = None
) -> Iterator[tuple[Item, Any]]:
    """Yield (item, ``call(item)``) in the order in which they are done; see ``run_many``.

    Close it (``contextlib.closing``) when it is not read to its end: the rest is then not run.

    Args:
        call: any function, closures of a notebook too.
        items: hashable, each once: a seed or a tuple of seeds.
        n_jobs: as ``run_many``.

    Raises:
        RuntimeError: an item's process died ``TRIES`` times; raised once all others are done.
        Exception: what ``call`` raised, after the results of items in flight were yielded.
    """
    backend, configured = get_active_backend()
    on_a_cluster = n_jobs is None and hasattr(backend, "client")
    if n_jobs is None:
        n_jobs = configured or (-1 if pick_device().type == "cpu" else 1)
    if on_a_cluster:
        return _with_retries(partial(_on_dask, backend), call, items)
    if effective_n_jobs(n_jobs) == 1:
        return ((item, call(item)) for item in items)
    return _with_retries(partial(_on_workers, n_jobs), call, items)


def _with_retries(
    way: Callable, call: Callable, items: Iterable[Item]
) -> Iterator[tuple[Item, Any]]:
    """Run items on workers that may die.

    When one process of a pool dies, the others are ended with it, and which item was the cause is
    not known. So all items that were in flight are run again after the others, and those that were
    in flight again one at a time, which leaves no doubt.
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
            "with nothing beside it: it needs more memory than there is, or ends itself "
            f"({len(crashing)} such; all others are finished and kept)"
        )


def _one_threaded(call: Callable[[Item], Any]) -> Callable[[Item], tuple]:
    """What a worker runs: (item, result, None), or (item, None, (exception pickled, traceback)).

    A function in a function is sent as it is, so that a worker imports this package only where
    ``call`` needs it. Exceptions are values here, since joblib drops other results for one. When
    the caller is killed, a process that it started ends too: else it would hold its memory, and on
    with a group that the next run makes as well, for minutes.
    """
    caller, watch = os.getpid(), "ends with the caller"

    def end_with_the_caller() -> None:
        while os.getppid() == caller:
            time.sleep(0.5)
        os._exit(1)

    def task(item: Item) -> tuple:
        watched = any(thread.name == watch for thread in threading.enumerate())
        if os.getppid() == caller and not watched:
            threading.Thread(target=end_with_the_caller, name=watch, daemon=True).start()
        torch.set_num_threads(1)
        try:
            with threadpool_limits(1):
                return item, call(item), None
        except Exception as error:
            trace = traceback.format_exc()
            try:
                return item, None, (cloudpickle.dumps(error), trace)
            except Exception:  # one that holds a lock or a file, say
                return item, None, (b"", trace)

    return task


def _raise_here(item: Hashable, pickled: bytes, trace: str) -> None:
    """Raise an exception that came from a worker, with its traceback there as the cause."""
    try:
        error = cloudpickle.loads(pickled)
    except Exception:
        error = RuntimeError(trace.strip().splitlines()[-1])
    raise error from InWorker(f"on {describe(item)}, in a process of its own\n\n{trace}")


def _on_workers(n_jobs: int, task: Callable, items: Iterable[Item]) -> Iterator[tuple]:
    """Outcomes of ``task`` from joblib's workers; DIED for all items in flight when one dies."""
    in_flight = set()

    def handing_out() -> Iterator:
        for item in items:
            in_flight.add(item)
            yield delayed(task)(item)

    parallel = Parallel(
        n_jobs, return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs"
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
    """Close joblib's generator without its advice on what was not read."""
    try:
        yield results
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results.close()


def _on_dask(backend: Any, task: Callable, items: Iterable[Item]) -> Iterator[tuple]:
    """Outcomes of ``task`` from the cluster of joblib's dask backend.

    By futures, because joblib's own way waits for ever for an item whose workers keep dying. Dask
    itself runs an item again whose worker died, three times unless configured otherwise.
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
    """An item as a sentence names it: "seed 3", "seeds 0 to 15", "seeds 1, 5", "a.pth, b.pth"."""
    if not isinstance(item, tuple):
        return f"seed {item}"
    if isinstance(item[0], str):
        return ", ".join(item)
    if len(item) > 2 and item == tuple(range(item[0], item[-1] + 1)):
        return f"seeds {item[0]} to {item[-1]}"
    return f"{'seed' if len(item) == 1 else 'seeds'} {', '.join(map(str, item))}"
