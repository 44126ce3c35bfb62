"""One published method a file: ``method(model, <the data that it reads>, *, hyperparameters)``.

No method changes the network that it is given; each returns a copy, in eval mode, on its device.
"""

from .fine_tune import fine_tune
from .negative_gradient import negative_gradient, negative_gradient_plus
from .random_mask import random_mask
from .selective_forgetting import selective_forgetting
from .uniform_target import uniform_target

__all__ = [
    "fine_tune",
    "negative_gradient",
    "negative_gradient_plus",
    "random_mask",
    "selective_forgetting",
    "uniform_target",
]
