"""Memorisation by hand, against a loop over examples, and where it is not defined."""

import math

import numpy as np
import pytest
import torch

from unlearning.metrics import memorisation, memorisation_of_set, split_half_reliability

DRAW = np.random.default_rng(0)
CORRECT, MEMBER = DRAW.random((12, 40)) < 0.6, DRAW.random((12, 40)) < 0.5


def test_memorisation_by_hand():
    """Right for 2 of 2 that had it and 1 of 4 that had not; for 1 of 2, and 1 of 4."""
    member = np.array([[1, 1], [1, 1], [0, 0], [0, 0], [0, 0], [0, 0]])
    correct = np.array([[1, 1], [1, 0], [0, 0], [1, 0], [0, 1], [0, 0]])
    found = memorisation(correct, member)
    assert found.scores.tolist() == [1 - 1 / 4, 1 / 2 - 1 / 4]
    unseen = 1 / 4 * 3 / 4 / 3
    assert found.errors == pytest.approx([math.sqrt(unseen), math.sqrt(1 / 4 / 1 + unseen)])


def test_memorisation_is_its_literal_definition():
    found = memorisation(torch.tensor(CORRECT), MEMBER)
    for i in range(40):
        had, had_not = (CORRECT[own, i].astype(float) for own in (MEMBER[:, i], ~MEMBER[:, i]))
        assert found.scores[i] == pytest.approx(had.mean() - had_not.mean())
        spread = [side.var(ddof=1) / len(side) for side in (had, had_not)]
        assert found.errors[i] == pytest.approx(math.sqrt(sum(spread)))
    assert np.abs(found.scores).max() <= 1


def test_where_no_network_left_an_image_out_or_none_had_it_there_is_no_score():
    member, correct = MEMBER.copy(), np.ones((12, 40), bool)
    member[:, 0], member[:, 1] = True, False
    member[:, 2], member[3, 2] = True, False  # one network alone left it out
    found = memorisation(correct, member)
    assert np.isnan(found.scores).nonzero()[0].tolist() == [0, 1]
    assert np.isnan(found.errors).nonzero()[0].tolist() == [0, 1, 2]


def test_constant_networks_memorise_nothing_and_their_order_does_not_matter():
    rows = np.broadcast_to(DRAW.random(40) < 0.5, (12, 40))
    assert (memorisation(rows, MEMBER).scores == 0).all()
    assert (memorisation(rows, MEMBER).errors == 0).all()
    found, order = memorisation(CORRECT, MEMBER), DRAW.permutation(12)
    for one, other in zip(found, memorisation(CORRECT[order], MEMBER[order]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_no_pair_of_flags_is_refused():
    with pytest.raises(ValueError, match=r"networks in rows .* not \(12, 40\) and \(12, 39\)"):
        memorisation(CORRECT, MEMBER[:, 1:])
    with pytest.raises(ValueError, match="correct must be true or false, 1 or 0"):
        memorisation(0.5 * CORRECT, MEMBER)


def test_memorisation_of_a_set_is_what_training_on_it_adds_to_the_probability():
    p_in, p_out = np.array([[0.9, 0.5], [0.7, 0.5]]), np.array([[0.1, 0.5]])
    logits = [np.log(p / (1 - p)) for p in (p_in, p_out)]
    assert memorisation_of_set(*logits) == pytest.approx([0.7, 0])


def halves(networks, probability, seed=0):
    """Networks on random halves, right where they had an image, and else with its probability."""
    draw = np.random.default_rng(seed)
    member = np.array([draw.permutation(len(probability)) % 2 for _ in range(networks // 2)])
    member = np.stack([member, 1 - member], 1).reshape(networks, -1) == 1
    return member | (draw.random(member.shape) < probability), member


def test_reliability_by_hand_is_the_correlation_of_alternate_pairs_stepped_up():
    correct, member = halves(8, np.linspace(0, 1, 40))
    one, other = (
        memorisation(correct[own], member[own]).scores for own in ([0, 1, 4, 5], [2, 3, 6, 7])
    )
    r = np.corrcoef(one, other)[0, 1]
    assert 0 < r < 1
    assert split_half_reliability(correct, member) == pytest.approx(2 * r / (1 + r))


def test_reliability_is_the_share_of_spread_that_is_no_noise():
    """Scores 1 - p with p of 0 or 1 have none; where all p are equal there is nothing but noise."""
    assert split_half_reliability(*halves(16, np.arange(400) % 2)) == pytest.approx(1)
    assert abs(split_half_reliability(*halves(64, np.full(400, 0.5)))) < 0.3
    known = split_half_reliability(*halves(32, np.arange(400) % 2 / 2 + 0.25))
    more = split_half_reliability(*halves(128, np.arange(400) % 2 / 2 + 0.25))
    # spread of 1 - p: 1/16; noise p (1 - p) / n over n networks without: 3/16 / 16 and 3/16 / 64
    assert (known, more) == pytest.approx((1 / (1 + 3 / 16), 1 / (1 + 3 / 64)), abs=0.04)


def test_reliability_needs_two_pairs_and_spread():
    with pytest.raises(ValueError, match="2 networks have no two halves"):
        split_half_reliability(CORRECT[:2], MEMBER[:2])
    assert math.isnan(split_half_reliability(*halves(8, np.ones(40))))
