"""One number against another: a hyperparameter swept, lines against a count, gap against time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from ..report import heading, write_csv
from . import style
from .style import GREY, Tables, Target, scale_and_colour, styled

LINES = {"original": "--", "retrained again": ":"}


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
    path: Target = None,
) -> Figure:
    """What a hyperparameter does: a row of panels per scenario, one panel per number.

    Fewer than three values are drawn as points: nothing is known between them.

    Args:
        runs: one row per run, as ``Experiment.sweep`` gives them, with a column "scenario".
        knob: the hyperparameter's column.
        columns: which numbers to draw; a panel is empty where a scenario lacks its number.
        tables: as ``comparison`` takes them.
        log: whether the knob's axis is logarithmic, if all its values are above 0.
        path: of the figure; the runs are written next to it, as .csv.
    """
    if runs[knob].isna().any() or not pd.api.types.is_numeric_dtype(runs[knob]):
        raise ValueError(f"{knob!r} has values that are not numbers: draw them with comparison")
    if path is not None:
        write_csv(runs, Path(path).with_suffix(".csv"))
    tables = {name: tables[name] for name in runs["scenario"].unique()}
    drawn = style.scenario_panels(tables, columns, (2.3, 2.2), sharex=True)
    for axis, scenario, name, numbers in drawn:
        if numbers.notna().any(axis=None):
            if log and runs[knob].min() > 0:
                axis.set_xscale("log")
                axis.xaxis.set_major_formatter("{x:g}")
            groups = runs[runs["scenario"] == scenario].groupby(knob)[name]
            _draw_range(axis, groups.agg(["mean", "min", "max"]), name)
        style.draw_goal(axis, "y", name, numbers)
    axis.figure.supxlabel(xlabel, fontsize=10)
    return style.finish(axis.figure, title, path, f"colour: range over seeds; {style.GOAL}")


def _draw_range(axis: Axes, found: pd.DataFrame, name: str) -> None:
    """Mean and range against the knob: a curve in a band, or points with bars."""
    scale, colour = scale_and_colour(name)
    x, (mean, low, high) = found.index.to_numpy(float), found.to_numpy().T * scale
    if len(x) > 2:
        axis.plot(x, mean, marker="o", color=colour)
        axis.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        return
    axis.errorbar(x, mean, yerr=[mean - low, high - mean], fmt="o", color=colour, capsize=3)
    axis.margins(x=0.3)
    axis.set_xticks(x, map("{:g}".format, x))
    axis.minorticks_off()


@styled
def lines(
    numbers: pd.DataFrame,
    *,
    xlabel: str,
    ylabel: str,
    title: str,
    goal: str | None = None,
    expected: pd.DataFrame | None = None,
    log_y: bool = False,
    path: Target = None,
) -> Figure:
    """One line per column against the index, which is logarithmic; the legend is in their order.

    Args:
        numbers: index: what is varied; columns: names of the lines.
        goal: the column that is drawn dashed, as the retrained network is everywhere.
        expected: what theory gives, drawn dotted; the numbers of its columns are points.
        log_y: whether the numbers' axis is logarithmic too; 0 lies below it.
    """
    figure, axis = plt.subplots(figsize=(7.6, 2.6 + max(1.2, 0.17 * numbers.shape[1])))
    for name, (colour, marker) in style.method_styles(numbers.columns).items():
        look = {"color": GREY, "linestyle": "--"} if name == goal else {"color": colour}
        if expected is not None and name in expected:
            axis.plot(expected[name], color=colour, linestyle=":", label="_expected")
            look["linestyle"] = ""
        axis.plot(numbers.index, numbers[name], marker=marker, markersize=5, label=name, **look)
    if numbers.index.min() > 0:
        axis.set_xscale("log", base=2)
        axis.minorticks_off()
    axis.set_xticks(numbers.index, numbers.index)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    if log_y:
        axis.set_yscale("log")
        _set_ticks(axis.yaxis)
    else:
        axis.set_ylim(bottom=min(0, numbers.min(axis=None)))
    named = [line for line in axis.lines if line.get_label() != "_expected"]
    highest_first = sorted(named, key=lambda line: -line.get_ydata()[-1])
    figure.legend(handles=highest_first, loc="outside right center", fontsize=9)
    notes = [f"dashed: {goal}"] * bool(goal) + ["dotted: expected"] * (expected is not None)
    return style.finish(figure, title, path, "; ".join(notes))


@styled
def trade_off(
    tables: Tables, *, title: str, column: str = "average_gap", path: Target = None
) -> Figure:
    """One panel per scenario: each method's gap to retraining against its time, both logarithmic.

    Args:
        tables: as ``comparison`` takes them; the seconds of "retrained" are 100 %, and the gaps of
            "original" and "retrained again" are drawn as lines.
        column: of the gap; 0, as for the retrained network, is drawn at half of the smallest other.
    """
    style.check(tables, ["seconds", column])
    found = {scenario: _times_and_gaps(table, column) for scenario, table in tables.items()}
    every = pd.concat(found.values())
    least = every["gap"][every["gap"] > 0].min() / 2
    styles = style.method_styles(name for name in every.index.unique() if name not in LINES)
    figure, axes = style.panels(len(tables), 2, (4.6 + 0.03 * len(styles), 3 + 0.1 * len(styles)))
    for axis, (scenario, rows) in zip(axes, found.items(), strict=True):
        rows["gap"] = rows["gap"].clip(lower=least)
        for name, (time, gap, xerr, yerr) in rows.iterrows():
            if name in LINES:
                axis.axhline(gap, color=GREY, linestyle=LINES[name], linewidth=1.2)
                continue
            look = dict(zip(("color", "marker"), styles[name], strict=True))
            axis.errorbar(time, gap, yerr, xerr, elinewidth=0.8, **look)
        _set_log(axis, "x", every["time"].drop(list(LINES), errors="ignore"))
        _set_log(axis, "y", rows["gap"])
        axis.set_title(scenario, loc="left", fontweight="bold")
        axis.set(xlabel="time (% of retraining)", ylabel=heading(column))
    note = "dashed: original; dotted: retrained again, the noise floor; bars: standard deviation"
    if lost := every.index[every.isna().any(axis=1)].unique().to_list():
        note += f"; not measured: {', '.join(lost)}"
    style.finish(figure, title, None, note)
    figure.draw_without_rendering()  # gives the panels their places, which the labels need
    for axis, rows in zip(axes, found.values(), strict=True):
        style.place_labels(axis, rows.loc[rows.index.isin(list(styles)), ["time", "gap"]].dropna())
    return style.save_and_close(figure, path)


def _times_and_gaps(numbers: pd.DataFrame, column: str) -> pd.DataFrame:
    """One row per method: its time in per cent of retraining, its gap, and their spreads."""
    time = numbers["seconds"] * (100 / numbers.loc["retrained", ("seconds", "mean")])
    gap = numbers[column] * scale_and_colour(column)[0]
    spreads = {"xerr": time["std"].fillna(0), "yerr": gap["std"].fillna(0)}
    return pd.DataFrame({"time": time["mean"], "gap": gap["mean"], **spreads}).drop("retrained")


def _set_log(axis: Axes, direction: str, values: pd.Series) -> None:
    """A logarithmic axis with room around its values, and a few round ticks."""
    limits = values.min() / 1.8, values.max() * 1.8
    axis.set(**{f"{direction}scale": "log", f"{direction}lim": limits})
    _set_ticks(getattr(axis, f"{direction}axis"))


def _set_ticks(axis: Axis) -> None:
    """Numbers such as 0.2 and 50 at a logarithmic axis, and no powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
