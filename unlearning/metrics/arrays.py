"""Checks that every metric makes of its arrays."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax, logsumexp
from torch import Tensor

Array = np.ndarray | Tensor


def as_numpy(array: Array) -> np.ndarray:
    return array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)


def check_logits(logits: Array, *, like: Array | None = None) -> np.ndarray:
    """Logits as float64 (S, K).

    Raises:
        ValueError: if there are none, or they are not two-dimensional, not finite, or of another
            shape than ``like``.
    """
    logits = as_numpy(logits).astype(np.float64)
    if logits.ndim != 2 or len(logits) == 0:
        raise ValueError(f"logits must have shape (S, K) with S at least 1, not {logits.shape}")
    if not np.isfinite(logits).all():
        raise ValueError("logits hold NaN or infinite values: the network or its input is broken")
    if like is not None and logits.shape != like.shape:
        raise ValueError(
            "both networks must be read on the same examples, but their logits have shapes "
            f"{like.shape} and {logits.shape}"
        )
    return logits


def check_labelled(logits: Array, labels: Array) -> tuple[np.ndarray, np.ndarray]:
    """Logits (S, K), float64, and labels (S,), int64.

    Raises:
        ValueError: as ``check_logits``, or if there is not one label per row or one does not exist.
    """
    logits, labels = check_logits(logits), as_numpy(labels)
    if labels.shape != logits.shape[:1]:
        raise ValueError(f"{len(logits)} rows of logits need as many labels, not {labels.shape}")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(
            f"labels range from {labels.min()} to {labels.max()}, but there are {logits.shape[1]} "
            "classes, numbered from 0"
        )
    return logits, labels.astype(np.int64)


def check_samples(
    unlearned: Array, retrained: Array, *, least: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Values of many networks on the same examples, (N, S) and (M, S), as float64.

    Raises:
        ValueError: if a side has fewer than ``least`` networks, the examples differ in number,
            there are none, or a value is not finite.
    """
    sides = [as_numpy(side).astype(np.float64) for side in (unlearned, retrained)]
    shapes = " and ".join(str(side.shape) for side in sides)
    if any(side.ndim != 2 for side in sides) or sides[0].shape[1] != sides[1].shape[1]:
        raise ValueError(
            f"both sides need networks in rows and the same examples in columns, not {shapes}"
        )
    if sides[0].shape[1] == 0:
        raise ValueError(f"there are no examples: the arrays have shapes {shapes}")
    if min(len(side) for side in sides) < least:
        raise ValueError(f"each side needs at least {least} network(s), not {shapes}")
    if not all(np.isfinite(side).all() for side in sides):
        raise ValueError("some values are NaN or infinite: a network or its input is broken")
    return sides[0], sides[1]


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    return log_softmax(logits, axis=1)


def log_odds(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """log p_y - log(1 - p_y) of each row, (S,): exact however near p_y is to 0 or 1."""
    rows, others = np.arange(len(labels)), logits.copy()
    others[rows, labels] = -np.inf
    return logits[rows, labels] - logsumexp(others, axis=1)
