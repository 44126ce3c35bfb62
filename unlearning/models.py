"""Which network: four that suit small images, and those of torchvision by name."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def build(
    name: str, num_classes: int = 10, in_channels: int = 1, image_size: int = 28
) -> nn.Module:
    """A freshly initialised network, images (B, in_channels, image_size, image_size) to logits.

    Args:
        name: "mlp" (784-128-64-10 on MNIST: 109,386 parameters), "cnn" (three convolutions with
            BatchNorm), "resnet20" (He et al. 2016, section 4.2: 269,722 on CIFAR-10), "resnet18"
            (with the 3 x 3 stem usual for CIFAR: 11,173,962), or "torchvision/<name>" for any
            classifier of torchvision, untrained, such as "torchvision/resnet18".

    Raises:
        ValueError: if there is no network of that name.
    """
    if name == "mlp":
        return _mlp(num_classes, in_channels, image_size)
    if name == "cnn":
        return _cnn(num_classes, in_channels)
    if name == "resnet20":
        return ResNet20(num_classes, in_channels)
    if name == "resnet18":
        return _resnet18(num_classes, in_channels)
    if name.startswith("torchvision/"):
        return _from_torchvision(name.removeprefix("torchvision/"), num_classes, in_channels)
    raise ValueError(
        f"there is no network {name!r}: choose mlp, cnn, resnet20, resnet18 or torchvision/<name>"
    )


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
