"""Can an attacker tell from one example's confidence f which network is unlearned?

Samples are sorted first; errors are counted, not rated: counts are exact, and index tables of
logarithms.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..core.checks import check_number
from .arrays import Array, as_floats, check_samples

LARGEST_EPS = 50.0  # of a perfect attack, whose eps is infinite, and of the range guard
NARROW = 0.01  # the range guard: a range below this fraction of the other's
PER_UNIT = 100  # thresholds per unit of f
BUFFER = 2.0  # the ends of an interval go this far beyond the narrower sample's, on either side
ENDS = int(2 * BUFFER * PER_UNIT)  # values tried for either end of an interval
TIE = 1e-9  # an f this near a threshold is on it: else a constant added to all f would change eps


class AttackAt(NamedTuple):
    """The error rates of one attack and its eps, NaN if the attack is discarded."""

    fpr: np.ndarray
    fnr: np.ndarray
    eps: np.ndarray


def attack_at(
    threshold: Array | float, unlearned: Array, retrained: Array, *, delta: float = 1e-5
) -> AttackAt:
    """Attack one example with a threshold of your own: FPR, FNR and eps.

    The sample with the larger median is the positive one, the unlearned if the medians are equal;
    f >= threshold is called positive. eps is that of ``forgetting_quality``, in [0, 50]; it is NaN
    if exactly one rate is 0, since such an attack is discarded.

    >>> fpr, fnr, eps = attack_at(3, np.array([0, 1, 2, 6]), np.array([3, 5, 7, 1, 9]), delta=0)
    >>> float(fpr), float(fnr), float(eps.round(3))
    (0.25, 0.2, 1.322)

    Args:
        threshold: one threshold, or an array of them.
        unlearned: f of one example under the unlearned networks, (N,).
        retrained: f of the same example under the retrained networks, (M,).
        delta: delta of the differential privacy.

    Returns:
        ``fpr``, ``fnr`` and ``eps``, each in the shape of ``threshold``.

    Raises:
        ValueError: if there is more than one example, a threshold is NaN or there is none, and as
            ``forgetting_quality``.
    """
    delta, threshold = check_delta(delta), as_floats(threshold, "threshold")
    if threshold.size == 0 or np.isnan(threshold).any():
        raise ValueError("threshold must be one number or several, none of them NaN")
    samples = [as_floats(sample, "the networks' values") for sample in (unlearned, retrained)]
    if any(sample.ndim != 1 for sample in samples):
        shapes = " and ".join(str(sample.shape) for sample in samples)
        raise ValueError(f"the values of one example are needed, (N,) and (M,), not {shapes}")
    columns = check_samples(*(sample[:, None] for sample in samples))
    positive, negative = _by_median(*(np.sort(column[:, 0]) for column in columns))
    false_positives, false_negatives = _errors_at(threshold, positive, negative)
    eps = _eps(false_positives, false_negatives, len(positive), len(negative), delta)
    eps = np.where(eps == -np.inf, np.nan, np.minimum(eps, LARGEST_EPS))
    return AttackAt(false_positives / len(negative), false_negatives / len(positive), eps[()])


def strongest_attacks(
    unlearned: np.ndarray, retrained: np.ndarray, delta: float, narrow: float = NARROW
) -> tuple[np.ndarray, np.ndarray]:
    """eps of every example (S,), and the name of the attack that reached it (S,)."""
    columns = (np.ascontiguousarray(np.sort(side, axis=0).T) for side in (unlearned, retrained))
    pairs = zip(*columns, strict=True)
    eps, attack = zip(*(_guarded_attack(*pair, delta, narrow) for pair in pairs), strict=True)
    return np.array(eps), np.array(attack)


def _guarded_attack(
    unlearned: np.ndarray, retrained: np.ndarray, delta: float, narrow: float = NARROW
) -> tuple[float, str]:
    """The strongest attack on one example; eps is 50 if one sample is a point next to the other."""
    smaller, larger = sorted((_range(unlearned), _range(retrained)))
    if smaller < narrow * larger:
        return LARGEST_EPS, "identical"
    return _strongest_attack(unlearned, retrained, delta)


def _strongest_attack(
    unlearned: np.ndarray, retrained: np.ndarray, delta: float
) -> tuple[float, str]:
    """The strongest attack on one example: eps and name."""
    larger, smaller = _by_median(unlearned, retrained)
    narrow, wide = (larger, smaller) if _range(larger) < _range(smaller) else (smaller, larger)
    thresholds = _thresholds_between(larger, smaller)
    single = _largest_eps(_errors_at(thresholds, larger, smaller), larger, smaller, delta)
    double = _largest_eps(_errors_of_intervals(narrow, wide), narrow, wide, delta)
    if max(single, double) == -np.inf:
        return 0.0, "none"
    return min(max(single, double), LARGEST_EPS), "single" if single >= double else "double"


def _by_median(unlearned: np.ndarray, retrained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sample with the larger median, then the other; unlearned first if they are equal."""
    swap = np.median(retrained) > np.median(unlearned)
    return (retrained, unlearned) if swap else (unlearned, retrained)


def _range(sample: np.ndarray) -> float:
    return sample[-1] - sample[0]


def _thresholds_between(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The grid of 100 thresholds per unit of the joint range, reduced to points next to a value."""
    values = np.concatenate([one, other])
    low, high = values.min(), values.max()
    last = np.ceil(np.round((high - low) * PER_UNIT, 6)) - 1
    if last < 1:
        return np.full(int(last + 1), low)
    step = (high - low) / last
    below = np.floor((values - low) / step)  # or one less, where the quotient was rounded down
    neighbours = np.minimum(np.concatenate([below, below + 1]), last)
    return low + np.unique(neighbours) * step


def _errors_at(
    thresholds: np.ndarray, positive: np.ndarray, negative: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """False positives and false negatives of f >= t, for each t."""
    false_negatives = np.searchsorted(positive, thresholds - TIE)
    return len(negative) - np.searchsorted(negative, thresholds - TIE), false_negatives


def _errors_of_intervals(
    positive: np.ndarray, negative: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """False positives and false negatives of l <= f <= h, (400, 400): rows are h, columns are l.

    With w the range of the positive sample, h takes 400 values within 2 of its maximum, and l takes
    400 values within 2 of h - w. The i-th h is maximum - 2 + i * step, so the j-th l is
    minimum - 4 + (i + j) * step: 799 values in all, of which each h sees a window of 400.
    """
    step = 2 * BUFFER / (ENDS - 1)
    upper = positive[-1] + (step * np.arange(ENDS) - BUFFER)
    lower = positive[0] + step * np.arange(1 - ENDS, ENDS)

    def inside(sample: np.ndarray) -> np.ndarray:
        up_to_upper = np.searchsorted(sample, upper + TIE)
        below_lower = np.searchsorted(sample, lower - TIE)
        return np.maximum(up_to_upper[:, None] - sliding_window_view(below_lower, ENDS), 0)

    return inside(negative), len(positive) - inside(positive)


def _largest_eps(
    errors: tuple[np.ndarray, np.ndarray], positive: np.ndarray, negative: np.ndarray, delta: float
) -> float:
    """The largest eps of these attacks, minus infinity if all are discarded."""
    return float(_eps(*errors, len(positive), len(negative), delta).max(initial=-np.inf))


def _eps(
    fp: np.ndarray, fn: np.ndarray, positives: int, negatives: int, delta: float
) -> np.ndarray:
    """eps of attacks: at least 0, infinite without errors, minus infinity if discarded."""
    log_fpr, log_tnr = _log_rates(negatives, delta)
    log_fnr, log_tpr = _log_rates(positives, delta)
    with np.errstate(invalid="ignore"):  # from attacks that are discarded
        eps = np.maximum(log_tnr[fp] - log_fnr[fn], log_tpr[fn] - log_fpr[fp])
    discarded = (fp == 0) != (fn == 0)
    return np.where(discarded, -np.inf, np.maximum(eps, 0))


def _log_rates(count: int, delta: float) -> tuple[np.ndarray, np.ndarray]:
    """log(rate) and log(1 - delta - rate) for 0 to ``count`` errors among ``count``."""
    rate = np.arange(count + 1) / count
    with np.errstate(divide="ignore"):
        return np.log(rate), np.log(np.maximum(1 - delta - rate, 0))


def check_delta(delta: float) -> float:
    return check_number("delta", delta, "[0, 1)")
