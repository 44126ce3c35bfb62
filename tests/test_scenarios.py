"""scenarios: what a name says is what is forgotten, for every seed."""

import pytest
import torch

from unlearning import Images, Scenario
from unlearning.scenarios import scenarios_of
from unlearning.splitting import forget_random


@pytest.fixture
def pets() -> Images:
    """20 images of 4 classes with names, five of each."""
    pixels = torch.zeros(20, 1, 2, 2, dtype=torch.uint8)
    return Images(pixels, torch.arange(20) % 4, classes=("cat", "dog", "ankle boot", "0"))


def forgotten(text, images, seed=0):
    return Scenario.parse(text).split(images, seed).forget


@pytest.mark.parametrize(
    ("text", "count"), [("random 10%", 2), ("random 12.5 %", 2), ("random 7", 7)]
)
def test_random_scenarios_forget_a_percentage_or_a_count(pets, text, count):
    assert len(forgotten(text, pets)) == count


def test_random_scenario_is_forget_random_of_its_seed(pets):
    by_hand = forget_random(pets, fraction=0.5, seed=3)
    split = Scenario.parse("random 50%").split(pets, 3)
    for part, wanted in zip(split, by_hand, strict=True):
        assert torch.equal(part.indices, wanted.indices)
    others = {tuple(forgotten("random 50%", pets, seed).indices.tolist()) for seed in range(5)}
    assert len(others) == 5


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("class 1", {1}),
        ("class dog", {1}),
        ("class ankle boot", {2}),
        ("class dog,cat", {0, 1}),
        ("class 1, 2", {1, 2}),
        ("class 1, dog", {1}),
        ("class 0", {3}),  # a name comes before a number
    ],
)
def test_class_scenarios_forget_classes_by_number_or_name(pets, text, labels):
    scenario = Scenario.parse(text)
    retain, forget = scenario.split(pets, 0)
    assert set(forget.labels.tolist()) == labels
    assert set(retain.labels.tolist()) == {0, 1, 2, 3} - labels
    assert scenario.forgets_classes and not Scenario.parse("random 1").forgets_classes


def test_name_is_kept_as_it_was_written():
    scenario = Scenario.parse("  class ankle boot ")
    assert scenario == Scenario("class ankle boot", "class", "ankle boot")


@pytest.mark.parametrize(
    "text",
    ["", "random", "class ", "half", "random half", "random -1", "random 0.5", "random 10 per", 5],
)
def test_what_does_not_name_a_scenario_is_refused(text):
    with pytest.raises(ValueError, match='a scenario reads "random 10%"'):
        Scenario.parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class 4", "class 4 does not exist: the classes are cat, dog, ankle boot, 0$"),
        ("class bird", "class bird does not exist"),
        ("class -1", "class -1 does not exist"),
        ("class cat, 1, 2, 0", "nothing would be retained"),
        ("random 100%", "fraction must be between 0 and 1"),
        ("random 0.5%", "0 of 20 images cannot be forgotten"),
        ("random 20", "20 of 20 images cannot be forgotten"),
    ],
)
def test_split_that_cannot_be_made_is_refused(pets, text, words):
    with pytest.raises(ValueError, match=words):
        forgotten(text, pets)


def test_scenarios_are_given_as_text_as_objects_or_as_a_list_of_both():
    dog = Scenario("the dog", "class", "dog")
    assert scenarios_of("random 10%") == {"random 10%": Scenario("random 10%", "random", "10%")}
    assert scenarios_of(dog) == {"the dog": dog}
    assert list(scenarios_of(["random 10%", dog])) == ["random 10%", "the dog"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "name at least one scenario"),
        (["class 1", "class 2", "class 1"], "'class 1' is named twice"),
        (5, "a scenario reads .* not 5"),
        ([5], "a scenario reads .* not 5"),
    ],
)
def test_scenarios_that_are_none_or_not_unique_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        scenarios_of(given)
