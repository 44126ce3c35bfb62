"""What does a smaller gap cost: points that carry their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, NullFormatter

from ..report import heading
from . import style
from .style import GREY, MaybePath, Tables, save_and_close, scale_and_colour, styled

LINES = {"original": "--", "retrained again": ":"}
RADIUS = 4.5  # of a marker and the space around it, in points of 1/72 inch


@styled
def trade_off(
    tables: Tables, *, title: str, column: str = "average_gap", path: MaybePath = None
) -> Figure:
    """One panel per scenario: each method's gap to retraining against its time, both logarithmic.

    A gap of 0 is drawn at half of the smallest other one.

    Args:
        tables: scenario -> its table, as ``report.table`` gives it, with the row "retrained", whose
            seconds are 100 %. The gaps of "original" and "retrained again" are drawn as lines.
        column: of the gap, 0 for a network like the retrained one.
    """
    style.check(tables, ["seconds", column])
    found = [_times_and_gaps(numbers, column) for numbers in tables.values()]
    every = pd.concat(found)
    least = every["gap"][every["gap"] > 0].min() / 2
    styles = style.method_styles(name for name in every.index.unique() if name not in LINES)
    figure, axes = style.panels(len(tables), 2, (4.6, 3.2 + 0.06 * len(styles)))
    for axis, scenario, rows in zip(axes, tables, found, strict=True):
        rows["gap"] = rows["gap"].clip(lower=least)
        _draw_points(axis, rows, styles)
        _set_log(axis.xaxis, axis.set_xlim, every["time"])
        _set_log(axis.yaxis, axis.set_ylim, every["gap"].clip(lower=least))
        axis.set_title(scenario, loc="left", fontweight="bold")
        axis.set_xlabel("time (% of retraining)")
        axis.set_ylabel(heading(column))
    note = "dashed: original; dotted: retrained again, the noise floor; bars: standard deviation"
    style.write_title(figure, title, note)
    figure.draw_without_rendering()  # gives the panels their places, which the labels need
    for axis, rows in zip(axes, found, strict=True):
        _place_labels(axis, rows.loc[rows.index.isin(list(styles)), ["time", "gap"]])
    return save_and_close(figure, path)


def _times_and_gaps(numbers: pd.DataFrame, column: str) -> pd.DataFrame:
    """One row per method: its time in per cent of retraining, its gap, and their spreads."""
    time = numbers["seconds"] * (100 / numbers.loc["retrained", ("seconds", "mean")])
    gap = numbers[column] * scale_and_colour(column)[0]
    spreads = {"xerr": time["std"].fillna(0), "yerr": gap["std"].fillna(0)}
    found = pd.DataFrame({"time": time["mean"], "gap": gap["mean"], **spreads})
    return found.drop("retrained").dropna()


def _draw_points(axis: Axes, rows: pd.DataFrame, styles: Mapping[str, tuple[str, str]]) -> None:
    for name, row in rows.iterrows():
        if name in LINES:
            axis.axhline(row["gap"], color=GREY, linestyle=LINES[name], linewidth=1.2)
            continue
        look = dict(zip(("color", "marker"), styles[name], strict=True))
        axis.errorbar(row["time"], row["gap"], row["yerr"], row["xerr"], elinewidth=0.8, **look)


def _set_log(axis: Axis, set_limits: Callable, values: pd.Series) -> None:
    """A logarithmic axis with room around its values, and a few round ticks."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    set_limits(values.min() / 1.8, values.max() * 1.8)
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _place_labels(axis: Axes, points: pd.DataFrame) -> None:
    """Write each point's name near it, over no other name and no point, joined to it by a line.

    Each name in turn takes the nearest free place around its point. The panel must have its final
    place: draw the figure first.

    Args:
        points: index: names; columns: x and y.
    """
    dots, scale = axis.transData.transform(points.to_numpy()), axis.figure.dpi / 72
    taken = np.hstack([dots - RADIUS * scale, dots + RADIUS * scale])
    thread = {"arrowstyle": "-", "color": GREY, "linewidth": 0.5}
    middle = {"ha": "center", "va": "center", "textcoords": "offset points"}
    for name, xy, dot in zip(points.index, points.to_numpy(), dots, strict=True):
        label = axis.annotate(name, xy, (0, 0), fontsize=8, arrowprops=thread, **middle)
        label.set_in_layout(False)
        half = np.array(Text.get_window_extent(label).size) / 2 + scale
        shifts = _shifts(half, RADIUS * scale)
        boxes = np.hstack([dot + shifts - half, dot + shifts + half])
        outside = (boxes[:, :2] < axis.bbox.min).any(1) | (boxes[:, 2:] > axis.bbox.max).any(1)
        best = (_overlaps(boxes, taken) + 100 * outside).argmin()  # the first, so the nearest
        label.set_position(shifts[best] / scale)
        taken = np.vstack([taken, boxes[best]])


def _shifts(half: np.ndarray, radius: float) -> np.ndarray:
    """Where a box of this half width and height may go around a point, nearest first, (N, 2)."""
    steps = (0, 0.5, -0.5, 1, -1)
    around = np.array([(x, y) for x in steps for y in steps if 1 in (abs(x), abs(y))])
    away = radius * np.arange(1, 60, 0.5)[:, None, None]
    return (around * (half + away)).reshape(-1, 2)


def _overlaps(boxes: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """How many of the taken boxes each box overlaps; all are (N, 4): left, bottom, right, top."""
    apart = (boxes[:, None, :2] >= taken[:, 2:]) | (boxes[:, None, 2:] <= taken[:, :2])
    return (~apart.any(2)).sum(1)
