"""models: the published sizes, the shapes that networks take, and grey images."""

from functools import partial

import pytest
import torch
from torch import nn

from unlearning import build
from unlearning.core.layers import weight_layers
from unlearning.core.randomness import seeded
from unlearning.models import BasicBlock, check_network, own_network

COLOUR = {"in_channels": 3, "image_size": 32}


@pytest.mark.parametrize(
    ("name", "sizes", "parameters", "layers"),
    [
        ("mlp", {}, 784 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10, 3),
        ("resnet20", COLOUR, 269_722, 20),  # He et al. 2016, table 6: 0.27 million
        ("resnet18", COLOUR, 11_173_962, 18 + 3),  # kuangliu/pytorch-cifar
        ("airbench-full", COLOUR, 1_972_792, 8),  # Jordan 2024, appendix A: 1.97 million
        ("airbench", COLOUR, 498_104, 8),
        ("airbench-small", COLOUR, 127_096, 8),
    ],
)
def test_sizes_are_the_published_ones(name, sizes, parameters, layers):
    with torch.device("meta"):
        model = build(name, **sizes)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert len(weight_layers(model)) == layers


@pytest.mark.parametrize(("in_channels", "size"), [(1, 28), (3, 32)])
@pytest.mark.parametrize(
    "name", ["mlp", "cnn", "resnet20", "resnet18", "airbench", "torchvision/resnet18"]
)
def test_images_become_logits(name, in_channels, size):
    with torch.device("meta"):
        model = build(name, num_classes=7, in_channels=in_channels, image_size=size)
        assert model(torch.empty(5, in_channels, size, size)).shape == (5, 7)


def test_resnet20_shortcut_takes_every_second_pixel_and_adds_empty_channels():
    block = BasicBlock(2, 4)
    nn.init.zeros_(block.bn2.weight)  # the two convolutions add nothing
    x = torch.randn(3, 2, 7, 7, generator=torch.Generator().manual_seed(0))
    out = block(x)
    assert torch.equal(out[:, :2], x[..., ::2, ::2].relu())
    assert torch.equal(out[:, 2:], torch.zeros(3, 2, 4, 4))


def test_torchvision_network_sees_a_grey_image_as_three_equal_channels():
    with seeded(0, torch.device("cpu")), torch.inference_mode():
        model, grey = build("torchvision/resnet18").eval(), torch.randn(2, 1, 32, 32)
        torch.testing.assert_close(model(grey), model[1](torch.cat([grey] * 3, dim=1)))


def test_unknown_network_is_refused():
    with pytest.raises(ValueError, match="no network 'resnet21': choose mlp, cnn, resnet20"):
        build("resnet21")
    with pytest.raises(ValueError, match="torchvision has no classifier named 'fcn_resnet50'"):
        build("torchvision/fcn_resnet50")


class Net(nn.Module):
    """A network whose number of inputs is found by itself."""

    def __init__(self, outputs=4):
        super().__init__()
        self.last = nn.LazyLinear(outputs)

    def forward(self, x):
        return self.last(x.flatten(1))


class Pair(Net):
    def forward(self, x):
        return super().forward(x), x


SHARED, WHOLE = nn.Linear(64, 4), Net()


@pytest.mark.parametrize("make", [Net, lambda: Net(5), partial(Net, outputs=4)])
def test_a_function_makes_a_network_of_ones_own(make, tiny):
    network = own_network(make)
    check_network(network, tiny)
    assert type(network) is Net and network.last.in_features == 64
    assert network.training


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (WHOLE, "a function without arguments that makes one, not Net"),
        (None, "must be the name of a network, or a function .* not NoneType"),
        (lambda: WHOLE, "returns the same weights twice: make every layer within it"),
        (lambda: nn.Sequential(nn.Flatten(), SHARED), "returns the same weights twice"),
        (lambda: None, "must return an nn.Module, not NoneType"),
        (lambda: Net, "must return an nn.Module, not type"),
        (lambda outputs: Net(outputs), "must take no arguments"),
        (lambda: Net(3), "has 3 outputs, but there are 4 classes"),
        (Pair, "returned a tuple of 2 .*: wrap it so that it returns logits"),
        (lambda: nn.Conv2d(1, 4, 3), r"returned a tensor of shape \(2, 4, 6, 6\): wrap it"),
        (lambda: nn.Conv2d(3, 4, 3), "cannot read images of 1 x 8 x 8 .* to have 3 channels"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(63, 4)), "cannot read images of 1 x 8 x 8"),
    ],
)
def test_what_makes_no_usable_network_is_refused_in_one_sentence(make, words, tiny):
    with pytest.raises(ValueError, match=words) as caught:
        check_network(own_network(make), tiny)
    assert "\n" not in str(caught.value)
