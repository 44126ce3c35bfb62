"""Sweeps and lines: no value and no column is dropped, and few values are no curve."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from unlearning import plots

RUNS = pd.DataFrame(
    {"scenario": scenario, "seed": seed, "lr": lr, "test_accuracy": lr * 10 + seed / 10}
    for scenario in ("random 10%", "class 5")
    for lr in (0, 1e-3, 1e-2)
    for seed in (0, 1)
)
MEANS = [5, 6, 15]


def sweep(runs, tables, **options):
    options |= {"title": "t", "xlabel": "learning rate", "tables": tables, "log": True}
    return plots.sweep(runs, "lr", ["test_accuracy"], **options).axes


def test_sweep_draws_the_mean_over_seeds_and_the_goal_dashed_and_saves_the_runs(tables, tmp_path):
    axes = sweep(RUNS, tables, path=tmp_path / "knob.png")
    for axis, numbers in zip(axes, tables.values(), strict=True):
        curve, goal = axis.lines
        np.testing.assert_allclose(curve.get_xydata().T, [[0, 1e-3, 1e-2], MEANS])
        assert goal.get_ydata()[0] == 100 * numbers.loc["retrained", ("test_accuracy", "mean")]
        assert goal.get_linestyle() == "--"
        places = axis.transData.transform(curve.get_xydata())[:, 0]
        assert np.diff(places, prepend=axis.bbox.x0 - 9).min() > 10  # 0 is seen on a log axis
    assert len(pd.read_csv(tmp_path / "knob.csv")) == len(RUNS) and (tmp_path / "knob.png").exists()


@pytest.mark.parametrize("values", [[0, 1e-3], ["mse", "kl", None], [None, 0.1, 1], [True, False]])
def test_two_values_or_words_are_points_with_bars_and_no_curve(tables, values):
    runs = RUNS[RUNS["lr"].rank(method="dense") <= len(values)]
    axis = sweep(runs.assign(lr=np.repeat(np.array(values * 2, object), 2)), tables)[0]
    points = axis.lines[0]
    assert points.get_linestyle() == "None" and len(axis.get_xticklabels()) == len(values)
    assert list(points.get_xydata()[:, 1]) == pytest.approx(MEANS[: len(values)])
    bar = axis.containers[0].lines[2][0].get_segments()[0]
    assert bar[:, 1] == pytest.approx([0, 10])


@pytest.mark.parametrize("log_y", [False, True])
def test_21_lines_are_all_drawn_in_distinct_styles_and_named_at_their_ends(tables, log_y):
    names, goal = list(tables["class 5"].index[1:-1]), "retrained again"
    numbers = pd.DataFrame(np.outer([1, 0.5, 0.1], np.arange(21) / 100), [16, 32, 64], names)
    figure = plots.lines(numbers, xlabel="N", ylabel="F", title="t", goal=goal, log_y=log_y)
    (axis,) = figure.axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in axis.lines}
    assert drawn == numbers.to_dict("list")
    assert len({(line.get_color(), line.get_marker()) for line in axis.lines}) == 21
    assert [line.get_label() for line in axis.lines if line.get_linestyle() == "--"] == [goal]
    assert axis.get_yscale() == ("log" if log_y else "linear")
    figure.draw_without_rendering()
    boxes = {label.get_text(): Text.get_window_extent(label) for label in axis.texts}
    assert sorted(boxes, key=lambda name: boxes[name].y0) == names  # in the order of their ends
    assert not any(one.overlaps(other) for one, other in combinations(boxes.values(), 2))
    assert all(figure.bbox.contains(*corner) for b in boxes.values() for corner in b.corners())
