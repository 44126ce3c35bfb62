"""Random labels for the forget set, and batches in which both sets go through a network."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .batches import Batches, Rereadable, set_epoch
from .checks import check_logits, check_pair
from .loop import minimise
from .losses import cross_entropy
from .randomness import generator_from

Drawn = tuple[Tensor, Tensor, Tensor]  # images (B, C, H, W), labels (B,), draws (B,)
RETAINED = -1.0  # in the place of a draw


def minimise_relabelled(
    model: nn.Module,
    retain: Batches,
    forget: Batches,
    *,
    redraw: str,
    exclude_true: bool,
    order: str,
    seed: int,
    **options,
) -> nn.Module:
    """Minimise the cross-entropy with true labels of one set and random labels of the other.

    Args:
        model: changed, as by ``minimise``.
        retain: batches whose labels are kept.
        forget: batches whose labels are drawn at random.
        redraw: when a label is drawn; see ``BothSets``.
        exclude_true: draw among the other classes only.
        order: how batches are made of both sets; see ``BothSets``.
        seed: random seed for the labels, dropout and the order of loaders.
        options: further ones of ``minimise``.
    """
    both = BothSets(retain, forget, redraw=redraw, order=order, seed=seed)

    def loss(model: nn.Module, images: Tensor, labels: Tensor, draws: Tensor) -> Tensor:
        logits = check_logits(model(images))
        return cross_entropy(logits, random_labels_from(draws, labels, logits, exclude_true))

    return minimise(model, both, loss, seed=seed, **options)


def random_labels_from(draws: Tensor, labels: Tensor, logits: Tensor, exclude_true: bool) -> Tensor:
    """Turn uniform draws into uniform classes; where a draw is negative, the label stays.

    Args:
        draws: u in [0, 1), or negative, (B,).
        labels: true ones, (B,).
        logits: (B, K), of which only K is read.
        exclude_true: give (y + 1 + floor(u (K - 1))) mod K instead of floor(u K).
    """
    classes = logits.shape[-1]
    count = classes - 1 if exclude_true else classes
    drawn = (draws * count).long()  # below count: the largest product is not rounded up to it
    stays = draws < 0
    if exclude_true:
        drawn = (labels + 1 + drawn) % classes
        stays = stays | (labels < 0) | (labels >= classes)  # which the loss then refuses
    return torch.where(stays, labels, drawn)


class BothSets:
    """Batches (images, labels, draws) of two sets; one epoch reads each image of both once.

    An image to forget comes with a number drawn from U[0, 1), of which its label is made once the
    number of classes is known; one that is retained comes with -1.

    Args:
        retain: batches that set the number of steps if ``order`` is "mixed".
        forget: batches that get draws.
        redraw: "epoch" draws from a generator that starts anew, from another seed, in each epoch;
            "batch" from one that goes on; "once" reads the forget set once, keeps it in memory with
            its draws, and gives it in a new order in each epoch.
        order: "mixed" joins each retain batch with the same share of the forget set, cut between
            images, which may be none; "forget_first" gives all forget batches, then the others.
        seed: random seed for draws and orders.

    Raises:
        ValueError: if ``redraw`` or ``order`` is unknown, or as for ``Rereadable``.
    """

    def __init__(self, retain: Batches, forget: Batches, *, redraw: str, order: str, seed: int):
        if order not in ("mixed", "forget_first"):
            raise ValueError(f'order must be "mixed" or "forget_first", not {order!r}')
        self.inner = Rereadable(retain), _WithDraws(forget, redraw, seed)
        self.order = order

    def set_epoch(self, epoch: int) -> None:
        for batches in self.inner:
            set_epoch(batches, epoch)

    def __len__(self) -> int:
        retain, forget = self.inner
        return len(retain) + (len(forget) if self.order == "forget_first" else 0)

    def __iter__(self) -> Iterator[Drawn]:
        forget, retained = self.inner[1], self._retained()
        if self.order == "forget_first":
            yield from forget
            yield from retained
            return
        for batch, share in zip(retained, _shares(forget, len(self)), strict=True):
            columns = zip(batch, *share, strict=True)
            yield tuple(
                torch.cat([one, *(part.to(one) for part in parts)]) for one, *parts in columns
            )

    def _retained(self) -> Iterator[Drawn]:
        for batch in self.inner[0]:
            images, labels = check_pair(batch)
            yield images, labels, torch.full((len(labels),), RETAINED)


class _WithDraws:
    """Batches of one set, with a draw from U[0, 1) for each image."""

    def __init__(self, batches: Batches, redraw: str, seed: int):
        if redraw not in ("once", "epoch", "batch"):
            raise ValueError(f'redraw must be "once", "epoch" or "batch", not {redraw!r}')
        self.inner, self.redraw, self.seed = (Rereadable(batches),), redraw, seed
        self.epoch, self.running, self.memory = 0, _stream(seed, 0), None

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        if epoch == 0:
            self.running = _stream(self.seed, 0)
        set_epoch(self.inner[0], epoch)

    def __len__(self) -> int:
        return len(self.inner[0])

    def __iter__(self) -> Iterator[Drawn]:
        if self.redraw == "once":
            return self._from_memory()
        return self._read(
            self.running if self.redraw == "batch" else _stream(self.seed, self.epoch)
        )

    def _read(self, generator: torch.Generator) -> Iterator[Drawn]:
        for batch in self.inner[0]:
            images, labels = check_pair(batch)
            yield images, labels, torch.rand(len(labels), generator=generator)

    def _from_memory(self) -> Iterator[Drawn]:
        """The batches that were read first, their images in the epoch's order."""
        if self.memory is None:
            self.memory = list(self._read(_stream(self.seed, 0)))
        sizes = [len(labels) for _, labels, _ in self.memory]
        order = torch.randperm(sum(sizes), generator=_stream(self.seed, 1 + self.epoch))
        columns = [torch.cat(column).detach() for column in zip(*self.memory, strict=True)]
        parts = [column[order.to(column.device)].split(sizes) for column in columns]
        return zip(*parts, strict=True)


def _stream(seed: int, number: int) -> torch.Generator:
    """One of many generators of a seed, none of which is that of a loader or of dropout."""
    return generator_from((seed + 1) * 998_244_353 + number)


def _shares(batches: _WithDraws, steps: int) -> Iterator[list[Drawn]]:
    """Cut the batches, in order, into shares of the same fraction of their number.

    Share t ends after ``t * len(batches) / steps`` batches; a fraction is rounded down to images.
    """
    count, share, ends = len(batches), [], 1
    for place, batch in enumerate(batches):
        start, size = 0, len(batch[1])
        while ends * count <= (place + 1) * steps:
            stop = (ends * count - place * steps) * size // steps
            yield [*share, tuple(part[start:stop] for part in batch)]
            share, start, ends = [], stop, ends + 1
        share.append(tuple(part[start:] for part in batch))
