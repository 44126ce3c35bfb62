"""notebooks/tune.py: equal budgets, values that follow from saved trials, studies that go on."""

import dataclasses
import inspect
import itertools
import json
from collections import Counter
from functools import partial

import pandas as pd
import pytest
from optuna.trial import FixedTrial

from notebooks import run, tune
from unlearning import METHODS, Diverged, Scenario
from unlearning.hyperparameters import LARGEST_GAP, load_tuned, resolve, supports, tuning

TUNED = json.loads(tune.TUNED.read_text())
ROWS = pd.read_csv(tune.RESULTS / "mnist-cnn.csv", dtype={"trial": str})


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_hyperparameters_to_tune_and_a_wide_range_of_rates(method):
    space, known = tune.SPACES[method], inspect.signature(METHODS[method]).parameters
    assert space.keys() <= known.keys()
    rates = [own for name, own in space.items() if name.endswith("lr")]
    assert all(own.high >= 1000 * own.low for own in rates)
    assert rates or space["alpha"].high >= 1000 * space["alpha"].low


def test_values_are_numbers_of_two_digits_whole_ones_choices_and_what_is_fixed():
    space = {"lr": tune.Range(1e-3, 1.0), "epochs": tune.Range(1, 9), "on": [True, False], "k": 7}
    values = tune.suggest(FixedTrial({"lr": 0.12345, "epochs": 3, "on": False}), space)
    assert values == {"lr": 0.12, "epochs": 3, "on": False, "k": 7}
    assert tune.scaled(values, 3) == values | {"lr": 0.36}
    rates = {"impair_lr": 0.3, "repair_lr": 0.6, "alpha": 1.0}
    assert tune.scaled(rates, 1 / 3) == {"impair_lr": 0.1, "repair_lr": 0.2, "alpha": 1.0}
    assert tune.scaled({"alpha": 2.0}, 3) == {"alpha": 6.0}


def test_tuned_values_are_as_tune_writes_them_and_fit_the_methods():
    assert tune.as_text(TUNED) == tune.TUNED.read_text()
    assert list(TUNED["mnist-cnn"]) == list(METHODS)
    for chosen, scenario in itertools.product(TUNED.values(), tune.SCENARIOS):
        for method, values in chosen.items():
            own = resolve(values, Scenario.parse(scenario))
            inspect.signature(METHODS[method]).bind_partial(**own)


@pytest.mark.parametrize("method", METHODS)
def test_tuned_values_follow_from_as_many_saved_trials_for_every_method(method):
    own = ROWS[ROWS["method"] == method]
    assert own["recipe"].nunique() == 1
    usable = [s for s in tune.SCENARIOS if supports(METHODS[method], Scenario.parse(s))]
    assert sorted(own["scenario"].unique()) == sorted(usable)
    for _, trials in own.groupby("scenario"):
        names = [*map(str, range(tune.TRIALS)), *tune.FACTORS]
        assert list(trials["trial"].unique()) == names
        failed = trials["average_gap"] == LARGEST_GAP
        late = trials["share_of_passes"] > tune.BOUND + 1e-6
        assert failed[late].all()
        finished = trials[~failed].groupby("trial")["seed"].nunique()
        assert set(finished[~finished.index.isin(trials["trial"][failed])]) == {2}
    assert tune.choose(own) == load_tuned(tune.TUNED, "mnist", "cnn")[method]


def test_the_table_of_trials_says_what_they_cost_and_how_steep_the_choice_is(tmp_path):
    about = {"scenario": "class 3", "method": "own"}
    runs = [("0", 0.5, 0.1), ("0", 0.3, 0.1), ("1", 0.2, 0.2), ("1", 0.1, 0.2), ("2", 1.0, 0.9)]
    runs += [("x1/3", 0.4, 0.2), ("x3", 1.0, 0.2)]
    names = ["trial", "average_gap", "share_of_passes"]
    rows = pd.DataFrame([about | dict(zip(names, one, strict=True)) for one in runs])
    rows.to_csv(tmp_path / "mnist-cnn.csv", index=False)
    for dataset in ("mnist", "of no file"):
        found = tuning(tmp_path, dataset, "cnn").loc["class 3", "own"].to_dict()
        wanted = {"trials": 3, "failed": 1, "cost": 1.5, "chosen": 0.2}
        assert found == pytest.approx(wanted | {"gap, x1/3": 0.4, "gap": 0.15, "gap, x3": 1.0})
    with pytest.raises(ValueError, match=r"mnist-cnn.csv cannot be read .*: restore it, or run"):
        tuning(tmp_path / "nowhere", "mnist", "cnn")


def test_tuning_goes_on_where_it_stopped_counts_failures_and_keeps_other_values(
    tiny, tmp_path, monkeypatch
):
    made, file, folder = [], tmp_path / "tuned.json", tmp_path / "checkpoints"

    def own(model, retain, *, lr, epochs):
        made.append((lr, epochs))
        if len(made) == 4:
            raise KeyboardInterrupt
        if lr > 0.01:
            raise Diverged("as told")
        for _ in range(epochs):
            for images, _ in retain:
                model(images)
        return model

    monkeypatch.setitem(METHODS, "own", own)
    space = {"lr": tune.Range(1e-3, 1.0), "epochs": tune.Range(1, 3)}
    monkeypatch.setattr(tune, "SPACES", {"own": space})
    monkeypatch.setattr(tune, "SCENARIOS", ["random 25%", "class 1"])
    named = dataclasses.replace(tiny, classes=("no", "cat", "dog", "cow"))
    monkeypatch.setattr(tune, "images_of", lambda *_: (named, named))
    monkeypatch.setattr(tune, "prepare", partial(tune.prepare, folder=folder))
    monkeypatch.setattr(tune, "RESULTS", tmp_path)
    file.write_text('{"mnist-mlp": {"other": {"lr": 1}}}')
    options = ["-p", "MODEL", "mlp", "-p", "TRAIN_EPOCHS", "5", "--trials", "6", "--jobs", "1"]
    options += ["--tuned", str(file)]
    with pytest.raises(KeyboardInterrupt):
        tune.main([*options, "--seeds", "0", "1"])
    tune.main([*options, "--seeds", "0", "1"])
    rows = pd.read_csv(tmp_path / "mnist-mlp.csv", dtype={"trial": str})
    assert len(made) == len(rows) + 1  # only the run that was stopped is made twice
    assert set(rows.groupby("scenario")["trial"].nunique()) == {8}
    for _, one in rows.iterrows():
        values = json.loads(one["values"])
        assert one["share_of_passes"] in (0, pytest.approx(values["epochs"] / 5))
        late = one["share_of_passes"] > 0.2
        assert (one["average_gap"] == LARGEST_GAP) == (values["lr"] > 0.01 or late)
    chosen = json.loads(file.read_text())["mnist-mlp"]
    assert chosen["other"] == {"lr": 1} and chosen["own"] == tune.choose(rows)
    tune.main([*options, "--seeds", "0", "1"])
    assert len(made) == len(rows) + 1  # nothing is left to do
    assert Counter(rows["recipe"]).keys() == {rows["recipe"][0]}
    assert "seeds [0, 1]" in rows["recipe"][0] and run.HERE  # a row says how it was made
