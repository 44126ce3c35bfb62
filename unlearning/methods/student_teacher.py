"""Student and teachers: learn from a good one what stays, from a bad one what is to go."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..data import Batches
from ..ensemble import member_by_member
from ..models import device_of, reinitialise
from ..training import minimise, sized
from .negative_gradient import Paired


@member_by_member()
def student_teacher(
    model: nn.Module,
    retain: Batches,
    forget: Batches,
    *,
    bad_teacher: nn.Module | None = None,
    temperature: float = 1.0,
    retain_fraction: float = 0.3,
    epochs: int = 1,
    lr: float = 3e-3,
    weight_decay: float = 0.0,
    seed: int = 0,
) -> nn.Module:
    r"""Distil a good teacher on the retain set and a bad one on the forget set.

    .. math:: \min_w \; E_{x \in retain \cup forget} \; KL(p_t(x) \,\|\, p_w(x))

    with p the softmax of logits / ``temperature``. The student w starts from the model. Its teacher
    t is the model itself on the retain set (competent), and ``bad_teacher`` on the forget set. No
    label is read. Each step takes a batch of the retain set and one of the forget set, which comes
    round as often as needed, in one pass of the student; the mean is over all their images.

    Source: Chundawat et al., Can Bad Teaching Induce Forgetting?, AAAI 2023, section 4, and the
    authors' code (temperature 1, 30 % of the retain set, 1 epoch of Adam at 1e-4, which a small
    network that is not pretrained needs larger). Their batches mix both sets in proportion, so that
    a small forget set is seen once; here it has its share of every batch. Their code divides the
    divergence by K as well.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        retain: batches of images (B, C, H, W), float, normalised, and labels (B,), not read.
        forget: the same, of what is to be forgotten.
        bad_teacher: incompetent teacher; by default the model with all its weights drawn again. A
            network impaired by noise is another one: ``impair_repair(..., repair_epochs=0)``.
        temperature: of both softmaxes.
        retain_fraction: part of the retain batches that is read, in (0, 1], drawn once and read in
            order; of shuffled batches, that part of each epoch's order.
        epochs: passes over that part.
        lr: first learning rate of Adam; a cosine takes it to 0.
        weight_decay: L2 penalty of Adam.
        seed: of the untrained teacher, of the part that is read, and of dropout.

    Raises:
        Diverged: when the loss is no longer finite; names the step and the learning rate.
        ValueError: a temperature that is not positive, a fraction outside (0, 1], a bad teacher
            with another number of outputs.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    if not 0 < retain_fraction <= 1:
        raise ValueError(f"retain_fraction must be above 0 and at most 1, not {retain_fraction}")
    student, good = copy.deepcopy(model), copy.deepcopy(model).eval()
    if bad_teacher is None:
        bad = reinitialise(copy.deepcopy(model), seed=seed).eval()
    else:
        bad = copy.deepcopy(bad_teacher).to(device_of(model)).eval()

    def loss(student: nn.Module, images: Tensor, _: Tensor, forgotten: Tensor, __: Tensor):
        with torch.no_grad():
            targets = torch.cat(same_outputs(good(images), bad(forgotten)), dim=-2)
        logits = student(torch.cat([images, forgotten], dim=-4))
        return divergence(targets, logits, temperature)

    return minimise(
        student,
        Paired(Part(retain, retain_fraction, seed), forget),
        loss,
        epochs=epochs,
        lr=lr,
        optimizer="adam",
        weight_decay=weight_decay,
        seed=seed,
        title="student and teachers",
    )


def divergence(target: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """KL(softmax target || softmax logits), mean over the batch and sum over members."""
    log_p, log_q = ((x.float() / temperature).log_softmax(-1) for x in (target, logits))
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean(-1).sum()


def same_outputs(good: Tensor, bad: Tensor) -> tuple[Tensor, Tensor]:
    if good.shape[-1] != bad.shape[-1]:
        raise ValueError(
            f"the bad teacher has {bad.shape[-1]} outputs, the network {good.shape[-1]}: teachers "
            "must know the same classes"
        )
    return good, bad


class Part:
    """A fraction of the batches, at least one, drawn once; in the order in which they come."""

    def __init__(self, batches: Batches, fraction: float, seed: int):
        self.batches = sized(batches)
        total = len(self.batches)
        order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
        self.places = set(order[: max(1, round(fraction * total))].tolist())

    def __len__(self) -> int:
        return len(self.places)

    def set_epoch(self, epoch: int) -> None:
        if hasattr(self.batches, "set_epoch"):
            self.batches.set_epoch(epoch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (batch for place, batch in enumerate(self.batches) if place in self.places)
