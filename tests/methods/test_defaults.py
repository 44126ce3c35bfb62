"""Every method forgets a class of MNIST with its defaults, or its docstring says with what."""

import inspect
from functools import cache

import pytest
from strangers import NEEDS

from unlearning import METHODS, load, load_or_train, predict
from unlearning.hyperparameters import bind
from unlearning.metrics import accuracy
from unlearning.splitting import forget_classes

GIVEN = {"NegGrad+": {"stop_at_chance": True, "alpha": 0.7, "lr": 0.03}}  # as its docstring says


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Networks that know 5,000 images of MNIST, made as they are asked for, and the forget set."""
    images, _ = load("mnist", train_size=5_000)
    recipe = {"epochs": 15, "lr": 0.1, "device": "cpu"}
    folder = tmp_path_factory.mktemp("networks")
    make = cache(lambda kind: load_or_train(images, model=kind, **recipe, folder=folder).result)
    return make, forget_classes(images, 5)


def shuffled(images, seed):
    return images.batches(64, shuffle=True, seed=seed)


@pytest.mark.parametrize("name", METHODS)
def test_a_class_of_mnist_is_forgotten(name, known):
    make, split = known
    model = make("cnn" if name in NEEDS else "mlp")
    data = bind(
        METHODS[name], split, 0, lambda part, seed: part.batches(64, shuffle=True, seed=seed)
    )
    classes = inspect.signature(METHODS[name]).parameters.get("forget_classes")
    if classes is not None and classes.default is not classes.empty:
        data.pop("forget_classes")  # which the retain set shows
    if name == "uniform target":
        data["retain"] = shuffled(split.retain, 0)
    given = GIVEN.get(name, {})
    for option, value in given.items():
        assert f"{option}={value}" in inspect.getdoc(METHODS[name]), (
            "the docstring must say what to give"
        )
    found = METHODS[name](model, **data, **given)
    before, after = (accuracy(*predict(one, split.forget.batches(100))) for one in (model, found))
    assert before > 0.99 and after < 0.3
    assert accuracy(*predict(found, split.retain.batches(100))) > 0.75
