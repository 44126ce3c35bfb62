"""Curves and points: no value, column or method is dropped, and every name can be read."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from unlearning import plots

RUNS = pd.DataFrame(
    {"scenario": scenario, "lr": lr, "test_accuracy": lr + seed / 10}
    for scenario in ("random 10%", "class 5")
    for lr in (0.01, 0.1, 0.5)
    for seed in (0, 1)
)


def sweep(runs, tables, columns=("test_accuracy",), **options):
    options |= {"title": "t", "xlabel": "learning rate", "tables": tables, "log": True}
    return plots.sweep(runs, "lr", columns, **options).axes


def test_sweep_draws_the_mean_over_seeds_and_the_goal_dashed_and_saves_the_runs(tables, tmp_path):
    axes = sweep(RUNS, tables, path=tmp_path / "knob.png")
    for axis, numbers in zip(axes, tables.values(), strict=True):
        curve, goal = axis.lines
        np.testing.assert_allclose(curve.get_xydata().T, [[0.01, 0.1, 0.5], [6, 15, 55]])
        assert goal.get_ydata()[0] == 100 * numbers.loc["retrained", ("test_accuracy", "mean")]
        assert (goal.get_linestyle(), axis.get_xscale()) == ("--", "log")
    assert len(pd.read_csv(tmp_path / "knob.csv")) == len(RUNS)


def test_two_values_are_points_with_bars_and_words_are_refused(tables):
    axis = sweep(RUNS[RUNS["lr"] < 0.2], tables)[-1]
    assert axis.lines[0].get_linestyle() == "None"
    assert axis.containers[0].lines[2][0].get_segments()[0][:, 1] == pytest.approx([1, 11])
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0.01", "0.1"]
    for value in ("mse", None):  # it must not get lost
        with pytest.raises(ValueError, match="'lr' has values that are not numbers"):
            sweep(RUNS.replace({"lr": {0.1: value}}), tables)


def test_a_number_that_a_scenario_lacks_leaves_an_empty_panel(tables):
    tables["class 5"]["test_forget_accuracy", "mean"] = 0.5
    columns = ["test_accuracy", "test_forget_accuracy"]
    runs = RUNS.assign(test_forget_accuracy=RUNS["scenario"].map({"class 5": 0.5}))
    for axes in (sweep(runs, tables, columns), plots.comparison(tables, columns, title="t").axes):
        assert [axis.texts[0].get_text() for axis in axes if axis.texts] == ["not measured"]
    with pytest.raises(ValueError, match=r"'random 10%' has no 'F'.*original"):
        sweep(RUNS, tables, ["F"])


def test_21_lines_are_all_drawn_in_distinct_styles_and_named_in_their_order(tables):
    names, goal = list(tables["class 5"].index[1:-1]), "retrained again"
    numbers = pd.DataFrame(np.outer([1, 0.5, 0.1], np.arange(21) / 100), [16, 32, 64], names)
    figure = plots.lines(numbers, xlabel="N", ylabel="F", title="t", goal=goal, log_y=True)
    drawn, (legend,) = figure.axes[0].lines, figure.legends
    assert {line.get_label(): [*line.get_ydata()] for line in drawn} == numbers.to_dict("list")
    assert len({(line.get_color(), line.get_marker()) for line in drawn}) == 21
    assert [line.get_label() for line in drawn if line.get_linestyle() == "--"] == [goal]
    assert figure.axes[0].get_yscale() == "log"
    assert [text.get_text() for text in legend.get_texts()] == names[::-1]


def test_what_theory_expects_is_a_dotted_line_through_the_points():
    numbers = pd.DataFrame({"one": [4.0, 2.0, 1.1], "two": [9.0, 8.0, 7.0]}, index=[1, 2, 4])
    expected = pd.DataFrame({"one": [4.0, 2.0, 1.0]}, index=[1, 2, 4])
    figure = plots.lines(numbers, xlabel="N", ylabel="F", title="t", expected=expected)
    dotted, points, line = figure.axes[0].lines
    assert [*dotted.get_ydata()] == [4.0, 2.0, 1.0] and dotted.get_linestyle() == ":"
    assert points.get_linestyle() == "None" and points.get_color() == dotted.get_color()
    assert line.get_linestyle() == "-"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["two", "one"]
    assert "dotted: expected" in figure.get_suptitle()


@pytest.mark.parametrize("together", [False, True])
def test_20_methods_carry_their_names_over_no_other_name_and_no_point(tables, together):
    for numbers in tables.values() if together else ():  # all at one spot
        numbers["average_gap", "mean"] = numbers["seconds", "mean"] = 1.0
    figure = plots.trade_off(tables, title="t")
    figure.set_dpi(200)  # as in the file
    figure.draw_without_rendering()
    for axis in figure.axes:
        assert [label.get_text() for label in axis.texts] == list(tables["class 5"].index[1:-2])
        dots = [bars.lines[0] for bars in axis.containers]
        assert len({(dot.get_color(), dot.get_marker()) for dot in dots}) == 20
        boxes = [Text.get_window_extent(label) for label in axis.texts]
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
        places = axis.transData.transform([dot.get_xydata()[0] for dot in dots])
        assert not any(box.padded(8).contains(*at) for box in boxes for at in places)
        assert all(axis.bbox.contains(*corner) for box in boxes for corner in box.corners())


def test_time_is_of_retraining_other_rows_are_lines_and_a_gap_of_zero_is_drawn(tables):
    small = tables["class 5"].loc[["original", "UNSIR", "retrained again", "retrained"]].copy()
    small["seconds", "mean"], small["zrf", "mean"] = [9.0, 5.0, 9.0, 10.0], [0.2, 0.0, 0.1, 0.0]
    tables = {"random 10%": small.mask(small == 0), "class 5": small}  # not measured there
    figure = plots.trade_off(tables, title="t", column="zrf")
    empty, axis = figure.axes
    assert "not measured: UNSIR" in figure.get_suptitle() and not empty.texts
    assert axis.containers[0].lines[0].get_xydata()[0] == pytest.approx([50, 0.05])
    lines = {line.get_linestyle(): line.get_ydata()[0] for line in axis.lines}
    assert (lines["--"], lines[":"]) == pytest.approx((0.2, 0.1))
    assert axis.get_ylim()[0] < 0.05
