"""What a method is given: data by the names of its parameters, values by scenario."""

import json

import pytest

from unlearning.hyperparameters import bind, load_tuned, resolve, supports, swept
from unlearning.methods import METHODS
from unlearning.scenarios import Scenario
from unlearning.splitting import forget_classes

RANDOM, CLASS = Scenario.parse("random 10%"), Scenario.parse("class 2")


def test_data_is_bound_by_the_names_of_the_parameters(tiny):
    split = forget_classes(tiny, 2)

    def method(model, forget, split, *, forget_classes=(), seed=0, lr=1.0):
        """The retain set is not asked for."""

    found = bind(method, split, 7, lambda images, seed: (images, seed))
    assert found == {"forget": (split.forget, 7), "split": split, "forget_classes": (2,), "seed": 7}
    assert bind(lambda model, *, lr: model, split, 0, None) == {}  # no batches are made


def test_only_methods_that_need_classes_are_left_out_for_single_images():
    left_out = {name for name, method in METHODS.items() if not supports(method, RANDOM)}
    assert left_out == {"UNSIR", "boundary shrink", "DELETE"}
    assert all(supports(method, CLASS) for method in METHODS.values())


def test_a_value_may_differ_by_kind_or_by_scenario():
    values = {"lr": 0.1, "alpha": {"random": 1, "class": 2}, "epochs": {"class 2": 3, "class": 4}}
    assert resolve(values, CLASS) == {"lr": 0.1, "alpha": 2, "epochs": 3}
    assert resolve(values, Scenario.parse("class 1"))["epochs"] == 4
    with pytest.raises(ValueError, match="epochs has no value for 'random 10%'"):
        resolve(values, RANDOM)


def test_tuned_values_of_another_network_are_announced(tmp_path, capsys):
    path = tmp_path / "tuned.json"
    path.write_text(json.dumps({"mnist-cnn": {"a": {"lr": 1}}, "mnist-mlp": {"a": {"lr": 2}}}))
    assert load_tuned(path, "mnist", "mlp") == {"a": {"lr": 2}}
    assert capsys.readouterr().out == ""
    assert load_tuned(path, "mnist", "mlp-small") == {"a": {"lr": 2}}  # of the same family
    assert "mnist-mlp-small: the values of mnist-mlp are used" in capsys.readouterr().out
    assert load_tuned(path, "svhn", "torchvision/resnet18") == {"a": {"lr": 1}}
    assert "svhn-torchvision-resnet18" in capsys.readouterr().out
    assert load_tuned(path, "photos", lambda: None) == {"a": {"lr": 1}}
    assert "photos-own-network" in capsys.readouterr().out


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    for name in ("missing", "broken"):
        with pytest.raises(ValueError, match=rf"{name}\.json cannot be read"):
            load_tuned(tmp_path / f"{name}.json", "mnist", "cnn")


def test_one_hyperparameter_is_swept():
    assert swept({"lr": [0.1, 0.2], "epochs": 3}) == "lr"
    for given in ({"lr": 0.1}, {"lr": [0.1], "epochs": [1]}):
        with pytest.raises(ValueError, match="exactly one hyperparameter as a list, not"):
            swept(given)
