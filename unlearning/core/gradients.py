"""Gradients of a loss, batch by batch, where nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .checks import check_precision
from .devices import device_of, dtype_of, on_device, performance_settings, with_gradients
from .layers import eval_mode
from .losses import ExplainedLoss


class GradientSum(NamedTuple):
    """Of each parameter, the sum over batches; and how many batches and images were read."""

    sums: list[Tensor]
    batches: int
    images: int


def sum_gradients(
    model: nn.Module,
    parameters: Sequence[Tensor],
    pairs: Iterable[tuple[Tensor, Tensor]],
    loss: Callable[..., Tensor],
    *,
    change: Callable[[Tensor], Tensor] | None = None,
    exact: bool = False,
    title: str = "gradients",
) -> GradientSum:
    """Sum the gradients of each batch's loss, in eval mode.

    Args:
        model: not changed; its modes are restored.
        parameters: of the model, which require a gradient.
        pairs: batches of (images, labels), in the order in which they come.
        loss: ``loss(model, images, labels) -> scalar``.
        change: what is summed of each batch's gradient, such as ``torch.square``.
        exact: sum in double precision, in which the order of the batches leaves hardly a trace.
        title: how sentences about the loss begin.

    Raises:
        ValueError: if a sum is not finite, or a batch does not fit ``loss``.
    """
    check_precision(model)
    device, dtype, explained = device_of(model), dtype_of(model), ExplainedLoss(loss, title)
    wide = torch.float64 if exact and device.type != "mps" else None
    sums, batches, count = [torch.zeros_like(p, dtype=wide) for p in parameters], 0, 0
    speed = performance_settings(model)
    with speed, eval_mode(model), explained.watch(model), with_gradients():
        for pair in pairs:
            parts = on_device(pair, device, channels_last=False, dtype=dtype)
            found = torch.autograd.grad(
                explained(model, parts), parameters, allow_unused=True, materialize_grads=True
            )
            for total, gradient in zip(sums, found, strict=True):
                total += gradient if change is None else change(gradient)
            batches, count = batches + 1, count + len(parts[0])
    if not all(bool(total.isfinite().all()) for total in sums):
        raise ValueError(f"{title}: a gradient is not finite: weights or images hold NaN")
    return GradientSum(sums, batches, count)
