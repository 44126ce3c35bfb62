"""What does one number change: a hyperparameter swept, or lines against a count."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from ..report import heading, write_csv
from . import style
from .style import GREY, MaybePath, Tables, save_and_close, scale_and_colour, styled


@styled
def sweep(
    runs: pd.DataFrame,
    knob: str,
    columns: Sequence[str],
    *,
    title: str,
    xlabel: str,
    tables: Tables,
    log: bool = False,
    path: MaybePath = None,
) -> Figure:
    """What a hyperparameter does: a row of panels per scenario, one panel per number.

    Fewer than three values, or values that are not numbers, are drawn as points: nothing is known
    between them.

    Args:
        runs: one row per run, as ``Experiment.sweep`` gives them, with a column "scenario".
        knob: the hyperparameter's column.
        columns: which numbers to draw.
        tables: scenario -> its table: the row "retrained" is drawn dashed, "retrained again" gives
            a band, the noise floor.
        log: whether the knob's axis is logarithmic; from 0 to the first value it is linear.
        path: of the figure; the runs are written next to it, as .csv.
    """
    if path is not None:
        write_csv(runs, Path(path).with_suffix(".csv"))
    scenarios = list(runs["scenario"].unique())
    tables = {name: tables[name] for name in scenarios}
    style.check(tables, columns)
    size = (0.6 + 2.3 * len(columns), 1.2 + 2.1 * len(scenarios))
    figure, axes = plt.subplots(len(scenarios), len(columns), figsize=size, squeeze=False)
    for row, (scenario, numbers) in zip(axes, tables.items(), strict=True):
        found = runs[runs["scenario"] == scenario]
        for axis, name in zip(row, columns, strict=True):
            _draw_range(axis, found[knob], found[name], name, log)
            style.draw_goal(axis, "y", numbers, name)
            axis.set_ylabel(heading(name))
        row[0].set_title(scenario, loc="left", fontweight="bold")
    figure.supxlabel(xlabel, fontsize=10)
    note = f"colour: range over seeds; {style.goal_note(tables)}"
    return style.finish(figure, title, path, note)


def _draw_range(axis: plt.Axes, knob: pd.Series, values: pd.Series, name: str, log: bool) -> None:
    """Mean and range against the knob: a curve in a band, or points with bars."""
    scale, colour = scale_and_colour(name)
    numeric = pd.api.types.is_numeric_dtype(knob) and knob.dtype != bool and knob.notna().all()
    groups = values.groupby(knob if numeric else knob.astype(str).fillna("None"), sort=numeric)
    mean, low, high = (getattr(groups, kind)() * scale for kind in ("mean", "min", "max"))
    x = mean.index.to_numpy() if numeric else np.arange(len(mean))
    if log and numeric:
        linear = {"linthresh": x[x > 0].min()} if x.min() <= 0 else {}
        axis.set_xscale("symlog" if linear else "log", **linear)
        axis.xaxis.set_major_formatter("{x:g}")
    if numeric and len(x) > 2:
        axis.plot(x, mean, marker="o", color=colour)
        axis.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        return
    axis.errorbar(x, mean, yerr=[mean - low, high - mean], fmt="o", color=colour, capsize=3)
    axis.set_xticks(x, mean.index)
    axis.tick_params(axis="x", rotation=0 if numeric else 25)
    axis.minorticks_off()
    axis.margins(x=0.3)


@styled
def lines(
    numbers: pd.DataFrame,
    *,
    xlabel: str,
    ylabel: str,
    title: str,
    goal: str | None = None,
    log_y: bool = False,
    path: MaybePath = None,
) -> Figure:
    """One line per column against the index, named at its right end; the index is logarithmic.

    Args:
        numbers: index: what is varied; columns: names of the lines.
        goal: the column that is drawn dashed, as the retrained network is everywhere.
        log_y: whether the numbers' axis is logarithmic too; 0 lies below it.
    """
    figure, axis = plt.subplots(figsize=(7.6, 2.6 + max(1.2, 0.17 * numbers.shape[1])))
    for name, (colour, marker) in style.method_styles(numbers.columns).items():
        look = {"color": GREY, "linestyle": "--"} if name == goal else {"color": colour}
        axis.plot(numbers.index, numbers[name], marker=marker, markersize=5, label=name, **look)
    if numbers.index.min() > 0:
        axis.set_xscale("log", base=2)
        axis.minorticks_off()
    axis.set_xticks(numbers.index, numbers.index)
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    if log_y:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
    else:
        axis.set_ylim(bottom=min(0, numbers.min(axis=None)))
    style.write_title(figure, title, f"dashed: {goal}" if goal else "")
    _name_ends(axis)
    return save_and_close(figure, path)


def _name_ends(axis: plt.Axes) -> None:
    """Write each line's name to the right of its last point, moved up or down off the others."""
    axis.figure.draw_without_rendering()  # gives the panel its height
    points = [line.get_xydata()[np.isfinite(line.get_ydata())][-1] for line in axis.lines]
    ends = np.clip(axis.transAxes.inverted().transform(axis.transData.transform(points)), 0, 1)
    order = ends[:, 1].argsort(kind="stable")
    steps = np.arange(len(order)) * 12 * axis.figure.dpi / 72 / axis.bbox.height  # 12 points each
    moved = isotonic_regression(ends[order, 1] - steps).x  # the least moves that keep the order
    heights = np.clip(moved, 0, 1 - steps[-1]) + steps
    for place, height in zip(order, heights, strict=True):
        line, where = axis.lines[place], {"xycoords": "axes fraction", "va": "center"}
        thread = {"arrowstyle": "-", "color": line.get_color(), "linewidth": 0.6}
        label = {"text": line.get_label(), "xy": ends[place], "xytext": (1.04, height)}
        axis.annotate(**label, **where, textcoords="axes fraction", arrowprops=thread)
