"""One published method per file: ``method(model, <the data that it reads>, *, hyperparameters)``.

No method changes the network it is given; each returns a copy, in eval mode, on the same device.

``METHODS`` is the register: the name shown in tables and figures, and the function. The contract
tests, the tuner, the notebooks that compare all methods, tables and colours follow it.
"""

from .boundary_shrink import boundary_shrink
from .delete import delete
from .fine_tune import fine_tune
from .impair_repair import impair_repair
from .negative_gradient import negative_gradient, negative_gradient_plus
from .random_mask import random_mask
from .selective_forgetting import selective_forgetting
from .sharpness_aware import sharpness_aware
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
    "boundary shrink": boundary_shrink,
    "DELETE": delete,
    "UAM": sharpness_aware,
}

__all__ = ["METHODS", *(function.__name__ for function in METHODS.values())]
