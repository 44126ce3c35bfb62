"""What every metric asks of its arrays."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax
from torch import Tensor

Array = np.ndarray | Tensor


def as_numpy(array: Array) -> np.ndarray:
    return array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)


def checked_logits(logits: Array, *, like: Array | None = None) -> np.ndarray:
    """Logits as float64 (S, K).

    Raises:
        ValueError: none, not two-dimensional, not finite, or of another shape than ``like``.
    """
    logits = as_numpy(logits).astype(np.float64)
    if logits.ndim != 2 or len(logits) == 0:
        raise ValueError(f"logits must be of shape (S, K) with S at least 1, not {logits.shape}")
    if not np.isfinite(logits).all():
        raise ValueError("logits hold NaN or infinite values: the network or its input is broken")
    if like is not None and logits.shape != like.shape:
        raise ValueError(
            f"both networks must be read on the same examples: logits of shape {like.shape} and "
            f"{logits.shape}"
        )
    return logits


def checked(logits: Array, labels: Array) -> tuple[np.ndarray, np.ndarray]:
    """Logits (S, K), float64, and labels (S,), int64.

    Raises:
        ValueError: as ``checked_logits``; not one label a row; labels out of range.
    """
    logits, labels = checked_logits(logits), as_numpy(labels)
    if labels.shape != logits.shape[:1]:
        raise ValueError(f"{len(logits)} rows of logits need as many labels, not {labels.shape}")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(
            f"labels go from {labels.min()} to {labels.max()}, but there are {logits.shape[1]} "
            "classes, numbered from 0"
        )
    return logits, labels.astype(np.int64)


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    return log_softmax(logits, axis=1)
