"""How fast does forgotten knowledge come back?"""

from __future__ import annotations

import math

from torch import nn

from ..core.batches import Batches, Rereadable
from ..core.checks import check_number, check_seed, check_whole
from ..core.layers import copy_of
from ..core.loop import minimise
from ..core.losses import classification_loss
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
    target, seed = check_number("target", target, "[0, 1]"), check_seed(seed)
    max_steps = check_whole("max_steps", max_steps)
    check_every = check_whole("check_every", check_every, least=1)
    model = copy_of(model)
    relearn, forget, steps, reached = Rereadable(relearn), Rereadable(forget), 0, False

    def target_met() -> bool:
        return accuracy(*predict(model, forget)) >= target

    def stop(_: float) -> bool:
        nonlocal steps, reached
        steps += 1
        reached = (steps % check_every == 0 or steps >= max_steps) and target_met()
        return reached or steps >= max_steps

    if target_met():
        return 0.0
    options = {"lr": lr, "optimizer": optimizer, "schedule": "constant", "seed": seed}
    options |= {"epochs": math.ceil(max_steps / len(relearn)), "stop": stop}
    minimise(model, relearn, classification_loss, title="relearning", **options)
    return float(steps) if reached else math.inf
