"""Random mask: zero a random part of the weights, then fine-tune on the retain set."""

from __future__ import annotations

import torch
from torch import nn

from ..core.batches import Batches
from ..core.checks import check_number
from ..core.layers import copy_of, weight_layers
from ..core.loop import minimise
from ..core.losses import classification_loss
from ..core.randomness import generator_from


def random_mask(
    model: nn.Module,
    retain: Batches,
    *,
    ratio: float = 0.5,
    epochs: int = 5,
    lr: float = 3e-3,
    weight_decay: float = 1e-4,
    seed: int = 0,
) -> nn.Module:
    """Zero a random fraction of every parameter outside BatchNorm, then repair on the retain set.

    w' = m * w, with m ~ Bernoulli(1 - ratio) drawn once for each weight and bias; then Adam on
    E_retain[CE(f(x), y)] with a cosine from ``lr`` to a tenth of it. Zeroed weights are free to
    grow again: the mask is a partial reset, not pruning. BatchNorm is recognised by its type. A
    parameter that two layers share is masked once, and one that is frozen is left as it is.

    Source: a public entry to the NeurIPS 2023 unlearning challenge, which used lr 1e-4 on a
    ResNet-18; a small network needs the larger default to recover in five epochs.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        retain: batches of images (B, C, H, W), float, normalised, and labels (B,), long.
        ratio: fraction of each parameter that is zeroed, from 0 to 1.
        epochs: passes over the retain set.
        lr: first learning rate of Adam; a cosine takes it to a tenth.
        weight_decay: L2 penalty of Adam.
        seed: random seed for the mask and dropout.

    Raises:
        Diverged: if the loss is no longer finite; names the step and the learning rate.
        ValueError: if ``ratio`` is not between 0 and 1.
    """
    ratio = check_number("ratio", ratio, "[0, 1]", "between 0 and 1")
    model, generator = copy_of(model), generator_from(seed)
    parameters = [w for _, layer in weight_layers(model) for w in layer.parameters(recurse=False)]
    with torch.no_grad():
        for w in dict.fromkeys(parameters):
            if w.requires_grad:
                w *= (torch.rand(w.shape, generator=generator) >= ratio).to(w)
    adam = {"optimizer": "adam", "lr": lr, "weight_decay": weight_decay, "final_lr": 0.1}
    options = {**adam, "seed": seed, "title": "random mask"}
    return minimise(model, retain, classification_loss, epochs=epochs, **options)
