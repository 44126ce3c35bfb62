"""Checks of the features that probes, similarities and maps are given."""

from __future__ import annotations

import numpy as np

from ..metrics.arrays import Array, all_finite, as_floats, as_numpy


def check_features(features: Array, name: str = "features") -> np.ndarray:
    """Features as float64, (N, D).

    Raises:
        ValueError: if they have another shape, there are none, or one is not finite.
    """
    features = as_floats(features, name)
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"{name} must have shape (N, D), one row per image, not {features.shape}")
    if not all_finite(features):
        raise ValueError(f"{name} hold NaN or infinite values: the network or its input is broken")
    return features


def check_labels(labels: Array, count: int, name: str = "labels") -> np.ndarray:
    """Labels, (N,), one whole number per row of features.

    Raises:
        ValueError: if they are anything else.
    """
    labels = as_numpy(labels, name)
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise ValueError(
            f"{name} must be {count} whole numbers, one class per row of features, not "
            f"{labels.dtype} of shape {labels.shape}"
        )
    return labels


def check_same(a: np.ndarray, b: np.ndarray, axis: int, what: str) -> None:
    """Raise a ValueError unless both have as many rows (axis 0) or columns (axis 1)."""
    if a.shape[axis] != b.shape[axis]:
        raise ValueError(f"{what}, but the features have shapes {a.shape} and {b.shape}")
