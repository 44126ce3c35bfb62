"""notebooks/tune.py: equal grids, values that follow from saved trials, runs that go on."""

import inspect
import itertools
import json
from collections import Counter
from functools import partial

import pandas as pd
import pytest

from notebooks import run, tune
from unlearning import METHODS, Diverged, Scenario
from unlearning.hyperparameters import load_tuned, resolve

TUNED = json.loads(tune.TUNED.read_text())


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_as_many_trials_of_hyperparameters_that_it_has(method):
    found = tune.trials(method).values()
    assert len(found) == 12
    known = inspect.signature(METHODS[method]).parameters
    assert all(trial.keys() <= known.keys() for trial in found)


def test_tuned_values_are_as_tune_writes_them_and_fit_the_methods():
    assert tune.as_text(TUNED) == tune.TUNED.read_text()
    for chosen, scenario in itertools.product(TUNED.values(), tune.SCENARIOS):
        for method, values in chosen.items():
            own = resolve(values, Scenario.parse(scenario))
            inspect.signature(METHODS[method]).bind_partial(**own)


@pytest.mark.parametrize("name, estimator", [("mnist-cnn", None), ("cifar10-resnet20", "sampled")])
def test_tuned_values_follow_from_the_saved_trials(name, estimator):
    rows = pd.read_csv(run.HERE.parent / "results" / "tuning" / f"{name}.csv")
    for method, values in load_tuned(tune.TUNED, *name.split("-")).items():
        own = rows[rows["method"] == method]
        assert len(own) == 12 * own["scenario"].nunique() * own["seed"].nunique()
        assert tune.choose(own, tune.trials(method, estimator)) == values


def test_tuning_goes_on_where_it_stopped_and_keeps_other_values(tiny, tmp_path, monkeypatch):
    made, file, folder = [], tmp_path / "tuned.json", tmp_path / "checkpoints"

    def fine_tune(model, retain, *, lr):
        made.append(lr)
        if lr > 1:
            raise Diverged("as told")
        return model

    monkeypatch.setitem(METHODS, "own", fine_tune)
    monkeypatch.setattr(tune, "GRIDS", {"own": {"lr": [2.0, 0.5]}})
    monkeypatch.setattr(tune, "SCENARIOS", ["random 25%", "class 1"])
    monkeypatch.setattr(tune, "images_of", lambda *_: (tiny, tiny))
    monkeypatch.setattr(tune, "prepare", partial(tune.prepare, folder=folder))
    monkeypatch.setattr(tune, "TRIALS", tmp_path)
    file.write_text('{"mnist-mlp": {"other": {"lr": 1}}}')
    for seeds in ["0"], ["0", "1"]:
        options = ["--model", "mlp", "--epochs", "1", "--jobs", "1", "--tuned", str(file)]
        tune.main([*options, "--seeds", *seeds])
    assert Counter(made) == {2.0: 4, 0.5: 4}
    assert json.loads(file.read_text()) == {"mnist-mlp": {"other": {"lr": 1}, "own": {"lr": 0.5}}}
    gaps = pd.read_csv(tmp_path / "mnist-mlp.csv").groupby("trial")["average_gap"].min()
    assert gaps["lr=2.0"] == 1 > gaps["lr=0.5"]
