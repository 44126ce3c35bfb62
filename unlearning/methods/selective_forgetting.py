"""Selective forgetting (Fisher noise): noise on the weights that the retain set does not need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..core.batches import Batches, check_rereadable, classes_in, first_images
from ..core.checks import (
    check_labels,
    check_number,
    check_values_per_weight,
    classes_to_forget,
)
from ..core.layers import copy_of, logit_layers, weight_layers
from ..core.loop import check_finite
from ..core.randomness import generator_from
from ..curvature import fisher_diagonal


def selective_forgetting(
    model: nn.Module,
    retain: Batches,
    *,
    alpha: float = 1e-6,
    max_variance: float = 1e3,
    max_variance_last: float = 1e2,
    forget_classes: int | Sequence[int] | None = None,
    estimator: str = "exact",
    scale_by: str = "std",
    fisher: Mapping[str, Tensor] | None = None,
    seed: int = 0,
) -> nn.Module:
    r"""Add Gaussian noise to each weight, large where the retain set hardly depends on it.

    .. math:: w' = w + n, \quad n \sim N(0, \alpha F^{-1})

    with F the diagonal Fisher information of the retain set. In the authors' practical form:

    1. v = 1 / (F + 1e-8), clamped at ``max_variance``, in the last layer at ``max_variance_last``;
    2. v is averaged over the inputs of each unit (dim 1 of a weight) and multiplied by alpha;
    3. the rows of ``forget_classes`` in the layer that makes the logits are reset: the weights to
       0, v to 1e-4;
    4. v is multiplied by ten in the last layer, in biases and in BatchNorm.

    Source: Golatkar et al., Eternal Sunshine of the Spotless Net, CVPR 2020, section 5, and the
    authors' code. The paper's noise has variance F^{-1/2}; their code's, and this, F^{-1}. The
    running statistics of BatchNorm are left as they are, and parameters that are frozen while
    others are not.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        retain: batches of images (B, C, H, W), float, normalised, and labels (B,), long, which are
            read only to see what classes there are.
        alpha: variance of the noise relative to 1 / F: more forgets more and damages more.
        max_variance: upper bound of 1 / F, before it is multiplied by alpha.
        max_variance_last: upper bound of 1 / F in the last layer.
        forget_classes: classes that are forgotten completely; their last-layer rows are reset. By
            default those of which the retain set has no image; () resets none. Without a reset, a
            class stays known at every ``alpha`` that keeps the others; with it, the class can still
            win where all other logits are negative, since its own is about 0.
        estimator: of the Fisher information, "exact" or "sampled", which is cheaper and noisier.
        scale_by: "std" scales standard normal noise by sqrt(v). "variance" scales it by v itself,
            as one public copy of the method does: at alpha 1e-6 that forgets nothing.
        fisher: the Fisher diagonal, if already computed; ``retain`` may then be an empty list, if
            the last layer in the network is the one that makes the logits.
        seed: random seed for the noise and for sampled labels.

    Raises:
        Diverged: if a weight is no longer finite, since ``alpha`` is too large.
        ValueError: if ``alpha`` is not positive, a class does not exist or none would be left,
            it cannot be told which layer makes the logits, or ``estimator`` or ``scale_by`` is
            unknown.
    """
    alpha = check_number("alpha", alpha, "(0, inf)", "positive")
    if scale_by not in ("std", "variance"):
        raise ValueError(f'scale_by must be "std" or "variance", not {scale_by!r}')
    for name, bound in (("max_variance", max_variance), ("max_variance_last", max_variance_last)):
        check_number(name, bound, "(0, inf]")
    model, generator = copy_of(model).eval(), generator_from(seed)
    check_rereadable(retain)
    last = _last_layer(model, retain, fisher)
    class_rows = _class_rows(forget_classes, retain, len(next(iter(last))))
    if fisher is None:
        fisher = fisher_diagonal(model, retain, estimator=estimator, seed=seed)
    check_values_per_weight("fisher", fisher, model, maker="fisher_diagonal")
    some_train = any(w.requires_grad for w in model.parameters())
    with torch.no_grad():
        for name, w in model.named_parameters():
            if some_train and not w.requires_grad:
                continue
            in_last = w in last
            bound = max_variance_last if in_last else max_variance
            variance = alpha * _variance_per_unit(fisher[name], bound)
            if in_last and class_rows:
                w[class_rows], variance[class_rows] = 0.0, 1e-4
            if in_last or w.ndim == 1:
                variance *= 10
            noise = torch.randn(w.shape, generator=generator).to(w)
            w += noise * (variance.sqrt() if scale_by == "std" else variance)
    check_finite(model, f"after the noise: lower alpha ({alpha:g})")
    return model


def _last_layer(
    model: nn.Module, retain: Batches, fisher: Mapping[str, Tensor] | None
) -> set[Tensor]:
    """The parameters that make the logits."""
    if fisher is not None and retain == []:
        layers = [weight_layers(model)[-1][1]]
    else:
        layers = logit_layers(model, first_images(retain))
    return {w for layer in layers for w in layer.parameters(recurse=False)}


def _class_rows(
    forget_classes: int | Sequence[int] | None, retain: Batches, num_classes: int
) -> list[int]:
    """The classes to forget; by default those that the retain set does not have."""
    if forget_classes is None:
        present = set(range(num_classes)) if retain == [] else classes_in(retain)
        check_labels(torch.tensor(sorted(present)), num_classes)
        forget_classes = set(range(num_classes)) - present
    return classes_to_forget(forget_classes, num_classes)


def _variance_per_unit(fisher: Tensor, bound: float) -> Tensor:
    """1 / F, bounded, averaged over the inputs of each unit; the shape of F."""
    variance = (1 / (fisher + 1e-8)).clamp(max=bound)
    if fisher.ndim > 1:
        variance = variance.mean(dim=1, keepdim=True).expand_as(fisher).clone()
    return variance
