"""Read npz files and what torch.save writes, both zips: checked before anything is unpacked."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from .files import open_to_read

HIGHEST_RATIO = 1100  # deflate makes nothing smaller than by 1032
ROOM = 4, 2**20  # times a network's bytes, and bytes on top, that its checkpoint may take
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npz(
    path: Path | str, names: Iterable[str] | None = None, most: int | None = None
) -> dict[str, np.ndarray]:
    """Read the arrays of an npz.

    The shape that an array's header states must fit the size that the zip states, so that a file
    cannot ask for more memory than it fills.

    Args:
        path: of the file.
        names: which arrays; by default all.
        most: bytes that all may take unpacked; by default any number.

    Raises:
        FileNotFoundError: if there is no file.
        OSError: if it cannot be opened.
        ValueError: if it is not a whole npz of plain arrays, or has no array of a name.
    """
    with open_to_read(path) as opened:
        try:
            with zipfile.ZipFile(opened) as archive:
                _check_sizes(archive.infolist(), most)
                chosen = archive.namelist() if names is None else [f"{name}.npy" for name in names]
                return {name.removesuffix(".npy"): _read_array(archive, name) for name in chosen}
        except Exception as error:  # of a damaged file, zipfile raises errors of many kinds
            raise ValueError(_reason(error)) from error


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        if version not in HEADERS:
            raise ValueError(f"{name} is of another format, {version}")
        shape, _, dtype = HEADERS[version](member)
        stated, filled = archive.getinfo(name).file_size, member.tell()
        if dtype.hasobject or math.prod(shape) * dtype.itemsize != stated - filled:
            raise ValueError(f"{name} does not hold the {dtype} of shape {shape} that it announces")
    with archive.open(name) as member:  # read to its end, where the zip's checksum is compared
        return np.lib.format.read_array(member, allow_pickle=False)


def read_member(path: Path | str, name: str, most: int) -> bytes:
    """Read one file of a zip, unless it takes more than so many bytes unpacked.

    Raises:
        FileNotFoundError, OSError, ValueError: as ``read_npz``.
    """
    with open_to_read(path) as opened:
        try:
            with zipfile.ZipFile(opened) as archive:
                _check_sizes([archive.getinfo(name)], most)
                return archive.read(name)
        except Exception as error:
            raise ValueError(_reason(error)) from error


def read_tensors(file: BinaryIO, most: int | None = None) -> Any:
    """Load what torch.save wrote: tensors and plain values only, no pickled code.

    Args:
        file: opened to read, and to seek.
        most: bytes that it may take unpacked, as ``room_for`` gives them; by default any number.

    Raises:
        ValueError: if it is not such a file, is damaged, or takes more.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            _check_sizes(archive.infolist(), most)
            damaged = archive.testzip()
            if damaged is not None:
                raise ValueError(f"{damaged} is damaged")
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(_reason(error)) from error


def _reason(error: Exception) -> str:
    """What an error says, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split('. ')[0].split())}"


def _check_sizes(members: Sequence[zipfile.ZipInfo], most: int | None) -> None:
    """Raise a ValueError if what a zip says that its members take cannot be, or is too much."""
    for info in members:
        if info.file_size > HIGHEST_RATIO * (info.compress_size + 1):
            raise ValueError(f"{info.filename} cannot take {info.file_size:,} bytes unpacked")
    total = sum(info.file_size for info in members)
    if most is not None and total > most:
        raise ValueError(f"it takes {total:,} bytes unpacked, more than the {most:,} expected")


def room_for(state: Mapping[str, Tensor]) -> int:
    """Bytes that a file of these weights may take: four times theirs, with a MiB for the rest."""
    times, more = ROOM
    return times * sum(t.numel() * t.element_size() for t in state.values()) + more


def check_state(state: Any, like: Mapping[str, Tensor], *, types: bool = True) -> None:
    """Check that tensors have the names and shapes of others, and are finite.

    Args:
        state: what was read, or is to be written.
        like: the others, a network's ``state_dict()``.
        types: whether they must have the same types of number as well.

    Raises:
        ValueError: names the first that differs, and how.
    """
    is_state = isinstance(state, Mapping) and len(state) > 0
    if not is_state or not all(map(torch.is_tensor, state.values())):
        raise ValueError("it holds something other than tensors by name")
    found, wanted = ({k: _kind(t, types) for k, t in of.items()} for of in (state, like))
    if found != wanted:
        name = next(k for k in found | wanted if found.get(k) != wanted.get(k))
        kinds = (of.get(name, "missing") for of in (found, wanted))
        raise ValueError("{} is {}, and the network's {}".format(name, *kinds))
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} is not finite")


def _kind(tensor: Tensor, types: bool) -> str:
    kind = f"{str(tensor.dtype).removeprefix('torch.')} " if types else ""
    return f"{kind}of shape {tuple(tensor.shape)}"
