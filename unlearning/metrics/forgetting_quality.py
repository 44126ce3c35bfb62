"""Can many unlearned networks be told from many retrained ones, example by example.

The measure of the NeurIPS 2023 unlearning challenge. For each forgotten example, the unlearned
networks give one sample of a confidence f and the retrained networks another; attacks that look at
f alone try to say which network is which, and eps is the differential privacy that the best of them
leaves room for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.special import logsumexp

from .arrays import Array, as_numpy, checked

LARGEST_EPS = 50.0  # of a perfect attack, whose eps is infinite, and of the range guard
NARROW = 0.01  # a range below this part of the other's is the guard's
PER_UNIT = 100  # thresholds per unit of f
BUFFER = 2.0  # an interval's ends are tried so far on either side of the narrower sample's
ENDS = int(2 * BUFFER * PER_UNIT)  # values tried for either end of an interval
TIE = 1e-9  # f so near a threshold is on it: else a constant added to all f would change eps
BIN = 0.5  # width in eps of a step of H
SLOWEST = 0.2  # of retraining's seconds: a slower method is rejected


class ForgettingQuality(NamedTuple):
    """F, and for each example what it is made of.

    ``attack`` names the attack that won: "single", "double", "none" where every one was discarded
    (eps is 0 then), "identical" where the guard set eps to 50.
    """

    quality: float
    eps: np.ndarray
    attack: np.ndarray
    interval_examples: tuple[float, float] | None = None
    interval_networks: tuple[float, float] | None = None


class AttackAt(NamedTuple):
    """The error rates of one attack and its eps, NaN where the attack is discarded."""

    fpr: np.ndarray
    fnr: np.ndarray
    eps: np.ndarray


def logit_scaled_confidence(logits: Array, labels: Array) -> np.ndarray:
    """Confidence in the label on a scale without ends: f = log p_y - log sum_{c != y} p_c.

    Any real number; 0 where the label has probability one half, and the logit of p_y everywhere.
    Over networks it is nearly normal, which p_y is not. In float64, as z_y - logsumexp of the other
    logits: finite however sure the network is.

    Source: Carlini et al., Membership Inference Attacks From First Principles, 2022, section IV.

    Args:
        logits: (..., S, K), such as (N, S, K) of N networks; K at least 2.
        labels: (S,).

    Returns:
        (..., S), float64.

    Raises:
        ValueError: one class, labels that do not fit, or logits that are not finite.
    """
    logits, labels = as_numpy(logits), as_numpy(labels)
    if logits.ndim < 2 or logits.shape[-1] < 2:
        raise ValueError(f"logits must be of shape (..., S, K), K at least 2, not {logits.shape}")
    if labels.shape != logits.shape[-2:-1]:
        raise ValueError(
            f"{logits.shape[-2]} examples need as many labels, one each, not {labels.shape}"
        )
    repeated = np.broadcast_to(labels, logits.shape[:-1]).ravel()
    flat, repeated = checked(logits.reshape(-1, logits.shape[-1]), repeated)
    rows = np.arange(len(flat))
    own = flat[rows, repeated]
    flat[rows, repeated] = -np.inf
    return (own - logsumexp(flat, axis=1)).reshape(logits.shape[:-1])


def forgetting_quality(
    unlearned: Array,
    retrained: Array,
    *,
    delta: float = 1e-5,
    bins: int = 13,
    narrow: float = NARROW,
    resamples: int = 0,
    seed: int = 0,
) -> ForgettingQuality:
    """F of the NeurIPS 2023 challenge: the mean over forgotten examples s of H(s) = 2 / 2^n(s).

    n is 1 for eps(s) in [0, 0.5), 2 in [0.5, 1), and so on; beyond ``bins`` such bins H is 0. The
    eps of s is the largest, over attacks with error rates FPR and FNR, of

        max( log(1 - delta - FPR) - log FNR,  log(1 - delta - FNR) - log FPR ),  at least 0.

    An attack with both rates 0 has eps 50; one with exactly one of them 0 is discarded. The single
    attack calls positive f >= t, from the sample with the larger median; the double attack calls
    positive l <= f <= h, from the sample of the smaller range w, with l and h up to 2 from the ends
    of a window of width w. Where one range is below 1 % of the other, eps is 50: without that guard
    N copies of one network would look perfectly forgotten.

    In [0, 1], larger is better. Retraining itself does not reach 1: equal Gaussians give 0.16 to
    0.19 for 16 to 512 networks. Print F beside that of a second set of retrained networks (the
    ceiling) and of the original (the floor).

    Source: the challenge's evaluation document, with its 13 bins, and the organisers' released
    scorer, which at 512 networks has 14; its thresholds, its discard rules and its guard.

    Args:
        unlearned: ``logit_scaled_confidence`` of the forget set, (N, S): a row a network.
        retrained: the same of networks that never saw the forget set, (M, S).
        delta: of the differential privacy.
        bins: steps of H.
        narrow: the guard's: a range below this part of the other's has eps 50; 0 takes it away.
        resamples: bootstrap resamples for the two intervals; 0 leaves them out. Each costs as much
            as the call without them (about 0.4 s for 512 + 512 networks and 100 examples).
        seed: of the bootstrap.

    Returns:
        ``quality``, ``eps`` (S,) and ``attack`` (S,). With ``resamples``, 95 % intervals:
        ``interval_examples`` when other examples had been forgotten, the percentiles of the
        resampled mean; ``interval_networks`` when other networks had been trained, F ± 1.96
        standard deviations of F over resampled networks. Percentiles would not do there: networks
        drawn twice make the samples easier to tell apart, so a resampled F lies below F.

    Raises:
        ValueError: fewer than two networks a side, other examples on one side, no examples, values
            that are not finite, or an argument out of its range.
    """
    check_arguments(delta, bins, resamples, narrow)
    unlearned, retrained = checked_samples(unlearned, retrained)
    eps, attack = strongest_attacks(unlearned, retrained, delta, narrow)
    points = points_of(eps, bins)
    quality = float(points.mean())
    if resamples == 0:
        return ForgettingQuality(quality, eps, attack)
    generator = np.random.default_rng(seed)
    means = [generator.choice(points, len(points)).mean() for _ in range(resamples)]
    over_examples = np.percentile(means, [2.5, 97.5])
    resampled = [
        points_of(strongest_attacks(*redrawn, delta, narrow)[0], bins).mean()
        for redrawn in redraw_networks(unlearned, retrained, resamples, generator)
    ]
    over_networks = np.clip(quality + np.array([-1.96, 1.96]) * np.std(resampled, ddof=1), 0, 1)
    return ForgettingQuality(
        quality, eps, attack, tuple(over_examples.tolist()), tuple(over_networks.tolist())
    )


def challenge_score(
    quality: float,
    *,
    retain_accuracy: Array | float,
    test_accuracy: Array | float,
    retrained_retain_accuracy: Array | float,
    retrained_test_accuracy: Array | float,
    seconds: float | None = None,
    retraining_seconds: float | None = None,
) -> float:
    """The challenge's score: F x RA_u / RA_r x TA_u / TA_r, accuracies averaged over networks.

    At least 0, larger is better; compare with the ceiling, the score of a second set of retrained
    networks. A method that takes more than 20 % of retraining's time is rejected: with both times
    given, its score is 0.

    Source: as ``forgetting_quality``.

    Args:
        quality: F.
        retain_accuracy, test_accuracy: of the unlearned networks, one each or their mean.
        retrained_retain_accuracy, retrained_test_accuracy: of the retrained networks.
        seconds, retraining_seconds: for one network, on the same device; both or neither.

    Raises:
        ValueError: a value that is no fraction, a retrained accuracy of 0, or one time alone.
    """
    utility = 1.0
    for part, ours, theirs in (
        ("retain", retain_accuracy, retrained_retain_accuracy),
        ("test", test_accuracy, retrained_test_accuracy),
    ):
        wanted = mean_fraction(theirs, f"retrained {part} accuracy")
        if wanted == 0:
            raise ValueError(f"the retrained {part} accuracy is 0: there is nothing to compare to")
        utility *= mean_fraction(ours, f"{part} accuracy") / wanted
    score = mean_fraction(quality, "quality") * utility
    return 0.0 if too_slow(seconds, retraining_seconds) else score


def attack_at(
    threshold: Array | float, unlearned: Array, retrained: Array, *, delta: float = 1e-5
) -> AttackAt:
    """The single attack at a threshold of one's own: two samples of one example -> FPR, FNR, eps.

    Positive is f >= threshold; the sample with the larger median is the positive one, the unlearned
    where the medians are equal. FPR is the fraction of the other sample that is called positive,
    FNR the fraction of the positive one that is not; eps as in ``forgetting_quality``, in [0, 50],
    and NaN where exactly one rate is 0, since such an attack is discarded.

    Args:
        threshold: one, or an array of them.
        unlearned: f of one example under the unlearned networks, (N,).
        retrained: under the retrained networks, (M,).
        delta: of the differential privacy.

    Returns:
        ``fpr``, ``fnr`` and ``eps``, each in the shape of ``threshold``.

    Raises:
        ValueError: more than one example, and as ``forgetting_quality``.
    """
    check_arguments(delta)
    samples = [as_numpy(sample) for sample in (unlearned, retrained)]
    if any(sample.ndim != 1 for sample in samples):
        shapes = " and ".join(str(sample.shape) for sample in samples)
        raise ValueError(f"one example's values are needed, (N,) and (M,), not {shapes}")
    columns = checked_samples(*(sample[:, None] for sample in samples))
    positive, negative = by_median(*(np.sort(column[:, 0]) for column in columns))
    false_positives, false_negatives = errors_at(as_numpy(threshold), positive, negative)
    eps = eps_of(false_positives, false_negatives, len(positive), len(negative), delta)
    eps = np.where(eps == -np.inf, np.nan, np.minimum(eps, LARGEST_EPS))
    return AttackAt(false_positives / len(negative), false_negatives / len(positive), eps[()])


# ------------------------------------------------------------------------------------------------
# Attacks, on sorted samples. Errors are counted, not rated: counts are exact and index tables.


def strongest_attacks(
    unlearned: np.ndarray, retrained: np.ndarray, delta: float, narrow: float = NARROW
) -> tuple[np.ndarray, np.ndarray]:
    """eps (S,) and the name of the attack that reached it (S,)."""
    columns = (np.ascontiguousarray(np.sort(side, axis=0).T) for side in (unlearned, retrained))
    pairs = zip(*columns, strict=True)
    eps, attack = zip(*(guarded(*pair, delta, narrow) for pair in pairs), strict=True)
    return np.array(eps), np.array(attack)


def guarded(
    unlearned: np.ndarray, retrained: np.ndarray, delta: float, narrow: float = NARROW
) -> tuple[float, str]:
    """The strongest attack on one example, or 50 where one sample is a point beside the other."""
    smaller, larger = sorted((width(unlearned), width(retrained)))
    if smaller < narrow * larger:
        return LARGEST_EPS, "identical"
    return strongest(unlearned, retrained, delta)


def strongest(unlearned: np.ndarray, retrained: np.ndarray, delta: float) -> tuple[float, str]:
    """The strongest attack on one example: eps and name."""
    larger, smaller = by_median(unlearned, retrained)
    narrow, wide = (larger, smaller) if width(larger) < width(smaller) else (smaller, larger)
    thresholds = thresholds_between(larger, smaller)
    single = best(errors_at(thresholds, larger, smaller), larger, smaller, delta)
    double = best(errors_of_intervals(narrow, wide), narrow, wide, delta)
    if max(single, double) == -np.inf:
        return 0.0, "none"
    return min(max(single, double), LARGEST_EPS), "single" if single >= double else "double"


def by_median(unlearned: np.ndarray, retrained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sample with the larger median, then the other; unlearned first where they are equal."""
    swap = np.median(retrained) > np.median(unlearned)
    return (retrained, unlearned) if swap else (unlearned, retrained)


def width(sample: np.ndarray) -> float:
    return sample[-1] - sample[0]


def thresholds_between(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The grid over the joint range, 100 a unit: of all its points those beside a value of f.

    Points between two neighbouring values make the same errors, so a wide range costs no more.
    """
    values = np.concatenate([one, other])
    low, high = values.min(), values.max()
    last = np.ceil(np.round((high - low) * PER_UNIT, 6)) - 1
    if last < 1:
        return np.full(int(last + 1), low)
    step = (high - low) / last
    below = np.floor((values - low) / step)  # or one less, where the quotient was rounded down
    beside = np.minimum(np.concatenate([below, below + 1]), last)
    return low + np.unique(beside) * step


def errors_at(
    thresholds: np.ndarray, positive: np.ndarray, negative: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """False positives and false negatives of f >= t, for each t."""
    false_negatives = np.searchsorted(positive, thresholds - TIE)
    return len(negative) - np.searchsorted(negative, thresholds - TIE), false_negatives


def errors_of_intervals(
    positive: np.ndarray, negative: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """False positives and false negatives of l <= f <= h, (400, 400): a row an h, a column an l.

    With w the range of the positive sample, h goes over 400 values within 2 of its maximum, and l
    over 400 values within 2 of h - w. The i-th h is maximum - 2 + i * step, so the j-th l is
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


def best(
    errors: tuple[np.ndarray, np.ndarray], positive: np.ndarray, negative: np.ndarray, delta: float
) -> float:
    """The largest eps of these attacks, minus infinity if none is left."""
    return float(eps_of(*errors, len(positive), len(negative), delta).max(initial=-np.inf))


def eps_of(
    false_positives: np.ndarray,
    false_negatives: np.ndarray,
    positives: int,
    negatives: int,
    delta: float,
) -> np.ndarray:
    """eps of attacks: at least 0, infinite without an error, minus infinity where discarded."""
    log_fpr, log_tnr = log_rates(negatives, delta)
    log_fnr, log_tpr = log_rates(positives, delta)
    with np.errstate(invalid="ignore"):  # of attacks that are discarded
        eps = np.maximum(
            log_tnr[false_positives] - log_fnr[false_negatives],
            log_tpr[false_negatives] - log_fpr[false_positives],
        )
    discarded = (false_positives == 0) != (false_negatives == 0)
    return np.where(discarded, -np.inf, np.maximum(eps, 0))


def log_rates(count: int, delta: float) -> tuple[np.ndarray, np.ndarray]:
    """log rate and log(1 - delta - rate) of 0 to ``count`` errors among ``count``."""
    rate = np.arange(count + 1) / count
    with np.errstate(divide="ignore"):
        return np.log(rate), np.log(np.maximum(1 - delta - rate, 0))


def points_of(eps: np.ndarray, bins: int) -> np.ndarray:
    """H of each example: 1, 1/2, 1/4, ... by bins of 0.5 in eps, 0 beyond the last."""
    bin_of = np.floor(eps / BIN)
    return np.where(bin_of < bins, 0.5**bin_of, 0.0)


def redraw_networks(
    unlearned: np.ndarray, retrained: np.ndarray, resamples: int, generator: np.random.Generator
) -> Iterator[list[np.ndarray]]:
    """Both sides, with as many networks as there are drawn with replacement, again and again."""
    sides = (unlearned, retrained)
    for _ in range(resamples):
        yield [side[generator.integers(len(side), size=len(side))] for side in sides]


# ------------------------------------------------------------------------------------------------
# What the arguments must be


def checked_samples(
    unlearned: Array, retrained: Array, *, least: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Values of many networks on the same examples, (N, S) and (M, S), as float64.

    Raises:
        ValueError: fewer than ``least`` networks a side, other examples, none, or not finite.
    """
    sides = [as_numpy(side).astype(np.float64) for side in (unlearned, retrained)]
    shapes = " and ".join(str(side.shape) for side in sides)
    if any(side.ndim != 2 for side in sides) or sides[0].shape[1] != sides[1].shape[1]:
        raise ValueError(f"networks in rows, the same examples in columns are needed, not {shapes}")
    if sides[0].shape[1] == 0:
        raise ValueError(f"there are no examples: the arrays are of shape {shapes}")
    if min(len(side) for side in sides) < least:
        raise ValueError(f"at least {least} networks a side are needed, not {shapes}")
    if not all(np.isfinite(side).all() for side in sides):
        raise ValueError("some values are NaN or infinite: a network or its input is broken")
    return sides[0], sides[1]


def check_arguments(
    delta: float, bins: int = 1, resamples: int = 0, narrow: float = NARROW
) -> None:
    if not 0 <= delta < 1:
        raise ValueError(f"delta must be in [0, 1), not {delta}")
    if bins < 1:
        raise ValueError(f"H needs at least one bin, not {bins}")
    if not 0 <= narrow <= 1:
        raise ValueError(f"narrow must be in [0, 1], not {narrow}")
    if resamples < 0 or resamples == 1:
        raise ValueError(f"resamples must be 0 (no intervals) or at least 2, not {resamples}")


def mean_fraction(values: Array | float, name: str) -> float:
    values = as_numpy(values).astype(np.float64)
    if values.size == 0 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"{name} must be fractions in [0, 1], one or more, not {values}")
    return float(values.mean())


def too_slow(seconds: float | None, retraining_seconds: float | None) -> bool:
    """Whether the method takes over 20 % of retraining's time; not, where no times are given."""
    if seconds is None and retraining_seconds is None:
        return False
    if seconds is None or retraining_seconds is None:
        raise ValueError("seconds and retraining_seconds belong together: give both or neither")
    if not (seconds >= 0 and retraining_seconds > 0):
        raise ValueError(
            f"times must be positive, not {seconds} s against {retraining_seconds} s of retraining"
        )
    return seconds > SLOWEST * retraining_seconds
