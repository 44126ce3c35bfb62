"""Gaps to the retrained network, worked out by hand."""

import pytest

from unlearning.metrics import average_gap, tug_of_war

KEYS = ("retain_accuracy", "forget_accuracy", "test_accuracy", "confidence_attack")
UNLEARNED = dict(zip(KEYS, (0.9, 0.7, 0.8, 0.1), strict=True))
RETRAINED = dict(zip(KEYS, (1.0, 0.5, 0.85, 0.3), strict=True))


def test_tug_of_war_by_hand():
    assert tug_of_war(UNLEARNED, RETRAINED) == pytest.approx(0.9 * 0.8 * 0.95)
    assert tug_of_war(RETRAINED, UNLEARNED) == tug_of_war(UNLEARNED, RETRAINED)
    assert tug_of_war(RETRAINED, RETRAINED) == 1
    assert tug_of_war({**RETRAINED, "retain_accuracy": 0.0}, RETRAINED) == 0


def test_average_gap_by_hand():
    assert average_gap(UNLEARNED, RETRAINED) == pytest.approx((0.1 + 0.2 + 0.05 + 0.2) / 4)
    assert average_gap(RETRAINED, RETRAINED) == 0
