"""Running statistics of normalisations that stay while a network is trained."""

from __future__ import annotations

from torch import nn


def keep_statistics(model: nn.Module) -> nn.Module:
    """Let ``minimise`` use and keep the running statistics of BatchNorm, in place.

    The scales and shifts are still trained. Other normalisations have no statistics.
    """
    by_hand = [module for module in model.modules() if model.training and not module.training]
    model.train()
    has_statistics = nn.modules.batchnorm._NormBase
    kept = [module for module in model.modules() if isinstance(module, has_statistics)]
    for module in [*by_hand, *kept]:
        module.training = False
    return model
