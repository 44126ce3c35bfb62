"""A set of images in memory: one uint8 tensor, on the device where it is used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from .batches import ImageBatches


@dataclass(frozen=True, eq=False)
class Images:
    """A labelled set of images, held as uint8 and normalised batch by batch.

    Args:
        images: uint8, (N, C, H, W).
        labels: integers from 0 to ``len(classes) - 1``, (N,).
        classes: names of the classes; by default the numbers from 0 to the largest label.
        mean, std: per channel, on the scale of 0 to 1; a batch is (image / 255 - mean) / std.
        mirror: whether a mirrored image still belongs to its class, as a cat does and a 5 does not.
        indices: position of each image in the set that it was taken from, (N,).

    Raises:
        ValueError: if images are not uint8 (N, C, H, W), there are none, labels are out of range,
            or there are not as many means or deviations as channels.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    mirror: bool = False
    indices: Tensor = None

    def __post_init__(self):
        images, labels = self.images, self.labels
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise ValueError(
                f"images must be uint8 of shape (N, C, H, W), not {images.dtype} of shape "
                f"{tuple(images.shape)}"
            )
        if len(images) == 0:
            raise ValueError("a set of images must hold at least one image")
        if labels.shape != images.shape[:1] or labels.is_floating_point():
            raise ValueError(
                f"labels must be integers of shape ({len(images)},), not {labels.dtype} of shape "
                f"{tuple(labels.shape)}"
            )
        if not {len(self.mean), len(self.std)} <= {1, images.shape[1]}:
            raise ValueError(
                f"mean and std must be given once or for each of {images.shape[1]} channels, not "
                f"{len(self.mean)} and {len(self.std)} times"
            )
        low, high = int(labels.min()), int(labels.max())
        classes = tuple(self.classes) or tuple(str(label) for label in range(high + 1))
        if low < 0 or high >= len(classes):
            raise ValueError(
                f"labels go from {low} to {high}, but {len(classes)} classes are numbered from 0 "
                f"to {len(classes) - 1}"
            )
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "labels", labels.long())
        if self.indices is None:
            object.__setattr__(self, "indices", torch.arange(len(images)))

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
        return self.images.shape[-1]

    @property
    def device(self) -> torch.device:
        return self.images.device

    def to(self, device: torch.device | str | None) -> Images:
        """The same set on another device; uint8, so CIFAR-10 takes 150 MB there."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def select(self, positions: Tensor) -> Images:
        """The images at these positions, in this order."""
        there = positions.to(self.device)
        return replace(
            self,
            images=self.images.index_select(0, there),
            labels=self.labels.index_select(0, there),
            indices=self.indices[positions.cpu()],
        )

    def of_classes(self, classes: Iterable[int]) -> Images:
        """The images whose label is one of ``classes``."""
        return self.select(self._is_of(classes).nonzero().flatten())

    def without_classes(self, classes: Iterable[int]) -> Images:
        """The images whose label is none of ``classes``."""
        return self.select((~self._is_of(classes)).nonzero().flatten())

    def _is_of(self, classes: Iterable[int]) -> Tensor:
        return torch.isin(self.labels, torch.tensor(list(classes), device=self.device))

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
        augment: bool = False,
        device: torch.device | str | None = None,
    ) -> ImageBatches:
        """Batches of (images, labels), made on the device. They can be read any number of times.

        Args:
            batch_size: images in a batch; the last one holds what is left.
            shuffle: take a new order every epoch, which depends on ``seed`` and the epoch only.
            seed: random seed for order and augmentation; by default drawn from torch's generator.
            augment: pad each image by 4, crop it at its own place and, where the set allows it
                (``mirror``), flip it with probability 1/2.
            device: where the batches are made; by default where the images are.

        Raises:
            ValueError: if ``batch_size`` is below 1.
        """
        images = self if device is None else self.to(device)
        return ImageBatches(images, batch_size, shuffle=shuffle, seed=seed, augment=augment)

    def sequential_batches(self) -> ImageBatches:
        """All images in their order, in batches of 1,000 on a GPU and of 100 on a CPU.

        On a CPU, whose caches are small, the CNN and ResNet-20 read batches of 100 at 2.4 times
        the speed of 1,000.
        """
        return self.batches(100 if self.device.type == "cpu" else 1000)
