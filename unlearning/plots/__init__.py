"""One style for every figure; each function returns its figure, closed, and saves it where told.

A method has one colour and marker in every figure, and a part of the data has one colour. Titles
are the caller's: a finding with its numbers. In a notebook every figure carries alt text.
"""

from .distributions import densities, eps_histograms, loss_histograms
from .images import example_images
from .style import method_style, save_and_close
from .sweeps import lines, sweep
from .tables import comparison, differences, per_class, stages
from .trades import trade_off

__all__ = ["comparison", "densities", "differences", "eps_histograms", "example_images", "lines"]
__all__ += ["loss_histograms", "method_style", "per_class", "save_and_close", "stages", "sweep"]
__all__ += ["trade_off"]
