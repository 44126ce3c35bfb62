"""A submission: hundreds of checkpoints, written one by one, resumed when killed, and zipped."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor, nn

from ..core.archives import check_state, read_member, read_tensors, room_for
from ..core.checks import check_module, check_whole
from ..core.configuration import as_json, check_or_write_config
from ..core.files import atomic_write, is_plain_name, open_to_read
from ..core.progress import Progress
from ..core.workers import imap_unordered
from ..many import check_seeds

COUNT = 512  # checkpoints of a submission, exactly
NAME = "unlearned_checkpoint"


def write_checkpoints(
    unlearn: Callable[[int], nn.Module],
    original: nn.Module,
    folder: Path | str,
    *,
    count: int = COUNT,
    seed: int = 0,
    half: bool = False,
    configuration: dict | None = None,
    name: str = NAME,
    n_jobs: int | None = None,
) -> list[Path]:
    """Unlearn ``count`` times and write ``<name>_<i>.pth``, the weights of ``unlearn(seed + i)``.

    A checkpoint is a state dict of tensors only. It appears whole or not at all, and one that
    exists and is undamaged is not made again: after a kill at any moment, the same call continues.
    Networks are made on joblib's workers, see ``run_many``; on a GPU pass ``n_jobs=1``.

    Args:
        unlearn: ``unlearn(seed) -> network``.
        original: whose names and shapes of weights each checkpoint must have.
        folder: for the checkpoints, and a configuration.json that says how they were made.
        count: number of checkpoints. A larger count continues where a smaller one ended.
        seed: random seed of the first.
        half: write float16, half of the 23 GB of 512 ResNet-18; the organisers write float32.
        configuration: what else the checkpoints depend on, in values that JSON has.
        name: stem of the file names.
        n_jobs: as ``run_many``.

    Returns:
        The files, in order.

    Raises:
        ValueError: if the folder holds other checkpoints, a network's weights differ from the
            original's in name or shape or are not finite, or ``name`` or ``seed`` is none.
        RuntimeError, Exception: as ``run_many``.
    """
    folder, (seed,), count = Path(folder), check_seeds([seed]), check_whole("count", count, least=1)
    _check_name(name)
    about = {"original": _digest_of_weights(original), "seed": seed, "half": half}
    check_or_write_config(folder, {**about, "configuration": as_json(configuration)})
    files = {seed + number: folder / f"{name}_{number}.pth" for number in range(count)}
    state = original.state_dict()
    missing = [own for own, file in files.items() if _whole_state(file, state) is None]
    shapes = _shapes_of(state)

    def make(own: int) -> bytes:
        network = unlearn(own)
        check_module(network)
        return _as_checkpoint(network.state_dict(), shapes, half=half)

    done = count - len(missing)
    bar = Progress("unlearning", count, done=done, unit="networks")
    with bar, closing(imap_unordered(make, missing, n_jobs=n_jobs)) as finished:
        for own, content in finished:
            with atomic_write(files[own]) as tmp_path:
                tmp_path.write_bytes(content)
            bar.update()
    return list(files.values())


def zip_submission(
    folder: Path | str, path: Path | str, *, count: int = COUNT, name: str = NAME
) -> Path:
    """Zip the checkpoints ``<name>_0.pth`` and so on, uncompressed: weights hardly shrink.

    The zip appears whole or not at all.

    Raises:
        FileNotFoundError: if a checkpoint is missing; names it.
        ValueError: if one is damaged, or the folder holds others.
    """
    folder, path = Path(folder), Path(path)
    _check_name(name)
    files = [folder / f"{name}_{number}.pth" for number in range(count)]
    missing = [file for file in files if not file.exists()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {count} checkpoints are missing, the first is {missing[0]}: "
            "call write_checkpoints again, which continues where it stopped"
        )
    first = _whole_state(files[0])
    unlike_first = (file for file in files[1:] if _whole_state(file, first) is None)
    damaged = files[0] if first is None else next(unlike_first, None)
    if damaged:
        raise ValueError(f"{damaged} is damaged: call write_checkpoints again, which replaces it")
    others = sorted({*folder.glob("[!.]*.pth")} - {*files})
    if others:
        raise ValueError(
            f"{others[0]} is not one of the {count} checkpoints of this submission: "
            "pass the right count, or move the file away"
        )
    bar, options = Progress("zip", count, unit="checkpoints"), {"strict_timestamps": False}
    with atomic_write(path) as tmp, zipfile.ZipFile(tmp, "w", **options) as archive, bar:
        for file in files:
            archive.write(file, file.name)
            bar.update()
    return path


def checkpoint_names(source: Path) -> list[str]:
    """The checkpoints of a folder or a zip, ordered by the numbers in their names."""
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist: name a folder or a zip of checkpoints")
    if source.is_dir():
        names = [file.name for file in source.glob("*.pth")]
    else:
        try:
            with open_to_read(source) as opened, zipfile.ZipFile(opened) as archive:
                names = archive.namelist()
        except zipfile.BadZipFile as error:
            raise ValueError(f"{source} cannot be read as a zip ({error})") from error
    names = [n for n in names if n.endswith(".pth") and not Path(n).name.startswith(".")]
    if not names:
        raise ValueError(f"{source} holds no checkpoints (.pth)")
    return sorted(names, key=lambda n: ([int(d) for d in re.findall(r"\d+", Path(n).stem)], n))


def load_weights(model: nn.Module, source: Path, name: str) -> nn.Module:
    """Read one checkpoint of a folder or a zip into ``model``; tensors only, no pickled code."""
    own = model.state_dict()
    try:
        if source.is_dir():
            state = _read(source / name, room_for(own))
        else:
            content = read_member(source, name, room_for(own))
            state = read_tensors(io.BytesIO(content), room_for(own))
        check_state(state, own, types=False)
    except ValueError as error:
        raise ValueError(
            f"{name} of {source} cannot be read as weights of this network ({error})"
        ) from error
    model.load_state_dict(state)
    return model


def _read(file: Path, most: int) -> dict[str, Tensor]:
    with open_to_read(file) as opened:
        return read_tensors(opened, most)


def _whole_state(file: Path, like: dict[str, Tensor] | None = None) -> dict[str, Tensor] | None:
    """The weights in a file; None if it is no undamaged checkpoint of a network with such ones."""
    try:  # torch.save compresses nothing
        state = _read(file, room_for(like) if like else file.stat().st_size)
        check_state(state, like or state, types=False)
    except (FileNotFoundError, ValueError):
        return None
    return state


def _check_name(name: str) -> None:
    if not is_plain_name(name):
        raise ValueError(f"name must start the names of files, as {NAME!r} does, not {name!r}")


def _shapes_of(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _as_checkpoint(state: dict[str, Tensor], shapes: dict[str, tuple], *, half: bool) -> bytes:
    """The bytes of a checkpoint: tensors on the CPU, none of them a view of a larger one."""
    found = _shapes_of(state)
    if found != shapes:
        name = next(k for k in found | shapes if found.get(k) != shapes.get(k))
        raise ValueError(
            f"an unlearned network must have the original's weights, but {name} has shape "
            f"{found.get(name)} and the original's {shapes.get(name)}"
        )
    tensors = {}
    for name, tensor in state.items():
        dtype = torch.float16 if half and tensor.is_floating_point() else tensor.dtype
        tensors[name] = tensor.detach().to("cpu", dtype, copy=True).contiguous()
        if not tensors[name].isfinite().all():
            where = " in half precision" if tensor.isfinite().all() else ""
            raise ValueError(f"{name} of an unlearned network is not finite{where}")
    content = io.BytesIO()
    torch.save(tensors, content)
    return content.getvalue()


def _digest_of_weights(model: nn.Module) -> str:
    total = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()
