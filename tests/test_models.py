"""Networks: the published sizes, the shapes that they take, and which layers hold weights."""

import copy

import pytest
import torch
from torch import nn

from unlearning import build
from unlearning.models import (
    BasicBlock,
    device_of,
    normalisation_layers,
    reinitialise,
    seeded,
    weight_layers,
)

NAMES = ["mlp", "cnn", "resnet20", "resnet18", "torchvision/resnet18"]


def bare(name, **sizes):
    """A network without numbers in it: shapes only, built at once."""
    with torch.device("meta"):
        return build(name, **sizes)


@pytest.mark.parametrize(
    ("name", "sizes", "parameters"),
    [
        # 784 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10
        ("mlp", {}, 109_386),
        # He et al. 2016, table 6: 0.27 million
        ("resnet20", {"in_channels": 3, "image_size": 32}, 269_722),
        # kuangliu/pytorch-cifar and every paper that took its ResNet-18
        ("resnet18", {"in_channels": 3, "image_size": 32}, 11_173_962),
        # torchvision's page of ResNet18_Weights
        ("torchvision/resnet18", {"in_channels": 3, "num_classes": 1000}, 11_689_512),
    ],
)
def test_parameter_count_is_the_published_one(name, sizes, parameters):
    assert sum(p.numel() for p in bare(name, **sizes).parameters()) == parameters


@pytest.mark.parametrize("image_size", [28, 32])
@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_images_become_logits(name, in_channels, image_size):
    model = bare(name, num_classes=7, in_channels=in_channels, image_size=image_size)
    images = torch.empty(5, in_channels, image_size, image_size, device="meta")
    assert model(images).shape == (5, 7)


@pytest.mark.parametrize("name", NAMES)
def test_one_image_does_not_look_at_its_neighbours_in_eval_mode(name):
    with seeded(0, torch.device("cpu")):
        model, images = build(name).eval(), torch.randn(3, 1, 28, 28)
    with torch.inference_mode():
        together, alone = model(images), torch.cat([model(image[None]) for image in images])
    assert together.isfinite().all()
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_resnet20_shortcuts_have_no_parameters():
    model = bare("resnet20")
    kinds = {type(module) for _, module in weight_layers(model)}
    assert kinds == {nn.Conv2d, nn.Linear}
    assert {m.kernel_size for m in model.modules() if isinstance(m, nn.Conv2d)} == {(3, 3)}


def test_resnet20_shortcut_takes_every_second_pixel_and_adds_empty_channels():
    block = BasicBlock(2, 4)
    nn.init.zeros_(block.bn2.weight)  # the two convolutions say nothing
    x = torch.randn(3, 2, 7, 7, generator=torch.Generator().manual_seed(0))
    out = block(x)
    assert torch.equal(out[:, :2], x[..., ::2, ::2].relu())
    assert torch.equal(out[:, 2:], torch.zeros(3, 2, 4, 4))


def test_resnet20_is_20_weight_layers_deep_and_resnet18_18_and_3_shortcuts():
    assert len(weight_layers(bare("resnet20"))) == 20
    assert len(weight_layers(bare("resnet18"))) == 18 + 3


def test_cifar_resnet18_keeps_the_image_size_in_its_stem():
    model = bare("resnet18", in_channels=3, image_size=32)
    stem = nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)
    assert stem(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 64, 32, 32)


def test_torchvision_network_sees_a_grey_image_as_three_equal_channels():
    with seeded(0, torch.device("cpu")):
        model, grey = build("torchvision/resnet18").eval(), torch.randn(2, 1, 32, 32)
    colour = model[1]
    with torch.inference_mode():
        torch.testing.assert_close(model(grey), colour(torch.cat([grey] * 3, dim=1)))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "resnet21",
            "there is no network 'resnet21': "
            "choose mlp, cnn, resnet20, resnet18 or torchvision/<name>",
        ),
        ("torchvision/resnet21", "torchvision has no classifier named 'resnet21'"),
        ("torchvision/fcn_resnet50", "torchvision has no classifier named 'fcn_resnet50'"),
    ],
)
def test_unknown_network_is_refused_in_one_sentence(name, sentence):
    with pytest.raises(ValueError) as caught:
        build(name)
    assert str(caught.value) == sentence


def test_weight_layers_are_told_by_type_and_not_by_name():
    model = bare("torchvision/resnet18", in_channels=3)
    names = [name for name, _ in weight_layers(model)]
    assert isinstance(model.get_submodule("layer2.0.downsample.1"), nn.BatchNorm2d)
    assert "layer2.0.downsample.1" not in names
    assert "layer2.0.downsample.0" in names
    assert (names[0], names[-1]) == ("conv1", "fc")


@pytest.mark.parametrize("name", NAMES)
def test_weight_layers_and_normalisations_share_out_all_parameters(name):
    model = bare(name)
    layers = [layer for _, layer in weight_layers(model)] + list(normalisation_layers(model))
    counted = [id(p) for layer in layers for p in layer.parameters(recurse=False)]
    assert sorted(counted) == sorted(id(p) for p in model.parameters())


def test_weight_layers_hold_a_bare_parameter_and_leave_out_every_normalisation():
    model = nn.Sequential(
        nn.BatchNorm1d(3), nn.GroupNorm(1, 3), nn.LayerNorm(3), nn.InstanceNorm1d(3, affine=True)
    )
    assert weight_layers(model) == []
    assert len(list(normalisation_layers(model))) == 4
    model.scale = nn.Parameter(torch.ones(3))
    assert weight_layers(model) == [("", model)]


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet20", "torchvision/resnet18"])
def test_reinitialise_draws_every_weight_again_and_forgets_the_statistics(name):
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


def test_reinitialise_is_a_function_of_its_seed_and_leaves_the_global_generator_alone():
    def drawn(seed, global_seed):
        model = build("cnn")
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        reinitialise(model, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        return nn.utils.parameters_to_vector(model.parameters())

    assert torch.equal(drawn(seed=0, global_seed=0), drawn(seed=0, global_seed=1))
    assert not torch.equal(drawn(seed=0, global_seed=0), drawn(seed=1, global_seed=0))


def test_reinitialise_refuses_a_layer_that_cannot_draw_its_parameters_again():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

    normed = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    for layer, kind in ((Scale(), "Scale"), (normed, "ParametrizationList")):
        with pytest.raises(ValueError) as caught:
            reinitialise(nn.Sequential(nn.Linear(3, 3), layer), seed=0)
        assert str(caught.value) == (
            f"{kind} has parameters but no reset_parameters(): give it one, so that it can be "
            "initialised again"
        )


def test_seeded_block_restores_the_generator_even_after_an_error():
    state = torch.get_rng_state()
    draws = []
    for _ in range(2):
        with pytest.raises(KeyError), seeded(3, torch.device("cpu")):
            draws.append(torch.rand(3).tolist())
            raise KeyError
    assert draws[0] == draws[1]
    assert torch.equal(torch.get_rng_state(), state)


def test_device_is_that_of_the_parameters_else_the_buffers_else_the_cpu():
    assert device_of(bare("mlp")).type == "meta"
    buffers_only = nn.BatchNorm1d(3, affine=False, device="meta")
    assert device_of(buffers_only).type == "meta"
    assert device_of(nn.Flatten()).type == "cpu"
