"""How far is a network from the retrained one, in one number?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..core.checks import check_number

PARTS = ("retain_accuracy", "forget_accuracy", "test_accuracy")


def tug_of_war(unlearned: Mapping[str, float], retrained: Mapping[str, float]) -> float:
    """ToW: the product over forget, retain and test set of 1 - |a(u, .) - a(r, .)|.

    In [0, 1]; 1 is best and means that the accuracies equal the retrained network's.

    Source: Zhao et al., What Makes Unlearning Hard and What to Do About It (RUM), NeurIPS 2024.

    Args:
        unlearned, retrained: fractions with the keys "retain_accuracy", "forget_accuracy" and
            "test_accuracy".

    Raises:
        ValueError: if a key is missing, or a value is no fraction, such as one in per cent.
    """
    return math.prod(1 - gap for gap in _gaps(unlearned, retrained, PARTS))


def average_gap(unlearned: Mapping[str, float], retrained: Mapping[str, float]) -> float:
    """Mean of |X(u) - X(r)| over UA (1 - forget accuracy), RA, TA and the confidence attack.

    In [0, 1], 0 is best.

    Source: Fan et al., SalUn, ICLR 2024.

    Args:
        unlearned, retrained: fractions with the keys of ``tug_of_war`` and "confidence_attack".

    Raises:
        ValueError: as ``tug_of_war``.
    """
    keys = (*PARTS, "confidence_attack")
    return sum(_gaps(unlearned, retrained, keys)) / len(keys)


def _gaps(
    unlearned: Mapping[str, float], retrained: Mapping[str, float], keys: Sequence[str]
) -> list[float]:
    """|X(u) - X(r)| for each key."""
    ours, theirs = (
        _fractions(unlearned, "unlearned", keys),
        _fractions(retrained, "retrained", keys),
    )
    return [abs(one - other) for one, other in zip(ours, theirs, strict=True)]


def _fractions(numbers: Mapping[str, float], name: str, keys: Sequence[str]) -> list[float]:
    try:
        values = [numbers[key] for key in keys]
    except (KeyError, TypeError, IndexError):
        raise ValueError(f"{name} must map {', '.join(keys)} to fractions") from None
    pairs = zip(keys, values, strict=True)
    return [check_number(f"{name} {key}", value, "[0, 1]") for key, value in pairs]
