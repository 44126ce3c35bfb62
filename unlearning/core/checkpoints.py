"""Checkpoints that know the configuration they were trained with, and that they are whole."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .archives import check_state, read_tensors, room_for
from .configuration import as_json
from .files import atomic_write, open_to_read

PARTS = ("digest", "configuration", "seconds", "state")


def save_checkpoint(
    path: Path | str, model: nn.Module, configuration: dict, *, seconds: float = 0.0
) -> None:
    """Write weights and the configuration that they were trained with, whole or not at all.

    Raises:
        ValueError: if weights are not finite, or JSON cannot hold the configuration.
        OSError: if the file cannot be written.
    """
    state = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    check_state(state, state)
    text = json.dumps(as_json(configuration), sort_keys=True)
    whole = {"configuration": text, "seconds": seconds, "state": state}
    content = io.BytesIO()  # torch.save on a full disk raises a RuntimeError, not an OSError
    torch.save({**whole, "digest": _digest(**whole)}, content)
    with atomic_write(path) as tmp_path:
        tmp_path.write_bytes(content.getbuffer())


def load_checkpoint(path: Path | str, model: nn.Module, configuration: dict) -> float:
    """Read weights into ``model``, which is left in eval mode; return the seconds of training.

    Raises:
        FileNotFoundError: if there is no such file.
        OSError: if it cannot be opened.
        ValueError: if the file is not a whole checkpoint of such a network, or has another
            configuration.
    """
    own, wanted = model.state_dict(), as_json(configuration)
    with open_to_read(path) as opened:
        try:
            content = read_tensors(opened, most=room_for(own))
            found = _check_parts(content)
            if found == wanted:
                check_state(content["state"], own)
                _check_digest(**{name: content.get(name) for name in PARTS})
        except ValueError as error:
            raise ValueError(
                f"{path} cannot be read as a checkpoint ({error}): "
                "delete it, and it is trained again"
            ) from error
    differing = sorted(k for k in wanted | found if wanted.get(k) != found.get(k))
    if differing:
        key = differing[0]
        raise ValueError(
            f"{path} was trained with {key}={found.get(key)!r}, not {wanted.get(key)!r}: "
            "delete it to train again, or ask for the configuration that it has"
        )
    model.load_state_dict(content["state"])
    model.eval()
    return content["seconds"]


def _check_parts(content: Any) -> dict:
    """The configuration of what should be a checkpoint; a ValueError if it is something else."""
    if not isinstance(content, dict) or not {"configuration", "seconds", "state"} <= {*content}:
        raise ValueError("it is something else")
    text, seconds = content["configuration"], content["seconds"]
    configuration = json.loads(text) if isinstance(text, str) else None
    if not isinstance(configuration, dict):
        raise ValueError(f"its configuration is {configuration!r}")
    if type(seconds) not in (float, int) or not math.isfinite(seconds):
        raise ValueError(f"its seconds are {seconds!r}")
    return configuration


def _check_digest(digest: str | None = None, **content: Any) -> None:
    """Raise a ValueError if a checkpoint does not hold what was saved; older ones do not say."""
    if digest is not None and digest != _digest(**content):
        raise ValueError("it does not hold what was saved")


def _digest(configuration: str, seconds: float, state: Mapping[str, Tensor]) -> str:
    """SHA-256 of the configuration, the seconds, and the tensors' names, types, shapes, bytes."""
    total = hashlib.sha256(json.dumps([configuration, seconds]).encode())
    for name, tensor in state.items():
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()
