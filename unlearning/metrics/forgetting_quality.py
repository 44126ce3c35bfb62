"""Can many unlearned networks be told from many retrained ones, example by example?

The measure of the NeurIPS 2023 unlearning challenge: for each forgotten example, attacks that see
only a confidence f try to tell the networks apart, and eps is the differential privacy that the
strongest of them still allows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..core.checks import check_number, check_whole
from .arrays import Array, as_numpy, check_fractions, check_labelled, check_samples, log_odds
from .example_attacks import NARROW, check_delta, strongest_attacks
from .example_attacks import AttackAt as AttackAt
from .example_attacks import attack_at as attack_at

BIN = 0.5  # width in eps of a step of H
SLOWEST = 0.2  # fraction of retraining's seconds above which a method is rejected


class ForgettingQuality(NamedTuple):
    """F, and what it consists of for each example.

    ``attack`` names the strongest attack: "single" or "double", "none" if all were discarded (eps
    is then 0), or "identical" if the guard set eps to 50.
    """

    quality: float
    eps: np.ndarray
    attack: np.ndarray


def logit_scaled_confidence(logits: Array, labels: Array) -> np.ndarray:
    """Confidence in the label on an unbounded scale: f = log p_y - log sum_{c != y} p_c.

    This is the logit of p_y; over networks it is nearly normal. Computed in float64 as z_y minus
    the logsumexp of the other logits, so it is finite however sure the network is.

    >>> logit_scaled_confidence(np.array([[2.0, 0.5]]), np.array([0]))
    array([1.5])

    Source: Carlini et al., Membership Inference Attacks From First Principles, 2022, section IV.

    Args:
        logits: (..., S, K), such as (N, S, K) for N networks; K at least 2.
        labels: (S,).

    Returns:
        (..., S), float64.

    Raises:
        ValueError: if there is only one class, labels do not fit, or a logit is not finite.
    """
    logits, labels = as_numpy(logits, "logits"), as_numpy(labels, "labels")
    if logits.ndim < 2 or logits.shape[-1] < 2:
        raise ValueError(f"logits must have shape (..., S, K), K at least 2, not {logits.shape}")
    if labels.shape != logits.shape[-2:-1]:
        raise ValueError(f"{logits.shape[-2]} examples need one label each, not {labels.shape}")
    repeated = np.broadcast_to(labels, logits.shape[:-1]).ravel()
    flat, repeated = check_labelled(logits.reshape(-1, logits.shape[-1]), repeated)
    return log_odds(flat, repeated).reshape(logits.shape[:-1])


def forgetting_quality(
    unlearned: Array,
    retrained: Array,
    *,
    delta: float = 1e-5,
    bins: int = 13,
    narrow: float = NARROW,
) -> ForgettingQuality:
    """F of the NeurIPS 2023 challenge: the mean over forgotten examples s of H(s) = 2 / 2^n(s).

    n is 1 for eps(s) in [0, 0.5), 2 for [0.5, 1), and so on; beyond ``bins`` such bins, H is 0. The
    eps of s is the largest, over attacks with error rates FPR and FNR, of

        max( log(1 - delta - FPR) - log FNR,  log(1 - delta - FNR) - log FPR ),  at least 0.

    An attack with both rates 0 has eps 50; one with exactly one of them 0 is discarded. The single
    attack calls f >= t positive, the positive sample being the one with the larger median. The
    double attack calls l <= f <= h positive, the positive sample being the one with the smaller
    range w, and l and h lie up to 2 from the ends of a window of width w. If one range is below 1 %
    of the other, eps is 50: without this guard, N copies of one network would look perfectly
    forgotten.

    F is in [0, 1]; larger is better. Retraining itself does not reach 1 (equal Gaussians: 0.16 to
    0.19 for 16 to 512 networks): print F next to that of a second set of retrained networks (the
    ceiling) and of the original (the floor). There is no interval: resampling networks gives one
    that is too short, since networks drawn twice are easier to tell apart, and that knows nothing
    of other originals. For an interval, see ``challenge.replicates``.

    Source: the challenge's evaluation document, with its 13 bins, and the organisers' released
    scorer, which has 14 at 512 networks; thresholds, discard rules and guard are the scorer's.

    Args:
        unlearned: ``logit_scaled_confidence`` of the forget set, (N, S), one row per network.
        retrained: the same for networks that never saw the forget set, (M, S).
        delta: delta of the differential privacy.
        bins: number of steps of H.
        narrow: threshold of the guard, as a fraction of the wider range; 0 turns the guard off.

    Returns:
        ``quality``, ``eps`` (S,) and ``attack`` (S,).

    Raises:
        ValueError: if a side has fewer than two networks, the examples differ in number, there are
            none, a value is not finite, or an argument is out of range.
    """
    delta, bins = check_delta(delta), check_whole("bins", bins, least=1)
    narrow = check_number("narrow", narrow, "[0, 1]")
    eps, attack = strongest_attacks(*check_samples(unlearned, retrained), delta, narrow)
    return ForgettingQuality(float(_points(eps, bins).mean()), eps, attack)


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

    At least 0; larger is better. If both times are given, a method that takes more than 20 % of
    retraining's time is rejected: its score is 0.

    Source: as ``forgetting_quality``.

    Args:
        quality: F.
        retain_accuracy, test_accuracy: of the unlearned networks, one value each or their mean.
        retrained_retain_accuracy, retrained_test_accuracy: of the retrained networks.
        seconds, retraining_seconds: per network, on the same device; both or neither.

    Raises:
        ValueError: if a value is no fraction, a retrained accuracy is 0, or only one time is given.
    """
    utility = 1.0
    for part, ours, theirs in (
        ("retain", retain_accuracy, retrained_retain_accuracy),
        ("test", test_accuracy, retrained_test_accuracy),
    ):
        wanted = _mean_fraction(theirs, f"retrained {part} accuracy")
        if wanted == 0:
            raise ValueError(f"the retrained {part} accuracy is 0: there is nothing to compare to")
        utility *= _mean_fraction(ours, f"{part} accuracy") / wanted
    score = _mean_fraction(quality, "quality") * utility
    return 0.0 if _is_too_slow(seconds, retraining_seconds) else score


def _points(eps: np.ndarray, bins: int) -> np.ndarray:
    """H of each example: 1, 1/2, 1/4, ... in bins of 0.5 in eps, 0 beyond the last."""
    bin_of = np.floor(eps / BIN)
    return np.where(bin_of < bins, 0.5**bin_of, 0.0)


def _mean_fraction(values: Array | float, name: str) -> float:
    return float(check_fractions(values, name).mean())


def _is_too_slow(seconds: float | None, retraining_seconds: float | None) -> bool:
    """Whether a method takes over 20 % of retraining's time; False if no times are given."""
    if seconds is None and retraining_seconds is None:
        return False
    if seconds is None or retraining_seconds is None:
        raise ValueError("give both seconds and retraining_seconds, or neither")
    seconds = check_number("seconds", seconds, "[0, inf)")
    return seconds > SLOWEST * check_number("retraining_seconds", retraining_seconds, "(0, inf)")
