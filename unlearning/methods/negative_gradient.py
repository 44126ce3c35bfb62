"""Negative gradient: climb the loss on the forget set, alone or while descending on the rest."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..core.batches import Batches, ZipCycle
from ..core.checks import check_number
from ..core.layers import copy_of
from ..core.loop import minimise
from ..core.losses import cross_entropy


def negative_gradient(
    model: nn.Module,
    forget: Batches,
    *,
    epochs: int = 10,
    lr: float = 0.03,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    stop_at_chance: bool = True,
    seed: int = 0,
) -> nn.Module:
    """Climb the loss on the forget set.

    Maximises E_forget[CE(f(x), y)]. The loss has no upper bound: too large an ``lr`` or too many
    ``epochs`` wreck the network, so watch the retain accuracy. The retain set is not read.
    BatchNorm statistics move too, towards those of the forget set.

    The defaults forget a class of MNIST (0 to 16 % of it stay known, in six runs with an MLP and a
    CNN), at the price of up to a fifth of the retain accuracy. Single images need other values.

    Source: Golatkar et al., Eternal Sunshine of the Spotless Net, CVPR 2020, section 6 ("negative
    gradient"); the stop is ours.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        forget: batches of images (B, C, H, W), float, normalised, and labels (B,), long.
        epochs: passes over the forget set, at most.
        lr: first learning rate of SGD; a cosine takes it to 0.
        momentum: momentum of SGD.
        weight_decay: L2 penalty of SGD.
        stop_at_chance: end at the first batch whose loss reaches log K, the loss of a guess.
        seed: random seed for dropout.

    Raises:
        Diverged: if the loss is no longer finite; names the step and the learning rate.
    """
    model = copy_of(model)
    chance = math.inf

    def ascent(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        nonlocal chance
        logits = model(images)
        chance = math.log(logits.shape[-1])
        return -cross_entropy(logits, labels)

    sgd = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "seed": seed}
    stop = (lambda value: -value >= chance) if stop_at_chance else None
    title = "negative gradient"
    return minimise(model, forget, ascent, epochs=epochs, stop=stop, title=title, **sgd)


def negative_gradient_plus(
    model: nn.Module,
    retain: Batches,
    forget: Batches,
    *,
    alpha: float = 0.97,
    epochs: int = 5,
    lr: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    stop_at_chance: bool = False,
    seed: int = 0,
) -> nn.Module:
    """NegGrad+: descend on the retain set while climbing on the forget set.

    Minimises alpha E_retain[CE(f(x), y)] - (1 - alpha) E_forget[CE(f(x), y)]. Each step takes one
    batch of each, as one for BatchNorm. The forget set is cycled.

    Source: Kurmanji et al., Towards Unbounded Machine Unlearning, NeurIPS 2023, section 5 (their
    beta is this alpha). Their code reads the two batches in two passes, or in eval mode; one joint
    pass in train mode, as here, came closer to retraining.

    The ascent has no upper bound, so that a network goes from nothing forgotten to nothing left
    within a factor of two of ``lr``. The defaults forget a class of MNIST with a CNN; with an MLP,
    which has no BatchNorm, they leave it known. What forgets it with both, and keeps the retain
    accuracy at 99.9 %, is ``stop_at_chance=True, alpha=0.7, lr=0.03``.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        retain: batches of images (B, C, H, W), float, normalised, and labels (B,), long.
        forget: the same, to be forgotten.
        alpha: weight of the retain set, from 0 (ascent alone) to 1 (fine-tuning).
        epochs: passes over the retain set.
        lr: first learning rate of SGD; a cosine takes it to 0.
        momentum: momentum of SGD.
        weight_decay: L2 penalty of SGD.
        stop_at_chance: climb only while the loss on a forget batch is below log K, the loss of a
            guess; this bound is ours.
        seed: random seed for dropout.

    Raises:
        Diverged: if the loss is no longer finite; names the step and the learning rate.
        ValueError: if ``alpha`` is not between 0 and 1.
    """
    alpha = check_number("alpha", alpha, "[0, 1]", "between 0 and 1")

    def loss(model: nn.Module, *batch: Tensor) -> Tensor:
        retain_images, retain_labels, forget_images, forget_labels = batch
        logits = model(torch.cat([retain_images, forget_images]))
        retain_logits, forget_logits = logits.tensor_split([len(retain_labels)])
        descent = cross_entropy(retain_logits, retain_labels)
        ascent = cross_entropy(forget_logits, forget_labels)
        if stop_at_chance:
            ascent = ascent.clamp(max=math.log(logits.shape[-1]))
        return alpha * descent - (1 - alpha) * ascent

    sgd = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "seed": seed}
    both = ZipCycle(retain, forget)
    return minimise(copy_of(model), both, loss, epochs=epochs, title="NegGrad+", **sgd)
