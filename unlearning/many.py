"""Hundreds of networks: made and measured group by group, on all cores, and resumed when killed."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import islice, takewhile
from operator import index
from pathlib import Path
from typing import Any, TypeVar

import cloudpickle
import numpy as np
import torch
from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend
from threadpoolctl import threadpool_limits
from torch import nn
from tqdm import tqdm

from .data import UNREADABLE, ImageBatches, Images
from .ensemble import united
from .files import whole
from .training import CHECKPOINTS, fresh_network, pick_device, train

TRIES = 3  # of a group whose process dies, the last one alone
AHEAD = 2  # groups a core that a cluster is given at a time
DIED = "died"
RESERVED = {"allow_pickle", "file", "run"}  # names that an npz of ours cannot give an array

Item = TypeVar("Item", bound=Hashable)
Arrays = dict[str, np.ndarray]


class InWorker(Exception):
    """Where in another process an exception was raised: the traceback there, as text."""


# ------------------------------------------------------------------------------------------------
# Groups of networks, kept on disk


def run_many(
    measure: Callable[[list[int]], Mapping[str, Any]],
    seeds: Iterable[int],
    *,
    path: Path | str,
    configuration: dict,
    group: int = 16,
    n_jobs: int | None = None,
) -> Arrays:
    """Measure a network for every seed, in groups, and stack what was measured.

    Each finished group is a file at once, whole or not at all, and a group whose file is there is
    not run again: killed at any moment, the same call goes on and has lost at most the groups in
    hand. A longer list of seeds reuses the groups that it has in common with a shorter one.

    Groups run on joblib's workers, each on one thread: one process a core, or as the caller says::

        with joblib.parallel_config(n_jobs=4):  # four processes
            run_many(...)
        with Client(address), joblib.parallel_config(backend="dask"):  # a cluster of dask's
            run_many(...)

    With one process, ``measure`` is called in this one, with all its threads. That is the default
    where there is a GPU, on which ``measure`` had better train its group as one ``Ensemble``.
    Functions of a notebook and closures can be sent to workers; what they hold is sent with every
    group, so large data is better loaded by ``measure`` itself.

    A worker that dies (killed for want of memory, say) loses the groups that were in hand, which
    are run again, twice at most.

    Args:
        measure: ``measure(seeds) -> {name: array}``, each array (len(seeds), ...), a row a seed.
        seeds: of the networks; the rows of the result are in this order.
        path: folder for the groups: they go to ``path/<digest>/``, the digest being that of
            ``configuration`` and ``group``, which ``configuration.json`` there spells out.
        configuration: everything that changes what ``measure`` gives, in values that JSON has. What
            is not in it is not known to have changed.
        group: seeds a call of ``measure``.
        n_jobs: processes; by default what ``joblib.parallel_config`` says, else one a core, or on a
            machine with a GPU one.

    Returns:
        {name: array (len(seeds), ...)}.

    Raises:
        ValueError: no seeds or one named twice, a configuration that JSON cannot hold, files of
            another configuration, or arrays that do not fit the seeds or each other.
        RuntimeError: a group's process died every time; names the seeds, once all else is done.
        Exception: what ``measure`` raised, once the groups in hand are finished and kept.
    """
    seeds = checked_seeds(seeds)
    if group < 1:
        raise ValueError(f"a group must hold at least one seed, not {group}")
    groups = [tuple(seeds[start : start + group]) for start in range(0, len(seeds), group)]
    about = {"configuration": as_json(configuration), "group": group}
    folder = Path(path) / digest_of(about)
    claim(folder, about)
    files = {own: folder / file_name(own) for own in groups}
    found = {own: read_group(files[own], {**about, "seeds": list(own)}) for own in groups}
    done = {own: arrays for own, arrays in found.items() if arrays is not None}
    missing = [own for own in groups if own not in done]

    def measured(own: tuple[int, ...]) -> Arrays:
        arrays = measure(list(own))
        if not isinstance(arrays, Mapping):
            raise TypeError(f"measure must return {{name: array}}, not {type(arrays).__name__}")
        return {
            name: np.asarray(array.detach().cpu() if torch.is_tensor(array) else array)
            for name, array in arrays.items()
        }

    bar = tqdm(
        total=len(seeds), initial=sum(map(len, done)), desc="networks", leave=False, disable=None
    )
    with bar, closing(as_they_come(measured, missing, n_jobs=n_jobs)) as finished:
        for own, arrays in finished:
            check_arrays(arrays, own, like=next(iter(done.values()), arrays))
            write_group(files[own], {**about, "seeds": list(own)}, arrays)
            done[own] = arrays
            bar.update(len(own))
    return {name: np.concatenate([done[own][name] for own in groups]) for name in done[groups[0]]}


def checked_seeds(seeds: Iterable[int]) -> list[int]:
    """Seeds as a list of ints, each named once, at least one."""
    seeds = [index(seed) for seed in seeds]
    if not seeds:
        raise ValueError("there are no seeds: name at least one network to make")
    twice = [seed for seed, count in Counter(seeds).items() if count > 1]
    if twice:
        raise ValueError(f"seed {twice[0]} is named twice: the same network would count twice")
    return seeds


def check_arrays(arrays: Arrays, seeds: Sequence[int], *, like: Arrays) -> None:
    """Refuse arrays that have no row for each seed, or that cannot be stacked with others."""
    if not arrays:
        raise ValueError("measure returned no array: there is nothing to keep")
    for name, array in arrays.items():
        if name in RESERVED:
            raise ValueError(f"measure must not call an array {name!r}: choose another name")
        if array.dtype.hasobject or array.shape[:1] != (len(seeds),):
            raise ValueError(
                f"{name} must be numbers of shape ({len(seeds)}, ...), a row a seed, not "
                f"{array.dtype} of shape {array.shape}"
            )
    kinds, others = ({k: (a.dtype, a.shape[1:]) for k, a in of.items()} for of in (arrays, like))
    if kinds != others:
        name = next(k for k in kinds | others if kinds.get(k) != others.get(k))
        raise ValueError(
            f"{name_of(tuple(seeds))} and another group differ in {name!r}: {kinds.get(name)} and "
            f"{others.get(name)}, so that they cannot be stacked"
        )


def file_name(seeds: tuple[int, ...]) -> str:
    return f"seeds-{seeds[0]}-{seeds[-1]}-{digest_of(list(seeds))[:6]}.npz"


def write_group(file: Path, about: dict, arrays: Arrays, *, save: Callable = np.savez) -> None:
    with whole(file) as beside:
        save(beside, run=np.array(json.dumps(about)), **arrays)


def read_group(file: Path, about: dict) -> Arrays | None:
    """The arrays of a group; None where there is no file, or one that cannot be read.

    The latter costs one line and one group's time, since the seeds say what was in it; stopping a
    run of hours for it would cost more. A file of another run is refused: that one may be wanted.
    """
    try:
        with file.open("rb") as opened, np.load(opened) as content:
            arrays = {name: content[name] for name in content.files}
        found = json.loads(str(arrays.pop("run")))
    except FileNotFoundError:
        return None
    except UNREADABLE as error:
        print(f"{file} cannot be read ({type(error).__name__}): its networks are made again")
        return None
    if found != about:
        raise ValueError(f"{file} holds {difference(found, about)}: move it away, and run again")
    return arrays


def load_or_run(
    file: Path | str,
    measure: Callable[[list[int]], Mapping[str, Any]],
    seeds: Iterable[int],
    *,
    configuration: dict,
    groups: Path | str = CHECKPOINTS / "many",
    group: int = 16,
    n_jobs: int | None = None,
) -> Arrays:
    """What ``run_many`` gives: from ``file`` if it holds just that, else run now and kept there.

    Args:
        file: an npz, compressed, float32 where ``measure`` gives float64.
        measure, seeds, configuration, group, n_jobs: as ``run_many``.
        groups: folder for the groups, which a run that was killed goes on with.
    """
    seeds = checked_seeds(seeds)
    about = {"configuration": as_json(configuration), "seeds": seeds}
    try:
        found = read_group(Path(file), about)
    except ValueError:  # another configuration's: the file is of the one that was run last
        found = None
    if found is not None:
        return found
    arrays = run_many(
        measure, seeds, path=groups, configuration=configuration, group=group, n_jobs=n_jobs
    )
    small = {
        name: array.astype(np.float32) if array.dtype == np.float64 else array
        for name, array in arrays.items()
    }
    write_group(Path(file), about, small, save=np.savez_compressed)
    return small


def train_many(
    images: Images,
    seeds: Sequence[int],
    *,
    model: str,
    epochs: int,
    lr: float,
    batch_size: int = 64,
    weight_decay: float = 5e-4,
    augment: bool = False,
) -> nn.Module:
    """Train a network from scratch for each seed, as ``load_or_train`` does, and keep no file.

    Args:
        images: training set; the networks are trained on its device.
        seeds: of initialisation and order, one after the other: s, s + 1, ...
        model, epochs, lr, batch_size, weight_decay, augment: as ``load_or_train``.

    Returns:
        A network, or for several seeds an ``Ensemble``.
    """
    networks = [fresh_network(model, images, seed).to(images.device) for seed in seeds]
    batches = batches_of(images, seeds, batch_size, augment=augment)
    return train(
        united(networks), batches, epochs=epochs, lr=lr, weight_decay=weight_decay, seed=seeds[0]
    )


def batches_of(
    images: Images, seeds: Sequence[int], batch_size: int, *, augment: bool = False
) -> ImageBatches:
    """Shuffled batches for the networks of these seeds, s, s + 1, ...: each has its own order."""
    if list(seeds) != list(range(seeds[0], seeds[0] + len(seeds))):
        raise ValueError(f"seeds must follow each other, s, s + 1, ..., not {list(seeds)}")
    members = None if len(seeds) == 1 else len(seeds)
    return images.batches(batch_size, shuffle=True, seed=seeds[0], augment=augment, members=members)


# ------------------------------------------------------------------------------------------------
# Configurations


def as_json(configuration: Any) -> Any:
    """The configuration as JSON gives it back, tuples as lists: what can be compared with a file.

    Raises:
        ValueError: something in it that JSON does not have.
    """
    try:
        return json.loads(json.dumps(configuration))
    except TypeError as error:
        raise ValueError(
            f"a configuration must be of numbers, texts, lists and dicts ({error})"
        ) from error


def digest_of(about: Any) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def claim(folder: Path, about: dict) -> None:
    """Write ``configuration.json`` into the folder, or see that the one there says the same.

    Raises:
        ValueError: it says something else, or cannot be read, or there is none but results are.
    """
    file = folder / "configuration.json"
    if not file.exists():
        results = [old for suffix in ("*.npz", "*.pth") for old in sorted(folder.glob(suffix))]
        if results:
            raise ValueError(
                f"{folder} holds {results[0].name} but no {file.name} that says what it was made "
                "with: name another folder, or move it away"
            )
        with whole(file) as beside:
            beside.write_text(json.dumps(about, indent=1, sort_keys=True))
        return
    try:
        found = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(
            f"{file} cannot be read ({error}), so what {folder} holds is not known: "
            "move the folder away, or name another one"
        ) from error
    if found != about:
        raise ValueError(
            f"{folder} holds {difference(found, about)}: name another folder, or move it away"
        )


def difference(found: Any, wanted: Any, name: str = "what was made with another configuration"):
    """The first entry in which two configurations differ, in words."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(found | wanted):
            if found.get(key) != wanted.get(key):
                return difference(found.get(key), wanted.get(key), f"what was made with {key}")
    return f"{name}={found!r}, not {wanted!r}"


# ------------------------------------------------------------------------------------------------
# Work handed out, results taken as they come


def as_they_come(
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
        Exception: what ``call`` raised, after the results of items in hand were yielded.
    """
    backend, configured = get_active_backend()
    on_a_cluster = n_jobs is None and hasattr(backend, "client")
    if n_jobs is None:
        n_jobs = configured or (-1 if pick_device().type == "cpu" else 1)
    if on_a_cluster:
        return surviving(partial(on_dask, backend), call, items)
    if effective_n_jobs(n_jobs) == 1:
        return ((item, call(item)) for item in items)
    return surviving(partial(on_workers, n_jobs), call, items)


def surviving(way: Callable, call: Callable, items: Iterable[Item]) -> Iterator[tuple[Item, Any]]:
    """Run items on workers that may die.

    When one process of a pool dies, the others are ended with it, and which item was the cause is
    not known. So all that were in hand are run again together after the others, and those that were
    in hand again one at a time, which leaves no doubt.
    """
    deaths, failures, deadly = dict.fromkeys(items, 0), [], []
    while deaths:
        fewest = min(deaths.values())
        batch = [item for item, count in deaths.items() if count == fewest]
        batch = batch[:1] if fewest == TRIES - 1 else batch
        handed_out = takewhile(lambda _: not failures, batch)
        with closing(way(one_threaded(call), handed_out)) as outcomes:
            for item, result, trouble in outcomes:
                if trouble is None:
                    del deaths[item]
                    yield item, result
                elif trouble == DIED:
                    deaths[item] += 1
                else:
                    failures.append((item, *trouble))
        if failures:
            raise_here(*failures[0])
        deadly += [item for item, count in deaths.items() if count == TRIES]
        deaths = {item: count for item, count in deaths.items() if count < TRIES}
    if deadly:
        raise RuntimeError(
            f"the process that worked on {name_of(deadly[0])} died {TRIES} times, the last time "
            "with nothing beside it: it needs more memory than there is, or ends itself "
            f"({len(deadly)} such; all others are finished and kept)"
        )


def one_threaded(call: Callable[[Item], Any]) -> Callable[[Item], tuple]:
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


def raise_here(item: Hashable, pickled: bytes, trace: str) -> None:
    """Raise an exception that came from a worker, with its traceback there as the cause."""
    try:
        error = cloudpickle.loads(pickled)
    except Exception:
        error = RuntimeError(trace.strip().splitlines()[-1])
    raise error from InWorker(f"on {name_of(item)}, in a process of its own\n\n{trace}")


def on_workers(n_jobs: int, task: Callable, items: Iterable[Item]) -> Iterator[tuple]:
    """Outcomes of ``task`` from joblib's workers; DIED for all items in hand when one dies."""
    in_hand = set()

    def handing_out() -> Iterator:
        for item in items:
            in_hand.add(item)
            yield delayed(task)(item)

    parallel = Parallel(
        n_jobs, return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs"
    )
    try:
        with closing_in_silence(parallel(handing_out())) as outcomes:
            for outcome in outcomes:
                in_hand.remove(outcome[0])
                yield outcome
    except Exception as error:
        if type(error).__name__ != "TerminatedWorkerError":  # loky's, as joblib vendors it
            raise
        yield from [(item, None, DIED) for item in in_hand]


@contextmanager
def closing_in_silence(results: Iterator) -> Iterator[Iterator]:
    """Close joblib's generator without its advice on what was not read."""
    try:
        yield results
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results.close()


def on_dask(backend: Any, task: Callable, items: Iterable[Item]) -> Iterator[tuple]:
    """Outcomes of ``task`` from the cluster of joblib's dask backend.

    By futures, because joblib's own way waits for ever for an item whose workers keep dying. Dask
    itself runs an item again whose worker died, three times unless configured otherwise.
    """
    from distributed import as_completed

    client, items, in_hand, waiting = backend.client, iter(items), {}, as_completed()

    def hand_out() -> None:
        room = AHEAD * max(1, sum(client.ncores().values())) - len(in_hand)
        for item in islice(items, max(0, room)):
            future = client.submit(task, item, pure=False, **backend.submit_kwargs)
            in_hand[future] = item
            waiting.add(future)

    try:
        hand_out()
        for future in waiting:
            item, error = in_hand.pop(future), future.exception()
            if error is not None and type(error).__name__ != "KilledWorker":
                raise error
            yield (item, None, DIED) if error else future.result()
            hand_out()
    finally:
        if in_hand:
            client.cancel(list(in_hand))


def name_of(item: Hashable) -> str:
    """An item as a sentence names it: "seed 3", "seeds 0 to 15", "seeds 1, 5", "a.pth, b.pth"."""
    if not isinstance(item, tuple):
        return f"seed {item}"
    if isinstance(item[0], str):
        return ", ".join(item)
    if len(item) > 2 and item == tuple(range(item[0], item[-1] + 1)):
        return f"seeds {item[0]} to {item[-1]}"
    return f"{'seed' if len(item) == 1 else 'seeds'} {', '.join(map(str, item))}"
