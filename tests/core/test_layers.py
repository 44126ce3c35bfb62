"""core.layers: layers by type, fresh weights, and modes that are restored."""

import copy

import pytest
import torch
from torch import nn

from unlearning import build
from unlearning.core.layers import (
    eval_mode,
    normalisation_layers,
    reinitialise,
    training_mode,
    weight_layers,
)


def test_weight_layers_are_told_by_type_and_not_by_name():
    with torch.device("meta"):
        model = build("torchvision/resnet18", in_channels=3)
    names = [name for name, _ in weight_layers(model)]
    assert isinstance(model.get_submodule("layer2.0.downsample.1"), nn.BatchNorm2d)
    assert "layer2.0.downsample.1" not in names
    assert "layer2.0.downsample.0" in names
    assert (names[0], names[-1]) == ("conv1", "fc")
    layers = [layer for _, layer in weight_layers(model)] + list(normalisation_layers(model))
    counted = [id(p) for layer in layers for p in layer.parameters(recurse=False)]
    assert sorted(counted) == sorted(id(p) for p in model.parameters())


def test_weight_layers_include_a_bare_parameter_and_no_kind_of_normalisation():
    model = nn.Sequential(
        nn.BatchNorm1d(3), nn.GroupNorm(1, 3), nn.LayerNorm(3), nn.InstanceNorm1d(3, affine=True)
    )
    assert weight_layers(model) == []
    assert len(list(normalisation_layers(model))) == 4
    model.scale = nn.Parameter(torch.ones(3))
    assert weight_layers(model) == [("", model)]


@pytest.mark.parametrize("name", ["cnn", "torchvision/resnet18"])
def test_reinitialise_draws_every_weight_and_resets_the_statistics(name):
    fresh = build(name)
    for layer in normalisation_layers(fresh):
        nn.init.constant_(layer.weight, 5.0)
        nn.init.constant_(layer.running_mean, 5.0)
    model = copy.deepcopy(fresh)
    assert reinitialise(model, seed=1) is model
    for (_, old), (_, new) in zip(weight_layers(fresh), weight_layers(model), strict=True):
        for before, after in zip(old.parameters(False), new.parameters(False), strict=True):
            assert (before != after).float().mean() > 0.99
    for layer in normalisation_layers(model):
        assert (layer.weight == 1).all()
        assert (layer.running_mean == 0).all()


def test_reinitialise_depends_on_its_seed_only_and_leaves_the_global_generator_alone():
    def drawn(seed, global_seed):
        torch.manual_seed(global_seed)
        model, state = build("mlp"), torch.get_rng_state()
        reinitialise(model, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        return model[1].weight

    assert torch.equal(drawn(seed=0, global_seed=0), drawn(seed=0, global_seed=1))
    assert not torch.equal(drawn(seed=0, global_seed=0), drawn(seed=1, global_seed=0))


def test_reinitialise_refuses_a_layer_without_reset_parameters():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    with pytest.raises(ValueError, match="ParametrizationList has parameters but no reset_param"):
        reinitialise(nn.Sequential(nn.Linear(3, 3), layer), seed=0)


def test_training_mode_leaves_frozen_normalisations_in_eval_mode():
    model = build("cnn").eval()
    frozen, *free = normalisation_layers(model)
    frozen.requires_grad_(False)
    without_parameters = nn.BatchNorm1d(3, affine=False)
    model.append(without_parameters)
    with pytest.raises(KeyError), training_mode(model):
        assert model.training and not frozen.training
        assert all(layer.training for layer in (*free, without_parameters))
        raise KeyError
    assert not any(module.training for module in model.modules())


def test_eval_mode_restores_every_module_even_after_an_error():
    model = build("cnn").train()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    with pytest.raises(KeyError), eval_mode(model):
        assert not any(module.training for module in model.modules())
        raise KeyError
    assert [module.training for module in model.modules()] == modes
