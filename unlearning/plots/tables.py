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
from .style import GREY, Tables, Target, error_bars, scale_and_colour, styled

INCHES = 0.075  # width of a letter


@styled
def comparison(
    tables: Tables, columns: Sequence[str], *, title: str, path: Target = None
) -> Figure:
    """A row of panels per scenario, one panel per number, one row per method: mean and spread.

    Args:
        tables: scenario -> its table, as ``report.table`` gives it, with a row "retrained", whose
            mean is drawn dashed; a row "retrained again" gives a band, the noise floor.
        columns: which numbers to draw; a panel is empty where a scenario lacks its number.
    """
    style.check(tables, [])
    heights = [len(numbers) + 2.6 for numbers in tables.values()]
    longest = max(len(name) for numbers in tables.values() for name in numbers.index)
    size = (2.1 + INCHES * longest / len(columns), 0.25 * np.mean(heights))
    shape = {"size": size, "sharey": "row", "height_ratios": heights}
    for axis, _, name, numbers in style.scenario_panels(tables, columns, **shape):
        _draw_methods(axis, numbers * scale_and_colour(name)[0], name)
        style.draw_goal(axis, "x", name, numbers)
    return style.finish(axis.figure, title, path, f"bars: standard deviation; {style.GOAL}")


def _draw_methods(axis: plt.Axes, found: pd.DataFrame, name: str) -> None:
    """One row per method, in its colour, the first on top."""
    bars = error_bars(name, found["mean"].to_numpy(), found["std"].to_numpy()).T
    styles = style.method_styles(found.index).values()
    rows = zip(range(len(found)), found["mean"], bars, styles, strict=True)
    for place, x, bar, (colour, marker) in rows:
        axis.errorbar(x, place, xerr=bar[:, None], color=colour, marker=marker, capsize=3)
    axis.locator_params(axis="x", nbins=3)  # small numbers are long
    _name_rows(axis, found.index)


def _name_rows(axis: plt.Axes, names: pd.Index) -> None:
    axis.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.4, -0.6))
    axis.grid(axis="y", visible=False)


@styled
def differences(
    numbers: pd.DataFrame,
    columns: Sequence[str],
    *,
    claims: Mapping[str, float],
    title: str,
    path: Target = None,
) -> Figure:
    """One panel per number, one row per pair of methods: their difference and its 95 % interval.

    Args:
        numbers: as ``report.differences`` gives it.
        claims: number -> the difference that was claimed for it, drawn dotted.
    """
    width = 2.8 + INCHES * max(map(len, numbers.index)) / len(columns)
    panel = (width, 0.9 + 0.32 * len(numbers))
    figure, axes = style.panels(len(columns), len(columns), panel, sharey=True)
    for axis, name in zip(axes, columns, strict=True):
        scale, colour = scale_and_colour(name)
        mean, half = (scale * numbers[name, kind].fillna(0) for kind in ("mean", "half95"))
        axis.errorbar(mean, range(len(mean)), xerr=half, fmt="o", color=colour, capsize=3)
        axis.axvline(0, color=GREY, linewidth=1)
        if name in claims:
            axis.axvline(claims[name] * scale, color=GREY, linestyle=":")
        axis.set_xlabel(heading(name).replace("(%)", "(percentage points)"))
        _name_rows(axis, numbers.index)
    note = "bars: 95 % interval over seeds"
    if claims:
        reached = sum(_reached(numbers[name], claim) for name, claim in claims.items())
        of = len(claims) * len(numbers)
        note += f"; dotted: claimed, reached by {reached} of {of} whole intervals"
    return style.finish(figure, title, path, note)


def _reached(found: pd.DataFrame, claim: float) -> int:
    """How many intervals lie at the claimed difference or beyond it."""
    return int((found["mean"] / claim - found["half95"] / abs(claim) >= 1).sum())


@styled
def per_class(
    tables: Tables, columns: Mapping[str, str], *, title: str, path: Target = None
) -> Figure:
    """One panel per scenario, one row per network, one column per class: accuracy and spread.

    Means alone would hide a network that answers with one class, another one for every seed.

    Args:
        tables: as ``comparison`` takes them.
        columns: name of a class -> the number that is its accuracy.
    """
    style.check(tables, columns.values())
    longest = max(len(name) for numbers in tables.values() for name in numbers.index)
    rows = max(map(len, tables.values()))
    size = INCHES * longest + 0.72 * len(columns), 0.5 + 0.31 * rows
    figure, axes = style.panels(len(tables), 1, size)
    for axis, (scenario, numbers) in zip(axes, tables.items(), strict=True):
        axis.set_title(scenario, loc="left", fontweight="bold")
        _write_cells(axis, *(_per_cent(numbers, columns, kind) for kind in ("mean", "std")))
    axis.set_xlabel("class")
    return style.finish(figure, title, path, "accuracy (%) ± standard deviation over seeds")


def _per_cent(numbers: pd.DataFrame, columns: Mapping[str, str], kind: str) -> pd.DataFrame:
    """One row per network, one column per class."""
    found = {name: 100 * numbers[number, kind] for name, number in columns.items()}
    return pd.DataFrame(found, numbers.index)


def _write_cells(axis: plt.Axes, means: pd.DataFrame, spreads: pd.DataFrame) -> None:
    axis.imshow(means, cmap="Blues", vmin=0, vmax=170, aspect="auto")  # no cell is too dark
    for (row, column), mean in np.ndenumerate(means):
        spread = spreads.iat[row, column]
        text = f"{mean:.0f}" if np.isnan(spread) else f"{mean:.0f} ± {spread:.0f}"
        text = "–" if np.isnan(mean) else text
        axis.text(column, row, text, ha="center", va="center", fontsize=9)
    turned = {"rotation": 30, "ha": "right"} if max(map(len, means)) > 3 else {}
    axis.set_xticks(range(means.shape[1]), means, **turned)
    axis.set_yticks(range(len(means)), means.index)
    axis.grid(False)


@styled
def matrix(
    ratios: pd.DataFrame, marks: pd.DataFrame, *, title: str, note: str = "", path: Target = None
) -> Figure:
    """One row per method, one column per scenario: a ratio in each cell, coloured around 1.

    Violet is below 1, orange above, on a logarithmic scale that ends at a factor of 16.

    Args:
        ratios: above 0; NaN is a dash.
        marks: of the same shape, what follows each ratio, such as "=".
        note: how to read the figure.
    """
    width = 0.8 + INCHES * max(map(len, ratios.index)) + 0.72 * ratios.shape[1]
    figure, axis = plt.subplots(figsize=(width, 1.8 + 0.25 * len(ratios)))
    logs = np.log2(ratios.to_numpy(float).clip(1 / 16, 16))
    image = axis.imshow(logs, cmap="PuOr_r", vmin=-5, vmax=5, aspect="auto")
    for (row, column), value in np.ndenumerate(ratios.to_numpy(float)):
        text = "–" if np.isnan(value) else f"{value:.{int(value < 9.95)}f}{marks.iat[row, column]}"
        dark = _luminance(image.to_rgba(logs[row, column])) < 0.4
        colour = "white" if dark and text != "–" else "black"
        axis.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    axis.set_yticks(range(len(ratios)), ratios.index)
    names = [textwrap.fill(name, 11) for name in ratios]
    axis.set_xticks(range(len(names)), names, fontsize=8)
    axis.grid(False)
    return style.finish(figure, title, path, note)


def _luminance(rgba: Sequence[float]) -> float:
    return float(np.dot(rgba[:3], (0.2126, 0.7152, 0.0722)))
