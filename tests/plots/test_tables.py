"""What tables.py draws: every row, at its number, within 0 and 100 per cent."""

import pickle

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from unlearning import plots
from unlearning.report import differences

TEST = "test_accuracy"


def test_comparison_draws_20_methods_each_in_its_style_and_at_its_number(tables):
    figure = plots.comparison(tables, [TEST, "zrf"], title="t")
    *_, percent, plain = pickle.loads(pickle.dumps(figure)).axes
    numbers = tables["class 5"]
    assert [label.get_text() for label in percent.get_yticklabels()] == list(numbers.index)
    for axis, means in ((percent, 100 * numbers[TEST, "mean"]), (plain, numbers["zrf", "mean"])):
        dots = [bars.lines[0] for bars in axis.containers]
        places = [(mean, row) for row, mean in enumerate(means)]
        np.testing.assert_allclose([dot.get_xydata()[0] for dot in dots], places)
        looks = [(dot.get_color(), dot.get_marker()) for dot in dots]
        assert len(set(looks)) == 23 and looks[1] == plots.method_style("fine-tuning")
        goals = [line.get_xdata()[0] for line in axis.lines if line.get_linestyle() == "--"]
        assert goals == pytest.approx([means["retrained"]])


def test_comparison_without_what_it_shows_says_what_is_missing(tables):
    numbers = tables["class 5"]
    by_number = numbers.reset_index(drop=True)
    for given, words in (
        ({"s": numbers.drop(index="retrained")}, "'s' has no 'retrained', which the figure shows"),
        ({"s": by_number}, "'s' has no 'retrained', which the figure shows"),
        (numbers, "there are no tables to draw: give {scenario"),
        ({}, "there are no tables to draw: give {scenario"),
    ):
        with pytest.raises(ValueError, match=words):
            plots.comparison(given, [TEST], title="t")


def test_the_band_is_the_noise_floor_and_an_axis_has_a_point_at_least(tables):
    small = tables["class 5"]
    small[TEST, "mean"], small[TEST, "std"] = 0.95, np.nan
    (axis,) = plots.comparison({"s": small}, [TEST], title="t").axes
    low, high = axis.get_xlim()
    assert 1 <= high - low <= 1.5 and low < 95 < high
    assert [*map(axis.xaxis.get_major_formatter(), (-0.5, 0, 100, 101))] == ["", "0", "100", ""]
    for again, std, ends in ((93, 1, (93, 97)), (94, 7, (88, 100))):  # the spread, if it is larger
        small.loc["retrained again", TEST] = again / 100, std / 100
        (axis,) = plots.comparison({"s": small}, [TEST], title="t").axes
        band = axis.patches[0].get_extents().transformed(axis.transData.inverted())
        assert (band.x0, band.x1) == pytest.approx(ends)


def test_differences_are_drawn_in_points_with_their_interval_and_the_claim_dotted():
    rows = [{"method": m, "seed": s, TEST: s * (m == "a")} for m in "ab" for s in (0, 1)]
    numbers = differences(rows, {"gain": ("a", "b")})
    (axis,) = plots.differences(numbers, [TEST], claims={TEST: 0.05}, title="t").axes
    bar = axis.containers[0].lines[2][0].get_segments()[0]
    assert bar[:, 0] == pytest.approx([50 - 635.3, 50 + 635.3], rel=1e-4)  # t(0.975, 1) is 12.706
    assert [line.get_xdata()[0] for line in axis.lines if line.get_ls() == ":"] == [5]


def test_a_matrix_is_readable_in_every_cell_and_alike_on_both_sides_of_1():
    ratios = pd.DataFrame({"x": [1.0, 16, np.nan], "y": [0.5, 2, 1000]}, list("abc"))
    marks = pd.DataFrame({"x": ["=", "", ""], "y": ["=", "?", ""]}, list("abc"))
    (axis,) = plots.matrix(ratios, marks, title="t").axes
    found = [text.get_text() for text in axis.texts]
    assert found == ["1.0=", "0.5=", "16", "2.0?", "–", "1000"]
    image = axis.images[0]
    at = image.get_array()
    assert at[0, 0] == 0 and at[0, 1] == -at[1, 1] and at[1, 0] == at[2, 1]
    for text, level in zip(axis.texts, at.flatten(), strict=True):
        if text.get_text() != "–":
            ours, theirs = _light(to_rgba(text.get_color())), _light(image.to_rgba(level))
            assert (max(ours, theirs) + 0.05) / (min(ours, theirs) + 0.05) > 4.5  # WCAG, AA


def _light(rgba):
    """Relative luminance, as the Web Content Accessibility Guidelines 2.1 define it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgba[:3]]
    return np.dot(linear, (0.2126, 0.7152, 0.0722))


def test_per_class_writes_each_accuracy_with_its_spread_in_a_panel_per_scenario():
    columns = pd.MultiIndex.from_product([["b", "c", "a", "zrf"], ["mean", "std"]])
    values = [[0.256, 0.123, np.nan, np.nan, 1, np.nan, 0.5, 0.1], [0.5] * 8]
    numbers = pd.DataFrame(values, ["original", "retrained"], columns)
    tables = {"class dog": numbers, "class cat": numbers.iloc[::-1]}
    figure = plots.per_class(tables, {"cat": "a", "dog": "b", "fox": "c"}, title="t")
    original, retrained = ["100", "26 ± 12", "–"], ["50 ± 50"] * 3
    cells = original + retrained, retrained + original
    for axis, scenario, texts in zip(figure.axes, tables, cells, strict=True):
        assert axis.get_title("left") == scenario
        assert [text.get_text() for text in axis.texts] == texts
        assert [label.get_text() for label in axis.get_xticklabels()] == ["cat", "dog", "fox"]
        names = [label.get_text() for label in axis.get_yticklabels()]
        assert names == list(tables[scenario].index)
    drawn = figure.axes[0].get_images()[0].get_array().tolist()
    assert drawn[0][:2] == pytest.approx([100, 25.6]) and drawn[1] == [50, 50, 50]
