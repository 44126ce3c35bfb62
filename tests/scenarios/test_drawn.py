"""Random images, and sequences of requests."""

import pytest
import torch

from unlearning import Scenario
from unlearning.splitting import forget_random, sequence


def test_random_scenarios_forget_a_percentage_or_a_count_by_their_seed(pets, forgotten):
    counts = {"random 10%": 2, "random 12.5 %": 2, "random 7": 7}
    assert {text: len(forgotten(text)) for text in counts} == counts
    by_hand = forget_random(pets, fraction=0.5, seed=3)
    assert forgotten("random 50%", 3) == by_hand.forget.indices.tolist()
    assert len({tuple(forgotten("random 50%", s)) for s in range(5)}) == 5


def test_a_method_is_given_a_request_and_measured_on_all_so_far(pets):
    splits = sequence(pets, requests=4, fraction=0.1, seed=5)
    *firsts, whole = [Scenario.parse(f"request {k} of 10%") for k in (1, 2, 3, 4)]
    for place, own in enumerate([*firsts, whole]):
        assert own.place == place + 1
        assert own.before == (firsts[place - 1] if place else None)
        given, measured = own.request(pets, 5), own.split(pets, 5)
        for part in (0, 1):
            assert torch.equal(given[part].indices, splits[place][part].indices)
        so_far = torch.cat([split.forget.indices for split in splits[: place + 1]])
        assert torch.equal(measured.forget.indices, so_far.sort().values)
        assert torch.equal(measured.retain.indices, given.retain.indices)
    assert Scenario.parse("4 requests of 10%").parts() == [*firsts, whole]


def test_the_first_request_is_the_plain_scenario(pets):
    plain, first = Scenario.parse("random 3"), Scenario.parse("1 request of 3")
    for seed in range(3):
        for split in (first.split(pets, seed), first.request(pets, seed)):
            for ours, theirs in zip(split, plain.split(pets, seed), strict=True):
                assert torch.equal(ours.indices, theirs.indices)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("random -1", r'a scenario reads "random 10%" or "random 100": \'-1\' is neither'),
        ("random 100%", "fraction must be between 0 and 1"),
        ("random 0.5%", "0 of 20 images cannot be forgotten"),
        ("random 20", "20 of 20 images cannot be forgotten"),
        ("5 requests of many", "'many' is neither a whole number nor a percentage"),
        ("0 requests of 2", "numbered from 1, so there is no '0 requests of 2'"),
        ("request 0 of 2", "numbered from 1"),
        ("request 10 of 10%", "20 of 20 images cannot be forgotten"),
    ],
)
def test_what_cannot_be_drawn_is_refused(forgotten, text, words):
    with pytest.raises(ValueError, match=words):
        forgotten(text)
