"""Checkpoints that know the configuration they were trained with."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from torch import nn

from .files import atomic_write


def save_checkpoint(
    path: Path | str, model: nn.Module, configuration: dict, *, seconds: float = 0.0
) -> None:
    """Write weights and the configuration that they were trained with, whole or not at all."""
    state = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    text = json.dumps(configuration, sort_keys=True)
    content = io.BytesIO()  # torch.save on a full disk raises a RuntimeError, not an OSError
    torch.save({"configuration": text, "seconds": seconds, "state": state}, content)
    with atomic_write(path) as tmp_path:
        tmp_path.write_bytes(content.getbuffer())


def load_checkpoint(path: Path | str, model: nn.Module, configuration: dict) -> float:
    """Read weights into ``model``, which is left in eval mode; return the seconds of training.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not a checkpoint, or has another configuration.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        found, state = json.loads(content["configuration"]), content["state"]
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}): "
            "delete it, and it is trained again"
        ) from error
    wanted = json.loads(json.dumps(configuration))
    differing = sorted(k for k in wanted | found if wanted.get(k) != found.get(k))
    if differing:
        key = differing[0]
        raise ValueError(
            f"{path} was trained with {key}={found.get(key)!r}, not {wanted.get(key)!r}: "
            "delete it to train again, or ask for the configuration that it has"
        )
    model.load_state_dict(state)
    model.eval()
    return content["seconds"]
