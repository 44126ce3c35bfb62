"""How fast does forgotten knowledge come back?"""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import nn

from ..core.batches import Batches, Rereadable
from ..core.checks import check_number, check_seed, check_whole
from ..core.layers import copy_of
from ..core.loop import minimise
from ..core.losses import classification_loss
from ..core.statistics import keep_statistics
from ..training import predict
from .accuracy import accuracy


def relearn_time(
    model: nn.Module,
    relearn: Batches,
    forget: Batches,
    *,
    target: float,
    lr: float = 1e-3,
    optimizer: str = "adam",
    max_steps: int = 500,
    check_every: int = 1,
    seed: int = 0,
) -> float:
    """Steps of training on ``relearn`` until the accuracy on ``forget`` reaches ``target``.

    Few steps mean that the knowledge was hidden, not gone. The ratio to the retrained network's
    steps is the Anamnesis index: 1 is ideal.

    Source: Golatkar et al. 2020, section 6; Chundawat et al., Zero-Shot Machine Unlearning, 2023.

    Args:
        model: classifier; not changed.
        relearn: batches to train on: the forget set, or the retain set alone (the relearn attack).
        forget: batches on which the accuracy is measured.
        target: accuracy to reach, a fraction, usually 95 % of the original network's.
        lr: constant learning rate.
        optimizer: "sgd", "adam" or "adamw".
        max_steps: number of steps after which to give up.
        check_every: steps between two measurements of the accuracy.
        seed: random seed for dropout.

    Returns:
        0 if the target is met before training, infinity if it is not met within ``max_steps``.

    Raises:
        ValueError: if ``target`` is not in [0, 1], or ``max_steps``, ``check_every`` or ``seed`` is
            no whole number, or too small.
    """
    target, max_steps = (
        check_number("target", target, "[0, 1]"),
        check_whole("max_steps", max_steps),
    )
    every = check_whole("check_every", check_every, least=1)
    steps = [*range(0, max_steps, every), max_steps]
    options = {"lr": lr, "optimizer": optimizer, "seed": seed}
    found = accuracy_by_step(model, relearn, forget, steps=steps, target=target, **options)
    last = max(found)
    return float(last) if found[last] >= target else math.inf


def accuracy_by_step(
    model: nn.Module,
    relearn: Batches,
    forget: Batches,
    *,
    steps: Iterable[int],
    target: float = math.inf,
    lr: float = 1e-3,
    optimizer: str = "adam",
    freeze_bn: bool = False,
    seed: int = 0,
) -> dict[int, float]:
    """Train a copy on ``relearn``, and measure the accuracy on ``forget`` after so many steps.

    The loss is the cross-entropy. Step 0 is the network as it is, whether asked for or not.

    Args:
        model, relearn, forget, lr, optimizer, seed: as ``relearn_time``.
        steps: after how many steps to measure, in any order; the largest is the last.
        target: end after the first measurement that reaches it.
        freeze_bn: use and keep BatchNorm's running statistics; its scales and shifts are trained.

    Returns:
        {step: accuracy}, in order.

    Raises:
        ValueError: if a step is no whole number of at least 0.
    """
    wanted, seed = {0, *(check_whole("a step", step) for step in steps)}, check_seed(seed)
    relearn, forget, found, done = Rereadable(relearn), Rereadable(forget), {}, 0
    model = copy_of(model)
    model = keep_statistics(model) if freeze_bn else model

    def measured() -> bool:
        if done in wanted:
            found[done] = accuracy(*predict(model, forget))
        return done >= max(wanted) or max(found.values()) >= target

    def stop(_: float) -> bool:
        nonlocal done
        done += 1
        return measured()

    if not measured():
        options = {"lr": lr, "optimizer": optimizer, "schedule": "constant", "seed": seed}
        options |= {"epochs": math.ceil(max(wanted) / len(relearn)), "stop": stop}
        minimise(model, relearn, classification_loss, title="relearning", **options)
    return found
