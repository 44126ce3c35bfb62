"""Selective forgetting: noise where the retained data do not need the weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..curvature import fisher_diagonal
from ..data import Batches
from ..ensemble import member_by_member
from ..models import device_of, weight_layers
from ..training import check_classes


@member_by_member()
def selective_forgetting(
    model: nn.Module,
    retain: Batches,
    *,
    alpha: float = 1e-6,
    largest_variance: float = 1e3,
    largest_variance_last: float = 1e2,
    forget_classes: Sequence[int] = (),
    labels: str = "exact",
    by_root: bool = True,
    fisher: Mapping[str, Tensor] | list[Mapping[str, Tensor]] | None = None,
    seed: int = 0,
) -> nn.Module:
    r"""Add to each weight Gaussian noise, large where the retained data hardly see it.

    .. math:: w' = w + n, \quad n \sim N(0, \alpha F^{-1})

    with F the diagonal Fisher information of the retain set. No training follows, and the forget
    set is not read. In the authors' practical form, step by step:

    1. v = 1 / (F + 1e-8), at most ``largest_variance``, in the last layer at most
       ``largest_variance_last``;
    2. v is averaged over the inputs of each unit (dim 1 of a weight), and multiplied by alpha;
    3. ten times as much on parameters of one dimension (BatchNorm, biases) and on the last layer;
    4. the last-layer rows of ``forget_classes`` are reset: to 0, and variance 1e-4, before step 3.

    Source: Golatkar et al., Eternal Sunshine of the Spotless Net, CVPR 2020, section 5, and the
    authors' code. The paper's noise has variance F^{-1/2}; their code's, and this, F^{-1}. The
    running statistics of BatchNorm are left as they are.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        retain: batches of images (B, C, H, W), float, normalised, and labels (B,), long (not read).
        alpha: variance of the noise relative to 1 / F; the knob between memory and damage.
        largest_variance: upper bound of 1 / F, before alpha.
        largest_variance_last: the same in the last layer.
        forget_classes: classes forgotten as a whole, whose last-layer rows are reset.
        labels: "exact" Fisher, or the "sampled" estimate, K times cheaper.
        by_root: noise has standard deviation sqrt(v). False multiplies by v itself, as one public
            copy of the method does: at alpha 1e-6 it forgets nothing.
        fisher: the Fisher diagonal if it was taken before, to try several ``alpha``; ``retain`` is
            then not read. For an ensemble, a list of each member's.
        seed: of the noise and of sampled labels.

    Raises:
        ValueError: a class that the network does not have; an alpha that is not positive.
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, not {alpha}")
    fisher = fisher or fisher_diagonal(model, retain, labels=labels, seed=seed)
    model = copy.deepcopy(model).eval()
    last_name, last = weight_layers(model)[-1]
    rows = rows_of(forget_classes, len(last.weight), device_of(model))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, w in model.named_parameters():
            of_last = name.rpartition(".")[0] == last_name
            bound = largest_variance_last if of_last else largest_variance
            variance = alpha * variance_per_unit(fisher[name], bound)
            if of_last and len(rows):
                w[rows], variance[rows] = 0.0, 1e-4
            if of_last or w.ndim == 1:
                variance *= 10
            noise = torch.randn(w.shape, generator=generator).to(w)
            w += noise * (variance.sqrt() if by_root else variance)
    return model


def variance_per_unit(fisher: Tensor, bound: float) -> Tensor:
    """1 / F, bounded, averaged over the inputs of each unit; the shape of F."""
    variance = (1 / (fisher + 1e-8)).clamp(max=bound)
    if fisher.ndim > 1:
        variance = variance.mean(dim=1, keepdim=True).expand_as(fisher).clone()
    return variance


def rows_of(classes: Sequence[int], num_classes: int, device: torch.device) -> Tensor:
    check_classes(classes, num_classes)
    return torch.tensor(list(classes), dtype=torch.long, device=device)
