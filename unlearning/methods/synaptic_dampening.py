"""Selective synaptic dampening (SSD): shrink the weights that the forget set needs most."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..core.batches import Batches, Rereadable, fixed_order, read_pairs
from ..core.checks import check_logits, check_number, check_pair, check_values_per_weight
from ..core.devices import device_of
from ..core.gradients import sum_gradients
from ..core.layers import copy_of
from ..core.losses import classification_loss
from ..core.progress import say
from ..curvature import fisher_diagonal

_BELOW = 1 - 1e-5  # more than rounding: ratios equal to the percentile are dampened


def synaptic_dampening(
    model: nn.Module,
    retain: Batches,
    forget: Batches,
    *,
    alpha: float | str = "auto",
    dampening: float = 1.0,
    importance: str = "batch",
    full_importance: Mapping[str, Tensor] | None = None,
    seed: int = 0,
) -> nn.Module:
    r"""Shrink each weight that matters far more to the forget set than to the whole training set.

    .. math:: w' = w \min(\lambda I_D / I_S, 1) \quad\text{where}\quad I_S > \alpha I_D

    with I the importance of a weight, S the forget set, D both sets, :math:`\lambda` the
    ``dampening``. Nothing is trained or drawn; both sets are read once, in eval mode. One line of
    output tells which share was dampened.

    D contains S, so that no I_S / I_D exceeds the inverse of S's share of the batches: an ``alpha``
    of 10, as published, changes nothing when a tenth is to be forgotten. No value suits all
    networks. Of each class of MNIST, "auto" leaves 0 % known to a CNN, which keeps 96 to 100 % of
    the rest, but 0 to 100 % to an MLP (24 % of class 5); ``alpha=5`` leaves at most 24 % known to
    the MLP, which keeps 99 %, and the CNN keeps 12 to 100 %. Of images drawn at random, both leave
    99 % known: their importances are nearly those of all.

    Source: Foster et al., Fast Machine Unlearning Without Retraining Through Selective Synaptic
    Dampening, AAAI 2024, arXiv 2308.07707 (alpha 10, lambda 1). "logit_norm": Foster et al.,
    Loss-Free Machine Unlearning, arXiv 2402.19308. "auto": Schoepf et al., Parameter-Tuning-Free
    Data Entry Error Unlearning, arXiv 2402.10098, whose notebook takes the retain set for D. Here
    the gradients of S serve both I_S and I_D, so that S is not read twice.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        retain: batches of images (B, C, H, W), float, normalised, and labels (B,), long; with
            ``full_importance``, read only to count its images for "auto", and may else be [].
        forget: the same, to be forgotten.
        alpha: ratio I_S / I_D above which a weight is dampened; "auto" takes the percentile
            100 - ln(1 + 100 |S| / |D|) of all ratios that are finite, and dampens its equals too,
            since many weights that S alone needs share the largest ratio.
        dampening: lambda: below 1, weights are dampened further; what comes out above 1 is cut.
        importance: "batch" is the mean over batches of the squared gradient of their mean loss, as
            published, which depends on the batch size; "sample" the mean over images of the squared
            gradient of each; "logit_norm" the mean over batches of the absolute gradient of the
            logits' mean squared norm, for which labels are not read.
        full_importance: I_D, if already computed: what the function ``importance`` of this module
            returns for the whole training set and the same kind.
        seed: has no effect; every method takes one.

    Raises:
        ValueError: if ``alpha`` is not positive, ``importance`` is unknown, ``full_importance`` is
            not of this network, or "auto" does not know how many images there are.
    """
    if alpha != "auto":
        alpha = check_number("alpha", alpha, "(0, inf]", 'positive, or "auto"')
    dampening = check_number("dampening", dampening, "[0, inf)")
    own = _measure(model, forget, importance)
    rest = _measure(model, retain, importance) if full_importance is None else None
    full = full_importance if rest is None else _mean_of(own, rest)
    model = copy_of(model).eval()
    check_values_per_weight("full_importance", full, model, maker="importance")
    full = {name: full[name].to(w) for name, w in model.named_parameters()}
    trained = {name: w for name, w in model.named_parameters() if w.requires_grad}
    if not trained:
        raise ValueError("no parameter of the network requires a gradient: nothing may be dampened")
    if alpha == "auto":
        total = own.images + (_count_images(retain) if rest is None else rest.images)
        ratios = torch.cat([(own.mean[name] / full[name]).flatten().cpu() for name in trained])
        alpha = _adaptive_alpha(ratios, own.images / total)
    dampened = sum(_dampen(w, own.mean[n], full[n], alpha, dampening) for n, w in trained.items())
    count = sum(w.numel() for w in trained.values())
    say(f"SSD: {100 * dampened / count:.1f} % of {count:,} weights dampened")
    return model


def importance(model: nn.Module, batches: Batches, kind: str = "batch") -> dict[str, Tensor]:
    """The importance of every parameter to a set, as ``synaptic_dampening`` takes it.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); read in eval mode, not changed.
        batches: of the whole training set, if it is to be stored as ``full_importance``.
        kind: "batch", "sample" or "logit_norm".

    Returns:
        {parameter name: tensor of the parameter's shape}, on the model's device.

    Raises:
        ValueError: if there are no batches, ``kind`` is unknown, or the result is not finite.
    """
    return _measure(model, batches, kind).mean


def _dampen(w: Tensor, own: Tensor, full: Tensor, alpha: float, dampening: float) -> int:
    """Shrink, in place, the entries that the rule chooses; their number."""
    chosen = own > alpha * full
    factor = (dampening * full / own).clamp(max=1)
    with torch.no_grad():
        w *= torch.where(chosen, factor, torch.ones_like(factor))
    return int(chosen.sum())


class _Measured(NamedTuple):
    """The importance of each parameter, a mean over so many batches, or over images."""

    mean: dict[str, Tensor]
    count: int
    images: int


class _Counted(Rereadable):
    """Batches that count the images of their last reading."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.images = 0
        for images, labels in map(check_pair, super().__iter__()):
            self.images += len(images)
            yield images, labels


def _squared_norm(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return check_logits(model(images)).square().sum(-1).mean()


_LOSSES = {
    "batch": (classification_loss, torch.square),
    "logit_norm": (_squared_norm, torch.abs),
}


def _measure(model: nn.Module, batches: Batches, kind: str) -> _Measured:
    """The importances, in one reading in a fixed order, frozen parameters included."""
    if kind not in ("batch", "sample", "logit_norm"):
        raise ValueError(f'importance must be "batch", "sample" or "logit_norm", not {kind!r}')
    counted = _Counted(batches)
    with fixed_order(batches, device_of(model)):
        if kind == "sample":
            mean = fisher_diagonal(model, counted, estimator="empirical")
            return _Measured(mean, counted.images, counted.images)
        twin, (loss, change) = copy_of(model).requires_grad_(True), _LOSSES[kind]
        names, parameters = zip(*twin.named_parameters(), strict=True)
        found = sum_gradients(twin, parameters, counted, loss, change=change, title="importance")
    means = [total / found.batches for total in found.sums]
    return _Measured(dict(zip(names, means, strict=True)), found.batches, found.images)


def _mean_of(one: _Measured, other: _Measured) -> dict[str, Tensor]:
    """The importances to both sets together."""
    share = one.count / (one.count + other.count)
    return {name: share * m + (1 - share) * other.mean[name] for name, m in one.mean.items()}


def _count_images(batches: Batches) -> int:
    if batches == []:
        raise ValueError(
            'alpha="auto" needs the number of all images: give the retain set, or alpha a number'
        )
    with fixed_order(batches, torch.device("cpu")):
        return sum(len(images) for images, _ in read_pairs(batches))


def _adaptive_alpha(ratios: Tensor, share: float) -> float:
    """The percentile of the finite ratios, with ln(1 + 100 share) per cent at or above it."""
    finite = ratios[ratios.isfinite()].double().numpy()
    if not len(finite):
        return math.inf
    return _BELOW * float(np.percentile(finite, 100 - math.log1p(100 * share)))
