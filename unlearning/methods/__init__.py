"""One published method a file: ``method(model, <the data that it reads>, *, hyperparameters)``.

No method changes the network that it is given; each returns a copy, in eval mode, on its device.
"""

from .fine_tune import fine_tune
from .impair_repair import impair_repair
from .negative_gradient import negative_gradient, negative_gradient_plus
from .random_mask import random_mask
from .selective_forgetting import selective_forgetting
from .student_teacher import student_teacher
from .uniform_target import uniform_target

__all__ = [
    "fine_tune",
    "impair_repair",
    "negative_gradient",
    "negative_gradient_plus",
    "random_mask",
    "selective_forgetting",
    "student_teacher",
    "uniform_target",
]
