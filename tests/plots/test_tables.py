"""What tables.py draws: every row, at its number, within 0 and 100 per cent."""

import numpy as np
import pytest

from unlearning import plots
from unlearning.report import differences

TEST = "test_accuracy"


def texts(labels):
    return [label.get_text().replace("\n", " ") for label in labels]


def test_comparison_draws_20_methods_each_in_its_style_and_at_its_number(tables):
    *_, percent, plain = plots.comparison(tables, [TEST, "zrf"], title="t").axes
    numbers = tables["class 5"]
    assert texts(percent.get_yticklabels()) == list(numbers.index)
    assert (percent.get_xlabel(), plain.get_xlabel()) == ("test accuracy (%)", "ZRF")
    for axis, means in ((percent, 100 * numbers[TEST, "mean"]), (plain, numbers["zrf", "mean"])):
        dots = [bars.lines[0] for bars in axis.containers]
        assert [dot.get_ydata()[0] for dot in dots] == list(axis.get_yticks())
        np.testing.assert_allclose([dot.get_xdata()[0] for dot in dots], means)
        looks = [(dot.get_color(), dot.get_marker()) for dot in dots]
        assert len(set(looks)) == 23 and looks[1] == plots.method_style("fine-tuning")
        (goal,) = [line.get_xdata()[0] for line in axis.lines if line.get_linestyle() == "--"]
        assert goal == pytest.approx(means["retrained"])


@pytest.mark.parametrize(("again", "std", "ends"), [(93, 1, (93, 97)), (94, 7, (88, 100))])
def test_the_band_is_the_noise_floor_and_without_it_none_is_named(small, again, std, ends):
    small.loc["retrained", (TEST, "mean")] = 0.95
    small.loc["retrained again", TEST] = again / 100, std / 100  # the spread counts if it is larger
    (axis,) = plots.comparison({"s": small}, [TEST], title="t").axes
    band = axis.patches[0].get_extents().transformed(axis.transData.inverted())
    assert (band.x0, band.x1) == pytest.approx(ends)
    figure = plots.comparison({"s": small.drop("retrained again")}, [TEST], title="t")
    assert not figure.axes[0].patches and "noise" not in figure.get_suptitle()


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, np.nan])
def test_a_number_that_never_changes_gets_an_axis_of_a_point_at_least(small, value):
    small[TEST, "mean"], small[TEST, "std"] = value, np.nan
    (axis,) = plots.comparison({"s": small}, [TEST], title="t").axes
    low, high = axis.get_xlim()
    assert np.isnan(value) or (1 <= high - low <= 1.5 and low < 100 * value < high)
    label = axis.xaxis.get_major_formatter()
    assert np.isnan(value) or [label(at) for at in (-0.5, 0, 100, 101)] == ["", "0", "100", ""]
    with pytest.raises(ValueError, match=r"'class 5' has no 'F'.*original"):
        plots.comparison({"class 5": small}, ["F"], title="t")


def test_differences_are_drawn_in_points_with_their_interval_and_the_claim_dotted():
    rows = [{"method": m, "seed": s, TEST: s * (m == "a")} for m in "ab" for s in (0, 1)]
    numbers = differences(rows, {"gain": ("a", "b")})
    (axis,) = plots.differences(numbers, [TEST], claims={TEST: 0.05}, title="t").axes
    mean, half = 100 * numbers.loc["gain", TEST]
    bar = axis.containers[0].lines[2][0].get_segments()[0]
    assert bar[:, 0] == pytest.approx([mean - half, mean + half])  # may pass 100: no clipping
    assert axis.get_xlabel() == "test accuracy (percentage points)"
    (dotted,) = [line.get_xdata()[0] for line in axis.lines if line.get_ls() == ":"]
    assert dotted == pytest.approx(5) and texts(axis.get_yticklabels()) == ["gain"]


@pytest.mark.parametrize(("mean", "ends"), [(1.0, [80, 100]), (0.0, [0, 20]), (0.5, [30, 70])])
def test_23_stages_come_in_rows_of_seven_and_stay_within_0_and_100(tables, mean, ends):
    numbers, names = tables["class 5"], []
    numbers[TEST, "mean"], numbers[TEST, "std"] = mean, 0.2
    figure = plots.stages(numbers, [TEST], title="t")
    figure.draw_without_rendering()
    for axis in figure.axes:
        bars, segments = axis.containers[-1], axis.containers[0].lines[2][0].get_segments()
        assert {bar.get_height() for bar in bars} == {100 * mean} and len(bars) <= 7
        assert segments[0][:, 1] == pytest.approx(ends)
        assert set(texts(axis.texts)) == {f"{100 * mean:.1f}"}
        assert all(text.get_window_extent().y1 <= axis.bbox.y1 for text in axis.texts)
        assert axis.get_yticks().max() == axis.spines["left"].get_bounds()[1] == 100
        names += texts(axis.get_xticklabels())
    assert names == list(numbers.index)


@pytest.mark.parametrize(("count", "angle"), [(3, 30), (100, 90)])
def test_per_class_writes_accuracies_in_cells_and_takes_long_names_and_many(count, angle):
    values = np.array([1, 0.256, np.nan, *np.ones(97)])[:count]
    names = [f"pickup truck {n}" for n in range(count)]
    figure = plots.per_class({"original": values}, names, title="t")
    assert texts(figure.axes[0].texts) == ["100", "26", "–"] * (count == 3)
    assert {label.get_rotation() for label in figure.axes[0].get_xticklabels()} == {angle}
    assert figure.get_figwidth() < 20
