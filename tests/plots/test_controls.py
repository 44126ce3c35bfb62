"""A control is shown only where it can be moved; else its figure is drawn once."""

import ipywidgets
import pandas as pd
import pytest

from unlearning import plots
from unlearning.plots import controls


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_figure_is_drawn_once_or_for_every_position(monkeypatch, by_hand):
    drawn, shown = [], []

    def draw(share=0.5, name="a"):
        drawn.append((share, name))
        return plots.lines(pd.DataFrame({"x": [share]}), title=name, xlabel="n", ylabel="share")

    def shows(draw, **choices):
        shown.append(ipywidgets.interactive(draw, **choices))

    monkeypatch.setattr(controls, "_by_hand", lambda: by_hand)
    monkeypatch.setattr(ipywidgets, "interact", shows)
    figure = plots.interact(draw, share=(0.0, 1.0), name=["a", "b"])
    if not by_hand:
        assert figure is not None and shown == [] and drawn == [(0.5, "a")]
        return
    slider, choice, _ = shown[0].children
    assert figure is None and (slider.value, choice.value) == (0.5, "a")
    slider.value, choice.value = 0.25, "b"
    shown[0].update()
    assert drawn[-1] == (0.25, "b")
