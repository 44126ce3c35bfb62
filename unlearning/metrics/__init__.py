"""One question per file; metrics take arrays, not networks (only ``relearn_time`` trains).

Arrays are NumPy's or torch's. Accuracies and rates are fractions.
"""

from .accuracy import accuracy, confusion_matrix, cross_entropies, per_class_accuracy
from .distance import activation_distance, js_divergence, zero_retrain_forgetting
from .example_attacks import attack_at
from .forgetting_quality import (
    ForgettingQuality,
    challenge_score,
    forgetting_quality,
    logit_scaled_confidence,
)
from .gaps import average_gap, tug_of_war
from .membership import confidence_attack, membership_attack
from .memorisation import (
    Memorisation,
    memorisation,
    memorisation_of_set,
    split_half_reliability,
)
from .per_example import klom, rmia, roc, u_lira
from .relearn import relearn_time
from .svc_attacks import svc_attacks

__all__ = [
    "ForgettingQuality",
    "Memorisation",
    "accuracy",
    "activation_distance",
    "attack_at",
    "average_gap",
    "challenge_score",
    "confidence_attack",
    "confusion_matrix",
    "cross_entropies",
    "forgetting_quality",
    "js_divergence",
    "klom",
    "logit_scaled_confidence",
    "membership_attack",
    "memorisation",
    "memorisation_of_set",
    "per_class_accuracy",
    "relearn_time",
    "rmia",
    "roc",
    "split_half_reliability",
    "svc_attacks",
    "tug_of_war",
    "u_lira",
    "zero_retrain_forgetting",
]
