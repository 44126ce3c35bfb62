"""What do many networks say about one example that one network cannot?

Each example gets its own attack or distance, from arrays with networks in rows and examples in
columns: U-LiRA and RMIA attack its membership, KLOM compares distributions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit
from scipy.stats import entropy
from sklearn.metrics import auc, roc_curve

from ..core.checks import check_number, check_whole
from .arrays import Array, all_finite, as_floats, check_fractions, check_samples

SMALLEST_DEVIATION = 1e-6  # of f; that of copies of one network is 0
LOW_FPR = 0.01


class Roc(NamedTuple):
    """How well scores tell members from others."""

    auc: float
    tpr_at_1_percent_fpr: float
    fpr: np.ndarray
    tpr: np.ndarray


class ULira(NamedTuple):
    """Scores (N, S) and (M, S) of U-LiRA, and the ``roc`` of all of them together."""

    forgotten_scores: np.ndarray
    unseen_scores: np.ndarray
    auc: float
    tpr_at_1_percent_fpr: float
    fpr: np.ndarray
    tpr: np.ndarray


def roc(members: Array, others: Array) -> Roc:
    """ROC of telling members from others by a score that is larger for members.

    ``tpr_at_1_percent_fpr`` is the largest true positive rate of any threshold with a false
    positive rate of at most 1 %. After unlearning, a guess is best: AUC 0.5, TPR 0.01.

    >>> roc(np.array([0.9, 0.4]), np.array([0.1, 0.5])).auc
    0.75

    Args:
        members, others: scores of any shape; each side is pooled.

    Raises:
        ValueError: if a side is empty, or a score is not finite.
    """
    sides = [as_floats(side, "scores").ravel() for side in (members, others)]
    if min(len(side) for side in sides) == 0:
        raise ValueError("a ROC needs at least one score of members and one of others")
    if not all(all_finite(side) for side in sides):
        raise ValueError("a ROC needs finite scores: some are NaN or infinite")
    is_member = np.repeat([1, 0], [len(side) for side in sides])
    fpr, tpr, _ = roc_curve(is_member, np.concatenate(sides), drop_intermediate=False)
    return Roc(float(auc(fpr, tpr)), float(tpr[fpr <= LOW_FPR].max()), fpr, tpr)


def u_lira(forgotten: Array, unseen: Array) -> ULira:
    """U-LiRA: does f come from a network that forgot the example, or from one that never saw it?

    For each example, a normal density p_f is fitted (by maximum likelihood) to the networks that
    were trained on it and then forgot it, and p_o to those that never saw it, each time without the
    network that is scored. Its score is p_f / (p_f + p_o), in [0, 1]. The ROC pools all networks
    and examples; it uses log(p_f / p_o), which does not saturate.

    An AUC of 0.5 is best. With few networks it is lower, since leaving one out moves the density
    away from it: 4 equal normal values per side give 0.43, 8 give 0.49 and 16 or more 0.50.

    Source: Hayes et al., Inexact Unlearning Needs More Careful Evaluations to Avoid a False Sense
    of Privacy, arXiv 2403.01218.

    Args:
        forgotten: ``logit_scaled_confidence`` of each example, (N, S), one row per network.
        unseen: the same for networks that never saw any of these examples, (M, S).

    Raises:
        ValueError: if a side has fewer than three networks, the examples differ in number, there
            are none, or a value is not finite.
    """
    forgotten, unseen = check_samples(forgotten, unseen, least=3)
    ratio_forgotten = _leave_one_out_log_density(forgotten) - _log_density(forgotten, *_fit(unseen))
    ratio_unseen = _log_density(unseen, *_fit(forgotten)) - _leave_one_out_log_density(unseen)
    return ULira(expit(ratio_forgotten), expit(ratio_unseen), *roc(ratio_forgotten, ratio_unseen))


def _fit(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each column, by maximum likelihood."""
    return values.mean(0), values.var(0)


def _log_density(values: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Log of the normal density without its constant, which cancels in ratios."""
    variance = np.maximum(variance, SMALLEST_DEVIATION**2)
    return -((values - mean) ** 2) / (2 * variance) - np.log(variance) / 2


def _leave_one_out_log_density(values: np.ndarray) -> np.ndarray:
    """``_log_density`` of each value under a fit to the other values of its column.

    Without x_i, the mean moves by d_i / (n - 1), with d_i = x_i - mean, and the sum of squares
    drops by d_i^2 n / (n - 1), so that no second fit is needed.
    """
    count, mean = len(values), values.mean(0)
    off = values - mean
    squares = (off**2).sum(0) - off**2 * count / (count - 1)
    return _log_density(values, mean - off / (count - 1), np.maximum(squares, 0) / (count - 1))


def rmia(
    confidence: Array,
    reference_confidence: Array,
    population: Array,
    reference_population: Array,
    *,
    gamma: float = 1.0,
    offline_a: float = 1.0,
) -> np.ndarray:
    """RMIA: compared with reference networks, how often does a network favour x over others?

    The score of x is the fraction of population examples z with

        (p_y(x | m) / p(x)) / (p_y(z | m) / p(z)) > gamma,

    where p(.) is the mean of p_y over the reference networks, one or more. It is larger for
    members; a guess has AUC 0.5 in ``roc(members, others)``.

    If half of the references were trained on x (online), ``offline_a`` is 1. If none was (offline),
    p(x) is too small and is replaced by ((1 + a) p + 1 - a) / 2, for x and z alike. Choose a on a
    network whose members are known; the authors' code has 0.3.

    Source: Zarifzadeh, Liu and Shokri, Low-Cost High-Power Membership Inference Attacks, ICML 2024;
    gamma 1 as in the authors' code.

    Args:
        confidence: p_y of the attacked examples, (S,) for one network or (N, S) for N.
        reference_confidence: p_y of the same examples under the reference networks, (R, S).
        population: p_y of the population under the attacked network, (Z,) or (N, Z).
        reference_population: p_y of the population under the reference networks, (R, Z).
        gamma: how much more x must be favoured.
        offline_a: the paper's a.

    Returns:
        Scores in the shape of ``confidence``.

    Raises:
        ValueError: if shapes do not fit, an array is empty or holds no probabilities, all
            references give an example probability 0, or an argument is out of range.
    """
    gamma = check_number("gamma", gamma, "(0, inf)")
    offline_a = check_number("offline_a", offline_a, "[0, 1]")
    x, x_reference = _check_confidences(confidence, reference_confidence, "examples")
    z, z_reference = _check_confidences(population, reference_population, "population")
    if x.shape[:-1] != z.shape[:-1] or len(x_reference) != len(z_reference):
        raise ValueError(
            "the same networks must be read on the examples and on the population, not shapes "
            f"{x.shape} and {z.shape} with {len(x_reference)} and {len(z_reference)} references"
        )
    ratios = x / _prior(x_reference, offline_a)
    bars = np.sort(gamma * z / _prior(z_reference, offline_a), axis=-1)
    networks = zip(np.atleast_2d(bars), np.atleast_2d(ratios), strict=True)
    below = [np.searchsorted(own_bars, own_ratios) for own_bars, own_ratios in networks]
    return np.reshape(below, x.shape) / z.shape[-1]


def _prior(references: np.ndarray, offline_a: float) -> np.ndarray:
    """p(x) from the reference networks' p_y (R, S)."""
    return ((1 + offline_a) * references.mean(0) + 1 - offline_a) / 2


def _check_confidences(
    confidence: Array, references: Array, name: str
) -> tuple[np.ndarray, np.ndarray]:
    sides = [check_fractions(side, name) for side in (confidence, references)]
    shapes = " and ".join(str(side.shape) for side in sides)
    attacked, references = sides
    fits = attacked.ndim in (1, 2) and references.ndim == 2
    fits = fits and attacked.shape[-1] == references.shape[1]
    if not fits:
        raise ValueError(f"{name} must be (S,) or (N, S), their references (R, S), not {shapes}")
    if (references.max(0) == 0).any():
        raise ValueError(
            f"{name}: all references give an example probability 0; compute it in float64"
        )
    return attacked, references


def klom(
    unlearned_margins: Array,
    retrained_margins: Array,
    *,
    bins: int = 20,
    clip: float = 100.0,
    floor: float = 1e-5,
) -> np.ndarray:
    """KLOM: KL(unlearned || retrained) of each example's margins, in nats.

    Margins (``logit_scaled_confidence``) are clipped to [-clip, clip] and counted in equal bins
    over their joint range, example by example. With p and q the fractions of unlearned and
    retrained networks in a bin, KLOM is the sum of p log(p / q). Where p > 0, q is at least
    ``floor``; q is then scaled to sum to 1.

    In [0, log(1 + 1 / floor)], by default 11.5; 0 is best. A second set of retrained networks does
    not reach 0 (0.36 for 100 normal values per side), so compare with its KLOM. The authors report
    the mean and the 95th percentile over the forget, retain and test set.

    Source: Georgiev et al., Attribute-to-Delete: Machine Unlearning via Datamodel Matching, arXiv
    2410.23232, appendix E.1; Rinberg et al., Easy Data Unlearning Bench, arXiv 2602.16400. The
    direction differs between the released codes: it is this one in EasyDUB-code, while run.py of
    data-unlearning-bench hands the arguments over in the other order and so reports
    KL(retrained || unlearned). Both codes leave out the largest margin; here it is in the last bin.

    Args:
        unlearned_margins: (N, S), one row per network.
        retrained_margins: (M, S).
        bins: number of bins per example.
        clip: largest absolute margin.
        floor: smallest fraction of the retrained networks in a bin.

    Returns:
        (S,).

    Raises:
        ValueError: if a side has no networks, the examples differ in number, there are none, a
            value is not finite, or an argument is out of range.
    """
    bins, clip = check_whole("bins", bins, least=1), check_number("clip", clip, "(0, inf]")
    floor = check_number("floor", floor, "(0, 1)")
    sides = check_samples(unlearned_margins, retrained_margins, least=1)
    unlearned, retrained = (np.clip(side, -clip, clip) for side in sides)
    low = np.minimum(unlearned.min(0), retrained.min(0))
    high = np.maximum(unlearned.max(0), retrained.max(0))
    p, q = (_fractions_in_bins(side, low, high, bins) for side in (unlearned, retrained))
    q = np.where(p > 0, np.maximum(q, floor), q)
    return entropy(p, q, axis=1)  # scales both to sum to 1


def _fractions_in_bins(
    values: np.ndarray, low: np.ndarray, high: np.ndarray, bins: int
) -> np.ndarray:
    """Fraction of each column in each of the equal bins from low to high, (S, bins)."""
    span = np.where(high > low, high - low, 1)
    index = np.minimum((values - low) * bins / span, bins - 1).astype(np.int64)
    examples = values.shape[1]
    counts = np.bincount((index + bins * np.arange(examples)).ravel(), minlength=bins * examples)
    return counts.reshape(examples, bins) / len(values)
