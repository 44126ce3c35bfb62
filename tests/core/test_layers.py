"""core.layers: layers by type, fresh weights, and modes that are restored."""

import pytest
import torch
from strangers import Scaled
from torch import nn
from torch.nn.utils import prune

from unlearning import build
from unlearning.core.layers import (
    copy_of,
    is_normalisation,
    logit_layers,
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
    with pytest.raises(ValueError, match="ParametrizationList has parameters but no reset_param"):
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


class RmsNorm2d(nn.Module):
    """As a library may define it: no type of torch's."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 4, 1, 1))


def test_a_normalisation_is_known_by_type_or_by_the_name_of_its_class():
    known = nn.RMSNorm(4), nn.InstanceNorm2d(4), nn.BatchNorm2d(4, affine=False), RmsNorm2d()
    assert all(map(is_normalisation, known))
    others = nn.Linear(2, 2), nn.Sequential(nn.LayerNorm(2)), nn.PReLU(2), nn.Identity()
    assert not any(map(is_normalisation, others))


def test_a_network_just_pruned_or_with_a_cached_tensor_can_be_copied():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    prune.l1_unstructured(model[0], "weight", 0.5)
    model.cache = {"last": [model(torch.ones(1, 3))]}
    twin = copy_of(model)
    assert torch.equal(twin(torch.ones(2, 3)), model(torch.ones(2, 3)))
    assert torch.equal(twin.cache["last"][0], model.cache["last"][0])
    given = {value.data_ptr() for value in model.state_dict().values()}
    assert not any(value.data_ptr() in given for value in twin.state_dict().values())


def test_pruned_weights_are_drawn_again_under_their_mask():
    layer = nn.Linear(40, 40)
    prune.random_unstructured(layer, "weight", 0.5)
    fresh = reinitialise(copy_of(layer), seed=3)
    wanted = reinitialise(nn.Linear(40, 40), seed=3)
    assert torch.equal(fresh.weight_orig, wanted.weight) and torch.equal(fresh.bias, wanted.bias)
    assert torch.equal(
        fresh(torch.eye(40)), torch.eye(40) @ (wanted.weight * layer.weight_mask).T + wanted.bias
    )


class ByData(nn.Linear):
    """Sets its weights through ``.data``, as old code does."""

    def reset_parameters(self):
        self.weight.data.uniform_(-1, 1)
        self.bias.data.zero_()


class Forgetful(nn.Linear):
    """Does not draw all that it has."""

    def reset_parameters(self):
        nn.init.zeros_(self.bias)


def test_a_layer_that_does_not_draw_all_its_weights_is_refused():
    layer = ByData(3, 3)
    assert not torch.equal(reinitialise(copy_of(layer), seed=0).weight, layer.weight)
    spectral = nn.utils.spectral_norm(nn.Linear(3, 3))
    spectral(torch.ones(1, 3))
    forgetful = Forgetful(3, 3)
    nn.init.normal_(forgetful.weight)  # else it is whatever the memory held
    for wrong in (forgetful, spectral):
        with pytest.raises(ValueError, match="computes its weights from other parameters"):
            reinitialise(wrong, seed=0)
    with pytest.raises(
        ValueError, match="MultiheadAttention has parameters but no reset_parameters"
    ):
        reinitialise(nn.TransformerEncoderLayer(4, 2), seed=0)


def test_a_normalisation_without_parameters_goes_with_the_layer_before_it():
    model = nn.Sequential(
        *(nn.Linear(3, 3), nn.BatchNorm1d(3, affine=False), nn.ReLU()),
        *(nn.Linear(3, 3), nn.BatchNorm1d(3, affine=False)),
    )
    model[0].requires_grad_(False)
    with training_mode(model):
        assert [module.training for module in model] == [True, False, True, True, True]


def test_of_a_network_in_train_mode_what_was_set_to_eval_mode_stays_in_it():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(), nn.Linear(3, 3)).train()
    model[1].eval()
    with training_mode(model):
        assert [module.training for module in model] == [True, False, True]
    with training_mode(model):  # now all of it is in eval mode, which says nothing
        assert all(module.training for module in model)


def test_the_layers_that_make_the_logits_are_found_wherever_they_are_defined():
    x = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    head, hidden = nn.Linear(4, 4), nn.Linear(4, 4)
    torch.nn.init.normal_(head.weight)
    assert logit_layers(nn.Sequential(hidden, nn.ReLU(inplace=True), head), x) == [head]
    maps = nn.Conv2d(2, 3, 1)
    pooled = nn.Sequential(maps, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert logit_layers(pooled, torch.rand(2, 2, 5, 5)) == [maps]
    assert logit_layers(
        nn.DataParallel(torch.compile(pooled, backend="eager")), torch.rand(2, 2, 5, 5)
    ) == [maps]
    for unclear in (
        nn.Sequential(head, nn.Linear(4, 4, bias=False), nn.Softmax(-1)),
        Scaled(head),
        nn.Sequential(head, nn.Softmax(-1)),
    ):
        with pytest.raises(ValueError, match="cannot be told which layers make"):
            logit_layers(unclear, x)
