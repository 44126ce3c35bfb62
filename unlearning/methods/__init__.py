"""One published method per file: ``method(model, <the data that it reads>, *, hyperparameters)``.

No method changes the network it is given; each returns a copy, in eval mode, on the same device.

``METHODS`` is the register: the name shown in tables and figures, and the function. The contract
tests, the tuner, the notebooks that compare all methods, tables and colours follow it.

Two that forget with a proof are not in it, since they cannot start from a network that was trained
in the usual way: ``train_shards`` (SISA) trains an ensemble that can forget, and
``newton_removal`` removes examples from a linear head on frozen features.
"""

from ..core.heads import Head, fit_head
from .boundary_shrink import boundary_shrink
from .contrastive import contrastive
from .delete import delete
from .fine_tune import fine_tune
from .impair_repair import impair_repair
from .l1_sparse import l1_sparse
from .negative_gradient import negative_gradient, negative_gradient_plus
from .newton_removal import BudgetExceeded, newton_removal, removals, removed_sum
from .perturb import perturb
from .random_labels import random_labels
from .random_mask import random_mask
from .saliency_unlearning import saliency_unlearning
from .scrub import scrub
from .selective_forgetting import selective_forgetting
from .sharpness_aware import sharpness_aware
from .sisa import Sisa, expected_share, train_shards
from .small_gradient_reset import small_gradient_reset
from .student_teacher import student_teacher
from .synaptic_dampening import synaptic_dampening
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
    "random labels": random_labels,
    "SalUn": saliency_unlearning,
    "SCRUB": scrub,
    "SSD": synaptic_dampening,
    "l1-sparse": l1_sparse,
    "MSG": small_gradient_reset,
    "CT": perturb,
    "FCS": contrastive,
    "boundary shrink": boundary_shrink,
    "DELETE": delete,
    "UAM": sharpness_aware,
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
