"""What a network's last layer reads: features for a linear head that is trained apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .batches import Batches, first_images, fixed_order, read_pairs
from .devices import device_of, dtype_of, on_device, performance_settings, use_channels_last
from .layers import eval_mode, logit_layers, unwrapped


def features_of(model: nn.Module, batches: Batches) -> tuple[Tensor, Tensor]:
    """Inputs of the layer that makes the logits (N, D), float64, and labels (N,), on the CPU.

    The network runs in eval mode and is not changed; all random state is left as it was.

    Raises:
        ValueError: if the logits are not made by one layer that reads vectors.
    """
    layers = logit_layers(model, first_images(batches))
    found, labels, device = [], [], device_of(model)
    if len(layers) > 1:
        raise ValueError(f"{len(layers)} layers make the logits: features are those of one alone")
    hook = layers[0].register_forward_pre_hook(lambda _, inputs: found.append(inputs[0].cpu()))
    last, dtype = use_channels_last(model), dtype_of(model)
    speed, order = performance_settings(model), fixed_order(batches, device)
    try:
        with torch.no_grad(), eval_mode(model), speed, order:
            for images, targets in read_pairs(batches):
                unwrapped(model)[0](*on_device([images], device, last, dtype))
                labels.append(targets.cpu())
    finally:
        hook.remove()
    features, labels = torch.cat(found), torch.cat(labels)
    if features.ndim != 2 or len(features) != len(labels):
        raise ValueError(
            "the layer that makes the logits reads no vector per image, but a tensor of shape "
            f"{tuple(found[0].shape)}: use a network that ends in a linear layer"
        )
    return features.double(), labels
