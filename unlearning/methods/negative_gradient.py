"""Negative gradient: climb the loss on what is to be forgotten, alone or beside the retain set."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..data import Batches
from ..ensemble import member_by_member
from ..training import cross_entropy, in_epochs, minimise, sized


@member_by_member(when="stop_at_chance")  # each stops at a step of its own
def negative_gradient(
    model: nn.Module,
    forget: Batches,
    *,
    epochs: int = 5,
    lr: float = 1e-3,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    stop_at_chance: bool = True,
    seed: int = 0,
) -> nn.Module:
    """Climb the loss on the forget set.

    Maximises E_forget[CE(f(x), y)]. The loss has no upper bound: too large an ``lr`` or too many
    ``epochs`` wreck the network, so watch the retain accuracy. ``stop_at_chance`` ends the climb at
    the first batch whose loss reaches log K, that of a guess, before any harm beyond ignorance. The
    retain set is not read. BatchNorm statistics move too, towards the forget set's.

    Source: Golatkar et al., Eternal Sunshine of the Spotless Net, CVPR 2020, section 6 ("negative
    gradient"); the stop is ours.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        forget: batches of images (B, C, H, W), float, normalised, and labels (B,), long.
        epochs: passes over the forget set, at most.
        lr: first learning rate of SGD; a cosine takes it to 0.
        momentum: of SGD.
        weight_decay: of SGD.
        stop_at_chance: end when a batch's loss reaches log K.
        seed: of dropout.

    Raises:
        Diverged: when the loss is no longer finite; names the step and the learning rate.
    """
    model = copy.deepcopy(model)
    chance = math.inf

    def ascent(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        nonlocal chance
        logits = model(images)
        chance = math.log(logits.shape[-1]) * logits[..., 0, 0].numel()  # of all members
        return -cross_entropy(logits, labels)

    return minimise(
        model,
        forget,
        ascent,
        epochs=epochs,
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        stop=(lambda value: -value >= chance) if stop_at_chance else None,
        seed=seed,
        title="negative gradient",
    )


def negative_gradient_plus(
    model: nn.Module,
    retain: Batches,
    forget: Batches,
    *,
    alpha: float = 0.95,
    epochs: int = 5,
    lr: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    seed: int = 0,
) -> nn.Module:
    """NegGrad+: descend on the retain set while climbing on the forget set.

    Minimises alpha E_retain[CE(f(x), y)] - (1 - alpha) E_forget[CE(f(x), y)]. Each step takes one
    batch of each; an epoch is a pass over the retain set, the forget set coming round as often as
    needed. Both batches go through the network as one, so BatchNorm sees them together.

    Source: Kurmanji et al., Towards Unbounded Machine Unlearning, NeurIPS 2023, section 5 (their
    beta is this alpha).

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        retain: batches of images (B, C, H, W), float, normalised, and labels (B,), long.
        forget: the same, of what is to be forgotten.
        alpha: weight of the retain set, from 0 (ascent alone) to 1 (fine-tuning).
        epochs: passes over the retain set.
        lr: first learning rate of SGD; a cosine takes it to 0.
        momentum: of SGD.
        weight_decay: of SGD.
        seed: of dropout.

    Raises:
        Diverged: when the loss is no longer finite; names the step and the learning rate.
        ValueError: an alpha outside [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be between 0 and 1, not {alpha}")

    def loss(model: nn.Module, images: Tensor, labels: Tensor, forgotten: Tensor, wrong: Tensor):
        count = labels.shape[-1]
        logits = model(beside(images, forgotten))
        kept, lost = logits[..., :count, :], logits[..., count:, :]
        return alpha * cross_entropy(kept, labels) - (1 - alpha) * cross_entropy(lost, wrong)

    return minimise(
        copy.deepcopy(model),
        Paired(retain, forget),
        loss,
        epochs=epochs,
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        seed=seed,
        title="negative gradient +",
    )


def beside(images: Tensor, others: Tensor) -> Tensor:
    """Two batches as one, (..., B + B', C, H, W); what members share is repeated for each."""
    members = torch.broadcast_shapes(images.shape[:-4], others.shape[:-4])
    both = [batch.expand(*members, *batch.shape[-4:]) for batch in (images, others)]
    return torch.cat(both, dim=-4)


class Paired:
    """Each batch of ``first`` beside one of ``second``, which comes round as often as needed.

    An epoch is a pass over ``first``; ``second`` goes on from epoch to epoch where it was.
    """

    def __init__(self, first: Batches, second: Batches):
        self.first, self.second = sized(first), sized(second)
        self.others = self._endless()

    def set_epoch(self, epoch: int) -> None:
        if epoch == 0:
            self.others = self._endless()
        if hasattr(self.first, "set_epoch"):
            self.first.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.first)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for images, labels in self.first:
            yield (images, labels, *next(self.others))

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        return in_epochs(self.second, itertools.count())
