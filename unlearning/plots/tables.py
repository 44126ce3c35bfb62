"""What the tables say: methods side by side, their differences, and accuracies."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..report import heading
from . import style
from .style import GREY, MaybePath, Tables, error_bars, scale_and_colour, styled

INCHES = 0.075  # width of a letter


@styled
def comparison(
    tables: Tables, columns: Sequence[str], *, title: str, path: MaybePath = None
) -> Figure:
    """A row of panels per scenario, one panel per number, one row per method: mean and spread.

    Args:
        tables: scenario -> its table, as ``report.table`` gives it, with a row "retrained", whose
            mean is drawn dashed; a row "retrained again" gives a band, the noise floor.
        columns: which numbers to draw.
    """
    style.check(tables, columns)
    heights = [len(numbers) + 2.6 for numbers in tables.values()]
    longest = max(len(name) for numbers in tables.values() for name in numbers.index)
    size = (0.5 + INCHES * longest + 2.1 * len(columns), 1 + 0.25 * sum(heights))
    shape = {"figsize": size, "sharey": "row", "squeeze": False, "height_ratios": heights}
    figure, axes = plt.subplots(len(tables), len(columns), **shape)
    for row, (scenario, numbers) in zip(axes, tables.items(), strict=True):
        for axis, name in zip(row, columns, strict=True):
            _draw_methods(axis, numbers[name] * scale_and_colour(name)[0], name)
            style.draw_goal(axis, "x", numbers, name)
            axis.set_xlabel(heading(name))
        row[0].set_title(scenario, loc="left", fontweight="bold")
    note = f"bars: standard deviation over seeds; {style.goal_note(tables)}"
    return style.finish(figure, title, path, note)


def _draw_methods(axis: plt.Axes, found: pd.DataFrame, name: str) -> None:
    """One row per method, in its colour, the first on top."""
    bars = error_bars(name, found["mean"].to_numpy(), found["std"].to_numpy()).T
    styles = style.method_styles(found.index).values()
    rows = zip(range(len(found)), found["mean"], bars, styles, strict=True)
    for place, x, bar, (colour, marker) in rows:
        axis.errorbar(x, place, xerr=bar[:, None], color=colour, marker=marker, capsize=3)
    _name_rows(axis, found.index)


def _name_rows(axis: plt.Axes, names: pd.Index) -> None:
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.grid(axis="y", visible=False)


@styled
def differences(
    numbers: pd.DataFrame,
    columns: Sequence[str],
    *,
    claims: Mapping[str, float],
    title: str,
    path: MaybePath = None,
) -> Figure:
    """One panel per number, one row per pair of methods: their difference and its 95 % interval.

    Args:
        numbers: as ``report.differences`` gives it.
        columns: which numbers to draw.
        claims: number -> the difference that was claimed for it, drawn dotted.
    """
    width = 0.5 + INCHES * max(map(len, numbers.index)) + 2.9 * len(columns)
    shape = {"figsize": (width, 1.5 + 0.32 * len(numbers)), "sharey": True, "squeeze": False}
    figure, axes = plt.subplots(1, len(columns), **shape)
    for axis, name in zip(axes[0], columns, strict=True):
        scale, colour = scale_and_colour(name)
        mean, half = (numbers[name, kind] * scale for kind in ("mean", "half95"))
        look = {"fmt": "o", "color": colour, "capsize": 3}
        axis.errorbar(mean, range(len(numbers)), xerr=half.fillna(0), **look)
        axis.axvline(0, color=GREY, linewidth=1)
        if name in claims:
            axis.axvline(claims[name] * scale, color=GREY, linestyle=":")
        axis.set_xlabel(heading(name).replace("(%)", "(percentage points)"))
        _name_rows(axis, numbers.index)
    dotted = "; dotted: claimed" if claims else ""
    return style.finish(figure, title, path, f"bars: 95 % interval over seeds{dotted}")


@styled
def per_class(
    accuracies: Mapping[str, np.ndarray],
    classes: Sequence[str],
    *,
    title: str,
    path: MaybePath = None,
) -> Figure:
    """One row per network, one column per class: accuracy in per cent, as number or as colour."""
    values = np.stack(list(accuracies.values())) * 100
    few = len(classes) <= 20  # numbers fit
    width = 0.8 + INCHES * max(map(len, accuracies)) + (0.6 if few else 0.15) * len(classes)
    figure, axis = plt.subplots(figsize=(width, 1.6 + 0.36 * len(values)))
    cells = axis.imshow(values, cmap="Blues", vmin=0, vmax=170 if few else 100, aspect="auto")
    for (row, column), value in np.ndenumerate(values[:, : len(classes) * few]):
        text = "–" if np.isnan(value) else f"{value:.0f}"
        axis.text(column, row, text, ha="center", va="center", fontsize=9)
    if not few:
        figure.colorbar(cells, label="accuracy (%)")
    axis.set_yticks(range(len(values)), accuracies)
    axis.set_xticks(range(len(classes)), classes)
    if max(map(len, classes)) > 3 or not few:
        turned = {"rotation": 30, "ha": "right"} if few else {"rotation": 90, "fontsize": 7}
        plt.setp(axis.get_xticklabels(), **turned)
    axis.grid(False)
    axis.set_xlabel("class")
    return style.finish(figure, title, path)


@styled
def stages(
    numbers: pd.DataFrame, columns: Sequence[str], *, title: str, path: MaybePath = None
) -> Figure:
    """Accuracy at each stage, learned, unlearned, relearned: bars with mean and spread.

    Args:
        numbers: as ``report.table`` gives it, one row per stage, in order.
        columns: accuracies to draw, one bar each.
    """
    across = min(7, len(numbers))
    rows = [numbers.iloc[start : start + across] for start in range(0, len(numbers), across)]
    figure, axes = style.panels(len(rows), 1, (1.1 + 1.75 * across, 3.1))
    for axis, shown in zip(axes, rows, strict=True):
        _draw_bars(axis, shown, columns)
        axis.set_xlim(-0.6, across - 0.4)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(columns)))
    return style.finish(figure, title, path, "bars: standard deviation over seeds")


def _draw_bars(axis: plt.Axes, numbers: pd.DataFrame, columns: Sequence[str]) -> None:
    """A group of bars per row, one bar per column, its value above it."""
    width = 0.8 / len(columns)
    for place, name in enumerate(columns):
        x = np.arange(len(numbers)) + (place - (len(columns) - 1) / 2) * width
        mean, std = (numbers[name, kind].to_numpy() * 100 for kind in ("mean", "std"))
        bars, colour = error_bars(name, mean, std), scale_and_colour(name)[1]
        label = heading(name).removesuffix(" (%)")
        axis.bar(x, mean, 0.92 * width, yerr=bars, color=colour, capsize=2, label=label)
        for left, value, top in zip(x, mean, mean + bars[1], strict=True):
            axis.text(left, top + 1, f"{value:.1f}", ha="center", va="bottom", fontsize=7.5)
    axis.set_xticks(range(len(numbers)), [textwrap.fill(name, 13) for name in numbers.index])
    axis.set_ylim(0, 112)  # room for the numbers; the axis itself ends at 100
    axis.set_yticks(range(0, 101, 20))
    axis.spines["left"].set_bounds(0, 100)
    axis.set_ylabel("accuracy (%)")
    axis.grid(axis="x", visible=False)
