"""models: the published sizes, the shapes that networks take, and grey images."""

import pytest
import torch
from torch import nn

from unlearning import build
from unlearning.core.devices import seeded
from unlearning.core.layers import weight_layers
from unlearning.models import BasicBlock

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


def test_resnets_have_as_many_layers_as_their_names_say():
    layers = [layer for _, layer in weight_layers(bare("resnet20"))]
    assert len(layers) == 20  # shortcuts have none
    assert {layer.kernel_size for layer in layers[:-1]} == {(3, 3)}
    assert len(weight_layers(bare("resnet18"))) == 18 + 3


def test_resnet20_shortcut_takes_every_second_pixel_and_adds_empty_channels():
    block = BasicBlock(2, 4)
    nn.init.zeros_(block.bn2.weight)  # the two convolutions add nothing
    x = torch.randn(3, 2, 7, 7, generator=torch.Generator().manual_seed(0))
    out = block(x)
    assert torch.equal(out[:, :2], x[..., ::2, ::2].relu())
    assert torch.equal(out[:, 2:], torch.zeros(3, 2, 4, 4))


def test_torchvision_network_sees_a_grey_image_as_three_equal_channels():
    with seeded(0, torch.device("cpu")):
        model, grey = build("torchvision/resnet18").eval(), torch.randn(2, 1, 32, 32)
    colour = model[1]
    with torch.inference_mode():
        torch.testing.assert_close(model(grey), colour(torch.cat([grey] * 3, dim=1)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet21", "there is no network 'resnet21': choose mlp, cnn, resnet20"),
        ("torchvision/resnet21", "torchvision has no classifier named 'resnet21'"),
        ("torchvision/fcn_resnet50", "torchvision has no classifier named 'fcn_resnet50'"),
    ],
)
def test_unknown_network_is_refused(name, words):
    with pytest.raises(ValueError, match=words):
        build(name)
