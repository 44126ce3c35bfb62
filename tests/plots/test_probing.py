"""Saliency grids, relearn curves and maps draw every network, image and class of their data."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from unlearning import plots
from unlearning.probing import feature_map

NAMES = ["original", "NegGrad+", "retrained"]


def test_a_saliency_grid_has_an_image_and_a_map_per_network_in_each_row(tiny):
    draw = np.random.default_rng(0)
    maps = {name: draw.normal(size=(96, 8, 8)) * 10.0**place for place, name in enumerate(NAMES)}
    maps["retrained"][1] = 0  # nothing speaks for the class
    axes = plots.saliency_grid(tiny, maps, count=3, title="t").axes
    assert [axis.get_title() for axis in axes[:4]] == ["image", *NAMES]
    assert [axis.get_ylabel() for axis in axes[::4]] == [tiny.classes[n] for n in tiny.labels[:3]]
    for place in range(3):
        picture, *drawn = [axis.get_images()[0] for axis in axes[4 * place : 4 * place + 4]]
        np.testing.assert_array_equal(picture.get_array(), tiny.images[place, 0])
        for image, values in zip(drawn, maps.values(), strict=True):
            np.testing.assert_array_equal(image.get_array(), values[place])
            low, high = image.get_clim()
            assert low == -high  # so that 0 is white
            largest = np.abs(values[place]).max()
            assert 0.8 * largest <= high <= max(largest, 1)
    with pytest.raises(ValueError, match="each of the 2 images, not 1"):
        plots.saliency_grid(tiny, maps, count=2, captions=["cat"], title="t")


def test_relearn_curves_show_every_step_of_every_network_with_the_goal_dashed():
    steps = pd.Index([0, 1, 8, 64], name="step")
    few = pd.DataFrame({name: [0, 0.1, 0.5, 1] for name in NAMES}, steps)  # all on one heap
    retained = few[["original", "retrained"]] / 2
    figure = plots.relearn_curves({"few": few, "retained": retained}, title="t")
    assert [axis.get_title() for axis in figure.axes] == ["few", "retained"]
    for axis, table in zip(figure.axes, (few, retained), strict=True):
        drawn = {line.get_label(): line for line in axis.lines}
        assert list(drawn) == list(table)
        for name, line in drawn.items():
            np.testing.assert_allclose(line.get_xydata().T, [steps, 100 * table[name]])
            assert (line.get_linestyle() == "--") == (name == "retrained")
            assert line.get_color() == plots.method_style(name)[0]
        sizes = [line.get_markersize() for line in axis.lines]
        assert sizes == sorted(set(sizes), reverse=True)
        assert [text.get_text() for text in axis.get_xticklabels()] == ["0", "1", "8", "64"]
        places = axis.transData.transform([(step, 0) for step in steps])[:, 0]
        assert (np.diff(places) > 10).all()  # 0 too has a place of its own
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == NAMES
    assert "dashed: retrained" in figure.get_suptitle()


def test_numbers_by_layer_are_drawn_in_the_order_of_the_layers():
    layers = ["conv1", "blocks.0", "penultimate"]
    table = pd.DataFrame({name: [3.0, 1.0, 2.0] for name in NAMES}, layers)
    (axis,) = plots.by_layer({"CKA": table}, title="t").axes
    assert [text.get_text() for text in axis.get_xticklabels()] == layers
    assert all([*line.get_ydata()] == [3, 1, 2] for line in axis.lines) and len(axis.lines) == 3


@pytest.mark.parametrize("classes", [4, 30])
def test_feature_maps_draw_every_image_and_the_forgotten_on_top_and_name_classes(classes):
    labels = np.arange(120) % classes
    x = np.random.default_rng(0).normal(size=(120, 6)) + 4 * np.eye(classes, 6)[labels]
    found = feature_map({"original": x, "retrained": x[:, ::-1]})
    names = [f"class {label}" for label in range(classes)]
    axes = plots.feature_maps(found, labels, forgotten=3, classes=names, title="t").axes
    for axis, (network, points) in zip(axes, found.points.items(), strict=True):
        assert axis.get_title().startswith(network) and "of its variance" in axis.get_title()
        others, top, medians = axis.collections
        np.testing.assert_array_equal(others.get_offsets(), points[labels != 3])
        np.testing.assert_array_equal(top.get_offsets(), points[labels == 3])
        assert to_hex(top.get_facecolor()[0]) == "#d55e00" and len(medians.get_offsets()) == classes
        shown = names if classes == 4 else ["class 3"]
        assert [text.get_text() for text in axis.texts] == shown
        np.testing.assert_allclose(axis.texts[-1].xy, np.median(points[labels == 3], 0))
    with pytest.raises(ValueError, match="one label for each of the 120 images of original"):
        plots.feature_maps(found, labels[1:], forgotten=3, title="t")
    with pytest.raises(ValueError, match=r"forgotten classes \[99\] among them"):
        plots.feature_maps(found, labels, forgotten=99, title="t")
