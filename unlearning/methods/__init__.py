"""One published method per file: ``method(model, <the data that it reads>, *, hyperparameters)``.

No method changes the network it is given; each returns a copy, in eval mode, on the same device.

``METHODS`` is the register: the name shown in tables and figures, and the function. The contract
tests, the tuner, the notebooks that compare all methods, tables and colours follow it.

Two that forget with a proof are not in it, since they cannot start from a network that was trained
in the usual way: ``train_shards`` (SISA) trains an ensemble that can forget, and
``newton_removal`` removes examples from a linear head on frozen features.
"""

from ..core.heads import Head, fit_head
from .fine_tune import fine_tune
from .impair_repair import impair_repair
from .negative_gradient import negative_gradient, negative_gradient_plus
from .newton_removal import BudgetExceeded, newton_removal, removals, removed_sum
from .random_mask import random_mask
from .selective_forgetting import selective_forgetting
from .sisa import Sisa, expected_share, train_shards
from .student_teacher import student_teacher
from .uniform_target import uniform_target

METHODS = {
    "fine-tuning": fine_tune,
    "negative gradient": negative_gradient,
    "NegGrad+": negative_gradient_plus,
    "Fisher noise": selective_forgetting,
    "random mask": random_mask,
    "uniform target": uniform_target,
    "UNSIR": impair_repair,
    "bad teacher": student_teacher,
}

WITH_A_PROOF = (
    BudgetExceeded,
    Head,
    Sisa,
    expected_share,
    fit_head,
    newton_removal,
    removals,
    removed_sum,
    train_shards,
)

__all__ = ["METHODS", *(one.__name__ for one in (*METHODS.values(), *WITH_A_PROOF))]
