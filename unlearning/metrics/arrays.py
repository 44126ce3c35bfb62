"""Checks that every metric makes of what it is given."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax, logsumexp
from torch import Tensor

Array = np.ndarray | Tensor

LARGEST = 1e100  # of a value whose square is finite; a float32 is at most 3e38


def as_numpy(array: Array, name: str) -> np.ndarray:
    """Integers or floats, as a NumPy array: from a tensor of any device and type, or from lists.

    Raises:
        ValueError: if they are of another type, such as bool, or cannot be read as one array.
    """
    found = _dense(array, name)
    if found.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be integers or floats, not of type {found.dtype}")
    return found


def as_flags(array: Array, name: str) -> np.ndarray:
    """An array of bool, or one of the numbers 0 and 1, as bool.

    Raises:
        ValueError: if it holds anything else.
    """
    found = _dense(array, name)
    if found.dtype.kind not in "biuf" or not np.isin(found, (0, 1)).all():
        raise ValueError(f"{name} must be true or false, 1 or 0, in every place")
    return found.astype(bool)


def _dense(array: Array, name: str) -> np.ndarray:
    if isinstance(array, np.ma.MaskedArray):
        raise ValueError(f"{name} has a mask, which would be lost: give the entries that count")
    try:
        return _read(array)
    except (TypeError, ValueError, RuntimeError):  # rows of several lengths, a sparse tensor
        kind = type(array).__name__
        raise ValueError(
            f"{name} cannot be read from this {kind}: give one dense array of numbers"
        ) from None


def _read(array: Array) -> np.ndarray:
    if isinstance(array, list | tuple) and any(isinstance(item, Tensor) for item in array):
        array = [_read(item) for item in array]
    if isinstance(array, Tensor):
        array = array.cpu()
        array = array.double() if array.is_floating_point() else array  # NumPy has no bfloat16
        return array.numpy(force=True)
    return np.asarray(array)


def as_floats(array: Array, name: str) -> np.ndarray:
    """A copy of any shape, as float64."""
    return as_numpy(array, name).astype(np.float64)


def all_finite(values: np.ndarray) -> bool:
    """Whether no value is NaN or infinite, nor so large that its square is."""
    return bool((np.abs(values) < LARGEST).all())


def check_fractions(values: Array, name: str) -> np.ndarray:
    """Fractions or probabilities of any shape, as float64.

    Raises:
        ValueError: if there are none, or one is outside [0, 1] or NaN.
    """
    values = as_floats(values, name)
    if values.size == 0:
        raise ValueError(f"{name}: there are none, the array has shape {values.shape}")
    outside = values[~((values >= 0) & (values <= 1))]
    if outside.size:
        raise ValueError(f"{name} must be fractions in [0, 1], not {outside[0]:g}")
    return values


def check_examples(values: np.ndarray, name: str, *, least: int = 1) -> np.ndarray:
    """One finite value per example, (S,).

    Raises:
        ValueError: if they have another shape, are fewer than ``least``, or one is not finite.
    """
    if values.ndim != 1 or len(values) < least:
        raise ValueError(
            f"{name} must be one value per example and at least {least}, not {values.shape}"
        )
    if not all_finite(values):
        raise ValueError(f"{name} must be finite: some are NaN or infinite")
    return values


def check_logits(
    logits: Array, *, like: np.ndarray | None = None, name: str = "logits"
) -> np.ndarray:
    """Logits as float64 (S, K).

    Raises:
        ValueError: if there are none, or they are not two-dimensional, of one class only, not
            finite, or of another shape than ``like``.
    """
    logits = as_floats(logits, name)
    if logits.ndim != 2 or len(logits) == 0 or logits.shape[1] < 2:
        raise ValueError(
            f"{name} must have shape (S, K) with K at least 2 and S at least 1, not {logits.shape}"
        )
    if not all_finite(logits):
        raise ValueError(f"{name} hold NaN or infinite values: the network or its input is broken")
    if like is not None and logits.shape != like.shape:
        raise ValueError(
            "both networks must be read on the same examples, but their logits have shapes "
            f"{like.shape} and {logits.shape}"
        )
    return logits


def check_labelled(
    logits: Array, labels: Array, *, names: tuple[str, str] = ("logits", "labels")
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (S, K), float64, and labels (S,), int64. Whole floats such as 3.0 are labels too.

    Raises:
        ValueError: as ``check_logits``, or if there is not one label per row, or one is no whole
            number or does not exist.
    """
    logits, labels = check_logits(logits, name=names[0]), as_numpy(labels, names[1])
    if labels.shape != logits.shape[:1]:
        raise ValueError(
            f"{len(logits)} rows of {names[0]} need as many {names[1]}, of shape "
            f"({len(logits)},), not {labels.shape}"
        )
    broken = labels[labels != np.round(labels)]
    if broken.size:
        raise ValueError(f"{names[1]} must be whole numbers, the classes' numbers, not {broken[0]}")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(
            f"{names[1]} range from {labels.min()} to {labels.max()}, but there are "
            f"{logits.shape[1]} classes, numbered from 0"
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
    sides = [as_floats(side, "the networks' values") for side in (unlearned, retrained)]
    shapes = " and ".join(str(side.shape) for side in sides)
    if any(side.ndim != 2 for side in sides) or sides[0].shape[1] != sides[1].shape[1]:
        raise ValueError(
            f"both sides need networks in rows and the same examples in columns, not {shapes}"
        )
    if sides[0].shape[1] == 0:
        raise ValueError(f"there are no examples: the arrays have shapes {shapes}")
    if min(len(side) for side in sides) < least:
        raise ValueError(f"each side needs at least {least} network(s), not {shapes}")
    if not all(all_finite(side) for side in sides):
        raise ValueError("some values are NaN or infinite: a network or its input is broken")
    return sides[0], sides[1]


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    return log_softmax(logits, axis=1)


def log_odds(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """log p_y - log(1 - p_y) of each row, (S,): exact however near p_y is to 0 or 1."""
    rows, others = np.arange(len(labels)), logits.copy()
    others[rows, labels] = -np.inf
    return logits[rows, labels] - logsumexp(others, axis=1)
