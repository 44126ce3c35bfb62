"""Slips of released code, each measured: what they change, as the numbers of a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from .core.batches import Batches
from .core.layers import copy_of
from .core.relabelling import minimise_relabelled
from .methods import random_labels, scrub
from .methods.synaptic_dampening import importance
from .metrics import accuracy
from .training import predict

Figure = dict[str, Any]  # "numbers", "xlabel" and "ylabel", as ``plots.lines`` takes them


def labels_drawn_once(
    model: nn.Module, retain: Batches, forget: Batches, *, epochs: Sequence[int] = (1, 2, 4, 8)
) -> Figure:
    """Random labels drawn once are learned by heart: the mean confidence on the forget set.

    With labels drawn for every epoch, confidence keeps falling towards that of a guess.
    """
    names = {"once": "drawn once", "epoch": "drawn in every epoch"}
    found = {name: [] for name in names.values()}
    for count in epochs:
        for redraw, name in names.items():
            network = random_labels(model, retain, forget, redraw=redraw, epochs=count)
            p = predict(network, forget)[0].softmax(1)
            found[name].append(float(p.amax(1).mean()))
    return _figure(found, epochs, "epochs of unlearning", "confidence on the forget set")


def gradients_masked(
    model: nn.Module,
    retain: Batches,
    forget: Batches,
    *,
    epochs: Sequence[int] = (1, 2, 4, 8),
    lr: float = 0.05,
    weight_decay: float = 5e-4,
    seed: int = 0,
) -> Figure:
    """Masking gradients, in place of weights, leaves weight decay free to move what is masked.

    The distance, ||w - w_original||, that half of the weights, chosen at random, move although
    their gradients are masked; that of SalUn's hard mask is 0.
    """
    generator = torch.Generator().manual_seed(seed)
    masks = [torch.rand(w.shape, generator=generator) < 0.5 for w in model.parameters()]
    found = {"gradients masked": [], "weights masked": [0.0] * len(epochs)}
    for count in epochs:
        network = copy_of(model)
        for w, mask in zip(network.parameters(), masks, strict=True):
            w.register_hook(mask.to(w.device).mul)
        options = {"epochs": count, "lr": lr, "weight_decay": weight_decay, "seed": seed}
        kind = {"redraw": "epoch", "exclude_true": False, "order": "mixed"}
        minimise_relabelled(network, retain, forget, **kind, **options)
        pairs = zip(network.parameters(), model.parameters(), masks, strict=True)
        moved = [(new - old).detach()[~mask.to(old.device)] for new, old, mask in pairs]
        found["gradients masked"].append(float(torch.cat(moved).norm()))
    return _figure(found, epochs, "epochs of unlearning", "distance moved outside the mask")


def epochs_counted_from_zero(
    model: nn.Module, retain: Batches, forget: Batches, *, epochs: int = 5, **options: Any
) -> Figure:
    """SCRUB with ``epoch <= max_epochs``, counted from 0, maximises once more than it says.

    Accuracies, in per cent, by the number of epochs that maximise.
    """
    counts, found = range(epochs + 1), {"retain": [], "forget": []}
    for count in counts:
        network = scrub(model, retain, forget, max_epochs=count, epochs=epochs, **options)
        for name, batches in (("retain", retain), ("forget", forget)):
            found[name].append(100 * accuracy(*predict(network, batches)))
    axes = f"epochs that maximise, of {epochs}", "accuracy (%)"
    return _figure(found, counts, *axes)


def ratio_out_of_reach(
    model: nn.Module,
    retain: Sequence,
    forget: Sequence,
    *,
    alphas: Sequence[float] = (1, 2, 4, 6, 8, 9, 10, 20),
) -> Figure:
    """SSD's alpha of 10 does nothing where a tenth of all batches is to be forgotten.

    The forget set is a part of what it is compared with, so that no importance is more than the
    inverse of its share times as large. The share of weights, in per cent, that is dampened.
    """
    share = len(forget) / (len(retain) + len(forget))
    of_forget, of_retain = importance(model, forget), importance(model, retain)
    of_all = {name: share * own + (1 - share) * of_retain[name] for name, own in of_forget.items()}
    ratios = torch.cat([(of_forget[name] / of_all[name]).flatten() for name in of_all])
    dampened = [100 * float((ratios > alpha).float().mean()) for alpha in alphas]
    return _figure({f"share {share:.1%}": dampened}, alphas, "alpha", "weights dampened (%)")


def factor_multiplied(epochs: int = 10) -> Figure:
    """l1-sparse with a coefficient that is multiplied by (2 - 2 e / E) in each epoch e, not set.

    Relative to gamma, by epoch; set to 1 - e / E, it falls in a line.
    """
    factor = 1 - np.arange(epochs) / epochs
    found = {"multiplied": np.cumprod(2 * factor), "set": factor}
    return _figure(found, range(1, epochs + 1), "epoch", "factor of gamma")


def _figure(found: dict, index: Sequence, xlabel: str, ylabel: str) -> Figure:
    return {"numbers": pd.DataFrame(found, index), "xlabel": xlabel, "ylabel": ylabel}
