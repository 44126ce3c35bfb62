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


@given(SOME_LOGITS, SOME_LOGITS)
def test_js_divergence_and_zrf_are_symmetric_and_within_their_bounds(a, b):
    value = js_divergence(a, b)
    assert 0 <= value <= 1
    assert value == pytest.approx(js_divergence(b, a), abs=1e-12)
    assert zero_retrain_forgetting(a, b) == 1 - value
    assert js_divergence(a, a + 7) == pytest.approx(0, abs=1e-9)  # a shift is no difference


@pytest.mark.parametrize("classes, height", [(2, 800.0), (10, 1e4), (100, 1e30)])
def test_disjoint_outputs_have_divergence_one_without_rounding(classes, height):
    labels = np.arange(7 * classes) % classes
    sure, other = height * np.eye(classes)[labels], height * np.eye(classes)[(labels + 1) % classes]
    for a, b in ((sure, other), (torch.from_numpy(sure).float(), torch.from_numpy(other).float())):
        assert js_divergence(a, b) == 1.0 and js_divergence(a, a) == 0.0
        assert zero_retrain_forgetting(a, b) == 0.0 and zero_retrain_forgetting(a, a) == 1.0


def test_zrf_of_a_sure_network_is_not_that_of_the_reversed_kl_divergence():
    """By hand. F.kl_div with reversed arguments and its default mean gave 0.915 for 0.623."""
    for classes in (2, 10):
        sure = 1000 * np.eye(classes)[np.arange(50) % classes]  # (1, 0, ...) against 1/K
        middle = (1 + 1 / classes) / 2
        kl_sure = -math.log2(middle)
        kl_even = (math.log2(1 / classes / middle) + classes - 1) / classes
        found = zero_retrain_forgetting(sure, np.zeros((50, classes)))
        assert found == pytest.approx(1 - (kl_sure + kl_even) / 2)


def test_activation_distance_is_root_two_for_disjoint_outputs():
    one, other = np.array([[1000.0, 0, 0]] * 3), np.array([[0.0, 1000, 0]] * 3)
    assert activation_distance(one, other) == pytest.approx(math.sqrt(2))
    assert activation_distance(one, one) == 0
    halves = np.array([[1000.0, 1000, 0]] * 3)  # (1/2, 1/2, 0)
    assert activation_distance(one, halves) == pytest.approx(math.sqrt(0.5))
    mixed = np.concatenate([halves[:1], one[:2]])
    assert activation_distance(one, torch.from_numpy(mixed)) == pytest.approx(math.sqrt(0.5) / 3)
