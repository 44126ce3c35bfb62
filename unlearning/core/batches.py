"""Batches of a set in memory, of two sets side by side, and of a part of a loader."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .augment import augmentation, check_augment
from .checks import check_pair, check_whole, kind_of
from .randomness import generator_from, generators_of, seeded

ENDLESS = 10_000  # batches of a loader without a length, after which it is refused
_in_use: set[int] = set()  # loaders with workers that persist, while they are read

Batches = Iterable[tuple[Tensor, Tensor]]
"""What methods read: a DataLoader, a list, or anything else that yields (images (B, C, H, W) float,
labels (B,) long) each time that it is iterated."""


class ImageBatches:
    """The batches of an ``Images``. They have a length, and each pass over them has a new order.

    ``set_epoch(0)`` restarts the sequence of orders. ``minimise`` calls it, so that the same
    batches come in the same order when they are given to two methods.
    """

    def __init__(
        self, images, batch_size: int, *, shuffle: bool, seed: int | None, augment: bool | str
    ) -> None:
        if check_whole("batch_size", batch_size, least=None) < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        self.images, self.batch_size = images, batch_size
        self.shuffle, self.augment = shuffle, check_augment(augment)
        if seed is None:  # reading in order must not draw from the global generator
            seed = int(torch.randint(2**31, ())) if shuffle or augment else 0
        self.seed = check_whole("seed", seed, least=None)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._starts())

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        images = self.images
        generator = generator_from(self.seed * 1_000_003 + self.epoch)
        augmented = augmentation(self.augment, images, self.seed, self.epoch, generator)
        self.epoch += 1
        order = self._order(generator).to(images.device)
        starts = self._starts()
        for start, stop in zip(starts, [*starts[1:], len(images)], strict=True):
            positions = order[start:stop]
            pixels = augmented(images.images.index_select(0, positions), positions)
            yield images.normalise(pixels), images.labels.index_select(0, positions)

    def _order(self, generator: torch.Generator) -> Tensor:
        if self.shuffle:
            return torch.randperm(len(self.images), generator=generator)
        return torch.arange(len(self.images))

    def _starts(self) -> list[int]:
        """First position of each batch.

        A last batch of one image joins the batch before it, for BatchNorm takes no variance from
        one image; unless batches of one, in order, are asked for.
        """
        starts = list(range(0, len(self.images), self.batch_size))
        lonely = len(starts) > 1 and len(self.images) - starts[-1] == 1
        lonely = lonely and (self.shuffle or self.batch_size > 1)
        return starts[:-1] if lonely else starts


class Rereadable:
    """Batches that were found to have a length, and are read again for every epoch.

    Reading them draws from a random stream of its own, which starts where torch's global generator
    stands at the first reading. So dropout, say, does not depend on how a loader draws its order.

    Args:
        batches: a DataLoader, ``images.batches(...)``, a list, or the like.

    Raises:
        ValueError: if they can be read only once, there are none, or they do not end; while they
            are read, if an epoch has none or more than were announced.
    """

    def __init__(self, batches: Iterable):
        check_rereadable(batches)
        self.inner, self.stream = (batches,), None
        self.count = _count(batches)
        if self.count == 0:
            raise ValueError("the loader yields no batches: is its set empty, or drop_last set?")

    def set_epoch(self, epoch: int) -> None:
        if epoch == 0:
            self.stream = None
        set_epoch(self.inner[0], epoch)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator:
        (batches,), read = self.inner, 0
        draws_nothing = isinstance(batches, ImageBatches | Rereadable | list | tuple)
        with _read_alone(batches):
            for batch in batches if draws_nothing else self._apart(batches):
                read += 1
                if read > self.count:
                    break
                yield batch
        if read == 0:
            raise ValueError(
                "the loader yields no batches in this epoch, though it did before: give another"
            )
        if read != self.count:
            found = f"{self.count} batches, but yields {'more' if read > self.count else read}"
            raise ValueError(f"the loader has a length of {found}: correct it")

    def _apart(self, batches: Iterable) -> Iterator:
        """The batches, drawn from the stream of their own."""
        with self._own_stream():
            iterator = iter(batches)
        while True:
            with self._own_stream():
                try:
                    batch = next(iterator)
                except StopIteration:
                    return
            yield batch

    @contextmanager
    def _own_stream(self) -> Iterator[None]:
        outside = torch.get_rng_state()
        torch.set_rng_state(outside if self.stream is None else self.stream)
        try:
            yield
        finally:
            self.stream = torch.get_rng_state()
            torch.set_rng_state(outside)


@contextmanager
def _read_alone(batches: Iterable) -> Iterator[None]:
    """Refuse a second reading within another one of a loader whose workers persist."""
    own = {id(batches)} if getattr(batches, "persistent_workers", False) else set()
    if own & _in_use:
        raise ValueError(
            "a DataLoader with persistent_workers=True cannot be read twice at a time: give two"
        )
    _in_use.update(own)
    try:
        yield
    finally:
        _in_use.difference_update(own)


def check_rereadable(batches: Any) -> None:
    """Raise a ValueError unless these can be batches, and be read more than once."""
    if isinstance(batches, Iterator):
        raise ValueError(
            f"{type(batches).__name__} can be read only once, but every epoch reads its batches "
            "again: give the DataLoader itself, or list(...) of it"
        )
    if isinstance(batches, Dataset) or not isinstance(batches, Iterable):
        raise ValueError(
            f"{kind_of(batches)} cannot be read as batches: give a DataLoader of it, "
            "images.batches(...), or a list of (images, labels)"
        )


def _count(batches: Iterable) -> int:
    """Their number: their length, or else counted in one reading that leaves no trace."""
    try:
        return len(batches)
    except (AttributeError, NotImplementedError, TypeError):
        with fixed_order(batches, torch.device("cpu")):
            return sum(1 for _ in _bounded(batches))


def _bounded(batches: Iterable) -> Iterator:
    """The batches, of which there may be ``ENDLESS`` if they have no length.

    Raises:
        ValueError: if there are more.
    """
    for number, batch in enumerate(batches):
        if number == ENDLESS:
            raise ValueError(
                f"the loader has no length and did not end after {ENDLESS:,} batches: give it a "
                "__len__, or cut it to a list by itertools.islice"
            )
        yield batch


def read_pairs(batches: Iterable, *, once: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
    """Checked (images, labels), in one reading; if that is the only one, of an iterator as well.

    Raises:
        ValueError: as ``Rereadable`` and ``check_pair``.
    """
    is_iterator = once and isinstance(batches, Iterator)
    for batch in _bounded(batches) if is_iterator else Rereadable(batches):
        yield check_pair(batch)


@contextmanager
def fixed_order(batches: Iterable, device: torch.device) -> Iterator[None]:
    """Let the batches come in the same order whenever they are read, and leave no trace of it.

    Their epoch, and all random state that ``seeded`` covers, are as they were afterwards.
    """
    epoch = getattr(batches, "epoch", None)
    with seeded(0, device, generators_of(batches)):
        set_epoch(batches, 0)
        try:
            yield
        finally:
            if epoch is not None:
                set_epoch(batches, epoch)


def first_images(batches: Batches) -> Tensor:
    """The images of the first batch, in one reading that leaves no trace."""
    with fixed_order(batches, torch.device("cpu")), closing(read_pairs(batches)) as pairs:
        return next(pairs)[0]


def classes_in(batches: Batches) -> set[int]:
    """All labels that occur in these batches, in one reading that leaves no trace."""
    if isinstance(batches, ImageBatches):
        return set(batches.images.labels.tolist())
    with fixed_order(batches, torch.device("cpu")):
        return {label for _, labels in read_pairs(batches) for label in labels.unique().tolist()}


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
        self.inner = Rereadable(first), Rereadable(second)
        self.others = self._endless()

    def set_epoch(self, epoch: int) -> None:
        if epoch == 0:
            self.others = self._endless()
        set_epoch(self.inner[0], epoch)

    def __len__(self) -> int:
        return len(self.inner[0])

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for batch in self.inner[0]:
            yield (*check_pair(batch), *check_pair(next(self.others)))

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iterate_epochs(self.inner[1], itertools.count())


class Subsample:
    """A fraction of the batches, at least one. Their places are drawn once; their order is kept."""

    def __init__(self, batches: Batches, fraction: float, seed: int):
        self.inner = (Rereadable(batches),)
        total = len(self.inner[0])
        order = torch.randperm(total, generator=generator_from(seed))
        self.places = set(order[: max(1, round(fraction * total))].tolist())

    def set_epoch(self, epoch: int) -> None:
        set_epoch(self.inner[0], epoch)

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (batch for place, batch in enumerate(self.inner[0]) if place in self.places)
