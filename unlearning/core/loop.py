"""The one optimisation loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
import torch._dynamo  # else the first optimizer imports it, and is timed 2 s too long
from torch import Tensor, nn
from torch.optim import lr_scheduler

from .batches import iterate_epochs, materialize
from .devices import (
    device_of,
    on_device,
    performance_settings,
    pick_device,
    seeded,
    use_bfloat16,
    use_channels_last,
)
from .layers import training_mode
from .progress import Progress


class Diverged(ArithmeticError):
    """The loss or a weight is no longer finite."""


class Timed(NamedTuple):
    """What a call returned, usually a network, and the seconds that it took: see ``timed``."""

    result: Any
    seconds: float


def timed(call: Callable, *arguments, **options) -> Timed:
    """Call ``call(*arguments, **options)`` and measure how long it takes.

    On a CPU these are seconds of processor time of this process, over all its threads, which other
    work on the machine hardly changes. On a GPU, they are seconds of the clock.
    """
    kind = pick_device().type
    clock = time.process_time if kind == "cpu" else time.perf_counter
    start = clock()
    result = call(*arguments, **options)
    if kind != "cpu":
        getattr(torch, kind).synchronize()
    return Timed(result, clock() - start)


def minimise(
    model: nn.Module,
    batches: Iterable,
    loss: Callable[..., Tensor],
    *,
    epochs: int,
    lr: float,
    optimizer: str | torch.optim.Optimizer = "sgd",
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    schedule: str = "cosine",
    final_lr: float = 0.0,
    mixed_precision: bool | None = None,
    after_step: Callable[[nn.Module], None] | None = None,
    stop: Callable[[float], bool] | None = None,
    seed: int = 0,
    title: str = "training",
) -> nn.Module:
    """Minimise ``loss(model, *batch)`` over the parameters that require a gradient, in place.

    Methods call this on their own copy. A normalisation layer whose parameters are all frozen
    keeps its running statistics too.

    Args:
        model: changed, returned in eval mode.
        batches: any iterable of tuples of tensors; one that has no length is read into a list.
        loss: ``loss(model, *batch) -> scalar``.
        epochs: passes over ``batches``.
        lr: learning rate; the peak of "onecycle", the first one of "cosine".
        optimizer: "sgd", "adam" or "adamw", or an optimizer of this model's parameters, which then
            keeps its own state, momentum and weight decay.
        momentum: momentum of SGD.
        weight_decay: L2 penalty of SGD and Adam, decoupled for AdamW.
        schedule: "cosine" (to ``final_lr`` times ``lr``), "onecycle" or "constant", step by step.
        final_lr: where the cosine ends, as a fraction of ``lr``.
        mixed_precision: bfloat16 forward and backward. By default where it is faster: on a GPU that
            has it, and for deep networks on a CPU that has it.
        after_step: called with the model after each optimizer step, without gradients: the place
            for masks, proximal steps and projections.
        stop: called with each step's loss; the loop ends when it returns True.
        seed: random seed for dropout, and for the order of a DataLoader without a generator.
        title: label of the progress bar.

    Raises:
        Diverged: if the loss, or at the end a weight, is not finite; names step and learning rate.
        ValueError: if there are no batches, images hold NaN, or an option does not exist.
    """
    if epochs < 0 or not lr >= 0:
        raise ValueError(f"epochs and lr must not be negative, but are {epochs} and {lr}")
    batches = materialize(batches)
    device, channels_last = device_of(model), use_channels_last(model)
    if channels_last:
        model.to(memory_format=torch.channels_last)
    optimizer = _make_optimizer(model, optimizer, lr, momentum, weight_decay)
    steps = max(1, epochs * len(batches))
    scheduler = _make_schedule(optimizer, schedule, lr, final_lr, steps)
    if mixed_precision is None:
        mixed_precision = use_bfloat16(model)
    bfloat16 = partial(torch.autocast, device.type, torch.bfloat16)
    precision = bfloat16 if mixed_precision else nullcontext
    watch, parameters = _LossWatch(every=1 if stop else 50), list(model.parameters())
    bar = Progress(title, steps)
    with seeded(seed, device), training_mode(model), performance_settings(model), bar:
        for batch in iterate_epochs(batches, range(epochs)):
            with precision():
                value = loss(model, *on_device(batch, device, channels_last))
            for parameter in parameters:  # a third of the time of zero_grad()
                parameter.grad = None
            value.backward()
            watch.add(value.detach(), optimizer.param_groups[0]["lr"], batches)
            optimizer.step()
            if after_step:
                with torch.no_grad():
                    after_step(model)
            if scheduler:
                scheduler.step()
            bar.update()
            if stop and stop(watch.last):
                break
        watch.check(batches)
    for parameter in parameters:
        parameter.grad = None
    if not all(bool(parameter.isfinite().all()) for parameter in parameters):
        raise Diverged(f"weights are not finite after {watch.steps} steps: lower lr ({lr:g})")
    return model


class _LossWatch:
    """Checks that every loss is finite, every few steps only, since reading stalls a GPU."""

    def __init__(self, every: int):
        self.every, self.steps, self.last, self.pending = every, 0, math.nan, []

    def add(self, value: Tensor, lr: float, batches: Iterable) -> None:
        """Note a loss; every few steps, all of those are checked."""
        self.pending.append((value, lr))
        self.steps += 1
        if len(self.pending) >= self.every:
            self.check(batches)

    def check(self, batches: Iterable) -> None:
        if not self.pending:
            return
        values = torch.stack([value for value, _ in self.pending]).tolist()
        for place, (value, (_, lr)) in enumerate(zip(values, self.pending, strict=True)):
            if not math.isfinite(value):
                _refuse_nan_images(batches)
                step = self.steps - len(values) + place + 1
                raise Diverged(
                    f"the loss is {value} at step {step} with learning rate {lr:g}: "
                    "lower lr, or take fewer epochs"
                )
        self.last, self.pending = values[-1], []


def _refuse_nan_images(batches: Iterable) -> None:
    for number, batch in enumerate(batches):
        if any(part.is_floating_point() and not part.isfinite().all() for part in batch):
            raise ValueError(f"images of batch {number} hold NaN or infinite pixels")


def _make_optimizer(model, optimizer, lr, momentum, weight_decay) -> torch.optim.Optimizer:
    if isinstance(optimizer, torch.optim.Optimizer):
        for group in optimizer.param_groups:
            group["lr"] = lr
        return optimizer
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("no parameter of the network requires a gradient: nothing can be trained")
    options = {"lr": lr, "weight_decay": weight_decay, "fused": device_of(model).type != "mps"}
    if optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=momentum, **options)
    if optimizer == "adam":
        return torch.optim.Adam(parameters, **options)
    if optimizer == "adamw":
        return torch.optim.AdamW(parameters, **options)
    raise ValueError(f"there is no optimizer {optimizer!r}: choose sgd, adam or adamw")


def _make_schedule(optimizer, schedule, lr, final_lr, steps) -> lr_scheduler.LRScheduler | None:
    if schedule == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=final_lr * lr)
    if schedule == "onecycle":
        return lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps + 1, cycle_momentum=False)
    if schedule == "constant":
        return None
    raise ValueError(f"there is no schedule {schedule!r}: choose cosine, onecycle or constant")
