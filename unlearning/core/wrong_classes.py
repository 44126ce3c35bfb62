"""The logits of an image's wrong classes, to which methods that relabel it move it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from .checks import check_labels, check_logits, classes_to_forget, whole_labels


def wrong_logits(logits: Tensor, labels: Tensor, forget_classes: int | Sequence[int]) -> Tensor:
    """The logits, with -inf at each image's own label and at all classes to forget.

    >>> import torch
    >>> wrong_logits(torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]]), torch.tensor([0, 1]), 1)
    tensor([[-inf, -inf, 2.],
            [3., -inf, 2.]])

    Args:
        logits: (B, K).
        labels: (B,).
        forget_classes: one or several classes, or none.

    Raises:
        ValueError: if a class or a label does not exist, or no class is left for an image.
    """
    num_classes = check_logits(logits).shape[-1]
    labels = whole_labels(labels, len(logits))
    classes = classes_to_forget(forget_classes, num_classes)
    wrong = logits.clone()
    wrong[:, classes] = -math.inf
    try:
        wrong.scatter_(1, labels[:, None], -math.inf)
    except RuntimeError:
        check_labels(labels, num_classes)
        raise
    if len(classes) == num_classes - 1 and not set(labels.tolist()) <= set(classes):
        raise ValueError(
            "an image of the forget set has the only class that is not in forget_classes, so no "
            "other one is left for it: remove it, or a class from forget_classes"
        )
    return wrong
