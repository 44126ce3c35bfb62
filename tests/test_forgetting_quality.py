"""F of the NeurIPS 2023 challenge against its literal definition, closed forms and known cases."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit, softmax
from scipy.stats import norm

from unlearning.metrics.forgetting_quality import (
    attack_at,
    challenge_score,
    forgetting_quality,
    logit_scaled_confidence,
    points_of,
    redraw_networks,
    strongest,
    strongest_attacks,
    thresholds_between,
)

NEAR = 1e-9  # a value so near a threshold is on it


# ------------------------------------------------------------------------------------------------
# The literal definition


def literal_eps(unlearned, retrained, *, delta=1e-5, guard=True):
    """eps of one example and the attacks that reach it: every threshold, every error counted."""
    ranges = np.ptp(unlearned), np.ptp(retrained)
    if guard and min(ranges) < 0.01 * max(ranges):
        return 50.0, {"identical"}
    retrained_is_larger = np.median(retrained) > np.median(unlearned)
    larger, smaller = (retrained, unlearned)[:: 1 if retrained_is_larger else -1]
    narrow, wide = (larger, smaller)[:: 1 if np.ptp(larger) < np.ptp(smaller) else -1]
    found = {
        "single": literal_best(literal_single(larger, smaller), larger, smaller, delta),
        "double": literal_best(literal_double(narrow, wide), narrow, wide, delta),
    }
    most = max(found.values())
    if most == -math.inf:
        return 0.0, {"none"}
    return min(most, 50.0), {name for name, eps in found.items() if math.isclose(eps, most)}


def literal_single(positive, negative):
    joint = np.concatenate([positive, negative])
    count = math.ceil(round(np.ptp(joint) * 100, 6))
    errors = set()
    for t in np.linspace(joint.min(), joint.max(), count):
        called = [values >= t - NEAR for values in (negative, positive)]
        errors.add((int(called[0].sum()), int((~called[1]).sum())))
    return errors


def literal_double(positive, negative):
    w = positive.max() - positive.min()
    errors = set()
    for h in np.linspace(positive.min() + w - 2, positive.max() + 2, 400):
        left = np.linspace(h - w - 2, h - w + 2, 400)[:, None]  # against values in a row
        called = [(left - NEAR <= v) & (v <= h + NEAR) for v in (negative, positive)]
        false_positives, false_negatives = called[0].sum(1), (~called[1]).sum(1)
        errors.update(zip(false_positives.tolist(), false_negatives.tolist(), strict=True))
    return errors


def literal_best(errors, positive, negative, delta):
    return max(
        (formula(fp / len(negative), fn / len(positive), delta) for fp, fn in errors),
        default=-math.inf,
    )


def formula(fpr, fnr, delta):
    if fpr == 0 and fnr == 0:
        return math.inf
    if fpr == 0 or fnr == 0:
        return -math.inf  # discarded
    terms = [(1 - delta - fpr, fnr), (1 - delta - fnr, fpr)]
    return max([0.0, *(math.log(a) - math.log(b) for a, b in terms if a > 0)])


def literal_points(eps, bins):
    return [2 / 2**n if (n := int(e // 0.5) + 1) <= bins else 0.0 for e in eps]


def assert_literal(unlearned, retrained, **options):
    bins = options.pop("bins", 13)
    result = forgetting_quality(unlearned, retrained, bins=bins, **options)
    wanted = [literal_eps(*pair, **options) for pair in zip(unlearned.T, retrained.T, strict=True)]
    np.testing.assert_allclose(result.eps, [eps for eps, _ in wanted], rtol=0, atol=1e-9)
    for name, (_, names) in zip(result.attack, wanted, strict=True):
        assert name in names
    assert result.quality == pytest.approx(np.mean(literal_points(result.eps, bins)), abs=1e-12)


KINDS = {
    "normal": lambda g, shape: g.normal(5, 2, shape),
    "narrow": lambda g, shape: g.normal(5, 0.02, shape),
    "wide": lambda g, shape: g.normal(0, 40, shape),
    "whole numbers": lambda g, shape: g.integers(-3, 4, shape).astype(float),
    "tenths": lambda g, shape: g.integers(-60, 60, shape) / 10,
    "two values": lambda g, shape: g.choice([0.3, 1.1], shape),
    "heavy tails": lambda g, shape: g.standard_cauchy(shape),
    "one outlier": lambda g, shape: (
        g.normal(0, 1, shape) + 500 * (np.arange(shape[0]) == 0)[:, None]
    ),
    "two clouds": lambda g, shape: g.normal(0, 1, shape) + g.choice([-4, 4], shape),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(16, 16), (16, 37), (64, 9), (2, 3)])
def test_eps_is_that_of_every_threshold_tried_one_by_one(kind, sizes):
    generator = np.random.default_rng(len(kind) + sizes[1])
    unlearned = KINDS[kind](generator, (sizes[0], 3))
    retrained = KINDS[kind](generator, (sizes[1], 3)) + np.array([0, 0.4, 3])
    assert_literal(unlearned, retrained)


@pytest.mark.parametrize("one", KINDS)
def test_eps_is_that_of_every_threshold_for_samples_of_two_kinds(one):
    generator = np.random.default_rng(len(one))
    for other in ("normal", "whole numbers", "wide"):
        assert_literal(KINDS[one](generator, (20, 1)), KINDS[other](generator, (25, 1)))


SAMPLE = st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=2, max_size=12)


@settings(max_examples=40)
@given(SAMPLE, SAMPLE, st.sampled_from([0.0, 1e-5, 0.3]), st.sampled_from([1, 13, 14]))
def test_eps_is_the_literal_one_for_quarters_full_of_ties(unlearned, retrained, delta, bins):
    assert_literal(
        np.array(unlearned)[:, None], np.array(retrained)[:, None], delta=delta, bins=bins
    )


def test_eps_is_the_literal_one_for_many_networks():
    generator = np.random.default_rng(0)
    assert_literal(generator.normal(5, 2, (512, 2)), generator.normal([5, 6], [1, 2], (512, 2)))


@pytest.mark.parametrize("low, high, count", [(0.0, 1.1, 110), (0.1, 1.2, 110), (5.0, 8.004, 301)])
def test_single_thresholds_are_a_hundred_a_unit_of_the_joint_range(low, high, count):
    """Where values are dense none is left out. 1.1 * 100 is a little over 110: not 111."""
    joint, within = np.linspace(low, high, 9000), np.linspace(low + 0.2, high - 0.3, 50)
    for sides in ((joint, within), (within, joint)):
        np.testing.assert_allclose(thresholds_between(*sides), np.linspace(low, high, count))


def test_the_last_threshold_is_tried_where_its_place_in_the_grid_is_rounded_down():
    """0.533 / (0.533 / 53) is less than 53: the 53rd step from 0 must not be taken for the 52nd."""
    unlearned = np.array([0.52, 0.53] + [0.533] * 8)[:, None]
    retrained = np.array([0] + [0.53] * 8 + [0.533])[:, None]
    assert 0.533 / (0.533 / 53) < 53
    assert_literal(unlearned, retrained)
    result = forgetting_quality(unlearned, retrained, delta=0)
    assert result.attack.tolist() == ["single"]
    assert result.eps[0] == pytest.approx(math.log(0.8 / 0.1), abs=1e-9)


# ------------------------------------------------------------------------------------------------
# Closed forms and known truths


@pytest.mark.parametrize("networks", [16, 64, 512])
def test_equal_gaussians_give_the_known_ceiling_and_not_one(networks):
    generator = np.random.default_rng(networks)
    unlearned, retrained = generator.normal(0, 1, (2, networks, 250))
    assert 0.14 < forgetting_quality(unlearned, retrained).quality < 0.22


def test_shifted_gaussians_have_the_eps_of_their_distributions():
    """A large delta, so that the best threshold is not in a tail with a network or two."""
    delta, shifts = 0.1, np.array([0.5, 1.0, 2.0])
    retrained, unlearned = np.random.default_rng(0).normal(0, 1, (2, 200_000, 3))
    result = forgetting_quality(unlearned + shifts, retrained, delta=delta)
    t = np.linspace(-4, 6, 10_001)[:, None]
    fpr, fnr = norm.sf(t), norm.cdf(t - shifts)
    terms = [(1 - delta - fpr, fnr), (1 - delta - fnr, fpr)]
    wanted = np.max([np.log(np.maximum(a, 1e-300)) - np.log(b) for a, b in terms], axis=0).max(0)
    np.testing.assert_allclose(result.eps, wanted, atol=0.03)
    assert (np.diff(wanted) > 0.5).all()  # or a constant would pass


def test_an_interval_tells_samples_of_equal_median_apart_as_worked_out_by_hand():
    """From above -3 to below 3.5 lie 90 of 100 unlearned and 2 of 100 retrained."""
    unlearned, retrained = (
        np.repeat([-3.0, 0, 3], [10, 80, 10]),
        np.repeat([-3.5, 0, 3.5], [49, 2, 49]),
    )
    result = forgetting_quality(unlearned[:, None], retrained[:, None])
    assert result.attack.tolist() == ["double"]
    assert result.eps[0] == pytest.approx(math.log((0.9 - 1e-5) / 0.02), abs=1e-9)
    single = attack_at(np.linspace(-3.5, 3.5, 700), unlearned, retrained)
    assert np.nanmax(single.eps) == pytest.approx(math.log((0.49 - 1e-5) / 0.1), abs=1e-9)


def test_attack_at_has_the_error_rates_of_the_distributions():
    retrained, unlearned = np.random.default_rng(0).normal(0, 1, (2, 200_000))
    t = np.array([[-1.0, 0.0], [0.7, 2.0]])
    attack = attack_at(t, unlearned + 1, retrained, delta=0)
    np.testing.assert_allclose(attack.fpr, norm.sf(t), atol=0.005)
    np.testing.assert_allclose(attack.fnr, norm.cdf(t - 1), atol=0.005)
    wanted = np.maximum(norm.logsf(t - 1) - norm.logsf(t), norm.logcdf(t) - norm.logcdf(t - 1))
    np.testing.assert_allclose(attack.eps, wanted, atol=0.02)


def test_attack_at_by_hand():
    low, high = np.array([0.0, 1, 2, 6]), torch.tensor([3.0, 5, 7, 1, 9])
    for sides in ((low, high), (high, low)):  # the larger median is positive, whichever side
        assert attack_at(3, *sides, delta=0) == (1 / 4, 1 / 5, pytest.approx(math.log(3.75)))
    discarded = attack_at(1, low, high)
    assert discarded[:2] == (3 / 4, 0)
    assert math.isnan(discarded.eps)
    assert attack_at(3.5, low[:3], high + 3).eps == 50  # nothing is wrong: infinite, capped


@pytest.mark.parametrize("networks", [(16, 16), (512, 512), (3, 100)])
def test_samples_apart_have_the_largest_eps_and_no_quality(networks):
    generator = np.random.default_rng(0)
    unlearned, retrained = (generator.uniform(0, 1, (count, 5)) for count in networks)
    for shift in (1.5, -1.5, 300):
        result = forgetting_quality(unlearned + shift, retrained)
        assert result.eps.tolist() == [50] * 5
        assert result.attack.tolist() == ["single"] * 5
        assert result.quality == 0


def test_a_sample_between_two_clouds_is_told_by_an_interval():
    generator = np.random.default_rng(0)
    clouds = generator.uniform(0, 1, (16, 5)) + np.where(np.arange(16) % 2, 4, -4)[:, None]
    result = forgetting_quality(generator.uniform(0, 1, (16, 5)), clouds)
    assert result.eps.tolist() == [50] * 5
    assert result.attack.tolist() == ["double"] * 5


def test_copies_of_one_network_are_caught_and_would_look_perfect_if_they_were_not():
    retrained = np.random.default_rng(0).normal(5, 2, (64, 20))
    copies = np.repeat(retrained[:1], 64, axis=0)
    result = forgetting_quality(copies, retrained)
    assert result.quality == 0
    assert set(result.attack) == {"identical"}
    assert result.eps.tolist() == [50] * 20
    for column in range(20):
        pair = np.sort(copies[:, column]), np.sort(retrained[:, column])
        eps, _ = strongest(*pair, 1e-5)
        assert eps < 0.5  # H would be 1, and F with it
        assert eps == literal_eps(*pair, guard=False)[0]
    unguarded = forgetting_quality(copies, retrained, narrow=0, resamples=2)
    assert unguarded.quality == 1  # above what retraining itself reaches


def test_the_guard_is_at_a_hundredth_of_the_wider_range():
    retrained = np.linspace(0, 100, 30)[:, None]
    for part, guarded in ((0.99, True), (1.01, False)):
        unlearned = 40 + part * np.linspace(0, 1, 30)[:, None]
        for sides in ((unlearned, retrained), (retrained, unlearned)):
            attack = forgetting_quality(*sides).attack.tolist()
            assert (attack == ["identical"]) is guarded


def test_every_attack_on_one_and_the_same_value_is_discarded():
    result = forgetting_quality(np.full((4, 2), 3.0), np.full((5, 2), 3.0))
    assert result.attack.tolist() == ["none", "none"]
    assert result.eps.tolist() == [0, 0]
    apart = forgetting_quality(np.full((4, 1), 3.0), np.full((5, 1), 3.5))
    assert apart.eps.tolist() == [50]


def test_h_halves_every_half_unit_of_eps_and_ends_after_its_bins():
    eps = np.array([0, 0.49, 0.5, 0.99, 1.0, 6.0, 6.49, 6.5, 6.99, 7.0, 50])
    to_six = [1, 1, 1 / 2, 1 / 2, 1 / 4, 2**-12, 2**-12]
    assert points_of(eps, 13).tolist() == [*to_six, 0, 0, 0, 0]
    assert points_of(eps, 14).tolist() == [*to_six, 2**-13, 2**-13, 0, 0]
    assert points_of(eps, 1).tolist() == [1, 1] + [0] * 9


def test_the_fourteenth_bin_of_the_released_scorer_counts_only_where_asked_for():
    """One network in a thousand on the wrong side, both ways: eps is log 999, in [6.5, 7)."""
    below, above = np.linspace(0, 1, 1000), np.linspace(10, 11, 1000)
    below[-1], above[0] = 10.5, 0.5
    sides = below[:, None], above[:, None]
    result = forgetting_quality(*sides, delta=0)
    assert result.eps[0] == pytest.approx(math.log(999), abs=1e-12)
    assert result.quality == 0
    assert forgetting_quality(*sides, delta=0, bins=14).quality == 2**-13


# ------------------------------------------------------------------------------------------------
# What must not matter


def samples(networks=(40, 30), examples=6):
    generator = np.random.default_rng(1)
    shifts = np.linspace(0, 2, examples)
    return generator.normal(0, 1, (networks[0], examples)) + shifts, generator.normal(
        0, 1, (networks[1], examples)
    )


def test_the_order_of_networks_does_not_matter_and_that_of_examples_only_orders():
    unlearned, retrained = samples()
    result = forgetting_quality(unlearned, retrained)
    generator = np.random.default_rng(2)
    shuffled = forgetting_quality(
        generator.permutation(unlearned), generator.permutation(retrained)
    )
    np.testing.assert_array_equal(shuffled.eps, result.eps)
    order = generator.permutation(6)
    reordered = forgetting_quality(unlearned[:, order], retrained[:, order])
    np.testing.assert_array_equal(reordered.eps, result.eps[order])
    np.testing.assert_array_equal(reordered.attack, result.attack[order])
    assert reordered.quality == pytest.approx(result.quality)
    assert len(set(result.eps)) == 6  # or any order would do


def test_which_side_is_which_and_a_constant_added_to_both_do_not_matter():
    unlearned, retrained = samples()
    result = forgetting_quality(unlearned, retrained)
    np.testing.assert_array_equal(forgetting_quality(retrained, unlearned).eps, result.eps)
    for constant in (0.1, -17.3, 1e3):
        moved = forgetting_quality(unlearned + constant, retrained + constant)
        np.testing.assert_array_equal(moved.eps, result.eps)


def test_arrays_are_left_alone_and_tensors_are_read():
    unlearned, retrained = samples()
    before = unlearned.copy(), retrained.copy()
    result = forgetting_quality(unlearned, retrained, resamples=2)
    np.testing.assert_array_equal(unlearned, before[0])
    np.testing.assert_array_equal(retrained, before[1])
    tensors = forgetting_quality(torch.from_numpy(unlearned), torch.from_numpy(retrained))
    np.testing.assert_array_equal(tensors.eps, result.eps)


def test_a_diverged_network_costs_neither_memory_nor_the_result():
    unlearned, retrained = samples(examples=1)
    unlearned[0], retrained[0] = 1e30, 1e29
    result = forgetting_quality(unlearned, retrained)
    assert result.attack[0] in ("single", "double", "none")
    assert 0 <= result.eps[0] <= 50


# ------------------------------------------------------------------------------------------------
# Intervals


def test_intervals_are_left_out_unless_asked_for_and_follow_their_seed():
    unlearned, retrained = samples(examples=4)
    plain = forgetting_quality(unlearned, retrained)
    assert plain.interval_examples is plain.interval_networks is None
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    results = [forgetting_quality(unlearned, retrained, resamples=4, seed=s) for s in (0, 0, 1)]
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert results[0].interval_networks == results[1].interval_networks
    assert results[0].interval_examples == results[1].interval_examples
    assert results[0].interval_networks != results[2].interval_networks
    for result in results:
        assert result.quality == plain.quality


def test_the_interval_over_examples_is_that_of_a_mean():
    """Half the examples told apart at once (H 0), half of them one value (H 1): a fair coin."""
    values = np.full((2, 16), 3.0)
    other = values + np.where(np.arange(16) % 2, 0.5, 0)
    result = forgetting_quality(values, other, resamples=100)
    assert result.quality == 0.5
    low, high = result.interval_examples
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(16), rel=0.25)
    assert (low + high) / 2 == pytest.approx(0.5, abs=0.05)
    assert result.interval_networks == (0.5, 0.5)  # every network is the same


def test_the_interval_over_networks_has_the_spread_of_new_networks():
    """And is laid around F, since networks drawn twice are easier to tell apart."""
    generator = np.random.default_rng(0)

    def new():
        return generator.normal(0, 1, (2, 32, 10))

    spread = np.std([forgetting_quality(*new()).quality for _ in range(30)])
    sides = new()
    result = forgetting_quality(*sides, resamples=30)
    low, high = result.interval_networks
    assert low < result.quality < high
    assert (high - low) / 2 / 1.96 == pytest.approx(spread, rel=0.5)
    redrawn = [
        points_of(strongest_attacks(*pair, 1e-5)[0], 13).mean()
        for pair in redraw_networks(*sides, 10, generator)
    ]
    assert np.mean(redrawn) < result.quality - spread / 2


# ------------------------------------------------------------------------------------------------
# The confidence


def test_confidence_is_the_logit_of_the_labels_probability():
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(0, 2, (3, 5, 4)), np.array([0, 3, 1, 1, 2])
    wanted = logit(softmax(logits, axis=-1)[:, np.arange(5), labels])
    before = logits.copy()
    np.testing.assert_allclose(logit_scaled_confidence(logits, labels), wanted, atol=1e-12)
    np.testing.assert_array_equal(logits, before)
    np.testing.assert_allclose(logit_scaled_confidence(logits[0], labels), wanted[0], atol=1e-12)
    tensors = torch.from_numpy(logits).float()[None], torch.from_numpy(labels)
    np.testing.assert_allclose(logit_scaled_confidence(*tensors), wanted[None], atol=1e-5)


def test_confidence_of_two_classes_is_their_difference_however_sure_the_network():
    logits = np.array([[1000.0, -1000], [0, 0], [40, 0], [3e38, -3e38]], dtype=np.float32)
    wanted = logits.astype(float) @ [1, -1]
    assert logit_scaled_confidence(logits, np.zeros(4, int)).tolist() == wanted.tolist()
    assert logit_scaled_confidence(logits, np.ones(4, int)).tolist() == (-wanted).tolist()


def test_confidence_of_equal_logits_is_minus_the_log_of_the_other_classes():
    assert logit_scaled_confidence(np.zeros((1, 10)), np.array([4])) == pytest.approx(-math.log(9))


LOGITS, LABELS = np.zeros((2, 3, 4)), np.array([0, 1, 3])


@pytest.mark.parametrize(
    "logits, labels, sentence",
    [
        (LOGITS[..., :1], LABELS * 0, r"K at least 2, not \(2, 3, 1\)"),
        (LOGITS[0, 0], LABELS, r"of shape \(..., S, K\), K at least 2, not \(4,\)"),
        (LOGITS, LABELS[:2], r"3 examples need as many labels, one each, not \(2,\)"),
        (LOGITS, np.zeros((2, 3), int), r"3 examples need as many labels, one each, not \(2, 3\)"),
        (LOGITS, LABELS[:1], r"3 examples need as many labels, one each, not \(1,\)"),
        (LOGITS[:0], LABELS, r"S at least 1, not \(0, 4\)"),
        (LOGITS, LABELS + 1, "labels go from 1 to 4, but there are 4 classes"),
        (LOGITS * np.nan, LABELS, "logits hold NaN or infinite values"),
    ],
)
def test_confidence_refuses_bad_arrays_in_a_sentence(logits, labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        logit_scaled_confidence(logits, labels)


# ------------------------------------------------------------------------------------------------
# The score


ACCURACIES = {
    "retain_accuracy": np.array([0.9, 0.8]),
    "test_accuracy": torch.tensor([0.5, 0.75]),
    "retrained_retain_accuracy": 0.95,
    "retrained_test_accuracy": [0.8, 0.7, 0.75],
}


def test_challenge_score_is_the_product_worked_out_by_hand():
    wanted = 0.1 * 0.85 / 0.95 * 0.625 / 0.75
    assert challenge_score(0.1, **ACCURACIES) == pytest.approx(wanted)
    same = dict.fromkeys(ACCURACIES, 0.6)
    assert challenge_score(0.125, **same) == pytest.approx(0.125)


def test_challenge_score_is_zero_over_a_fifth_of_retrainings_time():
    score = challenge_score(0.1, **ACCURACIES)
    at = {
        seconds: challenge_score(0.1, **ACCURACIES, seconds=seconds, retraining_seconds=100)
        for seconds in (0, 1, 20, 20.001, 500)
    }
    assert at == {0: score, 1: score, 20: score, 20.001: 0, 500: 0}


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"quality": 1.1}, r"quality must be fractions in \[0, 1\]"),
        ({"quality": math.nan}, r"quality must be fractions in \[0, 1\]"),
        ({"test_accuracy": 97.2}, r"test accuracy must be fractions in \[0, 1\]"),
        ({"retain_accuracy": []}, "retain accuracy must be fractions .* one or more"),
        ({"retrained_test_accuracy": 0}, "the retrained test accuracy is 0"),
        ({"retrained_retain_accuracy": np.zeros(3)}, "the retrained retain accuracy is 0"),
        ({"seconds": 1.0}, "give both or neither"),
        ({"retraining_seconds": 1.0}, "give both or neither"),
        ({"seconds": 1.0, "retraining_seconds": 0}, "times must be positive, not 1.0 s against 0"),
        ({"seconds": math.nan, "retraining_seconds": 1}, "times must be positive"),
    ],
)
def test_challenge_score_refuses_what_is_no_score_in_a_sentence(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        challenge_score(**{"quality": 0.1, **ACCURACIES, **wrong})


# ------------------------------------------------------------------------------------------------
# Errors

GOOD = np.random.default_rng(0).normal(size=(4, 3))


@pytest.mark.parametrize(
    "unlearned, retrained, options, sentence",
    [
        (GOOD, GOOD[:, :2], {}, r"the same examples in columns .* not \(4, 3\) and \(4, 2\)"),
        (GOOD[0], GOOD[0], {}, r"networks in rows, .* not \(3,\) and \(3,\)"),
        (GOOD[None], GOOD, {}, r"networks in rows, .* not \(1, 4, 3\) and \(4, 3\)"),
        (GOOD[:, :0], GOOD[:, :0], {}, r"there are no examples: .* \(4, 0\) and \(4, 0\)"),
        (GOOD[:1], GOOD, {}, r"at least 2 networks a side are needed, not \(1, 3\) and \(4, 3\)"),
        (GOOD, GOOD[:1], {}, r"at least 2 networks a side are needed, not \(4, 3\) and \(1, 3\)"),
        (GOOD * np.nan, GOOD, {}, "some values are NaN or infinite"),
        (GOOD, GOOD + np.inf, {}, "some values are NaN or infinite"),
        (GOOD, GOOD, {"delta": 1.0}, r"delta must be in \[0, 1\), not 1.0"),
        (GOOD, GOOD, {"narrow": 1.5}, r"narrow must be in \[0, 1\], not 1.5"),
        (GOOD, GOOD, {"delta": -0.1}, r"delta must be in \[0, 1\), not -0.1"),
        (GOOD, GOOD, {"bins": 0}, "H needs at least one bin, not 0"),
        (GOOD, GOOD, {"resamples": -1}, "or at least 2, not -1"),
        (GOOD, GOOD, {"resamples": 1}, "or at least 2, not 1"),
    ],
)
def test_forgetting_quality_refuses_bad_arguments_in_a_sentence(
    unlearned, retrained, options, sentence
):
    with pytest.raises(ValueError, match=sentence):
        forgetting_quality(unlearned, retrained, **options)


@pytest.mark.parametrize(
    "unlearned, retrained, sentence",
    [
        (GOOD, GOOD, r"one example's values are needed, \(N,\) and \(M,\), not \(4, 3\) and"),
        (GOOD[0, :1], GOOD[0], "at least 2 networks a side"),
        (GOOD[0], GOOD[0] * np.nan, "some values are NaN or infinite"),
    ],
)
def test_attack_at_refuses_bad_samples_in_a_sentence(unlearned, retrained, sentence):
    with pytest.raises(ValueError, match=sentence):
        attack_at(0.0, unlearned, retrained)
