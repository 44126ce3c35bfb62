"""What methods need from a network: a copy, its layers, its modes, and fresh weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo import OptimizedModule

from .checks import check_logits, check_module
from .devices import device_of, dtype_of, on_device, with_gradients
from .randomness import seeded

NORMALISATIONS = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)


def copy_of(model: nn.Module) -> nn.Module:
    """A deep copy, of a network as well that holds tensors which it computed.

    Such are the ``weight`` of a layer that was just pruned, and what a forward pass has cached:
    PyTorch refuses to copy them, and the copy holds their values.

    Raises:
        ValueError: if the network holds something that cannot be copied.
    """
    check_module(model)
    computed = _computed_tensors([vars(module) for module in model.modules()])
    try:
        return copy.deepcopy(model, {id(one): one.detach().clone() for one in computed})
    except Exception as error:
        raise ValueError(
            f"the network cannot be copied ({type(error).__name__}: {error}): methods work on a "
            "copy, so let it hold nothing but layers, tensors and simple values"
        ) from error


def _computed_tensors(value: Any) -> Iterator[Tensor]:
    """All tensors of an autograd graph in nested lists, tuples and dicts."""
    if isinstance(value, Tensor) and not value.is_leaf:
        yield value
    elif isinstance(value, list | tuple | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _computed_tensors(one)


def has_own_parameters(module: nn.Module) -> bool:
    """Whether the module itself, not one inside it, holds parameters."""
    return next(module.parameters(recurse=False), None) is not None


def is_normalisation(module: nn.Module) -> bool:
    """Whether a module normalises: by its type, or a class named so whose parameters are vectors.

    Looking for the letters ``bn`` in a module's name would miss ``downsample.1`` of a ResNet.
    Libraries of networks bring normalisations of their own, such as timm's ``RmsNorm``.
    """
    if isinstance(module, NORMALISATIONS):
        return True
    named_so = "norm" in type(module).__name__.lower() and has_own_parameters(module)
    return named_so and all(p.squeeze().ndim <= 1 for p in module.parameters(recurse=False))


def weight_layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Modules that hold parameters of their own, with their names, which are layers.

    Normalisations and activations are not: each goes with the layer before it.
    """
    return [
        (name, module)
        for name, module in model.named_modules()
        if has_own_parameters(module) and not is_normalisation(module)
        if not isinstance(module, nn.PReLU)
    ]


def normalisation_layers(model: nn.Module) -> Iterator[nn.Module]:
    """The BatchNorm, GroupNorm, LayerNorm and RMSNorm modules of a network, in order."""
    return filter(is_normalisation, model.modules())


def unwrapped(model: nn.Module) -> tuple[nn.Module, str]:
    """The network inside ``torch.compile`` or ``DataParallel``, and how its names begin there.

    Hooks and ``torch.func`` need the network itself.
    """
    prefix = ""
    while isinstance(model, nn.DataParallel | OptimizedModule):
        inside = "module" if isinstance(model, nn.DataParallel) else "_orig_mod"
        model, prefix = getattr(model, inside), f"{prefix}{inside}."
    return model, prefix


@with_gradients()
def logit_layers(model: nn.Module, images: Tensor) -> list[nn.Module]:
    """The layers that make the logits: row k of each feeds logit k alone.

    Usually this is one linear layer. A distilled DeiT has two, whose mean is taken; a SqueezeNet
    has a convolution whose places are averaged. They are found by reading a few images: the logits
    must depend on nothing but these layers' outputs, class by class.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        images: a few.

    Raises:
        ValueError: if it cannot be told.
    """
    model, _ = unwrapped(model)
    twin = copy_of(model).eval().requires_grad_(True)
    (images,) = on_device(
        [images[:4]], device_of(model), channels_last=False, dtype=dtype_of(model)
    )
    with torch.no_grad():
        found = check_logits(twin(images))
    if not found.isfinite().all():
        raise ValueError("the network's outputs are not finite: its weights or the images hold NaN")
    classes = found.shape[-1]
    able = [place for place, m in enumerate(twin.modules()) if _has_row_per_class(m, classes)]
    modules, leaves = list(twin.modules()), {}
    hooks = [modules[place].register_forward_hook(_cut(leaves, place)) for place in able]
    logits = twin(images)
    for hook in hooks:
        hook.remove()
    feeding = {place for place, cut in leaves.items() if any(_gradients(logits.sum(), cut))}
    apart = all(_feeds_class_by_class(logits, cut) for place in feeding for cut in leaves[place])
    alone = not any(_gradients(logits.sum(), list(twin.parameters())))
    if not feeding or not apart or not alone or not _forgets(twin, feeding, images):
        raise ValueError(
            "it cannot be told which layers make this network's logits class by class, as a linear "
            "layer at its end does: use a network with one, or a method that does not ask for it"
        )
    originals = list(model.modules())
    return [originals[place] for place in sorted(feeding)]


def _has_row_per_class(module: nn.Module, classes: int) -> bool:
    """Whether all own parameters have a row per class; their tensors are not computed."""
    own = list(module.parameters(recurse=False))
    return bool(own) and all(p.ndim and p.shape[0] == classes for p in own)


def _cut(leaves: dict[int, list[Tensor]], place: int) -> Callable:
    """A hook that lets the graph start anew at a layer's output, and notes where."""

    def hook(_: nn.Module, __: Any, output: Any) -> Tensor | None:
        if not isinstance(output, Tensor):
            return None
        leaf = output.detach().requires_grad_()
        leaves.setdefault(place, []).append(leaf)
        return leaf.clone()  # which may be changed in place

    return hook


def _forgets(twin: nn.Module, feeding: set[int], images: Tensor) -> bool:
    """Whether a class is forgotten, and the others are not, when its rows are set to 0."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(images.shape, generator=generator).to(images)
    images, modules = torch.cat([images, drawn]), list(twin.modules())
    with torch.no_grad():
        before = twin(images)
        for parameter in {p for place in feeding for p in modules[place].parameters(recurse=False)}:
            parameter[0] = 0
        after = twin(images)
    others_stay = torch.allclose(before[:, 1:], after[:, 1:], rtol=1e-4, atol=1e-5)
    return others_stay and bool((after[:, 0] - after[0, 0]).abs().max() <= 1e-5)


def _gradients(value: Tensor, of: list[Tensor]) -> list[bool]:
    """For each tensor, whether ``value`` depends on it."""
    if not value.requires_grad:
        return [False] * len(of)
    found = torch.autograd.grad(value, of, retain_graph=True, allow_unused=True)
    return [one is not None and bool((one != 0).any()) for one in found]


def _feeds_class_by_class(logits: Tensor, leaf: Tensor) -> bool:
    """Whether logit k depends on channel k of this output alone."""
    axis = 1 if leaf.ndim == 4 else -1
    for label in range(logits.shape[-1]):
        gradient = torch.autograd.grad(logits[:, label].sum(), leaf, retain_graph=True)[0]
        others = gradient.movedim(axis, 0).clone()
        if others.shape[0] != logits.shape[-1]:
            return False
        others[label] = 0
        if (others != 0).any():
            return False
    return True


def reinitialise(model: nn.Module, *, seed: int) -> nn.Module:
    """Draw all parameters of ``model`` again, in place, each layer by its ``reset_parameters``.

    Every module is visited, not only the direct children: those of a ResNet that can be reset
    are its last layer alone. Of a pruned layer, the parameter under the mask is drawn. A network
    that sets its weights in another way when it is built, as torchvision's ResNets do, gets
    PyTorch's own initialisation instead.

    Raises:
        ValueError: if a layer with parameters of its own has no ``reset_parameters``, or computes
            its weights from others, as one with weight normalisation does.
    """
    with seeded(seed, device_of(model)):
        for module in model.modules():
            if hasattr(module, "reset_parameters"):
                _reset(module)
            elif has_own_parameters(module):
                raise ValueError(
                    f"{type(module).__name__} has parameters but no reset_parameters() that would "
                    "draw them again: give it one, or give an untrained network"
                )
    return model


def _reset(layer: nn.Module) -> None:
    """Draw a layer's parameters again; those that pruning covers are named ``..._orig``."""
    own = dict(layer.named_parameters(recurse=False))
    before = {name: (p._version, p.detach().clone()) for name, p in own.items()}
    buffers = dict(layer.named_buffers(recurse=False))
    pruned = [
        name[:-5] for name in buffers if name.endswith("_mask") and f"{name[:-5]}_orig" in own
    ]
    for name in pruned:
        setattr(layer, name, getattr(layer, name).detach().clone())
    layer.reset_parameters()
    with torch.no_grad():
        for name in pruned:
            own[f"{name}_orig"].copy_(getattr(layer, name))
            getattr(layer, name).mul_(buffers[f"{name}_mask"])
    if not all(_was_written(own[name], *old) for name, old in before.items()):
        raise ValueError(
            f"{type(layer).__name__} computes its weights from other parameters, which cannot be "
            "drawn again: remove the parametrisation, or give an untrained network"
        )


def _was_written(parameter: Tensor, version: int, value: Tensor) -> bool:
    """Whether a parameter was set; ``.data`` hides it from its version, and a constant may stay."""
    changed = parameter._version != version or not torch.equal(parameter, value)
    return changed or bool((value == value.flatten()[:1]).all())


@contextmanager
def training_mode(model: nn.Module) -> Iterator[None]:
    """Train mode, except for what is frozen; eval mode after.

    A normalisation keeps its statistics if its own parameters are frozen or, where it has none,
    those of the layer before it. Of a network in train mode, a module that was set to eval mode
    stays in it; a network that is in eval mode as a whole is trained as a whole.
    """
    by_hand = [module for module in model.modules() if model.training and not module.training]
    model.train()
    for module in [*_frozen_normalisations(model), *by_hand]:
        module.training = False
    try:
        yield
    finally:
        model.eval()


def _frozen_normalisations(model: nn.Module) -> Iterator[nn.Module]:
    """Normalisations that are frozen, by their own parameters or those of the layer before."""
    frozen = False
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if own:
            frozen = not any(p.requires_grad for p in own)
        if frozen and is_normalisation(module):
            yield module


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode for the block; every module's own mode is restored after it."""
    with same_modes(model):
        model.eval()
        yield


@contextmanager
def same_modes(model: nn.Module) -> Iterator[None]:
    """Restore every module's mode after the block."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
