"""Histograms count everything, however far out it lies; images are shown as they are."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from unlearning import plots


def test_histograms_count_every_image_and_every_example_even_far_out():
    pair = np.array([0.0, 1e-30, 1e9, 1.0]), np.array([0.5, 2.0])
    axes = plots.loss_histograms({f"network {n}": pair for n in range(23)}, title="t").axes
    for outline in (patch for axis in axes for patch in axis.patches):  # heights over the edges
        assert outline.get_xy()[1:-1:2, 1].sum() == pytest.approx(100)
    eps = {f"method {n}": np.array([0, 0.2, 3, 50.0]) for n in range(5)}
    for axis in plots.eps_histograms(eps, title="t").axes:
        bars = {round(bar.get_x(), 1): bar.get_height() for bar in axis.patches}
        assert {x: height for x, height in bars.items() if height} == {0.0: 50, 3.0: 25, 7.0: 25}


def test_densities_keep_samples_whose_captions_are_equal_or_that_are_constant():
    zeros, ones = np.zeros(4), np.ones(2)
    samples = [("eps 0", zeros, ones, 0.5), ("eps 0", ones, zeros), ("eps 0", ones, ones)]
    axes = plots.densities(samples, title="t", name="UNSIR").axes
    assert [len(axis.lines) for axis in axes] == [1, 0, 0]  # a threshold
    for axis, sample in zip(axes, samples, strict=True):
        ends = [outline.get_xy()[1:-1:2].T for outline in axis.patches]
        found = [x[y == 100][0] for x, y in ends]  # all are in one bin
        assert found == pytest.approx([sample[1][0], sample[2][0]], abs=0.1)
        assert axis.patches[0].get_edgecolor() == to_rgba(plots.method_style("UNSIR")[0])


def test_example_images_come_each_under_its_class_or_its_caption(tiny):
    axes = plots.example_images(tiny, count=20).axes
    assert [axis.get_title() for axis in axes] == [tiny.classes[n] for n in tiny.labels[:20]]
    np.testing.assert_array_equal(axes[3].get_images()[0].get_array(), tiny.images[3, 0])
    with pytest.raises(ValueError, match="each of the 1 images, not 2"):
        plots.example_images(tiny, count=1, captions=["cat", "dog"])
