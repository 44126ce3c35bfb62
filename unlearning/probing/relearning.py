"""What comes back? Accuracy on the forgotten against steps of training, network by network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count as count_up
from itertools import islice
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from ..core.batches import Batches, iterate_epochs
from ..core.checks import check_seed, check_whole, kind_of
from ..core.images import Images
from ..core.own_sets import batches_of
from ..measurement import Readable
from ..metrics.relearn import accuracy_by_step
from ..splitting import forget_random

STEPS = (0, 1, 2, 4, 8, 16, 32, 64, 128)


def relearn_from_forgotten(
    networks: Mapping[str, nn.Module],
    forget: Images,
    *,
    count: int = 10,
    beside: Images | None = None,
    steps: Iterable[int] = STEPS,
    batch_size: int = 64,
    freeze_bn: bool = True,
    seed: int = 0,
    **training: Any,
) -> pd.DataFrame:
    """Train on a few forgotten images, and measure the accuracy on all other forgotten ones.

    Every network, in a copy of its own, trains on the same images in the same order. What is known
    already is in step 0. A network that merely hides a class finds it again in fewer steps than the
    retrained one, the yardstick, which has to learn it.

    Images of one class alone teach any network to call everything that class, so that every curve
    of a forgotten class ends near 1: look at the first steps, not at the end, or give retained
    images ``beside``. Of an MNIST CNN from which DELETE had removed the 5, 32 steps on ten of them
    took the accuracy on others to 100 %, and that on all other digits to 4 %; beside retained
    images, to 87 and 96 %, where the retrained network had 0 and 96 %. BatchNorm keeps its
    statistics here, by default. Those of ten images of one class do much of that teaching: of two
    CNNs that had never seen MNIST's 5, they took the accuracy to 93 and 100 % in 32 steps, against
    0 and 46 % with ``freeze_bn``.

    Source: Golatkar et al., Eternal Sunshine of the Spotless Net, CVPR 2020, section 6 (relearn
    time, on the whole forget set; the split into few and others is ours).

    Args:
        networks: name -> classifier, such as original, unlearned and retrained; not changed.
        forget: the forgotten images.
        count: how many of them are trained on, drawn by ``seed``.
        beside: retained images, others in every step, that fill a batch with these few up to
            ``batch_size``; by default the few are alone.
        steps: after how many steps of training to measure, in any order.
        batch_size: images in a step; the few alone are in one batch if they fit.
        seed: random seed for the draw, the order of images and dropout.
        freeze_bn: use and keep BatchNorm's running statistics; its scales and shifts are trained.
        training: as ``relearn_from_retained``: lr, optimizer.

    Returns:
        One row per step, 0 among them, one column per network: fractions.

    Raises:
        ValueError: as ``relearn_from_retained``; if ``forget`` are no ``Images``, ``count`` is not
            below their number, or a batch has no place beside so many.
    """
    if not isinstance(forget, Images):
        raise ValueError(f"forget must be Images, of which a few are drawn, not {kind_of(forget)}")
    others, few = forget_random(forget, count=count, seed=check_seed(seed))
    steps = [check_whole("a step", step) for step in steps]
    shown = few if beside is None else _filled_up(few, beside, batch_size, max([1, *steps]), seed)
    options = {"steps": steps, "batch_size": batch_size, "freeze_bn": freeze_bn, "seed": seed}
    return relearn_from_retained(networks, shown, others, **options, **training)


def _filled_up(
    few: Images, images: Images, batch_size: int, steps: int, seed: int
) -> list[tuple[Tensor, Tensor]]:
    """A batch for each step: all of the few images, then others up to ``batch_size``."""
    if check_whole("batch_size", batch_size) <= len(few):
        raise ValueError(
            f"a batch of {batch_size} has no place beside {len(few)} images: raise batch_size"
        )
    (own,) = few.batches(len(few))
    rest = images.batches(batch_size - len(few), shuffle=True, seed=seed)
    rest = islice(iterate_epochs(rest, count_up()), steps)
    return [tuple(map(torch.cat, zip(own, others, strict=True))) for others in rest]


def relearn_from_retained(
    networks: Mapping[str, nn.Module],
    retain: Images | Batches,
    forget: Readable,
    *,
    steps: Iterable[int] = STEPS,
    batch_size: int = 64,
    lr: float = 1e-3,
    optimizer: str = "adam",
    freeze_bn: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Train on retained images alone, and measure the accuracy on the forgotten ones.

    Nothing is shown of what was forgotten, so what comes back was left in the network. The
    retrained network's curve says what can be guessed from the retained: of a class, nothing.

    Training without a class also pushes its logit down, in the original too: of a whole class, a
    curve that does not rise is no proof of forgetting. ``relearn_from_forgotten`` asks more.

    Every network, in a copy of its own, trains on the same images in the same order, by
    cross-entropy. What is known already is in step 0.

    Source: the relearning attack on the retain set of arXiv 2505.22310, which trains for epochs.

    Args:
        networks: name -> classifier, such as original, unlearned and retrained; not changed.
        retain: what to train on: ``Images``, in batches that are shuffled, or batches as they are.
        forget: what to measure on, as ``measure`` takes it.
        steps: after how many steps of training to measure, in any order.
        batch_size: of ``Images``.
        lr: constant learning rate. The result depends on it: try the one of training as well.
        optimizer: "sgd", "nesterov", "adam" or "adamw".
        freeze_bn: use and keep BatchNorm's running statistics; its scales and shifts are trained.
        seed: random seed for the order of images and dropout.

    Returns:
        One row per step, 0 among them, one column per network: fractions.

    Raises:
        ValueError: if there are no networks, or ``minimise`` or ``predict`` would raise one.
        Diverged: if a network's loss is no longer finite.
    """
    if not isinstance(networks, Mapping) or not networks:
        raise ValueError("networks must be a dict, name of a network -> network")
    steps = [check_whole("a step", step) for step in steps]
    if isinstance(retain, Images):
        retain = retain.batches(batch_size, shuffle=True, seed=check_seed(seed))
    options = {"lr": lr, "optimizer": optimizer, "freeze_bn": freeze_bn, "seed": seed}
    curves = {
        name: accuracy_by_step(network, retain, batches_of(forget), steps=steps, **options)
        for name, network in networks.items()
    }
    return pd.DataFrame(curves).rename_axis("step")
