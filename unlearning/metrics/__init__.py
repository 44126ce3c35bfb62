"""One question a file; metrics take arrays, not networks (``relearn_time`` alone trains).

Arrays are NumPy's or torch's. Accuracies and rates are fractions.
"""

from .accuracy import accuracy, confusion_matrix, cross_entropies, per_class_accuracy
from .distance import activation_distance, js_divergence, zero_retrain_forgetting
from .gaps import average_gap, tug_of_war
from .membership import confidence_attack, membership_attack
from .relearn import relearn_time

__all__ = [
    "accuracy",
    "activation_distance",
    "average_gap",
    "confidence_attack",
    "confusion_matrix",
    "cross_entropies",
    "js_divergence",
    "membership_attack",
    "per_class_accuracy",
    "relearn_time",
    "tug_of_war",
    "zero_retrain_forgetting",
]
