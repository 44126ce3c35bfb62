"""Which features of the outputs tell an attacker that an example was trained on?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.checks import check_seed, shown
from .accuracy import cross_entropies
from .arrays import Array, check_labelled, log_odds, log_probabilities
from .membership import called_unseen

FEATURES = ("correctness", "confidence", "entropy", "modified_entropy", "probability")


def svc_attacks(
    retain_logits: Array,
    retain_labels: Array,
    test_logits: Array,
    test_labels: Array,
    forget_logits: Array,
    forget_labels: Array,
    *,
    features: Sequence[str] = FEATURES,
    seed: int = 0,
) -> dict[str, float]:
    """MIA efficacy by each of five features: the fraction of the forget set called non-members.

    A support vector machine (C 3, RBF kernel, gamma "auto") on one feature is trained on the test
    set against as many members drawn from the retain set (the larger set is subsampled, to the same
    examples for every feature), and applied to the forget set. With p the softmax of the logits and
    y the label, the features are

    - "correctness": 1 if the largest logit is at y, else 0;
    - "confidence": p_y, as in ``confidence_attack``;
    - "entropy": -sum_c p_c log p_c;
    - "modified_entropy": -(1 - p_y) log p_y - sum_{c != y} p_c log(1 - p_c);
    - "probability": all of p.

    Each value is in [0, 1]; compare it with the retrained network's. That of "correctness" tells
    nothing if the network is right as often on the retain as on the test set. The time of an SVM
    grows with the square of the number of examples: subsample large retain and test sets.

    Source: Fan et al., SalUn, ICLR 2024, and its Classification/evaluation/SVC_MIA.py. All features
    but the last are those of Song and Mittal, Systematic Evaluation of Privacy Risks of Machine
    Learning Models, USENIX Security 2021, who choose thresholds per class instead. The modified
    entropy is theirs; SalUn's code has log p for log(1 - p), and treats every class that occurs in
    the set as the label of each example. The logarithms are exact, in float64; SalUn's are of
    float32 probabilities. SalUn takes the first examples of the retain set; here they are drawn.

    Args:
        retain_logits, retain_labels: of retained training examples, (R, K) and (R,).
        test_logits, test_labels: of test examples, (T, K) and (T,).
        forget_logits, forget_labels: of forgotten examples, (S, K) and (S,).
        features: the features to attack with.
        seed: random seed for the subsample.

    Returns:
        One fraction per feature, by its name.

    Raises:
        ValueError: if a side is empty, labels do not fit, a logit is not finite, the sides differ
            in their number of classes, a feature does not exist, or ``seed`` is no whole number.
    """
    wanted, seed = _check_features(features), check_seed(seed)
    sides = [
        _check_side(retain_logits, retain_labels, "retain"),
        _check_side(test_logits, test_labels, "test"),
        _check_side(forget_logits, forget_labels, "forget"),
    ]
    classes = [logits.shape[1] for logits, _ in sides]
    if len(set(classes)) > 1:
        raise ValueError(f"all logits must be of one network, but have {classes} classes")
    return {
        name: called_unseen(*(_feature(name, *side) for side in sides), seed) for name in wanted
    }


def _check_features(features: Sequence[str]) -> Sequence[str]:
    wanted = [features] if isinstance(features, str) else features
    some = isinstance(wanted, Sequence) and len(wanted) > 0
    if not some or not all(name in FEATURES for name in wanted):
        raise ValueError(f"features must be some of {', '.join(FEATURES)}, not {shown(features)}")
    return wanted


def _check_side(logits: Array, labels: Array, part: str) -> tuple[np.ndarray, np.ndarray]:
    return check_labelled(logits, labels, names=(f"{part}_logits", f"{part}_labels"))


def _feature(name: str, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """One feature of each example, (S, 1), or (S, K) for the probabilities."""
    log_p = log_probabilities(logits)
    if name == "correctness":
        values = (logits.argmax(1) == labels).astype(np.float64)
    elif name == "confidence":
        values = np.exp(-cross_entropies(logits, labels))
    elif name == "entropy":
        values = -(np.exp(log_p) * log_p).sum(1)
    elif name == "modified_entropy":
        values = _modified_entropies(logits, labels)
    else:
        values = np.exp(log_p)
    return values.reshape(len(logits), -1)


def _modified_entropies(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    log_p, log_rest = log_probabilities(logits), _log_complements(logits)
    own = np.arange(len(labels)), labels
    terms = np.exp(log_p) * log_rest
    terms[own] = np.exp(log_rest[own]) * log_p[own]
    return -terms.sum(1)


def _log_complements(logits: np.ndarray) -> np.ndarray:
    """log(1 - p) of every class, (S, K): exact however near p is to 0 or 1."""
    p, top = np.exp(log_probabilities(logits)), logits.argmax(1)
    largest = np.arange(len(top)), top
    p[largest] = 0  # all others are at most 1/2
    found = np.log1p(-p)
    found[largest] = -np.logaddexp(0, log_odds(logits, top))
    return found
