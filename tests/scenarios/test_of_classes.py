"""Whole classes, and classes within superclasses."""

from dataclasses import replace

import pytest
import torch

from unlearning import Images, Scenario, Split
from unlearning.data import SOURCES
from unlearning.labelling import CIFAR20

GROUPS = {"pet": [0, 1], "thing": (2, 3)}


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("class ankle boot", {2}),
        ("class dog,cat", {0, 1}),
        ("class 0", {3}),  # a name comes before a number
    ],
)
def test_class_scenarios_forget_classes_by_number_or_name(pets, text, labels):
    scenario = Scenario.parse(f"  {text} ")
    retain, forget = scenario.split(pets, 0)
    assert set(forget.labels.tolist()) == labels
    assert set(retain.labels.tolist()) == {0, 1, 2, 3} - labels
    assert scenario.name == text and scenario.forgets_classes
    assert not Scenario.parse("random 1").forgets_classes


def test_a_subclass_is_forgotten_by_networks_of_superclasses(pets):
    scenario = Scenario.parse("subclass 1", superclasses=GROUPS).bound(pets)
    assert (scenario.name, scenario.by_number) == ("subclass dog", "subclass 1")
    retain, forget = split = scenario.split(pets, 0)
    assert forget.indices.tolist() == [1, 5, 9, 13, 17]
    assert set(forget.labels.tolist()) == {0} and split.forget_classes == ()
    whole = scenario.labelled(pets)
    assert whole.labels.tolist() == [0, 0, 1, 1] * 5 and whole.classes == ("pet", "thing")
    assert torch.equal(whole.labels[retain.indices], retain.labels)


def test_test_images_are_labelled_alike_and_split_by_class(pets):
    scenario = Scenario.parse("subclass 1", superclasses=GROUPS)
    seen = scenario.tested_on(pets)
    assert isinstance(seen, Split) and seen.forget.indices.tolist() == [1, 5, 9, 13, 17]
    assert seen.retain.classes == seen.forget.classes == ("pet", "thing")
    without = scenario.tested_on(pets.select([0, 2, 3]))
    assert isinstance(without, Images) and without.labels.tolist() == [0, 1, 1]
    plain = Scenario.parse("class 1")
    assert plain.tested_on(pets) is pets and plain.labelled(pets) is pets


def test_the_superclasses_of_cifar_100_are_known():
    names = SOURCES["cifar100"].classes
    images = Images(torch.zeros(100, 1, 1, 1, dtype=torch.uint8), torch.arange(100), names)
    scenario = Scenario.parse("subclass 69").bound(images)
    assert scenario.name == "subclass rocket"
    assert scenario.split(images, 0).forget.labels.item() == list(CIFAR20).index("vehicles 2")
    assert Scenario.parse("subclass rocket").bound(images).about == scenario.about
    other = Scenario.parse("subclass 69", superclasses=dict(reversed(CIFAR20.items())))
    assert other.about != scenario.about
    with pytest.raises(ValueError, match="only those of CIFAR-100 are known: give Scenario"):
        Scenario.parse("subclass 69").split(replace(images, classes=tuple(names[::-1])), 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class 4", "class 4 does not exist: the classes are cat, dog, ankle boot, 0$"),
        ("class cat, 1, 2, 0", "nothing would be retained"),
        ("subclass 4", "class 4 does not exist"),
        ("subclass 0, 1, 2, cat", "nothing would be retained"),
    ],
)
def test_classes_that_cannot_be_forgotten_are_refused(forgotten, text, words):
    with pytest.raises(ValueError, match=words):
        forgotten(text, superclasses=GROUPS)


def test_superclasses_that_do_not_fit_are_refused_when_images_are_known(pets):
    with pytest.raises(ValueError, match="class 3 is in no superclass"):
        Scenario.parse("subclass 1", superclasses={"a": [0, 1], "b": [2]}).bound(pets)
