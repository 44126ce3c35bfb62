"""How often is the network right: overall, class by class, and by how much."""

from __future__ import annotations

import numpy as np
from sklearn import metrics

from .arrays import Array, check_labelled, log_odds


def accuracy(logits: Array, labels: Array) -> float:
    """Fraction of examples whose largest logit is at the label, in [0, 1].

    An unlearned network should be close to the retrained one, not as low or high as possible.

    >>> accuracy(np.array([[2.0, 1.0], [3.0, 0.0]]), np.array([0, 1]))
    0.5
    """
    logits, labels = check_labelled(logits, labels)
    return float((logits.argmax(1) == labels).mean())


def confusion_matrix(logits: Array, labels: Array) -> np.ndarray:
    """Counts (K, K): row y, column k has the number of examples of class y predicted as k."""
    logits, labels = check_labelled(logits, labels)
    classes = np.arange(logits.shape[1])
    return metrics.confusion_matrix(labels, logits.argmax(1), labels=classes)


def per_class_accuracy(logits: Array, labels: Array) -> np.ndarray:
    """Accuracy on the examples of each class, (K,); NaN for a class without examples."""
    counts = confusion_matrix(logits, labels)
    totals = counts.sum(1)
    return np.where(totals > 0, counts.diagonal() / np.maximum(totals, 1), np.nan)


def cross_entropies(logits: Array, labels: Array) -> np.ndarray:
    """Cross-entropy of each example in nats, (S,): -log p_y = log(1 + exp(-f)), f its log-odds.

    Through the log-odds, in float64, the loss of a very sure network is not rounded to 0.
    """
    return np.logaddexp(0, -log_odds(*check_labelled(logits, labels)))
