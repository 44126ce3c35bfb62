"""N networks as one module: the many runs behind a mean, a spread or an attack, trained at once."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from .data import Batches
from .models import device_of


class Ensemble(nn.Module):
    r"""N networks of one architecture as one module.

    .. math:: f(x)_i = f_{w_i}(x_i), \quad i = 0, \dots, N - 1

    Images (N, B, C, H, W), or (B, C, H, W) shown to all members, become logits (N, B, K).
    ``network`` has the members' layers, and in the place of each parameter and buffer the stack of
    theirs, (N, ...), matrices transposed, so optimisers, ``to``, ``state_dict``, ``deepcopy``,
    ``train`` and the like work as on any module. A loss that is the sum over members gives each one
    the gradient that it has alone. BatchNorm keeps each member's own statistics; dropout differs
    between members.

    A method that is given an ensemble returns one. Member i of a call with ``seed`` is what the
    same call gives for that member alone with ``seed + i``, on that member's batches: those of
    ``Images.batches(..., members=N)``, or the ones that all members share. Where members are
    trained as a stack, two things are drawn once, from ``seed``, and are not those of a member
    alone: dropout, and the order of a DataLoader that has no generator of its own. One member that
    diverges ends the run of all.

    Args:
        models: networks of one architecture; copied, so neither changed nor shared. Train or eval
            mode is that of the first.

    Raises:
        ValueError: no models; an ensemble among them; models that differ in more than values.
    """

    def __init__(self, models: Sequence[nn.Module]):
        super().__init__()
        models = list(models)
        refuse_unlike(models)
        self.size = len(models)
        states = [turned(tensors_of(model)) for model in models]
        stacks = {name: torch.stack([own[name] for own in states]) for name in states[0]}
        self.network = with_tensors(models[0], stacks)
        self.training = models[0].training

    def __len__(self) -> int:
        return self.size

    def forward(self, images: Tensor) -> Tensor:
        own = images.ndim == 5
        if own:
            refuse_other_size(images, self.size)
        if better_in_turn(self):
            singles = zip(self._states(), images if own else [images] * self.size, strict=True)
            return torch.stack([self._member(state, image) for state, image in singles])
        all_members = vmap(self._member, (0, 0 if own else None), randomness="different")
        return all_members(tensors_of(self.network), images)

    def members(self) -> list[nn.Module]:
        """The N networks, independent of the ensemble, in the mode that it is in."""
        return [with_tensors(self.network, turned(own)) for own in self._states()]

    def _member(self, state: dict[str, Tensor], images: Tensor) -> Tensor:
        return functional_call(self.network, turned(state), (images,))

    def _states(self) -> Iterator[dict[str, Tensor]]:
        """Parameters and buffers of each member, views of the stacks."""
        names, stacks = zip(*tensors_of(self.network).items(), strict=True)
        for own in zip(*(stack.unbind() for stack in stacks), strict=True):
            yield dict(zip(names, own, strict=True))


def united(models: Sequence[nn.Module]) -> nn.Module:
    """Several networks as an ensemble; one alone as it is, which is faster."""
    return models[0] if len(models) == 1 else Ensemble(models)


def better_in_turn(model: nn.Module) -> bool:
    """Whether members are computed in turn, with the same result: convolutions on a CPU.

    Stacked, they become grouped convolutions. Measured on one thread, a training step of 16 CNNs
    takes 1.5 times as long that way, one of 4 ResNet-20 1.3 times.
    """
    convolves = any(isinstance(module, nn.Conv2d) for module in model.modules())
    return convolves and device_of(model).type == "cpu"


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, shared ones once."""
    return dict(chain(model.named_parameters(), model.named_buffers()))


def turned(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices transposed: a stack's gradients come that way, and to turn each of them would take a
    fifth of the time of a training step of 16 MLPs."""
    return {name: t.mT if t.ndim == 2 else t for name, t in state.items()}


def with_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A copy of ``model`` that holds copies of these as parameters and buffers."""
    copies = {}
    for name, old in tensors_of(model).items():
        new = tensors[name].detach().clone(memory_format=torch.contiguous_format)
        is_parameter = isinstance(old, nn.Parameter)
        copies[id(old)] = nn.Parameter(new, old.requires_grad) if is_parameter else new
    return copy.deepcopy(model, copies)  # deepcopy takes what is there for copied already


def refuse_unlike(models: Sequence[nn.Module]) -> None:
    """Refuse models that make no ensemble, in one sentence."""
    if not models:
        raise ValueError("an ensemble needs at least one model")
    for number, model in enumerate(models):
        if isinstance(model, Ensemble):
            raise ValueError(f"model {number} is itself an ensemble: give its members() instead")
        if str(model) != str(models[0]) or kinds(model) != kinds(models[0]):
            raise ValueError(
                "the models of an ensemble must have one architecture, be on one device and be "
                f"frozen alike, but model {number} is unlike model 0"
            )


def kinds(model: nn.Module) -> dict[str, tuple]:
    """What members have in common: all of a parameter or buffer but its values."""
    return {n: (t.shape, t.dtype, t.device, t.requires_grad) for n, t in tensors_of(model).items()}


def refuse_other_size(part: Tensor, size: int) -> None:
    if len(part) != size:
        raise ValueError(
            f"a batch of shape {tuple(part.shape)} is for {len(part)} members, but the ensemble "
            f"has {size}"
        )


# ------------------------------------------------------------------------------------------------
# For methods: what cannot be done to a stack


def each_member(
    model: nn.Module, change: Callable[[nn.Module, int], nn.Module], seed: int
) -> nn.Module:
    """``change(model, seed)``; of an ensemble's members, each with ``seed + i``, an ensemble."""
    if not isinstance(model, Ensemble):
        return change(model, seed)
    return Ensemble([change(member, seed + i) for i, member in enumerate(model.members())])


def member_by_member(when: str | None = None) -> Callable[[Callable], Callable]:
    """Decorate a method that cannot work on a stack: members of an ensemble go through it in turn.

    Member i is given to the method with ``seed + i``, its own images and labels of ``retain`` and
    ``forget``, its own member of any other ensemble (a teacher, say), and its own entry of an
    option that is a list of mappings. What a method gives beside a network becomes a list. Any
    other network goes to the method as it is.

    Args:
        when: name of the option that keeps the method from working on a stack. Where it is false,
            the method gets the ensemble.
    """

    def decorate(method: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        signature = inspect.signature(method)

        @functools.wraps(method)
        def in_turn(*arguments: Any, **options: Any) -> nn.Module:
            bound = signature.bind(*arguments, **options)
            bound.apply_defaults()
            given, model = bound.arguments, bound.arguments["model"]
            if not isinstance(model, Ensemble) or (when and not given[when]):
                return method(*arguments, **options)
            shares = {name: share(name, value, len(model)) for name, value in given.items()}
            rows = zip(*shares.values(), strict=True)
            return together([method(**dict(zip(shares, row, strict=True))) for row in rows])

        return in_turn

    return decorate


def together(results: list) -> Any:
    """Networks as an ensemble; of tuples (network, more) the networks, and a list of the rest."""
    if not isinstance(results[0], tuple):
        return Ensemble(results)
    models, *more = zip(*results, strict=True)
    return Ensemble(models), *map(list, more)


def share(name: str, value: Any, size: int) -> Sequence:
    """What each of ``size`` members gets of a method's argument."""
    if name == "seed":
        return range(value, value + size)
    if name in ("retain", "forget") and value is not None:
        return batches_of_members(value, size)
    if not isinstance(value, Ensemble) and not is_list_of_mappings(value):
        return [value] * size
    if len(value) != size:
        raise ValueError(f"{name} is for {len(value)} members, but the ensemble has {size}")
    return value.members() if isinstance(value, Ensemble) else value


def is_list_of_mappings(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and isinstance(value[0], Mapping)


def batches_of_members(batches: Batches, size: int) -> list[Batches]:
    """The batches of each member; what is made by ``Images.batches`` is made for one alone."""
    if getattr(batches, "members", None) == size:
        return [batches.member(number) for number in range(size)]
    if not isinstance(batches, Sized):
        batches = list(batches)  # a generator could be read by one member only
    return [MemberBatches(batches, number, size) for number in range(size)]


class MemberBatches:
    """One member's part of batches of images (N, B, C, H, W) and labels (N, B), or shared ones."""

    def __init__(self, batches: Batches, number: int, size: int):
        self.batches, self.number, self.size = batches, number, size
        if hasattr(batches, "set_epoch"):
            self.set_epoch = batches.set_epoch

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for images, labels in self.batches:
            yield self._part(images, ndim=5), self._part(labels, ndim=2)

    def _part(self, part: Tensor, *, ndim: int) -> Tensor:
        if part.ndim != ndim:
            return part
        refuse_other_size(part, self.size)
        return part[self.number]
