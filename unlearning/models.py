"""Which network: five for small images, those of torchvision by name, or your own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .core.airbench import WIDTHS, airbench
from .core.checks import check_logits
from .core.devices import device_of
from .core.images import Images
from .core.layers import eval_mode


def build(
    name: str, num_classes: int = 10, in_channels: int = 1, image_size: int = 28
) -> nn.Module:
    """A freshly initialised network, images (B, in_channels, image_size, image_size) to logits.

    Args:
        name: "mlp" (784-128-64-10 on MNIST: 109,386 parameters), "cnn" (three convolutions with
            BatchNorm), "resnet20" (He et al. 2016, section 4.2: 269,722 on CIFAR-10), "resnet18"
            (with the 3 x 3 stem usual for CIFAR: 11,173,962), "airbench-full" (Jordan 2024:
            1,972,792), "airbench" (half as wide: 498,104) or "airbench-small" (a quarter: 127,096;
            see ``core.airbench``), whose first layer ``fresh_network`` fits to the training images,
            or "torchvision/<name>" for any classifier of torchvision, untrained, such as
            "torchvision/resnet18".

    Raises:
        ValueError: if there is no network of that name, or images are too small for it.
    """
    if name == "mlp":
        return _mlp(num_classes, in_channels, image_size)
    if name == "cnn":
        return _cnn(num_classes, in_channels)
    if name == "resnet20":
        return ResNet20(num_classes, in_channels)
    if name == "resnet18":
        return _resnet18(num_classes, in_channels)
    if name in WIDTHS:
        return airbench(name, num_classes, in_channels, image_size)
    if name.startswith("torchvision/"):
        return _from_torchvision(name.removeprefix("torchvision/"), num_classes, in_channels)
    raise ValueError(
        f"there is no network {name!r}: choose mlp, cnn, resnet20, resnet18, airbench, "
        "airbench-small, airbench-full or torchvision/<name>"
    )


def own_network(make: Callable[[], nn.Module]) -> nn.Module:
    """A freshly initialised network of your own: ``make()``.

    Raises:
        ValueError: if ``make`` is not a function without arguments, does not return a network, or
            returns one that shares weights with the one that it returned before.
    """
    if isinstance(make, nn.Module) or not callable(make):
        raise ValueError(
            "model must be the name of a network, or a function without arguments that makes one, "
            f"not {type(make).__name__}"
        )
    try:
        inspect.signature(make).bind()
    except TypeError as error:
        raise ValueError(
            f"{name_of(make)} makes a network, so it must take no arguments"
        ) from error
    network, other = make(), make()
    if not isinstance(network, nn.Module):
        raise ValueError(
            "the function that makes the network must return an nn.Module, not "
            f"{type(network).__name__}"
        )
    if network is other or _tensors(network) & _tensors(other):
        raise ValueError(
            "the function that makes the network returns the same weights twice: make every layer "
            "within it, so that each network has its own"
        )
    return network


def name_of(model: str | Callable[[], nn.Module]) -> str:
    """A network's name, or that of the function that makes it, for titles and files.

    >>> name_of("cnn"), name_of(lambda: nn.Flatten())
    ('cnn', 'own network')
    """
    if isinstance(model, str):
        return model
    name = getattr(getattr(model, "func", model), "__name__", type(model).__name__)
    return "own network" if name == "<lambda>" else name


def check_network(network: nn.Module, images: Images) -> None:
    """Raise a ValueError if a network cannot read these images, or lacks an output for a class."""
    sample = images.normalise(images.images[:2]).to(device_of(network))
    try:
        with torch.no_grad(), eval_mode(network):
            logits = network(sample)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"the network cannot read images of {_size(images)} ({str(error).splitlines()[0]}): "
            "give it others, or make one that can"
        ) from error
    if check_logits(logits).shape[1] < images.num_classes:
        raise ValueError(
            f"the network has {logits.shape[1]} outputs, but there are {images.num_classes} "
            "classes: make one with as many outputs"
        )


def _size(images: Images) -> str:
    channels, height, width = images.images.shape[1:]
    return f"{channels} x {height} x {width} (C x H x W)"


def _tensors(network: nn.Module) -> set[int]:
    """Addresses of its parameters and buffers, those of no elements left out."""
    tensors = chain(network.parameters(), network.buffers())
    return {tensor.data_ptr() for tensor in tensors if not is_lazy(tensor) and tensor.numel()}


def _mlp(num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(in_channels * image_size**2, 128),
        nn.ReLU(),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, num_classes),
    )


def _cnn(num_classes: int, in_channels: int) -> nn.Module:
    def stage(inputs: int, outputs: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]

    return nn.Sequential(
        *stage(in_channels, 16),
        *stage(16, 32),
        *stage(32, 64),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * 64, num_classes),
    )


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut without parameters (option A of He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.stride, self.more = outputs // inputs, outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet20(nn.Module):
    """ResNet-20 for small images: 16, 32 and 64 channels, three blocks of each."""

    def __init__(self, num_classes: int, in_channels: int):
        super().__init__()
        widths = [16] * 3 + [32] * 3 + [64] * 3
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        pairs = zip([16, *widths[:-1]], widths, strict=True)
        self.blocks = nn.Sequential(*(BasicBlock(inputs, outputs) for inputs, outputs in pairs))
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.bn1(self.conv1(x))))
        return self.fc(x.mean(dim=(-2, -1)))


def _resnet18(num_classes: int, in_channels: int) -> nn.Module:
    from torchvision.models import resnet18

    model = resnet18(num_classes=num_classes)
    model.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


def _from_torchvision(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """A network of torchvision; it sees grey images as three equal channels."""
    from torchvision import models

    if name not in models.list_models(module=models):
        raise ValueError(f"torchvision has no classifier named {name!r}")
    model = models.get_model(name, num_classes=num_classes)
    return model if in_channels == 3 else nn.Sequential(RepeatChannels(), model)


class RepeatChannels(nn.Module):
    """(B, 1, H, W) to (B, 3, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.expand(*x.shape[:-3], 3, *x.shape[-2:])
