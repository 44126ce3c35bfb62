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

from .batches import Rereadable, iterate_epochs
from .checks import check_module, check_number, check_precision, check_tensors, check_whole
from .devices import (
    device_of,
    dtype_of,
    in_channels_last,
    on_device,
    performance_settings,
    pick_device,
    use_bfloat16,
    use_channels_last,
    with_gradients,
)
from .layers import training_mode
from .losses import ExplainedLoss
from .progress import Progress
from .randomness import generators_of, seeded


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
    schedule: str | Callable[[int], float] = "cosine",
    final_lr: float = 0.0,
    mixed_precision: bool | None = None,
    after_step: Callable[[nn.Module], None] | None = None,
    stop: Callable[[float], bool] | None = None,
    seed: int = 0,
    title: str = "training",
) -> nn.Module:
    """Minimise ``loss(model, *batch)`` over the parameters that require a gradient, in place.

    Methods call this on their own copy. What is frozen keeps all that it has, running statistics
    of normalisations included.

    The same call with the same seed gives the same weights on a CPU. The seed covers the global
    generators of torch, NumPy and Python and those that the loader, its samplers or its data set
    hold, all of which are afterwards as they were; not workers that persist between epochs
    (``persistent_workers=True``), which go on from where an earlier call left them.

    Args:
        model: changed, returned in eval mode; its tensors keep their strides.
        batches: a DataLoader, a list or the like that yields tuples of tensors, epoch after epoch;
            one that has no length is counted first, in one more reading.
        loss: ``loss(model, *batch) -> scalar``.
        epochs: passes over ``batches``.
        lr: learning rate; the peak of "onecycle" and "triangular", the first one of "cosine".
        optimizer: "sgd", "nesterov" (SGD with Nesterov's momentum), "adam" or "adamw", or an
            optimizer of this model's parameters, which then keeps its own state, momentum and
            weight decay.
        momentum: momentum of SGD.
        weight_decay: L2 penalty of SGD and Adam, decoupled for AdamW.
        schedule: "cosine" (to ``final_lr`` times ``lr``), "onecycle", "triangular" (from a fifth
            of ``lr`` up to it at 23 % of the steps, then straight to 0) or "constant", step by
            step; or a function of the step, counted from 0, that gives a factor of ``lr``.
        final_lr: where the cosine ends, as a fraction of ``lr``.
        mixed_precision: bfloat16 forward and backward. By default where it is faster: on a GPU that
            has it, and for large networks on a CPU that has it.
        after_step: called with the model after each optimizer step, without gradients: the place
            for masks, proximal steps and projections.
        stop: called with each step's loss; the loop ends when it returns True. It may read a
            network, which leaves no trace in what is drawn.
        seed: random seed for dropout, and for the order of a loader.
        title: label of the progress bar.

    Raises:
        Diverged: if the loss, or at the end a weight or a statistic, is not finite; names step and
            learning rate.
        ValueError: if batches cannot be read again and again, do not end, or do not fit ``loss``;
            if the network is in half precision, frozen as a whole or returns no logits; if images
            hold NaN, or an option is out of range or does not exist.
    """
    epochs, lr = check_whole("epochs", epochs), check_number("lr", lr, "[0, inf)")
    momentum = check_number("momentum", momentum, "[0, 1)")
    weight_decay = check_number("weight_decay", weight_decay, "[0, inf)")
    final_lr = check_number("final_lr", final_lr, "[0, 1]")
    check_module(model)
    check_precision(model)
    batches, device, last = Rereadable(batches), device_of(model), use_channels_last(model)
    optimizer = _make_optimizer(model, optimizer, lr, momentum, weight_decay)
    steps = max(1, epochs * len(batches))
    scheduler = _make_schedule(optimizer, schedule, lr, final_lr, steps)
    if mixed_precision is None:
        mixed_precision = use_bfloat16(model)
    bfloat16 = partial(torch.autocast, device.type, torch.bfloat16)
    precision = bfloat16 if mixed_precision else nullcontext
    watch, parameters = _LossWatch(every=1 if stop else 50), list(model.parameters())
    explained, dtype = ExplainedLoss(loss, title), dtype_of(model)
    layout = in_channels_last(model, optimizer) if last else nullcontext()
    random_state = seeded(seed, device, generators_of(batches))
    bar = Progress(title, steps)
    mode, speed, outputs = training_mode(model), performance_settings(model), explained.watch(model)
    with layout, random_state, mode, speed, outputs, bar, with_gradients():
        for batch in iterate_epochs(batches, range(epochs)):
            parts = on_device(check_tensors(batch), device, last, dtype)
            with precision():
                value = explained(model, parts)
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
    check_finite(model, f"after {watch.steps} steps: lower lr ({lr:g})")
    return model


def check_finite(model: nn.Module, when: str) -> None:
    """Raise Diverged if a weight or a running statistic is not finite."""
    for kind, tensors in (("weights", model.parameters()), ("statistics", model.buffers())):
        if not all(bool(tensor.isfinite().all()) for tensor in tensors):
            raise Diverged(f"{kind} are not finite {when}")


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
        if not all(bool(part.isfinite().all()) for part in batch):
            raise ValueError(f"images of batch {number} hold NaN or infinite pixels")


def _make_optimizer(model, optimizer, lr, momentum, weight_decay) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(
            "no parameter of the network requires a gradient, so nothing can be trained: call "
            "requires_grad_() on those that may change"
        )
    if isinstance(optimizer, torch.optim.LBFGS | torch.optim.SparseAdam):
        raise ValueError(f"{type(optimizer).__name__} works in another way: give SGD or Adam")
    if isinstance(optimizer, torch.optim.Optimizer):
        ours = set(map(id, model.parameters()))
        for group in optimizer.param_groups:
            if not ours.issuperset(map(id, group["params"])):
                raise ValueError("the optimizer is of another network's parameters: make a new one")
            group["lr"] = group["initial_lr"] = lr  # from which a schedule starts
        return optimizer
    options = {"lr": lr, "weight_decay": weight_decay, "fused": device_of(model).type != "mps"}
    if optimizer in ("sgd", "nesterov"):
        nesterov = optimizer == "nesterov" and momentum > 0
        return torch.optim.SGD(parameters, momentum=momentum, nesterov=nesterov, **options)
    if optimizer == "adam":
        return torch.optim.Adam(parameters, **options)
    if optimizer == "adamw":
        return torch.optim.AdamW(parameters, **options)
    raise ValueError(f"there is no optimizer {optimizer!r}: choose sgd, nesterov, adam or adamw")


def _make_schedule(optimizer, schedule, lr, final_lr, steps) -> lr_scheduler.LRScheduler | None:
    if callable(schedule):
        return lr_scheduler.LambdaLR(optimizer, schedule)
    if schedule == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=final_lr * lr)
    if schedule == "onecycle":
        return lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps + 1, cycle_momentum=False)
    if schedule == "triangular":
        return lr_scheduler.LambdaLR(optimizer, partial(_triangle, steps=steps))
    if schedule == "constant":
        return None
    raise ValueError(
        f"there is no schedule {schedule!r}: choose cosine, onecycle, triangular or constant"
    )


def _triangle(step: int, *, steps: int) -> float:
    """From 0.2 to 1 over the first 23 % of the steps, then to 0: Jordan, arXiv 2404.00498."""
    peak = 0.23 * steps
    return 0.2 + 0.8 * step / peak if step < peak else (steps - step) / (steps - peak)
