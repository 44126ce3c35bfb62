"""In what order are examples shown: easy first, hard first, or at random."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .core.images import Images
from .core.randomness import generator_from
from .training import predict

ORDERS = ("easy_first", "hard_first", "random")


def curriculum(
    images: Images, model: nn.Module, *, order: str = "easy_first", seed: int = 0
) -> Images:
    """Sort images by the network's confidence in their labels.

    The confidence is p_y, the softmax output of the label. Sorting by log p_y - log(1 - p_y) gives
    the same order, and also separates the many confidences that round to 1. ``.batches(size)`` of
    the result keeps the order; with ``shuffle=True`` the curriculum would be lost.

    Source: Bengio et al., Curriculum Learning, ICML 2009, with the network's own confidence as the
    measure of difficulty (Hacohen and Weinshall, On The Power of Curriculum Learning, ICML 2019).

    Args:
        images: usually the retain set.
        model: classifier whose confidence counts, usually the original network; not changed.
        order: "easy_first" (falling confidence), "hard_first" (rising), or "random" as a control.
        seed: random seed for the random order; not used by the others.

    Raises:
        ValueError: if ``order`` is unknown, or the network has fewer outputs than classes.
    """
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}, not {order!r}")
    if order == "random":
        generator = generator_from(seed)
        return images.select(torch.randperm(len(images), generator=generator))
    logits, labels = predict(model, images.sequential_batches())
    logits, own = logits.double(), F.one_hot(labels, logits.shape[-1]).bool()  # (S, K)
    difficulty = logits.masked_fill(own, -torch.inf).logsumexp(-1) - logits[own]  # log (1 - p)/p
    return images.select(difficulty.argsort(descending=order == "hard_first", stable=True))
