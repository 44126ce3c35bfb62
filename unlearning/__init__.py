"""Machine unlearning for image classifiers, measured against retraining from scratch.

    files       where do files go, and how does one appear whole
    data        where do images come from
    splitting   what is to be forgotten
    models      which network
    training    the one optimisation loop, predictions and checkpoints
    curvature   how much does a weight matter
    curriculum  in what order are examples shown
    methods     one published unlearning method a file
    metrics     one question about a network's outputs a file
    report      what does the standard table say
    plots       one look for every figure

Imports run in that order, one way.
"""

from .curriculum import curriculum
from .curvature import fisher_diagonal
from .data import Images, load
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
    average_gap,
    confidence_attack,
    confusion_matrix,
    cross_entropies,
    js_divergence,
    membership_attack,
    per_class_accuracy,
    relearn_time,
    tug_of_war,
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
    "Images",
    "Split",
    "accuracy",
    "activation_distance",
    "average_gap",
    "build",
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
    "impair_repair",
    "js_divergence",
    "load",
    "load_or_train",
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
    "save",
    "selective_forgetting",
    "set_seed",
    "student_teacher",
    "superclasses",
    "table",
    "timed",
    "train",
    "tug_of_war",
    "uniform_target",
    "zero_retrain_forgetting",
]
