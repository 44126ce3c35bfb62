"""core.layers: layers by type, fresh weights, and modes that are restored."""

import pytest
import torch
from torch import nn

from unlearning import build
from unlearning.core.layers import (
    normalisation_layers,
    reinitialise,
    training_mode,
    weight_layers,
)


def test_weight_layers_are_told_by_type_and_not_by_name():
    with torch.device("meta"):
        model = build("torchvision/resnet18", in_channels=3)
    names = [name for name, _ in weight_layers(model)]
    assert "layer2.0.downsample.0" in names and "layer2.0.downsample.1" not in names
    assert (names[0], names[-1]) == ("conv1", "fc")
    layers = [layer for _, layer in weight_layers(model)] + list(normalisation_layers(model))
    counted = [id(p) for layer in layers for p in layer.parameters(recurse=False)]
    assert sorted(counted) == sorted(id(p) for p in model.parameters())


def test_weight_layers_include_a_bare_parameter_and_no_kind_of_normalisation():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.GroupNorm(1, 3), nn.LayerNorm(3))
    assert weight_layers(model) == [] and len(list(normalisation_layers(model))) == 3
    model.scale = nn.Parameter(torch.ones(3))
    assert weight_layers(model) == [("", model)]


def test_reinitialise_draws_every_weight_by_its_seed_only_and_resets_the_statistics():
    def drawn(seed, global_seed):
        torch.manual_seed(global_seed)
        model, state = build("cnn"), torch.get_rng_state()
        for layer in normalisation_layers(model):
            nn.init.constant_(layer.weight, 5.0)
            nn.init.constant_(layer.running_mean, 5.0)
        before = [p.detach().clone() for p in model.parameters()]
        assert reinitialise(model, seed=seed) is model
        assert torch.equal(torch.get_rng_state(), state)
        for old, new in zip(before, model.parameters(), strict=True):
            assert (old != new).float().mean() > 0.99 or new.eq(0).all()  # a bias of BatchNorm
        for layer in normalisation_layers(model):
            assert (layer.weight == 1).all() and (layer.running_mean == 0).all()
        return nn.utils.parameters_to_vector(model.parameters())

    assert torch.equal(drawn(5, global_seed=0), drawn(5, global_seed=1))
    assert not torch.equal(drawn(5, global_seed=0), drawn(6, global_seed=0))
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    with pytest.raises(ValueError, match="ParametrizedLinear computes its weights from other"):
        reinitialise(nn.Sequential(nn.Linear(3, 3), layer), seed=0)


def test_training_mode_leaves_frozen_normalisations_in_eval_mode():
    model = build("cnn").eval()
    frozen, *free = normalisation_layers(model)
    frozen.requires_grad_(False)
    model.append(nn.BatchNorm1d(3, affine=False))  # without parameters
    with pytest.raises(KeyError), training_mode(model):
        assert model.training and not frozen.training
        assert all(layer.training for layer in (*free, model[-1]))
        raise KeyError
    assert not any(module.training for module in model.modules())
