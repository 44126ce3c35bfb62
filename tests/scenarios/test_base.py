"""Every kind of scenario: read from its name or refused; the same seed, the same split."""

import pickle
import re

import pytest
import torch

import unlearning.scenarios
from unlearning import Scenario
from unlearning.hyperparameters import supports
from unlearning.methods import METHODS
from unlearning.scenarios import scenarios_of

GIVEN = {
    "scores": torch.arange(20) / 20,
    "superclasses": {"pet": [0, 1], "thing": [2, 3]},
}
ALL = {  # name -> whether each seed draws its own
    "random 10%": True,
    "random 7": True,
    "5 requests of 10%": True,
    "request 2 of 3": True,
    "class 2": False,
    "subclass dog": False,
    "group 12": False,
    "2 groups": True,
    "cluster 3": False,
    "2 clusters": True,
    "memorised high 10%": True,
    "memorised low": False,
    "exposed 10%": False,
    "mislabelled 20%": False,
    "mislabelled 80% of cat, 1, 50% known": True,
}


@pytest.mark.parametrize("text", ALL)
def test_a_split_is_disjoint_complete_and_a_function_of_its_seed(text, pets, forgotten):
    found = [tuple(forgotten(text, seed, **GIVEN)) for seed in range(8)]
    assert found == [tuple(forgotten(text, seed, **GIVEN)) for seed in range(8)]
    assert (len(set(found)) > 1) == ALL[text]


@pytest.mark.parametrize("text", ALL)
def test_what_is_bound_to_images_splits_alike_also_in_another_process(text, pets):
    one = Scenario.parse(text, **GIVEN)
    for bound in (own.bound(pets) for own in one.parts()[-1:]):
        for same in (one, pickle.loads(pickle.dumps(bound))):
            for ours, theirs in zip(bound.split(pets, 1), same.split(pets, 1), strict=True):
                assert torch.equal(ours.indices, theirs.indices)
                assert torch.equal(ours.labels, theirs.labels)
        assert bound.about == bound.bound(pets).about


def test_only_whole_classes_take_the_values_and_methods_of_classes(pets):
    for one in (Scenario.parse(text, **GIVEN) for text in ALL):
        assert (one.kind == "class") == one.forgets_classes == (one.name == "class 2")
        usable = {name for name, method in METHODS.items() if supports(method, one)}
        assert ({"UNSIR", "boundary shrink", "DELETE"} <= usable) == one.forgets_classes


@pytest.mark.parametrize(
    "text",
    ["", "class ", "class", "random", "clas 3", "exposed", "memorised 10%", "mislabelled", None, 5],
)
def test_what_is_no_name_is_refused_with_one_name_of_each_kind(text):
    with pytest.raises(ValueError) as refusal:
        Scenario.parse(text)
    assert str(refusal.value) == (
        'a scenario reads "random 10%", "5 requests of 2%", "mislabelled 10%", "class 5", '
        f'"subclass 69", "group 3", "cluster 3" or "memorised high 10%", not {text!r}'
    )


def test_every_example_in_a_message_and_in_the_map_is_a_name():
    told = re.findall(r'``"([^"]+)"``', unlearning.scenarios.__doc__)
    examples = [text for way in Scenario._ways for text in way.reads]
    assert len(told) >= 17 and len(examples) >= 10
    for text in told + examples:
        assert Scenario.parse(text).name == text


def test_scores_are_asked_for_where_they_are_missing(pets):
    for text in ("memorised high 10%", "exposed 10%"):
        one = Scenario.parse(text)
        assert not one.complete and scenarios_of(one, pets) == {text: one}
        with pytest.raises(ValueError, match=rf"parse\('{text}', scores=...\) in its place"):
            one.split(pets, 0)
