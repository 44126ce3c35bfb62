"""Thirds by memorisation, and the most exposed images."""

from itertools import chain

import numpy as np
import pytest
import torch

from unlearning import Scenario

DRAW = np.random.default_rng(0)
SCORES = DRAW.permutation(20) / 20.0
PLACES = SCORES.argsort()


def test_thirds_are_by_rank_and_drawn_from(forgotten):
    low, middle, high = np.array_split(PLACES, 3)
    for third, own in {"low": low, "middle": middle, "high": high}.items():
        assert forgotten(f"memorised {third}", scores=SCORES) == sorted(own)
        drawn = [forgotten(f"memorised {third} 10%", seed, scores=SCORES) for seed in range(9)]
        assert all(len(chosen) == 2 and {*chosen} <= {*own} for chosen in drawn)
        assert len(set(map(tuple, drawn))) > 3


@pytest.mark.parametrize(
    "form", [list, torch.tensor, lambda x: x.astype("f4"), lambda x: -9 + 5 * x]
)
def test_the_most_exposed_have_the_highest_scores(forgotten, form):
    for seed in (0, 1):
        assert forgotten("exposed 4", seed, scores=form(SCORES)) == sorted(PLACES[-4:])


def test_images_without_a_score_are_never_forgotten(forgotten):
    some = np.where(np.arange(20) < 10, np.nan, SCORES)
    own = [place for place in PLACES if place >= 10]
    assert forgotten("exposed 3", scores=some) == sorted(own[-3:])
    whole = [forgotten(f"memorised {third}", scores=some) for third in ("low", "middle", "high")]
    assert sorted(chain(*whole)) == list(range(10, 20)) and list(map(len, whole)) == [4, 3, 3]


def test_equal_scores_are_in_no_order_of_the_set(forgotten):
    """Else "exposed" would be the last images, which are of one class in a sorted set."""
    found = forgotten("exposed 10", scores=np.zeros(20))
    assert found == forgotten("exposed 10", 1, scores=np.zeros(20)) != list(range(10, 20))
    assert 2 <= sum(place < 10 for place in found) <= 8


def test_other_scores_are_another_scenario():
    one, other = (Scenario.parse("exposed 4", scores=own) for own in (SCORES, -SCORES))
    assert (
        one.about != other.about and one.about == Scenario.parse("exposed 4", scores=SCORES).about
    )


@pytest.mark.parametrize(
    ("text", "scores", "words"),
    [
        ("exposed some", SCORES, "'some' is neither a whole number nor a percentage"),
        ("exposed 3", SCORES[1:], r"scores must be of shape \(20,\), .* not \(19,\)"),
        ("exposed 3", ["a"] * 20, "scores must be numbers"),
        ("exposed 3", SCORES * np.nan, "0 images have a score: at least 3 must"),
        ("memorised high 8", SCORES, "is 8 images, but there are 6 of them"),
        ("exposed 100%", SCORES, "fraction must be between 0 and 1"),
    ],
)
def test_what_cannot_be_told_by_scores_is_refused(forgotten, text, scores, words):
    with pytest.raises(ValueError, match=words):
        forgotten(text, scores=scores)
