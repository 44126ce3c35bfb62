"""The one optimisation loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from inspect import signature
from typing import Any, NamedTuple

import torch
import torch._dynamo  # else the first optimizer imports it, and is timed 2 s too long
from torch import Tensor, nn
from torch.optim import lr_scheduler

from .batches import Rereadable, generators_of, iterate_epochs
from .checks import (
    BATCH,
    check_logits,
    check_number,
    check_pair,
    check_precision,
    check_tensors,
    check_whole,
    kind_of,
    warn_of_probabilities,
)
from .devices import (
    device_of,
    dtype_of,
    in_channels_last,
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

    Methods call this on their own copy. What is frozen keeps all that it has, running statistics
    of normalisations included.

    The same call with the same seed gives the same weights on a CPU. The seed covers the global
    generators of torch, NumPy and Python and the loader's own, all of which are afterwards as they
    were; not generator objects that a data set holds, nor workers that persist between epochs
    (``persistent_workers=True``), which go on from where an earlier call left them.

    Args:
        model: changed, returned in eval mode; its tensors keep their strides.
        batches: a DataLoader, a list or the like that yields tuples of tensors, epoch after epoch;
            one that has no length is counted first, in one more reading.
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
    _check_options(epochs, lr, momentum, weight_decay, final_lr)
    device = device_of(model)
    check_precision(model)
    batches, last = Rereadable(batches), use_channels_last(model)
    optimizer = _make_optimizer(model, optimizer, lr, momentum, weight_decay)
    steps = max(1, epochs * len(batches))
    scheduler = _make_schedule(optimizer, schedule, lr, final_lr, steps)
    if mixed_precision is None:
        mixed_precision = use_bfloat16(model)
    bfloat16 = partial(torch.autocast, device.type, torch.bfloat16)
    precision = bfloat16 if mixed_precision else nullcontext
    watch, parameters = _LossWatch(every=1 if stop else 50), list(model.parameters())
    watched_loss, dtype = _ExplainedLoss(loss, title), dtype_of(model)
    layout = in_channels_last(model, optimizer) if last else nullcontext()
    random_state = seeded(seed, device, generators_of(batches))
    bar = Progress(title, steps)
    with layout, random_state, training_mode(model), performance_settings(model), bar:
        for batch in iterate_epochs(batches, range(epochs)):
            parts = on_device(check_tensors(batch), device, last, dtype)
            with precision():
                value = watched_loss(model, parts)
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


def _check_options(
    epochs: int, lr: float, momentum: float, weight_decay: float, final_lr: float
) -> None:
    check_whole("epochs", epochs)
    check_number("lr", lr, "[0, inf)")
    check_number("momentum", momentum, "[0, 1)")
    check_number("weight_decay", weight_decay, "[0, inf)")
    check_number("final_lr", final_lr, "[0, 1]")


def check_finite(model: nn.Module, when: str) -> None:
    """Raise Diverged if a weight or a running statistic is not finite."""
    for kind, tensors in (("weights", model.parameters()), ("statistics", model.buffers())):
        if not all(bool(tensor.isfinite().all()) for tensor in tensors):
            raise Diverged(f"{kind} are not finite {when}")


class _ExplainedLoss:
    """A loss that, where it fails on what a loader or a network gave, says so in one sentence."""

    def __init__(self, loss: Callable[..., Tensor], title: str):
        self.loss, self.title, self.outputs, self.is_first = loss, title, [], True

    def __call__(self, model: nn.Module, parts: list[Tensor]) -> Tensor:
        hook = model.register_forward_hook(lambda _, __, output: self.outputs.append(output))
        try:
            value = self.loss(model, *parts)
            if self.is_first:
                self._warn()
            return value
        except Exception as error:
            self._explain(error, parts)
            raise
        finally:
            hook.remove()
            self.outputs.clear()
            self.is_first = False

    def _warn(self) -> None:
        for output in self.outputs[:1]:
            if isinstance(output, Tensor) and output.ndim == 2:
                warn_of_probabilities(output)

    def _explain(self, error: Exception, parts: list[Tensor]) -> None:
        names = list(signature(self.loss).parameters)[1:]
        if names == ["images", "labels"] and len(parts) != 2:
            raise ValueError(f"{BATCH}, not {kind_of(parts)}") from error
        for output in self.outputs:
            check_logits(output)
        if "more than 1 value per channel" in str(error):
            raise ValueError(
                f"{self.title}: a batch of the loader holds {len(parts[0])} image, from which "
                "BatchNorm cannot take a variance: set drop_last=True, or another batch size"
            ) from error
        if len(parts) > 1:
            check_pair(parts[:2])


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
    if isinstance(optimizer, torch.optim.Optimizer):
        ours = set(map(id, model.parameters()))
        for group in optimizer.param_groups:
            if not ours.issuperset(map(id, group["params"])):
                raise ValueError("the optimizer is of another network's parameters: make a new one")
            group["lr"] = lr
        return optimizer
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
