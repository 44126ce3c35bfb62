"""Fine-tuning: SGD written out by hand, and which layers it changes."""

import pytest
import torch
from by_hand import (
    assert_close,
    assert_same,
    differ,
    doubled,
    network,
    sgd,
    usual_loss,
    weights,
)
from torch import nn

from unlearning import build
from unlearning.core.layers import NORMALISATIONS, has_own_parameters
from unlearning.methods import fine_tune
from unlearning.methods.fine_tune import _last_modules


def test_it_is_sgd_with_momentum_decay_and_a_cosine(retain):
    model, data = network().double(), doubled(retain)
    found = fine_tune(model, data, epochs=2, lr=0.05, momentum=0.8, weight_decay=0.01)
    sgd(model, data * 2, usual_loss, lr=0.05, momentum=0.8, weight_decay=0.01)
    assert_close(found, model)


@pytest.mark.parametrize("name, count", [("cnn", 1), ("cnn", 2), ("resnet20", 2)])
def test_only_the_last_layers_change_and_all_are_trainable_again(name, count, retain):
    model = network(name)
    found = fine_tune(model, [(x[:8], y[:8]) for x, y in retain], epochs=1, last_layers=count)
    layers = [(key, module) for key, module in model.named_modules() if has_own_parameters(module)]
    weighty = [key for key, module in layers if not isinstance(module, NORMALISATIONS)]
    names = [key for key, _ in layers]
    trained = set(names[names.index(weighty[-count]) :])
    after = weights(found)
    for key, value in weights(model).items():
        changed = not torch.equal(value, after[key])
        assert changed == (key.rpartition(".")[0] in trained), key
    assert all(p.requires_grad for p in found.parameters())


def test_a_normalisation_goes_with_the_layer_before_it():
    model = network("cnn")
    assert _last_modules(model, 2) == [model[6], model[7], model[11]]  # conv, its norm, linear
    model[7] = nn.BatchNorm2d(64, affine=False)  # no weights, but statistics to forget
    assert _last_modules(model, 2) == [model[6], model[7], model[11]]


@pytest.mark.parametrize("name", ["cnn", "resnet20"])
def test_all_layers_reinitialised_without_an_epoch_are_a_freshly_built_network(name, retain):
    model = network(name)
    torch.manual_seed(5)
    fresh = build(name, 4, 1, 8)
    options = {"epochs": 0, "reinitialised": True, "seed": 5}
    for last_layers in (None, sum(p.ndim > 1 for p in model.parameters())):
        assert_same(fine_tune(model, retain, last_layers=last_layers, **options), fresh)
    if name == "cnn":
        found = fine_tune(model, retain, last_layers=1, **options)
        assert differ(found[11], model[11])
        assert_same(found[:11], model[:11])
