"""What the layers of a network hold of an image: one vector per image and layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from ..core.batches import Batches, first_images, fixed_order, read_pairs
from ..core.checks import check_module, kind_of, shown, warn_of_batch_statistics
from ..core.devices import device_of, dtype_of, on_device, performance_settings, use_channels_last
from ..core.layers import eval_mode, is_normalisation, logit_layers, unwrapped, weight_layers
from ..core.own_sets import batches_of
from ..measurement import Readable

PENULTIMATE = "penultimate"  # name of what the layer that makes the logits reads


def layer_features(
    model: nn.Module, data: Readable, layers: Iterable[str] | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """Features of each image in chosen layers, {layer: (N, D)}, and labels (N,), on the CPU.

    An output with several places, a map (B, C, H, W) or tokens (B, T, C), is averaged over them: a
    feature is the mean activation of a channel. Where in the image something was found is lost.

    The network runs in eval mode, read by forward hooks that are removed even if it fails; it is
    not changed, and all random state is left as it was.

    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> features, _ = layer_features(network, [(torch.zeros(5, 1, 2, 2), torch.zeros(5).long())])
    >>> {name: tuple(values.shape) for name, values in features.items()}
    {'2': (5, 3), 'penultimate': (5, 3)}

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K).
        data: images and labels, as ``measure`` takes them.
        layers: names of modules whose output is taken, as ``model.named_modules()`` gives them (of
            a compiled or parallel network, those inside), or "penultimate": the input of the layer
            that makes the logits. By default, in the order in which they run,

            - each block, that is a child of an ``nn.Sequential`` or ``nn.ModuleList`` that holds
              two weight layers or more and not the last one, the outermost where they are nested;
            - each other weight layer but the last; in an ``nn.Sequential``, after the
              normalisations and activations that follow it;
            - the penultimate features.

            What does not return one row per image, or is not called, is then left out.

    Returns:
        (float32, or float64 of such a network; of a layer that is called several times, the last
        output; labels)

    Raises:
        ValueError: if a layer does not exist, is not called, or returns no row per image; if it
            cannot be told which single layer makes the logits, and its input is asked for; if a
            feature is not finite.
    """
    check_module(model)
    warn_of_batch_statistics(model)
    batches, network = batches_of(data), unwrapped(model)[0]
    wanted = None if layers is None else [layers] if isinstance(layers, str) else list(layers)
    if wanted == []:
        raise ValueError("layers names no layer: name one, or leave it out")
    points = dict(network.named_modules())
    if wanted is None or PENULTIMATE in wanted:
        points[PENULTIMATE] = _logit_layer(model, batches)
    if wanted is None:
        wanted = _default_layers(network, points[PENULTIMATE])
    elif missing := [name for name in wanted if name not in points]:
        raise ValueError(
            f"the network has no layer {missing[0]!r}: name some of {shown(list(points)[1:])}"
        )
    chosen = {name: points[name] for name in wanted}
    return _read(model, batches, chosen, strict=layers is not None)


def features_of(model: nn.Module, batches: Batches) -> tuple[Tensor, Tensor]:
    """Inputs of the layer that makes the logits (N, D), float64, and labels (N,), on the CPU.

    The network runs in eval mode and is not changed; all random state is left as it was.

    Raises:
        ValueError: if the logits are not made by one layer that reads vectors.
    """
    last = _logit_layer(model, batches)
    found, labels = _read(model, batches, {PENULTIMATE: last}, strict=True, average=False)
    return found[PENULTIMATE].double(), labels


def _logit_layer(model: nn.Module, batches: Batches) -> nn.Module:
    layers = logit_layers(model, first_images(batches))
    if len(layers) > 1:
        raise ValueError(f"{len(layers)} layers make the logits: features are those of one alone")
    return layers[0]


def _default_layers(network: nn.Module, last: nn.Module) -> list[str]:
    """Names of the blocks, of the weight layers outside them, and the penultimate features."""
    in_a_row = nn.Sequential | nn.ModuleList
    blocks, layers = [], []
    for name, module in network.named_modules():
        parent = network.get_submodule(name.rpartition(".")[0])
        if any(name.startswith(f"{block}.") for block in blocks) or module is network:
            continue
        within = weight_layers(module)
        if isinstance(parent, in_a_row) and len(within) > 1 and last not in module.modules():
            blocks.append(name)
        elif within == [("", module)] and module is not last:
            layers.append(_activated(network, name))
    return [*blocks, *layers, PENULTIMATE]


def _activated(network: nn.Module, name: str) -> str:
    """The layer, or in a Sequential the last of the normalisations and activations after it."""
    above, dot, own = name.rpartition(".")
    parent = network.get_submodule(above)
    if not isinstance(parent, nn.Sequential):
        return name
    names = list(parent._modules)
    for following in names[names.index(own) + 1 :]:
        module = parent.get_submodule(following)
        if not (is_normalisation(module) or type(module).__module__ == nn.ReLU.__module__):
            break
        own = following
    return f"{above}{dot}{own}"


def _read(
    model: nn.Module,
    batches: Batches,
    layers: Mapping[str, nn.Module],
    *,
    strict: bool,
    average: bool = True,
) -> tuple[dict[str, Tensor], Tensor]:
    """Features by layer, in the order in which they were made, or as named if ``strict``."""
    found, labels, device, network = {}, [], device_of(model), unwrapped(model)[0]
    last, dtype = use_channels_last(model), dtype_of(model)
    speed, order = performance_settings(model), fixed_order(batches, device)
    hooked = _noting(layers, average)
    with torch.no_grad(), eval_mode(model), speed, order, hooked as noted:
        for images, targets in read_pairs(batches):
            noted.clear()
            network(*on_device([images], device, last, dtype))
            for name in layers if strict else list(noted):
                fault = _fault(name, noted.get(name), len(images))
                if not fault:
                    found.setdefault(name, []).append(noted[name].cpu())
                elif strict:
                    raise ValueError(fault)
            labels.append(targets.cpu())
    features = {name: torch.cat(parts) for name, parts in found.items()}
    for name, values in features.items():
        if not values.isfinite().all():
            raise ValueError(f"features of {name} are not finite: weights or images hold NaN")
    return features, torch.cat(labels)


@contextmanager
def _noting(layers: Mapping[str, nn.Module], average: bool) -> Iterator[dict[str, Tensor]]:
    """Note what each layer returns in the latest forward pass, by name; what the last one reads."""
    noted, hooks = {}, []

    def note(name: str, module: nn.Module, inputs: tuple, named: dict, output: Tensor) -> None:
        reads = name == PENULTIMATE
        value = (*inputs, *named.values())[0] if reads else output
        if isinstance(value, Tensor) and value.is_floating_point():
            value = value if value.dtype == torch.float64 else value.float()
            value = _averaged(value, _width(module, reads)) if average else value
            value = value.clone()  # which the next layer may change in place
        noted.pop(name, None)
        noted[name] = value

    try:
        for name, module in layers.items():
            hooks.append(module.register_forward_hook(partial(note, name), with_kwargs=True))
        yield noted
    finally:
        for hook in hooks:
            hook.remove()


def _width(module: nn.Module, reads: bool) -> int | None:
    """Channels that a layer reads, or that the last weight layer in a module returns, if known."""
    weights = [getattr(layer, "weight", None) for _, layer in weight_layers(module)]
    shapes = [weight.shape for weight in weights if isinstance(weight, Tensor) and weight.ndim > 1]
    return shapes[-1][reads] if shapes else None


def _averaged(value: Tensor, width: int | None) -> Tensor:
    """Mean over all axes but the first and the channels': the second of a map, the last of tokens.

    It is the other of these two if that one alone has as many entries as there are channels, as
    in the maps (B, H, W, C) of a Swin transformer.
    """
    if value.ndim < 3:
        return value
    axis, other = (-1, 1) if value.ndim == 3 else (1, -1)
    if value.shape[other] == width != value.shape[axis]:
        axis = other
    return value.movedim(axis, 1).flatten(2).mean(2)


def _fault(name: str, value: Tensor | None, count: int) -> str:
    """What keeps this from being one vector per image, in a sentence; empty if it is one."""
    is_vector = isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 2
    if is_vector and len(value) == count:
        return ""
    if value is None:
        return f"layer {name} is not called when the network reads images: name another"
    if name == PENULTIMATE:
        return (
            "the layer that makes the logits reads no vector per image, but "
            f"{kind_of(value)}: use a network that ends in a linear layer"
        )
    return f"layer {name} returns no vector or map per image, but {kind_of(value)}: name another"
