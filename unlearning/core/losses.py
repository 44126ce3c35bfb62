"""Losses, each a mean over the batch, and checks of labels and classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy -log p_y, mean over the batch.

    Args:
        logits: (B, K).
        labels: (B,).

    Raises:
        ValueError: if a label is not a class. On a GPU, CUDA itself asserts.
    """
    try:  # no label may be ignored, not even -100
        return F.cross_entropy(logits, labels, ignore_index=-(2**62))
    except IndexError:
        check_labels(labels, logits.shape[-1])
        raise


def classification_loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The usual loss of a classifier, in the form that ``minimise`` takes."""
    return cross_entropy(model(images), labels)


def kl_divergence(target: Tensor, logits: Tensor) -> Tensor:
    """KL(target || softmax(logits)), mean over the batch, in float32.

    Args:
        target: probabilities, (B, K) or (K,).
        logits: (B, K).
    """
    log_q = logits.float().log_softmax(-1)  # bfloat16 cannot tell log K from its neighbours
    return (torch.xlogy(target, target) - target * log_q).sum(-1).mean()


def mean_squared_error(target: Tensor, logits: Tensor) -> Tensor:
    """Mean over the batch and the classes of (logit - target)^2, in float32.

    Args:
        target: (B, K) or (K,).
        logits: (B, K).
    """
    return (logits.float() - target).square().mean(-1).mean()


def uniform(num_classes: int, *, without: Sequence[int] = ()) -> Tensor:
    """The uniform distribution over the classes, (K,), with probability 0 for those in ``without``.

    Raises:
        ValueError: if ``without`` names a class that does not exist, or all of them.
    """
    check_classes(without, num_classes)
    if len(set(without)) == num_classes:
        raise ValueError(f"forget_classes names all {num_classes} classes: leave at least one")
    probabilities = torch.ones(num_classes)
    probabilities[list(without)] = 0
    return probabilities / probabilities.sum()


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


def class_list(classes: int | Iterable[int]) -> list[int]:
    """One class or several, as a list of ints without repetition."""
    classes = [classes] if isinstance(classes, Integral) else classes
    return list(dict.fromkeys(int(label) for label in classes))
