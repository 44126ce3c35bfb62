"""Fine-tuning on the retain set, of all layers or of the last k."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn

from ..core.batches import Batches, Rereadable, first_images
from ..core.checks import check_whole
from ..core.layers import (
    copy_of,
    has_own_parameters,
    is_normalisation,
    logit_layers,
    reinitialise,
    weight_layers,
)
from ..core.loop import minimise
from ..core.losses import classification_loss


def fine_tune(
    model: nn.Module,
    retain: Batches,
    *,
    epochs: int = 5,
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-3,
    last_layers: int | None = None,
    reinitialised: bool = False,
    seed: int = 0,
) -> nn.Module:
    """Continue training on the retain set alone, so that the rest is overwritten.

    Minimises E_retain[CE(f(x), y)]. With ``last_layers=k``, all layers before the last k are frozen
    (CF-k); with ``reinitialised``, those k also start from new weights (EU-k). Nothing pushes
    against the forget set: at a smaller ``lr`` or ``weight_decay`` it stays known. The defaults
    forget a class of MNIST (at most 2 % stay known).

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
        ValueError: if ``last_layers`` is not between 1 and the number of layers, or these do not
            hold all that make the logits.
    """
    model, retain = copy_of(model), Rereadable(retain)
    trained = _last_modules(model, last_layers)
    if last_layers is not None:
        _check_reach_the_logits(trained, logit_layers(model, first_images(retain)))
    if reinitialised:
        _draw_again(trained, seed)
    with nullcontext() if last_layers is None else _frozen_except(model, trained):
        sgd = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "seed": seed}
        loss = classification_loss
        return minimise(model, retain, loss, epochs=epochs, title="fine-tuning", **sgd)


def _last_modules(model: nn.Module, count: int | None) -> list[nn.Module]:
    """The last ``count`` layers with weights and the normalisations that follow them; None: all."""
    names = [name for name, _ in weight_layers(model)]
    if count is not None and not 1 <= check_whole("last_layers", count) <= len(names):
        raise ValueError(f"last_layers must be between 1 and {len(names)}, not {count}")
    first = names[-count] if count is not None else None
    reached, modules = count is None, []
    for name, module in model.named_modules():
        reached = reached or name == first
        if reached and (has_own_parameters(module) or is_normalisation(module)):
            modules.append(module)
    return modules


def _check_reach_the_logits(trained: list[nn.Module], makers: list[nn.Module]) -> None:
    """Refuse to count layers from an end of the network's definition that is not its output."""
    if not set(makers) <= set(trained):
        raise ValueError(
            "the last layers, in the order in which the network defines them, do not hold all that "
            f"make its logits ({len(makers)} layers): name more in last_layers, or freeze "
            "parameters yourself and leave last_layers out"
        )


def _draw_again(modules: list[nn.Module], seed: int) -> None:
    """New weights, except for parameters that the caller froze."""
    parameters = [p for module in modules for p in module.parameters(recurse=False)]
    frozen = [(p, p.detach().clone()) for p in parameters if not p.requires_grad]
    reinitialise(nn.ModuleList(modules), seed=seed)
    with torch.no_grad():
        for parameter, value in frozen:
            parameter.copy_(value)


@contextmanager
def _frozen_except(model: nn.Module, modules: list[nn.Module]) -> Iterator[None]:
    """Freeze all parameters outside ``modules``; each one's ``requires_grad`` is restored after."""
    needed_gradient = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    trained = {id(p) for module in modules for p in module.parameters(recurse=False)}
    for parameter, needed in needed_gradient:
        parameter.requires_grad_(needed and id(parameter) in trained)
    try:
        yield
    finally:
        for parameter, needed in needed_gradient:
            parameter.requires_grad_(needed)
