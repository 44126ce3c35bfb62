"""A set of images in memory: one uint8 tensor, on the device where it is used."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .batches import ImageBatches
from .checks import check_positions, class_list
from .own_images import EMPTY, as_tensor, as_uint8, read_images

MOST_CLASSES = 100_000  # that are numbered where no names are given


@dataclass(frozen=True, eq=False)
class Images:
    """A labelled set of images, held as uint8 and normalised batch by batch.

    Args:
        images: uint8, (N, C, H, W): a tensor, an array or lists. ``Images.of`` takes other kinds.
        labels: integers from 0 to ``len(classes) - 1``, (N,).
        classes: names of the classes; by default the numbers from 0 to the largest label.
        mean, std: per channel or one number, on the scale of 0 to 1; a batch is
            (image / 255 - mean) / std.
        mirror: whether a mirrored image still belongs to its class, as a cat does and a 5 does not.
        indices: position of each image in the set that it was taken from, (N,).
        groups: writer or identity of each image, whole numbers, (N,); None if nobody noted them.

    Raises:
        ValueError: if images are not uint8 (N, C, H, W), there are none, labels are out of range,
            there are not as many means or deviations as channels, or one cannot be used, or
            there is not one group per image.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    mirror: bool = False
    indices: Tensor = None
    groups: Tensor | None = None

    def __post_init__(self):
        images = _checked_images(self.images)
        mean, std = _per_channel("mean", self.mean), _per_channel("std", self.std)
        if not {len(mean), len(std)} <= {1, images.shape[1]}:
            raise ValueError(
                f"mean and std must be given once or for each of {images.shape[1]} channels, not "
                f"{len(mean)} and {len(std)} times"
            )
        if min(std) <= 0:
            raise ValueError(f"std must be above 0, not {min(std)}")
        labels = _checked_labels(self.labels, len(images)).to(images.device)
        classes = _checked_classes(self.classes, labels)
        indices = torch.arange(len(images)) if self.indices is None else self.indices
        groups = None if self.groups is None else checked_groups(self.groups, len(images))
        found = {"images": images, "labels": labels, "classes": classes, "indices": indices}
        found |= {"groups": groups}
        for name, value in {**found, "mean": mean, "std": std}.items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(
        cls,
        x: Any,
        labels: Any = None,
        *,
        classes: Iterable[str] = (),
        mean: float | tuple[float, ...] = (0.0,),
        std: float | tuple[float, ...] = (1.0,),
        mirror: bool = False,
        layout: str | None = None,
        groups: Any = None,
    ) -> Images:
        """Read your own images into memory.

        Floats must lie in [0, 1] and become uint8 by rounding 255 times their value. Random
        transforms are drawn once, under a fixed seed; the global generators stay as they were.

        >>> Images.of(np.zeros((2, 28, 20)), [0, 1], classes=["cat", "dog"]).images.shape
        torch.Size([2, 1, 28, 20])

        Args:
            x: a data set with a length whose items are (image, label), such as an ImageFolder or a
                Subset; or arrays, tensors or lists; or a pair of these and their labels.
            labels: of arrays: integers, (N,).
            classes: names of the classes; by default those of the data set, else numbers.
            mean, std, mirror: as ``Images``.
            layout: of arrays: "NHW", "NCHW" or "NHWC"; by default the axis of size 1, 3 or 4 holds
                the channels.
            groups: as ``Images``.

        Raises:
            ValueError: if images cannot be read by position, differ in shape, are normalised
                already, or do not fit into memory; or if ``Images`` would raise one.
        """
        pixels, own_labels, names = read_images(x, labels, layout)
        names = tuple(classes) or names
        return cls(pixels, own_labels, names, mean, std, mirror, groups=groups)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def in_channels(self) -> int:
        return self.images.shape[1]

    @property
    def image_size(self) -> int:
        """The width."""
        return self.images.shape[-1]

    @property
    def device(self) -> torch.device:
        return self.images.device

    def to(self, device: torch.device | str | None) -> Images:
        """The same set on another device; uint8, so CIFAR-10 takes 150 MB there."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def select(self, positions: Tensor | Iterable[int]) -> Images:
        """The images at these positions, in this order.

        Raises:
            ValueError: if one does not exist.
        """
        positions = check_positions(positions, len(self))
        there = positions.to(self.device)
        return replace(
            self,
            images=self.images.index_select(0, there),
            labels=self.labels.index_select(0, there),
            indices=self.indices[positions],
            groups=None if self.groups is None else self.groups[positions],
        )

    def of_classes(self, classes: int | Iterable[int]) -> Images:
        """The images whose label is one of ``classes``."""
        return self.select(self._is_of(classes).nonzero().flatten())

    def without_classes(self, classes: int | Iterable[int]) -> Images:
        """The images whose label is none of ``classes``."""
        return self.select((~self._is_of(classes)).nonzero().flatten())

    def _is_of(self, classes: int | Iterable[int]) -> Tensor:
        return torch.isin(
            self.labels, torch.tensor(class_list(classes), dtype=torch.long, device=self.device)
        )

    def normalise(self, pixels: Tensor) -> Tensor:
        """Turn uint8 images (B, C, H, W) into floats: (pixels / 255 - mean) / std."""
        scale, shift = self._scale_and_shift
        return (pixels * scale).sub_(shift)

    @cached_property
    def _scale_and_shift(self) -> tuple[Tensor, Tensor]:
        mean = torch.tensor(self.mean, device=self.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=self.device).view(-1, 1, 1)
        return 1 / (255 * std), mean / std

    def batches(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int | None = None,
        augment: bool | str = False,
        device: torch.device | str | None = None,
    ) -> ImageBatches:
        """Batches of (images, labels), made on the device. They can be read any number of times.

        Args:
            batch_size: images in a batch; the last one holds what is left. BatchNorm does badly on
                a rest of few: with 5,000 CIFAR-10 images in batches of 128, which leave 8,
                airbench-small gets 85 % of them right, and 97 % in batches of 100.
            shuffle: take a new order every epoch, which depends on ``seed`` and the epoch only.
            seed: random seed for order and augmentation; by default drawn from torch's generator.
            augment: pad each image by 4, crop it at its own place and, where the set allows it
                (``mirror``), flip it with probability 1/2; or "alternate": flip half of the images
                in the first epoch and the others in the next, and so on, and crop none.
            device: where the batches are made; by default where the images are.

        Raises:
            ValueError: if ``batch_size`` is below 1, or ``augment`` is none of these.
        """
        images = self if device is None else self.to(device)
        return ImageBatches(images, batch_size, shuffle=shuffle, seed=seed, augment=augment)

    def sequential_batches(self) -> ImageBatches:
        """All images in their order, in batches of 1,000 on a GPU and of 100 on a CPU.

        On a CPU, whose caches are small, the CNN and ResNet-20 read batches of 100 at 2.4 times
        the speed of 1,000.
        """
        return self.batches(100 if self.device.type == "cpu" else 1000)


def _checked_images(images: Any) -> Tensor:
    pixels = as_tensor(images, "images")
    if pixels.dtype != torch.uint8 and (pixels.is_floating_point() or pixels.is_complex()):
        raise ValueError(
            f"images must be uint8 (Images.of takes floats in [0, 1]), not {pixels.dtype} of shape "
            f"{tuple(pixels.shape)}"
        )
    if pixels.ndim != 4:
        raise ValueError(
            f"images must be of shape (N, C, H, W) (Images.of takes N x H x W and N x H x W x C), "
            f"not {tuple(pixels.shape)}"
        )
    if len(pixels) == 0:
        raise ValueError(EMPTY)
    return as_uint8(pixels)


def _checked_labels(labels: Any, count: int) -> Tensor:
    return _whole_numbers("labels", labels, count, "class number")


def checked_groups(groups: Any, count: int) -> Tensor:
    """The group of each image, (N,), long, on the CPU.

    Raises:
        ValueError: if they are not whole numbers, one per image.
    """
    return _whole_numbers("groups", groups, count, "writer or identity").cpu()


def _whole_numbers(name: str, values: Any, count: int, each: str) -> Tensor:
    values = as_tensor(values, name)
    if values.shape != (count,) or values.is_floating_point() or values.is_complex():
        raise ValueError(
            f"{name} must be integers of shape ({count},), not {values.dtype} of shape "
            f"{tuple(values.shape)}: one {each} per image"
        )
    return values.long()


def _checked_classes(classes: Iterable[str], labels: Tensor) -> tuple[str, ...]:
    low, high, classes = int(labels.min()), int(labels.max()), tuple(classes)
    if not classes and high < MOST_CLASSES:
        classes = tuple(str(label) for label in range(high + 1))
    if low < 0 or high >= len(classes):
        raise ValueError(
            f"labels go from {low} to {high}, but {len(classes)} classes are numbered from 0 to "
            f"{len(classes) - 1}"
            if classes
            else f"labels go from {low} to {high}: number the classes from 0"
        )
    return classes


def _per_channel(name: str, values: Any) -> tuple[float, ...]:
    """One number or several as a tuple of floats."""
    values = tuple(float(value) for value in np.ravel(values))
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(f"{name} must be finite, one number or one per channel, not {values}")
    return values
