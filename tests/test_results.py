"""What README says of CIFAR-10 must be in the saved rows."""

import pytest

from notebooks.summary import ALL, CLASS, RANDOM, RESULTS, SCENARIOS, runs_of
from unlearning import METHODS, Scenario
from unlearning.hyperparameters import supports


def means(scenario):
    return runs_of(ALL, scenario).groupby("method").mean(numeric_only=True)


def test_the_original_is_right_on_nine_in_ten_unseen_images_and_knows_its_own_better():
    original = means(RANDOM).loc["original"]
    assert original["test_accuracy"] >= 0.9
    assert original["retain_accuracy"] - original["test_accuracy"] >= 0.05


def test_retrained_networks_treat_forgotten_images_as_unseen_ones():
    for name in ("retrained", "retrained again"):
        retrained = means(RANDOM).loc[name]
        assert retrained["forget_accuracy"] == pytest.approx(retrained["test_accuracy"], abs=0.01)
        assert retrained["membership_attack"] == pytest.approx(0.5, abs=0.015)
        assert means(CLASS).loc[name, "forget_accuracy"] == 0


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_method_that_applies_was_run_with_every_seed_on_one_machine(scenario):
    runs, kind = runs_of(ALL, scenario), Scenario.parse("class 5" if scenario == CLASS else RANDOM)
    wanted = {name for name, method in METHODS.items() if supports(method, kind)}
    assert {*runs["method"]} == {*wanted, "original", "retrained", "retrained again"}
    assert len(wanted) >= 16
    assert set(runs.groupby("method")["seed"].agg(lambda own: tuple(sorted(own)))) == {(0, 1, 2)}
    assert runs["device"].nunique() == 1  # or times could not be compared


def test_what_was_measured_is_kept_in_little_room():
    files = [path for path in (RESULTS / ALL / "networks").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".pt", ".npz", ".json"}
    assert sum(path.stat().st_size for path in files) <= 20e6
