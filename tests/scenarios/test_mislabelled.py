"""Wrong labels: in training, not in the test set; a known part of them is forgotten."""

import pytest
import torch

from unlearning import Scenario
from unlearning.labelling import corrupt


def test_all_wrong_labels_are_forgotten_and_the_original_learns_them(pets):
    noisy, wrong = corrupt(pets, 0.2, seed=0)
    scenario = Scenario.parse("mislabelled 20%")
    retain, forget = scenario.split(pets, 7)
    assert torch.equal(forget.indices, wrong) and len(wrong) == 4
    assert torch.equal(forget.labels, noisy.labels[wrong])
    assert torch.equal(retain.labels, pets.labels[retain.indices])
    assert torch.equal(scenario.labelled(pets).labels, noisy.labels)
    (clean,) = scenario.also_read(pets).values()
    assert torch.equal(clean.labels, pets.labels[wrong]) and torch.equal(clean.indices, wrong)


def test_test_labels_are_true_and_unseen_images_with_wrong_ones_are_apart(pets):
    test, alike = Scenario.parse("mislabelled 20%").tested_on(pets)
    assert test is pets and len(alike) == 20
    assert (alike.labels != pets.labels[alike.indices]).all()
    test, alike = Scenario.parse("mislabelled 20% of cat, dog").tested_on(pets)
    assert test is pets and sorted(alike.indices % 4) == [0] * 5 + [1] * 5
    assert torch.equal(alike.labels, 1 - pets.labels[alike.indices])
    cats = pets.of_classes([0, 2])
    assert Scenario.parse("mislabelled 20% of cat, dog").tested_on(cats) is cats


def test_a_known_part_is_forgotten_and_the_rest_stays_wrong(pets):
    scenario = Scenario.parse("mislabelled 40%, 25% known")
    noisy, wrong = corrupt(pets, 0.4, seed=0)
    found = []
    for seed in range(6):
        retain, forget = scenario.split(pets, seed)
        found.append(tuple(forget.indices.tolist()))
        assert len(forget) == 2 and {*found[-1]} <= {*wrong.tolist()}
        assert torch.equal(retain.labels, noisy.labels[retain.indices])
    assert len({*found}) > 2
    assert len(scenario.also_read(pets)["clean"]) == 8


def test_two_classes_are_confused_and_named_in_words(pets):
    scenario = Scenario.parse("mislabelled 60% of 0, 1, 50% known").bound(pets)
    assert scenario.name == "mislabelled 60% of 0, dog, 50% known"  # a class is called 0
    forget = scenario.split(pets, 0).forget
    assert len(forget) == 3
    pairs = zip(forget.labels.tolist(), pets.labels[forget.indices].tolist(), strict=True)
    assert {*pairs} <= {(1, 3), (3, 1)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mislabelled 5", "a scenario reads"),
        ("mislabelled 1%", "makes none of 20 labels wrong"),
        ("mislabelled 120%", "share must be above 0 and at most 1"),
        ("mislabelled 20%, 0% known", "known share must be above 0 and at most 100 %"),
        ("mislabelled 20%, 5% known", "the forget set is empty"),
        ("mislabelled 1.2.3%", "neither a whole number nor a percentage"),
        ("mislabelled 20% of cat", "between must be two classes"),
        ("mislabelled 20% of cat, cow", "class cow does not exist"),
        ("mislabelled 100%", "nothing would be retained"),
    ],
)
def test_wrong_labels_that_cannot_be_are_refused(forgotten, text, words):
    with pytest.raises(ValueError, match=words):
        forgotten(text)
