"""F of the NeurIPS 2023 challenge, its confidence and its score."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logit, softmax

from unlearning.metrics import challenge_score, forgetting_quality, logit_scaled_confidence
from unlearning.metrics.example_attacks import strongest_attacks
from unlearning.metrics.forgetting_quality import _points


def samples():
    generator = np.random.default_rng(1)
    unlearned, retrained = (generator.normal(0, 1, (count, 6)) for count in (40, 30))
    return unlearned + np.linspace(0, 2, 6), retrained


@pytest.mark.parametrize("bins", [3, 13])
def test_f_is_the_mean_over_examples_of_h(bins):
    result = forgetting_quality(*map(torch.from_numpy, samples()), bins=bins)
    eps, attack = strongest_attacks(*samples(), 1e-5)
    np.testing.assert_array_equal(result.eps, eps)
    np.testing.assert_array_equal(result.attack, attack)
    points = [2 / 2**n if (n := int(e // 0.5) + 1) <= bins else 0.0 for e in eps]
    assert result.quality == pytest.approx(np.mean(points), abs=1e-12)
    assert 0 < result.quality < 1 and (eps > 0.5 * 3).any()


def test_equal_gaussians_give_the_known_ceiling_and_copies_of_one_network_nothing():
    for networks in (16, 64, 512):
        sides = np.random.default_rng(networks).normal(0, 1, (2, networks, 250))
        assert 0.14 < forgetting_quality(*sides).quality < 0.22
    retrained = np.random.default_rng(0).normal(5, 2, (64, 20))
    copies = np.repeat(retrained[:1], 64, axis=0)
    assert forgetting_quality(copies, retrained).quality == 0
    assert forgetting_quality(copies, retrained, narrow=0).quality == 1  # without the guard


def test_h_halves_every_half_unit_of_eps_and_ends_after_its_bins():
    eps = np.array([0, 0.49, 0.5, 0.99, 1.0, 6.49, 6.5, 6.99, 7.0, 50])
    to_six = [1, 1, 1 / 2, 1 / 2, 1 / 4, 2**-12]
    assert _points(eps, 13).tolist() == [*to_six, 0, 0, 0, 0]
    assert _points(eps, 14).tolist() == [*to_six, 2**-13, 2**-13, 0, 0]


def test_confidence_is_the_logit_of_the_labels_probability():
    logits, labels = np.random.default_rng(0).normal(0, 2, (3, 5, 4)), np.array([0, 3, 1, 1, 2])
    wanted = logit(softmax(logits, axis=-1)[:, np.arange(5), labels])
    np.testing.assert_allclose(logit_scaled_confidence(logits, labels), wanted, atol=1e-12)
    tensors = torch.from_numpy(logits).float()[None], torch.from_numpy(labels)
    np.testing.assert_allclose(logit_scaled_confidence(*tensors), wanted[None], atol=1e-5)


def test_confidence_of_two_classes_is_their_difference_however_sure_the_network():
    logits = np.array([[1000.0, -1000], [0, 0], [40, 0], [3e38, -3e38]], dtype=np.float32)
    wanted = logits.astype(float) @ [1, -1]
    assert logit_scaled_confidence(logits, np.zeros(4, int)).tolist() == wanted.tolist()
    assert logit_scaled_confidence(logits, np.ones(4, int)).tolist() == (-wanted).tolist()
    assert logit_scaled_confidence(np.zeros((1, 10)), np.array([4])) == pytest.approx(-math.log(9))


def test_challenge_score_is_a_product_and_zero_above_a_fifth_of_retrainings_time():
    accuracies = {
        "retain_accuracy": np.array([0.9, 0.8]),
        "test_accuracy": torch.tensor([0.5, 0.75]),
        "retrained_retain_accuracy": 0.95,
        "retrained_test_accuracy": [0.8, 0.7, 0.75],
    }
    score = challenge_score(0.1, **accuracies)
    assert score == pytest.approx(0.1 * 0.85 / 0.95 * 0.625 / 0.75)
    for seconds, wanted in {0: score, 20: score, 20.001: 0, 500: 0}.items():
        times = {"seconds": seconds, "retraining_seconds": 100}
        assert challenge_score(0.1, **accuracies, **times) == wanted
    for wrong, words in (
        ({"test_accuracy": 97.2}, r"test accuracy must be fractions in \[0, 1\]"),
        ({"retrained_test_accuracy": 0}, "the retrained test accuracy is 0"),
        ({"seconds": 1.0}, "both .* or neither"),
    ):
        with pytest.raises(ValueError, match=words):
            challenge_score(0.1, **{**accuracies, **wrong})
    with pytest.raises(ValueError, match=r"bins must be .*, not 0"):
        forgetting_quality(*samples(), bins=0)
