"""Machine unlearning for image classifiers, measured against retraining from scratch.

    files       where do files go, and how does one appear whole
    data        where do images come from
    splitting   what is to be forgotten
    models      which network
    training    the one optimisation loop, predictions and checkpoints
    ensemble    N networks as one module
    curvature   how much does a weight matter
    curriculum  in what order are examples shown
    methods     one published unlearning method a file
    metrics     one question about a network's outputs a file
    report      what does the standard table say
    many        hundreds of networks, made, measured and resumed
    challenge   the NeurIPS 2023 challenge: its data, a submission, its score
    plots       one look for every figure

Imports run in that order, one way.
"""

from .challenge import load_challenge, score_submission, write_checkpoints, zip_submission
from .curriculum import curriculum
from .curvature import fisher_diagonal
from .data import Images, load
from .ensemble import Ensemble
from .many import run_many
from .methods import (
    fine_tune,
    impair_repair,
    negative_gradient,
    negative_gradient_plus,
    random_mask,
    selective_forgetting,
    student_teacher,
    uniform_target,
)
from .metrics import (
    accuracy,
    activation_distance,
    attack_at,
    average_gap,
    challenge_score,
    confidence_attack,
    confusion_matrix,
    cross_entropies,
    forgetting_quality,
    js_divergence,
    klom,
    logit_scaled_confidence,
    membership_attack,
    per_class_accuracy,
    relearn_time,
    rmia,
    roc,
    tug_of_war,
    u_lira,
    zero_retrain_forgetting,
)
from .models import build
from .report import evaluate, readable, record, results_folder, save, table
from .splitting import (
    Split,
    forget_classes,
    forget_indices,
    forget_random,
    forget_subclass,
    split_off,
    superclasses,
)
from .training import (
    Diverged,
    load_or_train,
    minimise,
    pick_device,
    predict,
    set_seed,
    timed,
    train,
)

__all__ = [
    "Diverged",
    "Ensemble",
    "Images",
    "Split",
    "accuracy",
    "activation_distance",
    "attack_at",
    "average_gap",
    "build",
    "challenge_score",
    "confidence_attack",
    "confusion_matrix",
    "cross_entropies",
    "curriculum",
    "evaluate",
    "fine_tune",
    "fisher_diagonal",
    "forget_classes",
    "forget_indices",
    "forget_random",
    "forget_subclass",
    "forgetting_quality",
    "impair_repair",
    "js_divergence",
    "klom",
    "load",
    "load_challenge",
    "load_or_train",
    "logit_scaled_confidence",
    "membership_attack",
    "minimise",
    "negative_gradient",
    "negative_gradient_plus",
    "per_class_accuracy",
    "pick_device",
    "predict",
    "random_mask",
    "readable",
    "record",
    "relearn_time",
    "results_folder",
    "rmia",
    "roc",
    "run_many",
    "save",
    "score_submission",
    "selective_forgetting",
    "set_seed",
    "split_off",
    "student_teacher",
    "superclasses",
    "table",
    "timed",
    "train",
    "tug_of_war",
    "u_lira",
    "uniform_target",
    "write_checkpoints",
    "zero_retrain_forgetting",
    "zip_submission",
]
