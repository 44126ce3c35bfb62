"""SCRUB: a student leaves its teacher on the forget set and stays with it on the retain set."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, chain

import torch
from torch import Tensor, nn

from ..core.batches import Batches, check_rereadable
from ..core.checks import check_logits, check_number, check_whole
from ..core.layers import copy_of
from ..core.loop import minimise
from ..core.losses import cross_entropy, kl_divergence
from ..core.passes import Passes
from ..training import predict

_FORGET, _RETAIN = 0, 1  # places in the passes


def scrub(
    model: nn.Module,
    retain: Batches,
    forget: Batches,
    *,
    validation: Batches | None = None,
    max_epochs: int = 3,
    epochs: int = 5,
    temperature: float = 4.0,
    alpha: float = 0.5,
    gamma: float = 1.0,
    lr: float = 3e-3,
    decay_after: Sequence[int] | None = None,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    seed: int = 0,
) -> nn.Module:
    """SCRUB: leave the teacher on the forget set, and stay with it on the retain set.

    The teacher is the model itself, frozen and in eval mode. With D(x) = T^2 KL(softmax(t(x) / T)
    || softmax(f(x) / T)), each of the first ``max_epochs`` epochs begins with a pass that maximises
    E_forget[D]; every epoch has a pass that minimises gamma E_retain[CE(f(x), y)] + alpha
    E_retain[D]. One optimizer and one schedule serve all passes.

    Two warnings. D is at its minimum of 0 when training starts, where its gradient is 0: without
    BatchNorm or dropout the first maximising pass does next to nothing (with Adam it would follow
    rounding errors), and only the step away that a retain pass made sets the second one off. So
    take at least two. And D has no upper bound: twice the rate can wreck the network.

    With ``validation``, SCRUB+R ("rewinding"): of the students at the end of each epoch, the one is
    returned whose error on the forget set is closest to the last one's error on ``validation``, so
    that forgetting does not overshoot; of equally close ones, the last.

    The defaults forget a class of MNIST (5,000 images, class 5): 1 to 2 % of it stay known to an
    MLP and 0 % to a CNN, in three runs each, of the rest 99.9 and 96 %. A random tenth stays known.

    Source: Kurmanji et al., Towards Unbounded Machine Unlearning, NeurIPS 2023 (arXiv 2302.09880),
    section 3, with temperature 4, alpha 0.5, gamma 1 and 3 of 5 epochs from one of the authors'
    notebooks. They take a rate of 5e-4 and smaller forget batches, and there is no code of theirs
    for rewinding. The cosine is ours; their steps of 0.1 are ``decay_after``.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        retain: batches of images (B, C, H, W), float, normalised, and labels (B,), long.
        forget: the same, to be forgotten; labels are read only with ``validation``.
        validation: held-out images of the classes of ``forget``, in their proportions; by default
            nothing is rewound.
        max_epochs: number of epochs, from the first one on, that maximise too.
        epochs: passes over the retain set.
        temperature: temperature T of both softmaxes.
        alpha: weight of the divergence on the retain set.
        gamma: weight of the cross-entropy on the retain set.
        lr: first learning rate of SGD; a cosine takes it to 0.
        decay_after: instead of the cosine, epochs, counted from 1, after which the rate is divided
            by ten; () keeps it.
        momentum: momentum of SGD.
        weight_decay: L2 penalty of SGD.
        seed: random seed for dropout.

    Raises:
        Diverged: if the loss is no longer finite; names the step and the learning rate.
        ValueError: if ``temperature`` is not positive, or a weight, a number of epochs or one of
            ``decay_after`` is out of range.
    """
    epochs, max_epochs = check_whole("epochs", epochs), check_whole("max_epochs", max_epochs)
    temperature = check_number("temperature", temperature, "(0, inf)", "positive")
    alpha = check_number("alpha", alpha, "[0, inf)", "at least 0")
    gamma = check_number("gamma", gamma, "[0, inf)", "at least 0")
    if validation is not None:
        check_rereadable(validation)
    student, teacher = copy_of(model), copy_of(model).eval().requires_grad_(False)
    phases = [[_FORGET, _RETAIN] if e < max_epochs else [_RETAIN] for e in range(epochs)]
    passes = Passes([forget, retain], [*chain(*phases)] or [_RETAIN])
    ends = list(accumulate(sum(len(passes.inner[place]) for place in phase) for phase in phases))
    schedule = "cosine" if decay_after is None else _decay(ends, decay_after)
    trail = _Trail(ends if validation is not None else [])
    sgd = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "seed": seed}
    options = {"schedule": schedule, "after_step": trail.note, "title": "SCRUB", **sgd}
    loss = _loss(teacher, temperature, alpha, gamma)
    minimise(student, passes, loss, epochs=min(epochs, 1), **options)
    if trail.kept:
        reference = _error(student, validation)
        errors = [_error(trail.load(student, place), forget) for place in range(epochs)]
        trail.load(student, _closest(errors, reference))
    return student


def _loss(
    teacher: nn.Module, temperature: float, alpha: float, gamma: float
) -> Callable[..., Tensor]:
    """The loss of a step, which depends on the set that its batch is from."""

    def divergence(images: Tensor, logits: Tensor) -> Tensor:
        with torch.no_grad():
            target = teacher(images)
        return _divergence(target, logits, temperature)

    def loss(student: nn.Module, images: Tensor, labels: Tensor, place: Tensor) -> Tensor:
        logits = check_logits(student(images))
        if int(place) == _FORGET:
            return -divergence(images, logits)
        value = gamma * cross_entropy(logits, labels)
        return value + alpha * divergence(images, logits) if alpha else value

    return loss


def _divergence(target: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """T^2 KL(target || student) of logits (B, K) at temperature T, mean over the batch."""
    p = (target.float() / temperature).softmax(-1)
    return temperature**2 * kl_divergence(p, logits.float() / temperature)


def _decay(ends: Sequence[int], after: Sequence[int]) -> Callable[[int], float]:
    """The factor of the learning rate at a step: a tenth for each epoch of ``after`` that is done.

    Args:
        ends: number of steps up to the end of each epoch.
        after: numbers of epochs, counted from 1.
    """
    after = [check_whole("an epoch of decay_after", epoch) for epoch in after]
    return lambda step: 0.1 ** sum(epoch <= bisect_right(ends, step) for epoch in after)


class _Trail:
    """The student at the end of every epoch."""

    def __init__(self, ends: Sequence[int]):
        self.ends, self.steps, self.kept = set(ends), 0, []

    def note(self, student: nn.Module) -> None:
        """Called after each step; keeps a copy if that was an epoch's last."""
        self.steps += 1
        if self.steps in self.ends:
            self.kept.append([tensor.detach().clone() for tensor in _tensors(student)])

    def load(self, student: nn.Module, place: int) -> nn.Module:
        with torch.no_grad():
            for now, then in zip(_tensors(student), self.kept[place], strict=True):
                now.copy_(then)
        return student


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _error(model: nn.Module, batches: Batches) -> float:
    logits, labels = predict(model, batches)
    return float((logits.argmax(-1) != labels).double().mean())


def _closest(errors: Sequence[float], reference: float) -> int:
    """Place of the error that is closest to the reference; of equally close ones, the last."""
    return min(range(len(errors)), key=lambda place: (abs(errors[place] - reference), -place))
