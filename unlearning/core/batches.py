"""Batches of a set in memory, of two sets side by side, and of a part of a loader."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from .augment import flip_and_crop

Batches = Iterable[tuple[Tensor, Tensor]]
"""What methods read: any iterable of (images (B, C, H, W) float, labels (B,) long)."""


class ImageBatches:
    """The batches of an ``Images``. They have a length, and each pass over them has a new order.

    ``set_epoch(0)`` restarts the sequence of orders. ``minimise`` calls it, so that the same
    batches come in the same order when they are given to two methods.
    """

    def __init__(
        self, images, batch_size: int, *, shuffle: bool, seed: int | None, augment: bool
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        self.images, self.batch_size = images, batch_size
        self.shuffle, self.augment = shuffle, augment
        if seed is None:  # reading in order must not draw from the global generator
            seed = int(torch.randint(2**31, ())) if shuffle or augment else 0
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._starts())

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        images = self.images
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        self.epoch += 1
        order = self._order(generator).to(images.device)
        starts = self._starts()
        for start, stop in zip(starts, [*starts[1:], len(images)], strict=True):
            positions = order[start:stop]
            pixels = images.images.index_select(0, positions)
            if self.augment:
                pixels = flip_and_crop(pixels, generator, mirror=images.mirror)
            yield images.normalise(pixels), images.labels.index_select(0, positions)

    def _order(self, generator: torch.Generator) -> Tensor:
        if self.shuffle:
            return torch.randperm(len(self.images), generator=generator)
        return torch.arange(len(self.images))

    def _starts(self) -> list[int]:
        """First position of each batch.

        When shuffling, a last batch of one image joins the batch before it, since BatchNorm
        cannot take a variance from one image.
        """
        starts = list(range(0, len(self.images), self.batch_size))
        lonely = self.shuffle and len(starts) > 1 and len(self.images) - starts[-1] == 1
        return starts[:-1] if lonely else starts


def materialize(batches: Iterable) -> Iterable:
    """Batches that have a length and can be read again: a generator becomes a list.

    Raises:
        ValueError: if there are none.
    """
    try:
        count = len(batches)
    except TypeError:
        batches = list(batches)
        count = len(batches)
    if count == 0:
        raise ValueError("the loader yields no batches: is the data set empty, or drop_last set?")
    return batches


def set_epoch(batches: Iterable, epoch: int) -> None:
    """Tell the batches which epoch begins, if they have a ``set_epoch``."""
    if hasattr(batches, "set_epoch"):
        batches.set_epoch(epoch)


def iterate_epochs(batches: Iterable, epochs: Iterable[int]) -> Iterator:
    """Yield the batches of one epoch after another; ``set_epoch`` makes each order repeatable."""
    for epoch in epochs:
        set_epoch(batches, epoch)
        yield from batches


class ZipCycle:
    """Each batch of ``first``, paired with one of ``second``, which is cycled.

    An epoch is a pass over ``first``; ``second`` continues from epoch to epoch where it stopped.
    """

    def __init__(self, first: Batches, second: Batches):
        self.first, self.second = materialize(first), materialize(second)
        self.others = self._endless()

    def set_epoch(self, epoch: int) -> None:
        if epoch == 0:
            self.others = self._endless()
        set_epoch(self.first, epoch)

    def __len__(self) -> int:
        return len(self.first)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for images, labels in self.first:
            yield (images, labels, *next(self.others))

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iterate_epochs(self.second, itertools.count())


class Subsample:
    """A fraction of the batches, at least one. Their places are drawn once; their order is kept."""

    def __init__(self, batches: Batches, fraction: float, seed: int):
        self.batches = materialize(batches)
        total = len(self.batches)
        order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
        self.places = set(order[: max(1, round(fraction * total))].tolist())

    def set_epoch(self, epoch: int) -> None:
        set_epoch(self.batches, epoch)

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (batch for place, batch in enumerate(self.batches) if place in self.places)
