"""Losses, each a mean over the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checks import check_classes, check_labels, check_logits, class_list, whole_labels


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy -log p_y, mean over the batch.

    Args:
        logits: (B, K).
        labels: (B,).

    Raises:
        ValueError: if there is not one whole number per row, or a label is not a class. On a GPU,
            CUDA itself asserts the latter.
    """
    labels = whole_labels(labels, len(logits))
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
    log_q = (
        check_logits(logits).float().log_softmax(-1)
    )  # bfloat16 cannot tell log K from its neighbours
    return (torch.xlogy(target, target) - target * log_q).sum(-1).mean()


def mean_squared_error(target: Tensor, logits: Tensor) -> Tensor:
    """Mean over the batch and the classes of (logit - target)^2, in float32.

    Args:
        target: (B, K) or (K,).
        logits: (B, K).
    """
    return (check_logits(logits).float() - target).square().mean(-1).mean()


def uniform(num_classes: int, *, without: Sequence[int] = ()) -> Tensor:
    """The uniform distribution over the classes, (K,), with probability 0 for those in ``without``.

    Raises:
        ValueError: if ``without`` names a class that does not exist, or all of them.
    """
    without = class_list(without)
    check_classes(without, num_classes)
    if len(without) == num_classes:
        raise ValueError(f"forget_classes names all {num_classes} classes: leave at least one")
    probabilities = torch.ones(num_classes)
    probabilities[without] = 0
    return probabilities / probabilities.sum()
