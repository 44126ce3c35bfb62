"""Images are shown as they are, each under its own caption."""

import numpy as np
import pytest
import torch

from unlearning import Images, plots


def test_example_images_come_under_their_class_in_rows_of_twelve_at_most(tiny):
    axes = plots.example_images(tiny, count=20).axes
    assert [axis.get_title() for axis in axes] == [tiny.classes[n] for n in tiny.labels[:20]]
    np.testing.assert_array_equal(axes[3].get_images()[0].get_array(), tiny.images[3, 0])
    assert {axis.get_images()[0].get_clim() for axis in axes} == {(0, 255)}  # one grey scale
    assert [axis.get_subplotspec().rowspan.start for axis in axes] == [0] * 10 + [1] * 10


def test_example_images_come_in_colour_and_every_one_has_its_caption():
    pixels = torch.arange(192, dtype=torch.uint8).reshape(1, 3, 8, 8)
    images = Images(pixels, torch.tensor([0]))
    (axis,) = plots.example_images(images, captions=["cat"]).axes
    np.testing.assert_array_equal(axis.get_images()[0].get_array(), pixels[0].permute(1, 2, 0))
    with pytest.raises(ValueError, match="each of the 1 images, not 2"):
        plots.example_images(images, captions=["cat", "dog"])
