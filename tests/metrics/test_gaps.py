"""Gaps to the retrained network, worked out by hand."""

import pytest

from unlearning.metrics import average_gap, tug_of_war

KEYS = ("retain_accuracy", "forget_accuracy", "test_accuracy", "confidence_attack")
UNLEARNED = dict(zip(KEYS, (0.9, 0.7, 0.8, 0.1), strict=True))
RETRAINED = dict(zip(KEYS, (1.0, 0.5, 0.85, 0.3), strict=True))


def test_tug_of_war_and_average_gap_by_hand():
    for sides in ((UNLEARNED, RETRAINED), (RETRAINED, UNLEARNED)):
        assert tug_of_war(*sides) == pytest.approx(0.9 * 0.8 * 0.95)
        assert average_gap(*sides) == pytest.approx((0.1 + 0.2 + 0.05 + 0.2) / 4)
    assert (tug_of_war(RETRAINED, RETRAINED), average_gap(RETRAINED, RETRAINED)) == (1, 0)
