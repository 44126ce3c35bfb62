"""How often is the network right, over all and class by class."""

from __future__ import annotations

import numpy as np
from sklearn import metrics

from .arrays import Array, checked, log_probabilities


def accuracy(logits: Array, labels: Array) -> float:
    """Fraction of examples whose largest logit is at the label.

    In [0, 1]; of an unlearned network, close to the retrained one's is best, on every part.
    """
    logits, labels = checked(logits, labels)
    return float((logits.argmax(1) == labels).mean())


def confusion_matrix(logits: Array, labels: Array) -> np.ndarray:
    """Counts (K, K): row y, column k is the number of examples of class y called k."""
    logits, labels = checked(logits, labels)
    classes = np.arange(logits.shape[1])
    return metrics.confusion_matrix(labels, logits.argmax(1), labels=classes)


def per_class_accuracy(logits: Array, labels: Array) -> np.ndarray:
    """Accuracy on the examples of each class, (K,); NaN for a class without examples."""
    counts = confusion_matrix(logits, labels)
    totals = counts.sum(1)
    return np.where(totals > 0, counts.diagonal() / np.maximum(totals, 1), np.nan)


def cross_entropies(logits: Array, labels: Array) -> np.ndarray:
    """Cross-entropy of each example in nats, (S,): -log p_y, from float64 logits."""
    logits, labels = checked(logits, labels)
    return -log_probabilities(logits)[np.arange(len(labels)), labels]
