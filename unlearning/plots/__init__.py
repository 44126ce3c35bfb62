"""One style for every figure; each function returns its figure, closed, and saves it where told.

A method has one colour and marker in every figure, and a part of the data has one colour. Titles
are the caller's: a finding with its numbers. In a notebook every figure carries alt text.
"""

from .controls import interact
from .curves import lines, sweep, trade_off
from .probing import by_layer, feature_maps, relearn_curves, saliency_grid
from .samples import densities, eps_histograms, example_images, loss_histograms
from .style import method_style, save_and_close
from .tables import comparison, differences, matrix, per_class

__all__ = [
    "by_layer",
    "comparison",
    "densities",
    "differences",
    "eps_histograms",
    "example_images",
    "feature_maps",
    "interact",
    "lines",
    "loss_histograms",
    "matrix",
    "method_style",
    "per_class",
    "relearn_curves",
    "saliency_grid",
    "save_and_close",
    "sweep",
    "trade_off",
]
