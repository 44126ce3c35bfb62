"""scenarios: what a name says is what is forgotten, for every seed."""

import pytest
import torch

from unlearning import Images, Scenario
from unlearning.hyperparameters import resolve
from unlearning.scenarios import choose, scenarios_of
from unlearning.splitting import forget_random

PETS = Images(  # 20 images of 4 classes with names, five of each
    torch.zeros(20, 1, 2, 2, dtype=torch.uint8),
    torch.arange(20) % 4,
    classes=("cat", "dog", "ankle boot", "0"),
)


def forgotten(text, seed=0):
    return Scenario.parse(text).split(PETS, seed).forget


def test_random_scenarios_forget_a_percentage_or_a_count_by_their_seed():
    counts = {"random 10%": 2, "random 12.5 %": 2, "random 7": 7}
    assert {text: len(forgotten(text)) for text in counts} == counts
    by_hand = forget_random(PETS, fraction=0.5, seed=3)
    assert torch.equal(forgotten("random 50%", 3).indices, by_hand.forget.indices)
    assert len({tuple(forgotten("random 50%", s).indices.tolist()) for s in range(5)}) == 5


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("class ankle boot", {2}),
        ("class dog,cat", {0, 1}),
        ("class 0", {3}),  # a name comes before a number
    ],
)
def test_class_scenarios_forget_classes_by_number_or_name(text, labels):
    scenario = Scenario.parse(f"  {text} ")
    retain, forget = scenario.split(PETS, 0)
    assert set(forget.labels.tolist()) == labels
    assert set(retain.labels.tolist()) == {0, 1, 2, 3} - labels
    assert scenario.name == text and scenario.forgets_classes
    assert not Scenario.parse("random 1").forgets_classes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *((text, 'a scenario reads "random 10%"') for text in ("", "class ", "random -1", 5)),
        ("class 4", "class 4 does not exist: the classes are cat, dog, ankle boot, 0$"),
        ("class cat, 1, 2, 0", "nothing would be retained"),
        ("random 100%", "fraction must be between 0 and 1"),
        ("random 0.5%", "0 of 20 images cannot be forgotten"),
        ("random 20", "20 of 20 images cannot be forgotten"),
    ],
)
def test_what_is_no_scenario_or_cannot_be_split_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        forgotten(text)


def test_scenarios_are_given_as_text_as_objects_or_as_a_list_of_both():
    tenth = Scenario("random 10%", "random", "10%")
    assert scenarios_of("random 10%", PETS) == {"random 10%": tenth}
    assert list(scenarios_of(["class 1", tenth], PETS)) == ["class dog", "random 10%"]
    for given, words in [
        ([], "name at least one scenario"),
        (["class 1", "class dog"], "'class dog' is named twice"),
        (["class 7"], "class 7 does not exist"),
        ([5], "a scenario reads .* not 5"),
    ]:
        with pytest.raises(ValueError, match=words):
            scenarios_of(given, PETS)


def test_classes_are_chosen_by_name_and_by_number():
    scenarios = scenarios_of(["class 1, 2", "random 10%"], PETS)
    assert list(scenarios) == ["class dog, ankle boot", "random 10%"]
    assert choose(None, scenarios) == list(scenarios)
    assert choose("class 1, 2", scenarios) == ["class dog, ankle boot"]
    assert resolve({"lr": {"class 1, 2": 1, "class": 2}}, scenarios["class dog, ankle boot"]) == {
        "lr": 1
    }
    with pytest.raises(ValueError, match="no scenario 'class 1' here: there are 'class dog"):
        choose(["class 1"], scenarios)
