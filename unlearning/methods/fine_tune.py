"""Fine-tuning on the retain set, of all layers or of the last k."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import nn

from ..core.batches import Batches
from ..core.layers import NORMALISATIONS, has_own_parameters, reinitialise, weight_layers
from ..core.loop import minimise
from ..core.losses import classification_loss


def fine_tune(
    model: nn.Module,
    retain: Batches,
    *,
    epochs: int = 5,
    lr: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    last_layers: int | None = None,
    reinitialised: bool = False,
    seed: int = 0,
) -> nn.Module:
    """Continue training on the retain set alone, so that the rest is overwritten.

    Minimises E_retain[CE(f(x), y)]. With ``last_layers=k``, all layers before the last k are frozen
    (CF-k); with ``reinitialised``, those k also start from new weights (EU-k). Nothing pushes
    against the forget set: at a small ``lr`` it stays known.

    Source: the NeurIPS 2023 unlearning challenge's baseline; CF-k and EU-k: Goel et al., arXiv
    2201.06640. A layer is one with weights; a normalisation goes with the layer before it.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        retain: batches of images (B, C, H, W), float, normalised, and labels (B,), long.
        epochs: passes over the retain set.
        lr: first learning rate of SGD; a cosine takes it to 0.
        momentum: momentum of SGD.
        weight_decay: L2 penalty of SGD.
        last_layers: train only this many layers, counted from the output; by default all.
        reinitialised: draw new weights for the trained layers before training.
        seed: random seed for new weights and dropout.

    Raises:
        Diverged: if the loss is no longer finite; names the step and the learning rate.
        ValueError: if ``last_layers`` is not between 1 and the number of layers.
    """
    model = copy.deepcopy(model)
    trained = _last_modules(model, last_layers)
    if reinitialised:
        reinitialise(nn.ModuleList(trained), seed=seed)
    with nullcontext() if last_layers is None else _frozen_except(model, trained):
        sgd = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "seed": seed}
        loss = classification_loss
        return minimise(model, retain, loss, epochs=epochs, title="fine-tuning", **sgd)


def _last_modules(model: nn.Module, count: int | None) -> list[nn.Module]:
    """The last ``count`` layers with weights and the normalisations that follow them; None: all."""
    names = [name for name, _ in weight_layers(model)]
    if count is not None and not 1 <= count <= len(names):
        raise ValueError(f"last_layers must be between 1 and {len(names)}, not {count}")
    first = names[-count] if count is not None else None
    reached, modules = count is None, []
    for name, module in model.named_modules():
        reached = reached or name == first
        if reached and (has_own_parameters(module) or isinstance(module, NORMALISATIONS)):
            modules.append(module)
    return modules


@contextmanager
def _frozen_except(model: nn.Module, modules: list[nn.Module]) -> Iterator[None]:
    """Freeze all parameters outside ``modules``; each one's ``requires_grad`` is restored after."""
    needed_gradient = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.requires_grad_(False)
    for module in modules:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter, needed in needed_gradient:
            parameter.requires_grad_(needed)
