"""How much does a network's answer on an example owe to having been trained on it?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit

from .arrays import Array, as_flags, check_samples


class Memorisation(NamedTuple):
    """Scores and their standard errors, (S,) each."""

    scores: np.ndarray
    errors: np.ndarray


def memorisation(correct: Array, member: Array) -> Memorisation:
    """Memorisation of each example, from networks trained on random subsets.

    mem(x) = P[right on x | x in the training set] - P[right on x | x not in it], in [-1, 1]: 0 for
    what is known anyway, near 1 for a mislabelled example that a network has learnt by heart. Each
    probability is a mean over networks. NaN where no network left x out, or none had it.

    The standard error is sqrt(p (1 - p) / (n - 1) + q (1 - q) / (m - 1)), with p over n networks
    that had x and q over m that had not; NaN where n or m is 1. It is 1 / sqrt(n + m) at most for
    large n = m, which is why halves are the best subsets.

    Source: Feldman and Zhang, What Neural Networks Memorize and Why, NeurIPS 2020, arXiv
    2008.03703, equation 1; they train thousands of networks on 70 % of the images.

    >>> memorisation([[1, 1], [1, 1], [0, 1]], [[1, 1], [0, 1], [0, 1]]).scores
    array([0.5, nan])

    Args:
        correct: whether each network is right on each example, (N, S): bool, or 0 and 1.
        member: whether it was trained on it, (N, S).

    Raises:
        ValueError: if they are not of one such shape, or hold anything else.
    """
    correct, member = as_flags(correct, "correct"), as_flags(member, "member")
    if correct.shape != member.shape or correct.ndim != 2 or 0 in correct.shape:
        raise ValueError(
            "correct and member need networks in rows and the same examples in columns, not "
            f"{correct.shape} and {member.shape}"
        )
    sides = [_mean_and_variance(correct, own) for own in (member, ~member)]
    (known, spread), (unseen, spread_unseen) = sides
    return Memorisation(known - unseen, np.sqrt(spread + spread_unseen))


def split_half_reliability(correct: Array, member: Array) -> float:
    """How reliable scores of memorisation are: what other networks of equal number would agree on.

    The networks are dealt into two halves, two at a time, since two are trained on the halves of
    one draw. With r the correlation of both halves' scores, the reliability of all networks is
    2 r / (1 + r), at most 1; 0 or less means that scores are noise. NaN where a half's scores
    are all the same.

    Source: Spearman 1910 and Brown 1910.

    Args:
        correct, member: as ``memorisation``; at least four networks.

    Raises:
        ValueError: as ``memorisation``, or if there are fewer than four networks.
    """
    memorisation(correct, member)  # refuses what has no meaning
    correct, member = as_flags(correct, "correct"), as_flags(member, "member")
    if len(correct) < 4:
        raise ValueError(f"{len(correct)} networks have no two halves of pairs: train four or more")
    turn = np.arange(len(correct)) // 2 % 2 == 0
    one, other = (memorisation(correct[own], member[own]).scores for own in (turn, ~turn))
    known = ~np.isnan(one + other)
    one, other = one[known], other[known]
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    r = np.corrcoef(one, other)[0, 1]
    return float(2 * r / (1 + r)) if r > -1 else float("-inf")


def _mean_and_variance(correct: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the networks of ``own``, and its variance, (S,) each; NaN where there are none."""
    count = own.sum(0).astype(np.float64)
    mean = np.divide((correct & own).sum(0), count, np.full(len(count), np.nan), where=count > 0)
    spread = mean * (1 - mean)
    return mean, np.divide(spread, count - 1, np.full(len(count), np.nan), where=count > 1)


def memorisation_of_set(trained: Array, retrained: Array) -> np.ndarray:
    """Memorisation of each example of a set that networks had as a whole, or not at all.

    mem(x) = E[p_y(x) | the set was trained on] - E[p_y(x) | it was not], in [-1, 1]: as
    ``memorisation``, with the probability of the label in place of being right. What examples of
    the set have in common is memorised by all of them. Its standard error is at most
    sqrt(1 / (4 N) + 1 / (4 M)).

    Args:
        trained: ``logit_scaled_confidence`` of each example, (N, S), one row per network.
        retrained: the same for networks that never saw any of these examples, (M, S).

    Returns:
        (S,).

    Raises:
        ValueError: if a side has no networks, the examples differ in number, there are none, or a
            value is not finite.
    """
    known, unseen = (expit(side).mean(0) for side in check_samples(trained, retrained, least=1))
    return known - unseen
