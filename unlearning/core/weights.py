"""The weights of convolutions and other matrices, as the parameters that hold them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import nn
from torch.nn.modules.conv import _ConvNd

from .layers import weight_layers


def weights_of(layers: Iterable[nn.Module]) -> list[nn.Parameter]:
    """The parameters that hold these layers' weights, each once; frozen ones are left out.

    Of a pruned layer that is the one under the mask; under weight normalisation, the direction.
    """
    found = [
        parameter
        for layer in layers
        for parameter in layer.parameters()
        if parameter.shape == layer.weight.shape and parameter.requires_grad
    ]
    return list(dict.fromkeys(found))


def convolutions(model: nn.Module) -> Iterator[nn.Module]:
    """The convolutions of a network, in the order in which it defines them."""
    return (module for module in model.modules() if isinstance(module, _ConvNd))


def convolutions_or_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The weights of all convolutions; of a network without any, all parameters with two axes.

    An axis of length 1 does not count. Frozen parameters and normalisations are left out.
    """
    if any(True for _ in convolutions(model)):
        return weights_of(convolutions(model))
    parameters = [p for _, layer in weight_layers(model) for p in layer.parameters(recurse=False)]
    matrices = [p for p in parameters if p.requires_grad and p.squeeze().ndim >= 2]
    return list(dict.fromkeys(matrices))
