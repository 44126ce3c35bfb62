"""What methods need from a network: its layers by type, its modes, and fresh weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from .devices import device_of, seeded

NORMALISATIONS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def has_own_parameters(module: nn.Module) -> bool:
    """Whether the module itself, not one inside it, holds parameters."""
    return next(module.parameters(recurse=False), None) is not None


def weight_layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Modules that hold parameters of their own, with their names, except normalisations.

    Normalisations are recognised by type. Looking for the letters ``bn`` in a name would miss
    ``downsample.1`` of a ResNet.
    """
    return [
        (name, module)
        for name, module in model.named_modules()
        if has_own_parameters(module) and not isinstance(module, NORMALISATIONS)
    ]


def normalisation_layers(model: nn.Module) -> Iterator[nn.Module]:
    """The BatchNorm, GroupNorm and LayerNorm modules of a network, in order."""
    return (module for module in model.modules() if isinstance(module, NORMALISATIONS))


def reinitialise(model: nn.Module, *, seed: int) -> nn.Module:
    """Draw all parameters of ``model`` again, in place, each layer by its ``reset_parameters``.

    Every module is visited, not only the direct children: those of a ResNet that can be reset
    are its last layer alone. A network that sets its weights in another way when it is built, as
    torchvision's ResNets do, gets PyTorch's own initialisation instead.

    Raises:
        ValueError: if a layer with parameters of its own has no ``reset_parameters``.
    """
    with seeded(seed, device_of(model)):
        for module in model.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
            elif has_own_parameters(module):
                raise ValueError(
                    f"{type(module).__name__} has parameters but no reset_parameters(): give it "
                    "one, so that it can be initialised again"
                )
    return model


@contextmanager
def training_mode(model: nn.Module) -> Iterator[None]:
    """Train mode, except for normalisations whose parameters are all frozen; eval mode after."""
    model.train()
    for layer in normalisation_layers(model):
        own = list(layer.parameters(recurse=False))
        if own and not any(p.requires_grad for p in own):
            layer.eval()
    try:
        yield
    finally:
        model.eval()


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode for the block; every module's own mode is restored after it."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
