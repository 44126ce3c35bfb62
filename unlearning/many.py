"""Make and measure hundreds of networks, in groups, on all cores; resume after a kill."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .core.archives import read_npz
from .core.checks import check_whole
from .core.configuration import as_json, check_or_write_config, difference, digest_of
from .core.files import CHECKPOINTS, atomic_write, places
from .core.progress import Progress
from .core.workers import describe, imap_unordered

RESERVED = {"allow_pickle", "file", "run"}  # np.savez or this module uses these names

Arrays = dict[str, np.ndarray]


def run_many(
    measure: Callable[[list[int]], Mapping[str, Any]],
    seeds: Iterable[int],
    *,
    path: Path | str,
    configuration: dict,
    group: int = 16,
    n_jobs: int | None = None,
    title: str = "measuring",
) -> Arrays:
    """Measure a network for every seed, in groups, and stack what was measured.

    Each finished group is written to a file at once, whole or not at all, and a group whose file
    exists is not run again. So after a kill at any moment the same call continues, and only the
    groups in flight are lost. A longer list of seeds reuses the groups of a shorter one.

    Groups run on joblib's workers, one thread each: by default one process per core, or::

        with joblib.parallel_config(n_jobs=4):  # four processes
            run_many(...)
        with Client(address), joblib.parallel_config(backend="dask"):  # a dask cluster
            run_many(...)

    A cluster of your own should not listen to the network:
    ``LocalCluster(host="127.0.0.1", dashboard_address="127.0.0.1:0")``.

    With one process, ``measure`` is called in this process, with all its threads; that is the
    default if there is a GPU. Functions of a notebook and closures can be sent to workers, and
    what they hold is sent with every group.

    A worker that dies (for lack of memory, for example) loses the groups that were in flight, which
    are run again, twice at most.

    Args:
        measure: ``measure(seeds) -> {name: array}``, arrays (len(seeds), ...), one row per seed.
        seeds: random seeds of the networks; the rows of the result are in this order.
        path: folder for the groups: they go to ``path/<digest>/``, the digest being that of
            ``configuration`` and ``group``, which ``configuration.json`` there spells out.
        configuration: everything that changes what ``measure`` returns, in values that JSON has.
            A change of anything else goes unnoticed.
        group: seeds per call of ``measure``.
        n_jobs: processes; by default what ``joblib.parallel_config`` says, else one per core, or
            one on a machine with a GPU.
        title: label of the progress bar.

    Returns:
        {name: array (len(seeds), ...)}.

    Raises:
        ValueError: if there are no seeds or one is named twice, JSON cannot hold the configuration,
            files have another one, or arrays do not fit the seeds or each other.
        RuntimeError: if a group's process died every time; names the seeds, after all others.
        Exception: what ``measure`` raised, after the groups in flight are finished and kept.
    """
    seeds = check_seeds(seeds)
    if group < 1:
        raise ValueError(f"a group must hold at least one seed, not {group}")
    groups = [tuple(seeds[start : start + group]) for start in range(0, len(seeds), group)]
    about = {"configuration": as_json(configuration), "group": group}
    folder = Path(path) / digest_of(about)
    check_or_write_config(folder, about)
    files = {own: folder / _file_name(own) for own in groups}
    found = {own: _read_any(files[own], {**about, "seeds": list(own)}) for own in groups}
    done = _alike({own: arrays for own, arrays in found.items() if arrays is not None}, files)
    missing = [own for own in groups if own not in done]

    def measured(own: tuple[int, ...]) -> Arrays:
        arrays = measure(list(own))
        if not isinstance(arrays, Mapping):
            raise TypeError(f"measure must return {{name: array}}, not {type(arrays).__name__}")
        return {
            name: np.asarray(array.detach().cpu() if torch.is_tensor(array) else array)
            for name, array in arrays.items()
        }

    bar = Progress(title, len(seeds), done=sum(map(len, done)), unit="networks")
    with bar, closing(imap_unordered(measured, missing, n_jobs=n_jobs)) as finished:
        for own, arrays in finished:
            _check_arrays(arrays, own)
            _check_alike(arrays, next(iter(done.values()), arrays), own)
            _write_group(files[own], {**about, "seeds": list(own)}, arrays)
            done[own] = arrays
            bar.update(len(own))
    return {name: np.concatenate([done[own][name] for own in groups]) for name in done[groups[0]]}


def rows_of(arrays: Mapping[str, np.ndarray]) -> list[Arrays]:
    """What ``run_many`` gives, for each network alone.

    >>> rows_of({"seconds": np.array([1.5, 2.5]), "right": np.array([True, False])})[1]
    {'seconds': np.float64(2.5), 'right': np.False_}
    """
    return [dict(zip(arrays, row, strict=True)) for row in zip(*arrays.values(), strict=True)]


def check_seeds(seeds: Iterable[int]) -> list[int]:
    """Seeds as a list of ints: at least one, none of them twice.

    Raises:
        ValueError: if they are anything else.
    """
    try:
        found = [check_whole("seed", seed, least=None) for seed in seeds]
    except (TypeError, ValueError):
        raise ValueError(f"seeds must be whole numbers, such as [0, 1, 2], not {seeds!r}") from None
    if not found:
        raise ValueError("there are no seeds: name at least one")
    twice = [seed for seed, count in Counter(found).items() if count > 1]
    if twice:
        raise ValueError(f"seed {twice[0]} is named twice: the same network would count twice")
    return found


def _check_arrays(arrays: Arrays, seeds: Sequence[int]) -> None:
    """Raise a ValueError if arrays have no row for each seed."""
    if not arrays:
        raise ValueError("measure returned no array: there is nothing to keep")
    for name, array in arrays.items():
        if name in RESERVED:
            raise ValueError(f"measure must not call an array {name!r}: choose another name")
        if array.dtype.hasobject or array.shape[:1] != (len(seeds),):
            raise ValueError(
                f"{name} must be numbers of shape ({len(seeds)}, ...), one row per seed, not "
                f"{array.dtype} of shape {array.shape}"
            )


def _check_alike(arrays: Arrays, like: Arrays, seeds: Sequence[int]) -> None:
    """Raise a ValueError if arrays cannot be stacked with others."""
    kinds, others = _kinds(arrays), _kinds(like)
    if kinds != others:
        name = next(k for k in kinds | others if kinds.get(k) != others.get(k))
        raise ValueError(
            f"{describe(tuple(seeds))} and another group differ in {name!r}: {kinds.get(name)} and "
            f"{others.get(name)}, so that they cannot be stacked"
        )


def _kinds(arrays: Arrays) -> dict[str, tuple]:
    return {name: (array.dtype, array.shape[1:]) for name, array in arrays.items()}


def _alike(
    found: dict[tuple[int, ...], Arrays], files: Mapping[tuple[int, ...], Path]
) -> dict[tuple[int, ...], Arrays]:
    """The groups that can be stacked with most; all others are reported, to be made again."""
    kinds = [_kinds(arrays) for arrays in found.values()]
    counts = [kinds.count(kind) for kind in kinds]
    usual = [kind for kind, count in zip(kinds, counts, strict=True) if count == max(counts)]
    clear = usual.count(usual[0]) == len(usual) if usual else True
    kept = {own: arrays for own, arrays in found.items() if clear and _kinds(arrays) == usual[0]}
    for own in found.keys() - kept.keys():
        _report(files[own], "it holds other arrays than other groups")
    return kept


def _file_name(seeds: tuple[int, ...]) -> str:
    return f"seeds-{seeds[0]}-{seeds[-1]}-{digest_of(list(seeds))[:6]}.npz"


def _write_group(file: Path, about: dict, arrays: Arrays) -> None:
    with atomic_write(file) as tmp_path:
        np.savez_compressed(tmp_path, run=np.array(json.dumps(about)), **arrays)


def _read_any(file: Path, about: dict) -> Arrays | None:
    """As ``_read_group``, from the first of its ``places`` that has it."""
    found = (_read_group(place, about) for place in places(file))
    return next((arrays for arrays in found if arrays is not None), None)


def _read_group(file: Path, about: dict) -> Arrays | None:
    """Read the arrays of a group; None if there is no file, or one that cannot be used.

    Such a file is reported and its group run again, which costs less than stopping a run of hours.
    A file of another run is refused, since somebody may want it.
    """
    try:
        arrays = read_npz(file)
        found = json.loads(str(arrays.pop("run", "")))
    except FileNotFoundError:
        return None
    except ValueError as error:
        return _report(file, error)
    if found != about:
        raise ValueError(f"{file} holds {difference(found, about)}: move it away, and run again")
    try:
        _check_arrays(arrays, about["seeds"])
    except ValueError as error:
        return _report(file, error)
    return arrays


def _report(file: Path, reason: object) -> None:
    print(f"{file} cannot be read ({reason}): its networks are made again")


def load_or_run(
    file: Path | str,
    measure: Callable[[list[int]], Mapping[str, Any]],
    seeds: Iterable[int],
    *,
    configuration: dict,
    groups: Path | str = CHECKPOINTS / "many",
    group: int = 16,
    n_jobs: int | None = None,
    title: str = "measuring",
) -> Arrays:
    """Return what ``run_many`` gives, from ``file`` if it holds exactly that, else run and save it.

    Where results go to a folder of their own (results/mine/, for example), the file of the same
    name that the repo ships is read as well, and never written.

    Args:
        file: a compressed npz; float64 arrays are saved, and returned, as float32.
        measure, seeds, configuration, group, n_jobs, title: as ``run_many``.
        groups: folder for the groups, from which a killed run is resumed.
    """
    seeds = check_seeds(seeds)
    about = {"configuration": as_json(configuration), "seeds": seeds}
    for place in places(file):
        with suppress(ValueError):  # it has another configuration, and is replaced
            found = _read_group(place, about)
            if found is not None:
                return found
    options = {"configuration": configuration, "group": group, "n_jobs": n_jobs, "title": title}
    arrays = run_many(measure, seeds, path=groups, **options)
    small = {
        name: array.astype(np.float32) if array.dtype == np.float64 else array
        for name, array in arrays.items()
    }
    _write_group(Path(file), about, small)
    return small
