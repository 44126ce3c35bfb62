"""What is refused, each in one sentence: batches, labels, outputs, classes, numbers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from itertools import chain
from operator import index
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

BATCH = "a batch must be (images (B, ...), labels (B,)), two tensors"
TOLERANCE = 1e-3  # by how much a row of probabilities may miss a sum of 1


def check_tensors(batch: Any) -> tuple[Tensor, ...]:
    """The batch as a tuple of tensors.

    Raises:
        ValueError: if it is anything else.
    """
    if not isinstance(batch, list | tuple) or not all(isinstance(part, Tensor) for part in batch):
        raise ValueError(f"{BATCH}, not {kind_of(batch)}: wrap the loader, or use a DataLoader")
    if any(part.shape[:1] == (0,) for part in batch):
        raise ValueError(f"{BATCH}, but one holds nothing: leave empty batches out")
    return tuple(batch)


def check_pair(batch: Any) -> tuple[Tensor, Tensor]:
    """The images of a batch, floating-point, and its labels, (B,), long.

    Raises:
        ValueError: if it has another form; see ``whole_labels`` too.
    """
    if isinstance(batch, list | tuple) and len(batch) != 2:
        raise ValueError(f"{BATCH}, not {kind_of(batch)}: wrap the loader so that it yields these")
    images, labels = check_tensors(batch)
    if labels.ndim == 0:
        raise ValueError(f"{BATCH}, not one image and its label: give the loader a batch_size")
    if not images.is_floating_point() or images.ndim < 2:
        raise ValueError(
            f"images must be normalised floats (B, ...), not {images.dtype} of shape "
            f"{tuple(images.shape)}"
        )
    return images, whole_labels(labels, len(images))


def whole_labels(labels: Tensor, count: int) -> Tensor:
    """Labels as long, (B,).

    Raises:
        ValueError: if they are not whole numbers of an integer type, one per image.
    """
    if labels.dtype == torch.int64 and labels.shape == (count,):
        return labels
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if not whole or labels.shape != (count,):
        raise ValueError(
            f"labels must be whole numbers of shape ({count},), one class per image, not "
            f"{labels.dtype} of shape {tuple(labels.shape)}"
        )
    return labels.long()


def check_logits(output: Any) -> Tensor:
    """The output of a classifier, if it is logits (B, K).

    Raises:
        ValueError: if it is anything else.
    """
    if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[-1] < 2:
        raise ValueError(
            f"the network returned {kind_of(output)}: wrap it so that it returns logits (B, K), "
            "one for each of two or more classes"
        )
    return output


def warn_of_probabilities(logits: Tensor) -> None:
    """Warn if every row is a distribution, as a network that ends in a softmax gives it."""
    logits = logits.detach()
    if bool((logits >= 0).all()) and bool(((logits.sum(-1) - 1).abs() < TOLERANCE).all()):
        warnings.warn(
            "the network's outputs are probabilities, but logits are expected: remove its softmax, "
            "or losses and metrics take a second one",
            stacklevel=3,
        )


def warn_of_batch_statistics(model: nn.Module) -> None:
    """Warn if a normalisation keeps no statistics, so that outputs depend on the whole batch."""
    kinds = nn.modules.batchnorm._BatchNorm
    if any(isinstance(m, kinds) and m.running_mean is None for m in model.modules()):
        warnings.warn(
            "a BatchNorm keeps no running statistics: what the network says of an image depends on "
            "the others in its batch, and numbers on the batch size",
            stacklevel=3,
        )


def kind_of(value: Any) -> str:
    """What something is, in words: "a dict", "a tuple of 3", "a tensor of shape (2, 10, 1, 1)"."""
    if isinstance(value, Tensor | np.ndarray):
        kind = "a tensor" if isinstance(value, Tensor) else "an array"
        return f"{kind} of shape {tuple(value.shape)}"
    name = type(value).__name__
    article = "an" if name[0] in "aeiouAEIOU" else "a"
    if not isinstance(value, list | tuple):
        return f"{article} {name}"
    parts = ", ".join(sorted({type(part).__name__ for part in value}))
    return f"{article} {name} of {len(value)} ({parts})"


def check_module(model: Any) -> None:
    """Raise a ValueError unless this is an ``nn.Module`` whose parameters have their shapes."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"the network must be an nn.Module, not {kind_of(model)}")
    if any(is_lazy(tensor) for tensor in chain(model.parameters(), model.buffers())):
        raise ValueError(
            "the network has lazy layers, which take their shapes from the first images: call it "
            "on a batch before it is used here"
        )


def check_values_per_weight(argument: str, values: Any, model: nn.Module, *, maker: str) -> None:
    """Raise a ValueError unless ``values`` has one of at least 0 for each weight of the model."""
    for name, w in model.named_parameters():
        own = values.get(name) if isinstance(values, Mapping) else None
        if not isinstance(own, Tensor) or own.shape != w.shape or not bool((own >= 0).all()):
            raise ValueError(
                f"{argument} has no values of at least 0 of shape {tuple(w.shape)} for {name}: "
                f"give what {maker} returns for this network"
            )


def check_labels(labels: Tensor, num_classes: int) -> None:
    """Raise a ValueError if a label is not a class of the network."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"labels go from {low} to {high}, but the network has {num_classes} outputs: "
            f"labels must lie between 0 and {num_classes - 1}"
        )


def check_classes(classes: Iterable[int], num_classes: int) -> None:
    """Raise a ValueError if a class does not exist."""
    outside = [label for label in classes if not 0 <= label < num_classes]
    if outside:
        raise ValueError(
            f"class {outside[0]} does not exist: the network has {num_classes} outputs"
        )


def class_list(classes: Any) -> list[int]:
    """One class or several, as a list of ints without repetition.

    >>> class_list(9), class_list(torch.tensor([9, 9])), class_list(np.array([3, 8]))
    ([9], [9], [3, 8])

    Raises:
        ValueError: if they are not whole numbers.
    """
    given = classes
    if isinstance(classes, Tensor | np.ndarray):
        classes = classes.tolist()
    try:
        classes = [classes] if not isinstance(classes, Iterable) else list(classes)
        if any(isinstance(label, str | bool | np.bool_) for label in classes):
            raise TypeError
        return list(dict.fromkeys(index(label) for label in classes))
    except TypeError:
        raise ValueError(
            f"classes must be whole numbers, one or several, such as 5 or [3, 8], not {given!r}"
        ) from None


def classes_to_forget(classes: Any, num_classes: int) -> list[int]:
    """``class_list`` of classes that exist, and of which at least one is left.

    Raises:
        ValueError: if one does not exist, or all are named.
    """
    classes = class_list(classes)
    check_classes(classes, num_classes)
    if len(classes) == num_classes:
        raise ValueError(f"forget_classes names all {num_classes} classes: leave at least one")
    return classes


def check_positions(positions: Any, count: int) -> Tensor:
    """Positions in a set of so many images, (P,), long, on the CPU.

    Raises:
        ValueError: if they are not whole numbers from 0 to ``count - 1``.
    """
    try:
        given = positions if isinstance(positions, Tensor) else list(positions)
        found = torch.as_tensor(given).cpu()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"positions must be whole numbers, such as [0, 5], not {shown(positions)}"
        ) from None
    if found.numel() and (found.is_floating_point() or found.dtype == torch.bool):
        raise ValueError(
            f"positions must be whole numbers, not {found.dtype}: for a mask, give mask.nonzero()"
        )
    found = found.long().flatten()
    outside = found[(found < 0) | (found >= count)]
    if len(outside):
        raise ValueError(f"there is no image {int(outside[0])}: positions go from 0 to {count - 1}")
    return found


def check_whole(name: str, value: Any, *, least: int | None = 0) -> int:
    """A whole number, of at least ``least``.

    Raises:
        ValueError: if it is anything else.
    """
    try:
        found = index(None if isinstance(value, bool) else value)
    except TypeError:
        found = None
    if found is None or (least is not None and found < least):
        bound = "" if least is None else f", at least {least}"
        raise ValueError(f"{name} must be a whole number{bound}, not {shown(value)}")
    return found


def check_seed(seed: Any) -> int:
    """A random seed that NumPy, scikit-learn and torch take: a whole number below 2^32."""
    found = check_whole("seed", seed)
    if found >= 2**32:
        raise ValueError(f"seed must be below 2^32, not {found}")
    return found


def check_number(name: str, value: Any, interval: str, words: str = "") -> float:
    """One number in an interval such as "[0, 1)", which a sentence may say in words.

    Raises:
        ValueError: if it is anything else.
    """
    low, high = map(float, interval[1:-1].split(","))
    try:
        plain = not isinstance(value, str | bytes | bool | np.bool_) and np.ndim(value) == 0
        number = float(value) if plain else math.nan
    except (TypeError, ValueError, RuntimeError, OverflowError):
        number = math.nan
    above = number >= low if interval[0] == "[" else number > low
    below = number <= high if interval[-1] == "]" else number < high
    if not (above and below):
        words = words or f"one number in {interval}"
        raise ValueError(f"{name} must be {words}, not {shown(value)}")
    return number


def shown(value: Any) -> str:
    """A value in a sentence, short and on one line."""
    return shorten(repr(value), 60, placeholder="...")


def check_precision(model: nn.Module) -> None:
    """Raise a ValueError if a parameter is in half precision, which rounds small steps away."""
    for name, parameter in model.named_parameters():
        if parameter.dtype in (torch.float16, torch.bfloat16):
            dtype = str(parameter.dtype).removeprefix("torch.")
            raise ValueError(
                f"{name} is in {dtype}, which rounds small steps away: call model.float() first "
                "(mixed precision is switched on by itself where it is faster)"
            )
