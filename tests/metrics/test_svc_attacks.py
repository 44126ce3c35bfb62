"""Attacks by five features: worked out by hand, and from the outputs of equal and of other sets."""

import math

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.svm import SVC

from unlearning.metrics import confidence_attack, cross_entropies, svc_attacks
from unlearning.metrics.svc_attacks import FEATURES, _feature

# Two examples of three classes: p = (1/2, 1/4, 1/4), labels 0 and 1.
LOGITS, LABELS = np.log([[0.5, 0.25, 0.25]] * 2), np.array([0, 1])
LOG2 = math.log(2)
BY_HAND = {
    "correctness": [1, 0],
    "confidence": [1 / 2, 1 / 4],
    "entropy": [1.5 * LOG2] * 2,
    "modified_entropy": [
        LOG2 / 2 + 2 * math.log(4 / 3) / 4,
        3 / 4 * math.log(4) + LOG2 / 2 + math.log(4 / 3) / 4,
    ],
    "probability": [[1 / 2, 1 / 4, 1 / 4]] * 2,
}


def outputs(seed, count=300, shift=0.0):
    """Logits of three classes, ``shift`` higher at the label."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, count)
    return generator.normal(0, 1, (count, 3)) + shift * np.eye(3)[labels], labels


@pytest.mark.parametrize("feature", FEATURES)
def test_features_are_those_worked_out_by_hand(feature):
    found = _feature(feature, LOGITS + 3, LABELS)
    np.testing.assert_allclose(found, np.reshape(BY_HAND[feature], (2, -1)), rtol=1e-12)


def test_modified_entropy_is_its_literal_definition_for_every_label():
    logits, labels = outputs(0, 50)
    wanted = []
    for p, y in zip(softmax(logits, axis=1), labels, strict=True):
        others = [-p[c] * math.log(1 - p[c]) for c in range(3) if c != y]
        wanted.append(-(1 - p[y]) * math.log(p[y]) + sum(others))
    found = _feature("modified_entropy", logits, labels)
    np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-12)


@pytest.mark.parametrize("height", [40.0, 1000.0, 3e38])
def test_entropies_of_a_sure_network_are_neither_rounded_to_nothing_nor_infinite(height):
    """Right: about 2 f exp(-f). Wrong: 1 - p_c is exp(-f), of which the logarithm is -f."""
    logits, labels = np.array([[height, 0], [height, 0]]), np.array([0, 1])
    right, wrong = _feature("modified_entropy", logits, labels)[:, 0]
    assert wrong == pytest.approx(2 * height)
    assert right == pytest.approx(2 * math.exp(-height), rel=1e-6)
    wanted = [(height + 1) * math.exp(-height)] * 2  # old versions of scipy round the 1 to 0
    assert _feature("entropy", logits, labels)[:, 0] == pytest.approx(wanted, rel=0.03)


@pytest.mark.parametrize("counts", [(200, 50), (50, 200), (80, 80)])
def test_confidence_is_the_confidence_attack(counts):
    sides = [outputs(*setting) for setting in ((0, counts[0], 2), (1, counts[1], 1), (2, 70, 1.5))]
    confidences = [np.exp(-cross_entropies(*side)) for side in sides]
    given = [array for side in sides for array in side]
    for seed in (0, 5):
        found = svc_attacks(*given, features=["confidence"], seed=seed)
        assert found == {"confidence": confidence_attack(*confidences, seed=seed)}


def test_attacks_are_their_literal_definition():
    """By the formulas on probabilities; members are drawn once for all features."""
    sides = [outputs(0, 90, 2), outputs(1, 60, 1), outputs(2, 40, 1.5)]
    found = svc_attacks(*(torch.from_numpy(array) for side in sides for array in side), seed=4)
    chosen = np.random.default_rng(4).choice(90, 60, replace=False)
    sides[0] = tuple(array[chosen] for array in sides[0])
    assert list(found) == list(FEATURES)
    for name in FEATURES:
        retain, test, forget = (by_formula(name, *side) for side in sides)
        attack = SVC(C=3, gamma="auto", kernel="rbf")
        attack.fit(np.concatenate([retain, test]), np.repeat([1, 0], 60))
        assert found[name] == pytest.approx(1 - attack.predict(forget).mean())


def by_formula(name, logits, labels):
    p, own = softmax(logits, axis=1), np.eye(3)[labels] == 1
    values = {
        "correctness": (p.argmax(1) == labels) * 1.0,
        "confidence": p[own],
        "entropy": -(p * np.log(p)).sum(1),
        "modified_entropy": -np.where(own, (1 - p) * np.log(p), p * np.log(1 - p)).sum(1),
        "probability": p,
    }
    return values[name].reshape(len(p), -1)


def test_equally_distributed_outputs_are_a_guess():
    """On the mean over draws; of "correctness", an SVM calls all zeros and all ones the same."""
    draws = [[array for part in range(3) for array in outputs((seed, part))] for seed in range(16)]
    for name in set(FEATURES) - {"correctness"}:
        guesses = [svc_attacks(*draw, features=[name])[name] for draw in draws]
        assert np.mean(guesses) == pytest.approx(0.5, abs=0.1)


def test_separable_outputs_are_told_apart():
    """Members are surely right. Unseen examples are wrong, or right but unsure."""
    members, wrong = outputs(0, shift=12.0), outputs(1, shift=-12.0)
    unsure = (outputs(2, shift=4.0)[0] / 9, outputs(2)[1])
    for unseen, left_out in ((wrong, {"entropy", "probability"}), (unsure, {"correctness"})):
        features = sorted(set(FEATURES) - left_out)
        for forget, wanted in ((unseen, 1.0), (members, 0.0)):
            found = svc_attacks(*members, *unseen, *forget, features=features)
            assert found == dict.fromkeys(features, wanted)


def test_sides_of_other_networks_are_refused():
    logits, labels = outputs(0, 20)
    with pytest.raises(ValueError, match=r"one network, but have \[3, 3, 4\] classes"):
        svc_attacks(logits, labels, logits, labels, np.zeros((20, 4)), labels)
    with pytest.raises(ValueError, match=r"some of correctness, .*, not \['m_entropy'\]"):
        svc_attacks(logits, labels, logits, labels, logits, labels, features=["m_entropy"])
    with pytest.raises(ValueError, match="test_labels range from 0 to 3, but there are 3 classes"):
        svc_attacks(logits, labels, logits, labels + (labels == 2), logits, labels)
