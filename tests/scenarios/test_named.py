"""The scenarios of an experiment: read from texts or objects, bound to images, chosen by name."""

import pytest

from unlearning import Scenario
from unlearning.hyperparameters import resolve
from unlearning.scenarios import choose, scenarios_of


def test_scenarios_are_given_as_text_as_objects_or_as_a_list_of_both(pets):
    tenth = Scenario.parse("random 10%")
    assert scenarios_of("random 10%", pets) == {"random 10%": tenth}
    assert list(scenarios_of(["class 1", tenth], pets)) == ["class dog", "random 10%"]
    for given, words in [
        ([], "name at least one scenario"),
        (["class 1", "class dog"], "'class dog' is named twice"),
        (["class 7"], "class 7 does not exist"),
        ([5], "a scenario reads .* not 5"),
        (5, "a scenario reads .* not 5"),
    ]:
        with pytest.raises(ValueError, match=words):
            scenarios_of(given, pets)


def test_a_sequence_is_replaced_by_its_requests(pets):
    found = scenarios_of(["class 1", "2 requests of 10%", "request 3 of 10%"], pets)
    assert list(found) == ["class dog", *(f"request {place} of 10%" for place in (1, 2, 3))]
    with pytest.raises(ValueError, match="'request 2 of 10%' is named twice"):
        scenarios_of(["2 requests of 10%", "request 2 of 10%"], pets)


def test_classes_are_chosen_by_name_and_by_number(pets):
    scenarios = scenarios_of(["class 1, 2", "random 10%"], pets)
    assert list(scenarios) == ["class dog, ankle boot", "random 10%"]
    assert choose(None, scenarios) == list(scenarios)
    assert choose("class 1, 2", scenarios) == ["class dog, ankle boot"]
    assert resolve({"lr": {"class 1, 2": 1, "class": 2}}, scenarios["class dog, ankle boot"]) == {
        "lr": 1
    }
    with pytest.raises(ValueError, match="no scenario 'class 1' here: there are 'class dog"):
        choose(["class 1"], scenarios)
