"""What do many networks say about one example that one network cannot.

Each example gets its own attack or distance, from networks in rows and examples in columns: U-LiRA
and RMIA attack its membership, KLOM compares distributions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit
from scipy.stats import entropy
from sklearn.metrics import auc, roc_curve

from .arrays import Array, as_numpy
from .forgetting_quality import checked_samples

SMALLEST_DEVIATION = 1e-6  # of f: copies of one network have none, and would divide by it
LOW_FPR = 0.01


class Roc(NamedTuple):
    """How well scores tell members from others: 0.5, 0.01 and a diagonal are a guess."""

    auc: float
    tpr_at_1_percent_fpr: float
    fpr: np.ndarray
    tpr: np.ndarray


class ULira(NamedTuple):
    """Scores (N, S) and (M, S) of U-LiRA and what ``roc`` says of all of them together."""

    forgotten_scores: np.ndarray
    unseen_scores: np.ndarray
    auc: float
    tpr_at_1_percent_fpr: float
    fpr: np.ndarray
    tpr: np.ndarray


def roc(members: Array, others: Array) -> Roc:
    """ROC of telling members from others by their scores, a larger one meaning a member.

    ``auc`` in [0, 1], 0.5 is a guess; ``tpr_at_1_percent_fpr`` is the largest true positive rate of
    a threshold whose false positive rate is at most 1 %, 0.01 is a guess, and with fewer than 100
    others no other may be called a member. Against unlearning, near the guess is best.

    Args:
        members, others: scores, any shape; all of a side are taken together.

    Raises:
        ValueError: an empty side, or scores that are not finite.
    """
    sides = [as_numpy(side).astype(np.float64).ravel() for side in (members, others)]
    if min(len(side) for side in sides) == 0:
        raise ValueError("a ROC needs at least one score of members and one of others")
    if not all(np.isfinite(side).all() for side in sides):
        raise ValueError("a ROC needs finite scores: some are NaN or infinite")
    is_member = np.repeat([1, 0], [len(side) for side in sides])
    fpr, tpr, _ = roc_curve(is_member, np.concatenate(sides), drop_intermediate=False)
    return Roc(float(auc(fpr, tpr)), float(tpr[fpr <= LOW_FPR].max()), fpr, tpr)


def u_lira(forgotten: Array, unseen: Array) -> ULira:
    """U-LiRA: is f of an example that of a network which forgot it, or of one which never saw it.

    For each example a normal density p_f is fitted (by maximum likelihood) to the networks that
    were trained on it and then forgot it, and p_o to those that never saw it, each time without the
    network that is scored. Its score is p_f / (p_f + p_o), in [0, 1]. The ROC is of all networks
    and examples together, forgotten against unseen, on the logarithm of p_f / p_o, which has the
    order of the scores and does not run into their ends.

    AUC in [0, 1]; 0.5 is best. With few networks it lies below, since leaving one out moves the
    density away from it: where nothing is to be told, 4 normal values a side give 0.43, 8 give 0.49
    and 16 or more 0.50. Compare with the AUC of a second set of unseen networks.

    Source: Hayes et al., Inexact Unlearning Needs More Careful Evaluations to Avoid a False Sense
    of Privacy, arXiv 2403.01218.

    Args:
        forgotten: ``logit_scaled_confidence`` of each example, (N, S): a row a network.
        unseen: the same of networks that never saw any of these examples, (M, S).

    Raises:
        ValueError: fewer than three networks a side, other examples on one side, no examples, or
            values that are not finite.
    """
    forgotten, unseen = checked_samples(forgotten, unseen, least=3)
    ratio_forgotten = log_density_without_own(forgotten) - log_density(forgotten, *fit(unseen))
    ratio_unseen = log_density(unseen, *fit(forgotten)) - log_density_without_own(unseen)
    return ULira(expit(ratio_forgotten), expit(ratio_unseen), *roc(ratio_forgotten, ratio_unseen))


def fit(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each column, by maximum likelihood."""
    return values.mean(0), values.var(0)


def log_density(values: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Of the normal distribution, less its constant, which no ratio sees."""
    variance = np.maximum(variance, SMALLEST_DEVIATION**2)
    return -((values - mean) ** 2) / (2 * variance) - np.log(variance) / 2


def log_density_without_own(values: np.ndarray) -> np.ndarray:
    """Of each value under the normal distribution fitted to the other values of its column.

    Without x_i the mean moves by d_i / (n - 1), with d_i = x_i - mean, and the sum of squares falls
    by d_i^2 n / (n - 1): no second fit is needed.
    """
    count, mean = len(values), values.mean(0)
    off = values - mean
    squares = (off**2).sum(0) - off**2 * count / (count - 1)
    return log_density(values, mean - off / (count - 1), np.maximum(squares, 0) / (count - 1))


def rmia(
    confidence: Array,
    reference_confidence: Array,
    population: Array,
    reference_population: Array,
    *,
    gamma: float = 1.0,
    offline_a: float = 1.0,
) -> np.ndarray:
    """RMIA: how often does a network favour x more, beside its references, than it favours others.

    The score of x is the fraction of population examples z with

        (p_y(x | m) / p(x)) / (p_y(z | m) / p(z)) > gamma,

    p(.) the mean of p_y over the reference networks; one reference is enough. In [0, 1]; larger
    means a member. ``roc(scores of members, scores of others)`` has AUC 0.5 for a guess.

    References of which half were trained on x (online) give p(x) as it is: ``offline_a`` 1. Those
    that never saw x (offline) give too small a p(x); there p becomes ((1 + a) p + 1 - a) / 2, for x
    and z alike, with a in [0, 1] chosen on a network whose members are known (0.3 unless chosen, in
    the authors' code).

    Source: Zarifzadeh, Liu and Shokri, Low-Cost High-Power Membership Inference Attacks, ICML 2024;
    gamma 1 as in the authors' code.

    Args:
        confidence: p_y of the examples under attack, (S,) of one network or (N, S) of N.
        reference_confidence: of the same examples under the reference networks, (R, S).
        population: p_y of the population under the attacked network, (Z,) or (N, Z).
        reference_population: under the reference networks, (R, Z).
        gamma: how much more x is to be favoured.
        offline_a: the paper's a.

    Returns:
        Scores in the shape of ``confidence``.

    Raises:
        ValueError: shapes that do not fit, none of a kind, values that are no probabilities, an
            example of probability 0 under all references, or an argument out of its range.
    """
    if not gamma > 0 or not 0 <= offline_a <= 1:
        raise ValueError(f"gamma must be positive, offline_a in [0, 1], not {gamma}, {offline_a}")
    x, x_reference = checked_confidences(confidence, reference_confidence, "examples")
    z, z_reference = checked_confidences(population, reference_population, "population")
    if x.shape[:-1] != z.shape[:-1] or len(x_reference) != len(z_reference):
        raise ValueError(
            "the same networks must be read on the examples and on the population, not "
            f"{x.shape} and {z.shape} of the attacked, {len(x_reference)} and {len(z_reference)} "
            "references"
        )
    favoured = x / prior(x_reference, offline_a)
    bar = np.sort(gamma * z / prior(z_reference, offline_a), axis=-1)
    networks = zip(np.atleast_2d(bar), np.atleast_2d(favoured), strict=True)
    below = [np.searchsorted(bars, values) for bars, values in networks]
    return np.reshape(below, x.shape) / z.shape[-1]


def prior(references: np.ndarray, offline_a: float) -> np.ndarray:
    """p(x), from the reference networks' (R, S)."""
    return ((1 + offline_a) * references.mean(0) + 1 - offline_a) / 2


def checked_confidences(
    confidence: Array, references: Array, name: str
) -> tuple[np.ndarray, np.ndarray]:
    sides = [as_numpy(side).astype(np.float64) for side in (confidence, references)]
    shapes = " and ".join(str(side.shape) for side in sides)
    attacked, references = sides
    fits = attacked.ndim in (1, 2) and references.ndim == 2
    if (
        not fits
        or attacked.shape[-1] != references.shape[1]
        or 0 in attacked.shape + references.shape
    ):
        raise ValueError(f"{name} must be (S,) or (N, S), their references (R, S), not {shapes}")
    if not all(((side >= 0) & (side <= 1)).all() for side in sides):
        raise ValueError(f"{name}: probabilities must be in [0, 1], and some are not")
    if (references.max(0) == 0).any():
        raise ValueError(f"{name}: all references give one probability 0; compute it in float64")
    return attacked, references


def klom(
    unlearned_margins: Array,
    retrained_margins: Array,
    *,
    bins: int = 20,
    clip: float = 100.0,
    floor: float = 1e-5,
) -> np.ndarray:
    """KLOM: KL divergence of an example's margins, unlearned from retrained networks, in nats.

    Margins (``logit_scaled_confidence``) are clipped to [-clip, clip] and counted in equal bins
    over the joint range of the example. KLOM is the sum of p log(p / q), p the unlearned and q the
    retrained part in a bin; where p > 0, q is at least ``floor``, and q is scaled to sum to 1.

    In [0, log(1 + 1 / floor)], which is 11.5; 0 is best. A second set of retrained networks does
    not reach it (0.36 for 100 normal values a side): compare with its. The mean and the 95th
    percentile over examples, ``np.percentile(klom(...), 95)``, of forget, retain and test set are
    what the authors report.

    Source: Rinberg et al., Easy Data Unlearning Bench (EasyDUB); the largest margin, which their
    code leaves out, is counted in the last bin.

    Args:
        unlearned_margins: (N, S): a row a network.
        retrained_margins: (M, S).
        bins: per example.
        clip: largest margin.
        floor: least part of the retrained in a bin.

    Returns:
        (S,).

    Raises:
        ValueError: no networks on a side, other examples on one side, no examples, values that are
            not finite, or an argument out of its range.
    """
    if bins < 1 or not clip > 0 or not 0 < floor < 1:
        raise ValueError(
            f"bins must be at least 1, clip positive, floor in (0, 1), not {bins}, {clip}, {floor}"
        )
    sides = checked_samples(unlearned_margins, retrained_margins, least=1)
    unlearned, retrained = (np.clip(side, -clip, clip) for side in sides)
    low = np.minimum(unlearned.min(0), retrained.min(0))
    high = np.maximum(unlearned.max(0), retrained.max(0))
    p, q = (parts_in_bins(side, low, high, bins) for side in (unlearned, retrained))
    q = np.where(p > 0, np.maximum(q, floor), q)
    return entropy(p, q, axis=1)  # which scales both to sum to 1


def parts_in_bins(values: np.ndarray, low: np.ndarray, high: np.ndarray, bins: int) -> np.ndarray:
    """The part of each column's values that lies in each equal bin from low to high, (S, bins)."""
    span = np.where(high > low, high - low, 1)
    index = np.minimum((values - low) * bins / span, bins - 1).astype(np.int64)
    examples = values.shape[1]
    counts = np.bincount((index + bins * np.arange(examples)).ravel(), minlength=bins * examples)
    return counts.reshape(examples, bins) / len(values)
