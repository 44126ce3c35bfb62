"""How far is a network from the retrained one, in one number?"""

from __future__ import annotations

import math
from collections.abc import Mapping

PARTS = ("retain_accuracy", "forget_accuracy", "test_accuracy")


def tug_of_war(unlearned: Mapping[str, float], retrained: Mapping[str, float]) -> float:
    """ToW: the product over forget, retain and test set of 1 - |a(u, .) - a(r, .)|.

    In [0, 1]; 1 is best and means that the accuracies equal the retrained network's.

    Source: Zhao et al., What Makes Unlearning Hard and What to Do About It (RUM), NeurIPS 2024.

    Args:
        unlearned, retrained: fractions with the keys "retain_accuracy", "forget_accuracy" and
            "test_accuracy".
    """
    return math.prod(1 - abs(unlearned[part] - retrained[part]) for part in PARTS)


def average_gap(unlearned: Mapping[str, float], retrained: Mapping[str, float]) -> float:
    """Mean of |X(u) - X(r)| over UA (1 - forget accuracy), RA, TA and the confidence attack.

    In [0, 1], 0 is best.

    Source: Fan et al., SalUn, ICLR 2024.

    Args:
        unlearned, retrained: fractions with the keys of ``tug_of_war`` and "confidence_attack".
    """
    keys = (*PARTS, "confidence_attack")
    return sum(abs(unlearned[key] - retrained[key]) for key in keys) / len(keys)
