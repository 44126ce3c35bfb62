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


def test_accuracies_in_per_cent_and_missing_ones_are_refused():
    """In per cent, the product was -405224."""
    wrong = RETRAINED | {"test_accuracy": 97.2}
    for metric in (tug_of_war, average_gap):
        with pytest.raises(ValueError, match=r"retrained test_accuracy .* in \[0, 1\], not 97.2"):
            metric(UNLEARNED, wrong)
        with pytest.raises(ValueError, match="unlearned must map retain_accuracy, forget_acc"):
            metric({"retain_accuracy": 1.0}, RETRAINED)
