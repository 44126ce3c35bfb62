"""eps of one example against its literal definition, closed forms and known cases."""

import math

import numpy as np
import pytest
import torch

from unlearning.metrics import attack_at
from unlearning.metrics.example_attacks import _thresholds_between, strongest_attacks

DELTA = 1e-5
NEAR = 1e-9  # a value this near a threshold is on it


def columns(*samples):  # of one example each
    return [np.asarray(sample, float)[:, None] for sample in samples]


def literal_eps(unlearned, retrained, delta, narrow):
    """eps of one example, and the attacks that reach it."""
    ranges = np.ptp(unlearned), np.ptp(retrained)
    if min(ranges) < narrow * max(ranges):
        return 50.0, {"identical"}
    retrained_is_larger = np.median(retrained) > np.median(unlearned)
    larger, smaller = (retrained, unlearned)[:: 1 if retrained_is_larger else -1]
    narrow, wide = (larger, smaller)[:: 1 if np.ptp(larger) < np.ptp(smaller) else -1]
    single = literal_best(literal_single(larger, smaller), larger, smaller, delta)
    double = literal_best(literal_double(narrow, wide), narrow, wide, delta)
    most = max(single, double)
    if most == -math.inf:
        return 0.0, {"none"}
    names = {"single": single, "double": double}
    return min(most, 50.0), {name for name, eps in names.items() if math.isclose(eps, most)}


def literal_single(positive, negative):
    joint = np.concatenate([positive, negative])
    count = math.ceil(round(np.ptp(joint) * 100, 6))
    t = np.linspace(joint.min(), joint.max(), count)[:, None]  # against values in a row
    return errors_of([values >= t - NEAR for values in (negative, positive)])


def literal_double(positive, negative):
    w, errors = np.ptp(positive), set()
    for h in np.linspace(positive.min() + w - 2, positive.max() + 2, 400):
        low = np.linspace(h - w - 2, h - w + 2, 400)[:, None]
        errors |= errors_of([(low - NEAR <= v) & (v <= h + NEAR) for v in (negative, positive)])
    return errors


def errors_of(called):
    return set(zip(called[0].sum(1).tolist(), (~called[1]).sum(1).tolist(), strict=True))


def literal_best(errors, positive, negative, delta):
    found = [-math.inf]
    for false_positives, false_negatives in errors:
        fpr, fnr = false_positives / len(negative), false_negatives / len(positive)
        terms = [(1 - delta - fpr, fnr), (1 - delta - fnr, fpr)]
        if fpr == fnr == 0:
            return math.inf
        if fpr > 0 and fnr > 0:  # else discarded
            found += [0.0, *(math.log(a) - math.log(b) for a, b in terms if a > 0)]
    return max(found)


def assert_literal(unlearned, retrained, delta=DELTA, narrow=0.01):
    eps, attack = strongest_attacks(unlearned, retrained, delta, narrow)
    for place, name in enumerate(attack):
        wanted, names = literal_eps(unlearned[:, place], retrained[:, place], delta, narrow)
        assert eps[place] == pytest.approx(wanted, abs=1e-9) and name in names


KINDS = {
    "normal": lambda g, shape: g.normal(5, 2, shape),
    "narrow": lambda g, shape: g.normal(5, 0.02, shape),
    "wide": lambda g, shape: g.normal(0, 40, shape),
    "whole numbers": lambda g, shape: g.integers(-3, 4, shape).astype(float),
    "tenths": lambda g, shape: g.integers(-60, 60, shape) / 10,
    "one outlier": lambda g, shape: g.normal(size=shape) + 200 * np.eye(*shape)[:, :1],
    "two clouds": lambda g, shape: g.normal(0, 1, shape) + g.choice([-4, 4], shape),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(16, 37), (64, 9), (2, 3), (200, 200)])
def test_eps_is_that_of_every_threshold_tried_one_by_one(kind, sizes):
    generator = np.random.default_rng(len(kind) + sizes[1])
    unlearned = KINDS[kind](generator, (sizes[0], 3))
    assert_literal(unlearned, KINDS[kind](generator, (sizes[1], 3)) + np.array([0, 0.4, 3]))
    for other in ("normal", "whole numbers", "wide"):
        assert_literal(unlearned[:, :1], KINDS[other](generator, (sizes[1], 1)))


def test_single_thresholds_are_a_hundred_per_unit_of_the_joint_range():
    """Where values are dense none is left out. 1.1 * 100 is a little over 110: not 111."""
    for low, high, count in ((0.0, 1.1, 110), (5.0, 8.004, 301)):
        joint, within = np.linspace(low, high, 9000), np.linspace(low + 0.2, high - 0.3, 50)
        for sides in ((joint, within), (within, joint)):
            np.testing.assert_allclose(_thresholds_between(*sides), np.linspace(low, high, count))


def test_the_last_threshold_is_tried_where_its_place_in_the_grid_is_rounded_down():
    """0.533 / (0.533 / 53) is less than 53: the 53rd step from 0 must not be taken for the 52nd."""
    assert 0.533 / (0.533 / 53) < 53
    sides = columns([0.52, 0.53] + [0.533] * 8, [0] + [0.53] * 8 + [0.533])
    eps, attack = strongest_attacks(*sides, 0)
    assert attack.tolist() == ["single"] and eps == pytest.approx(math.log(0.8 / 0.1), abs=1e-9)


def test_an_interval_tells_samples_of_equal_median_apart_as_worked_out_by_hand():
    """From above -3 to below 3.5 lie 90 of 100 unlearned and 2 of 100 retrained."""
    unlearned = np.repeat([-3.0, 0, 3], [10, 80, 10])
    retrained = np.repeat([-3.5, 0, 3.5], [49, 2, 49])
    eps, attack = strongest_attacks(*columns(unlearned, retrained), DELTA)
    assert attack.tolist() == ["double"]
    assert eps == pytest.approx(math.log((0.9 - 1e-5) / 0.02), abs=1e-9)
    single = attack_at(np.linspace(-3.5, 3.5, 700), unlearned, retrained)
    assert np.nanmax(single.eps) == pytest.approx(math.log((0.49 - 1e-5) / 0.1), abs=1e-9)


def test_samples_apart_have_the_largest_eps_and_the_guard_is_at_a_hundredth_of_the_wider_range():
    unlearned, retrained = np.random.default_rng(0).uniform(0, 1, (2, 100, 5))
    clouds = np.where(np.arange(100) % 2, 4, -4)[:, None]  # around the unlearned
    for shift, name in ((1.5, "single"), (-1.5, "single"), (300, "single"), (clouds, "double")):
        eps, attack = strongest_attacks(unlearned, retrained + shift, DELTA)
        assert eps.tolist() == [50] * 5 and attack.tolist() == [name] * 5
    retrained, unit = columns(np.linspace(0, 100, 30), np.linspace(0, 1, 30))
    for part, is_guarded in ((0.99, True), (1.01, False)):
        for sides in ((40 + part * unit, retrained), (retrained, 40 + part * unit)):
            _, attack = strongest_attacks(*sides, DELTA)
            assert (attack.tolist() == ["identical"]) is is_guarded


def test_one_value_on_both_sides_and_a_diverged_network():
    eps, attack = strongest_attacks(*columns([3] * 4, [3] * 5), DELTA)
    assert attack.tolist() == ["none"] and eps.tolist() == [0]  # all attacks are discarded
    assert strongest_attacks(*columns([3] * 4, [3.5] * 5), DELTA)[0].tolist() == [50]
    eps, _ = strongest_attacks(*columns([1e30, 0, 1, 2], [1e29, 0, 2, 3]), DELTA)
    assert 0 <= eps[0] <= 50  # without a grid of 1e32 thresholds


def test_attack_at_by_hand():
    low, high = np.array([0.0, 1, 2, 6]), torch.tensor([3.0, 5, 7, 1, 9])
    for sides in ((low, high), (high, low)):  # the larger median is positive, whichever side
        assert attack_at(3, *sides, delta=0) == (1 / 4, 1 / 5, pytest.approx(math.log(3.75)))
    both = attack_at(np.array([[1, 3]]), low, high)  # the first is discarded
    assert both.fnr.tolist() == [[0, 1 / 5]] and np.isnan(both.eps).tolist() == [[True, False]]
    assert attack_at(3.5, low[:3], high + 3).eps == 50  # no errors: infinite, capped
    for sides in (columns(low, high), (low[:1], high), (low, high * np.nan)):
        with pytest.raises(ValueError, match=r"one example .* \(4, 1\)|at least 2|NaN"):
            attack_at(0.0, *sides)
