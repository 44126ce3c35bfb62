"""Figures that can be changed by a slider or a choice, where somebody is there to do it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

from matplotlib.figure import Figure

from ..core.files import MINE, RESULTS
from ..core.progress import in_notebook


def interact(draw: Callable[..., Figure], **choices: Sequence[Any]) -> Figure | None:
    """Draw a figure, and draw it again whenever a slider or a choice is moved.

    That is ``ipywidgets.interact`` where a notebook is run by hand, in JupyterLab or Colab. In a
    notebook that ``run.py`` saves, and where ipywidgets is missing, the figure is drawn once, as
    the arguments' defaults have it: a saved control would be dead.

    Args:
        draw: ``draw(**values)`` -> figure; each argument has a default.
        **choices: for an argument of ``draw`` the ends of a slider, as a tuple of two floats or
            (low, high, step), or a list of values to choose from.

    Returns:
        The figure; None where ipywidgets shows it.
    """
    if not _by_hand():
        return draw()
    import ipywidgets

    ipywidgets.interact(draw, **choices)
    return None


def _by_hand() -> bool:
    """Whether somebody runs a notebook, and can move what is shown."""
    return in_notebook() and RESULTS == MINE and find_spec("ipywidgets") is not None
