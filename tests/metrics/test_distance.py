"""Distances between outputs: bounds that hold to the last digit, and values worked out by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unlearning.metrics import activation_distance, js_divergence, zero_retrain_forgetting

SOME_LOGITS = arrays(np.float64, (4, 3), elements=st.floats(-1e4, 1e4))
BY_HAND = (0.5 * math.log2(0.5 / 0.75) + 0.5 + math.log2(4 / 3)) / 2  # (1/2, 1/2) against (1, 0)


@given(SOME_LOGITS, SOME_LOGITS)
def test_js_divergence_and_zrf_are_symmetric_and_within_their_bounds(a, b):
    value = js_divergence(a, b)
    assert 0 <= value <= 1
    assert value == pytest.approx(js_divergence(b, a), abs=1e-12)
    assert zero_retrain_forgetting(a, b) == 1 - value
    assert js_divergence(a, a + 7) == pytest.approx(0, abs=1e-9)  # a shift is no difference


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
@pytest.mark.parametrize("height", [800.0, 1e4, 1e30])
def test_disjoint_outputs_have_divergence_one_without_rounding(classes, height):
    labels = np.arange(7 * classes) % classes
    sure, other = height * np.eye(classes)[labels], height * np.eye(classes)[(labels + 1) % classes]
    for a, b in ((sure, other), (torch.from_numpy(sure).float(), torch.from_numpy(other).float())):
        assert js_divergence(a, b) == 1.0 and js_divergence(a, a) == 0.0
        assert zero_retrain_forgetting(a, b) == 0.0 and zero_retrain_forgetting(a, a) == 1.0


def test_js_divergence_and_zrf_have_the_value_worked_out_by_hand():
    p, q = np.log([[0.5, 0.5]]), np.array([[1000.0, 0.0]])
    assert js_divergence(p, q) == pytest.approx(BY_HAND)
    assert zero_retrain_forgetting(q, p) == pytest.approx(1 - BY_HAND)


def test_zrf_of_a_sure_network_is_not_that_of_the_reversed_kl_divergence():
    """F.kl_div with reversed arguments and its default mean gave 0.915 for a case of 0.623."""
    generator = np.random.default_rng(0)
    sure = 1000 * np.eye(10)[generator.integers(10, size=50)]
    p, q = np.eye(10)[sure.argmax(1)], np.full((50, 10), 0.1)
    m = (p + q) / 2
    to_middle = [math.log2(1 / 0.55)] * 50 + list((q * np.log2(q / m)).sum(1))
    np.testing.assert_allclose(m[p == 1], 0.55)
    found = zero_retrain_forgetting(sure, np.zeros((50, 10)))
    assert found == pytest.approx(1 - np.mean(to_middle))


def test_activation_distance_is_root_two_for_disjoint_outputs():
    one, other = np.array([[1000.0, 0, 0]] * 3), np.array([[0.0, 1000, 0]] * 3)
    assert activation_distance(one, other) == pytest.approx(math.sqrt(2))
    assert activation_distance(one, one) == 0
    halves = np.array([[1000.0, 1000, 0]] * 3)  # (1/2, 1/2, 0)
    assert activation_distance(one, halves) == pytest.approx(math.sqrt(0.5))
    mixed = np.concatenate([halves[:1], one[:2]])
    assert activation_distance(one, torch.from_numpy(mixed)) == pytest.approx(math.sqrt(0.5) / 3)


@pytest.mark.parametrize("metric", [js_divergence, activation_distance, zero_retrain_forgetting])
def test_distances_refuse_bad_arrays(metric):
    logits = np.ones((6, 4))
    for a, b in ((logits, logits * np.nan), (logits * np.nan, logits), (logits, logits[:5])):
        with pytest.raises(ValueError, match=r"NaN|same examples"):
            metric(a, b)
