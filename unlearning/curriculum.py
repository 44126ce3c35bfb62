"""In what order are examples shown: easy first, hard first, or at random."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .core.images import Images
from .training import predict

ORDERS = ("easy_first", "hard_first", "random")


def curriculum(
    images: Images, model: nn.Module, *, order: str = "easy_first", seed: int = 0
) -> Images:
    """The same images in the order of the network's confidence in their labels.

    Sorted by log p_y - log(1 - p_y) with p_y the softmax output of the label, which is the order of
    p_y, and keeps apart the many confidences that round to 1. The order is that of
    ``.batches(size)``, which does not shuffle unless told to: leave ``shuffle`` off, or the
    curriculum is gone.

    Source: Bengio et al., Curriculum Learning, ICML 2009, with the network's own confidence as the
    measure of difficulty (Hacohen and Weinshall, On The Power of Curriculum Learning, ICML 2019).

    Args:
        images: usually the retain set.
        model: the network whose confidence counts, usually the original one.
        order: "easy_first" (falling confidence), "hard_first" (rising) or "random", the control.
        seed: random seed for the random order; the others do not read it.

    Raises:
        ValueError: if ``order`` is unknown, or the network has fewer outputs than classes.
    """
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}, not {order!r}")
    if order == "random":
        generator = torch.Generator().manual_seed(seed)
        return images.select(torch.randperm(len(images), generator=generator))
    logits, labels = predict(model, images.sequential_batches())
    logits, own = logits.double(), F.one_hot(labels, logits.shape[-1]).bool()
    difficulty = logits.masked_fill(own, -torch.inf).logsumexp(-1) - logits[own]
    return images.select(difficulty.argsort(descending=order == "hard_first", stable=True))
