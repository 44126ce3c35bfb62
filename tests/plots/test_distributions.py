"""Histograms count everything, whatever it is called and however far out it lies."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from unlearning import plots


def test_loss_histograms_show_every_image_even_far_out(tables):
    names = list(tables["class 5"].index)
    pair = np.array([0.0, 1e-30, 1e9, 1.0]), np.array([0.5, 2.0])
    axes = plots.loss_histograms(dict.fromkeys(names, pair), title="t").axes
    assert [axis.get_title().replace("\n", " ") for axis in axes] == names
    for outline in axes[0].patches:  # steps, whose heights over the edges sum to 100 %
        assert outline.get_xy()[1:-1:2, 1].sum() == pytest.approx(100)


def test_eps_histograms_count_every_example_and_those_beyond_7_at_7():
    eps = {f"method {n}": np.array([0, 0.2, 3, 50.0]) for n in range(5)}
    for axis, name in zip(plots.eps_histograms(eps, title="t").axes, eps, strict=True):
        assert axis.get_title() == f"{name}: median 1.6"
        bars = {round(bar.get_x(), 1): bar.get_height() for bar in axis.patches}
        assert {x: height for x, height in bars.items() if height} == {0.0: 50, 3.0: 25, 7.0: 25}
        assert axis.patches[0].get_facecolor() == to_rgba(plots.method_style(name)[0])


def test_densities_keep_samples_whose_captions_are_equal_or_that_are_constant():
    zeros, ones = np.zeros(4), np.ones(2)
    samples = [("eps 0", zeros, ones, 0.5), ("eps 0", ones, zeros), ("eps 0", ones, ones)]
    axes = plots.densities(samples, title="t", name="UNSIR").axes
    assert [axis.get_title() for axis in axes] == ["eps 0"] * 3
    assert [[line.get_xdata()[0] for line in axis.lines] for axis in axes] == [[0.5], [], []]
    for axis, sample in zip(axes, samples, strict=True):
        ends = [outline.get_xy()[1:-1:2] for outline in axis.patches]
        found = [x[y == 100][0] for x, y in (end.T for end in ends)]  # all are in one bin
        assert found == pytest.approx([sample[1][0], sample[2][0]], abs=0.1)
        assert axis.patches[0].get_edgecolor() == to_rgba(plots.method_style("UNSIR")[0])
