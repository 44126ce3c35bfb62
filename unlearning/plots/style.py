"""One look for every figure: colours, markers, panels, axes, and how a figure is saved."""

from __future__ import annotations

import io
import sys
import textwrap
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from ..core.files import atomic_write
from ..methods import METHODS
from ..report import STANDARD, heading, in_per_cent

Tables = Mapping[str, pd.DataFrame]  # scenario -> its table, as ``report.table`` gives it
Target = Path | str | None  # where a figure is saved

# Okabe and Ito's colours and two darker ones, told apart by colour-blind readers.
BLUE, RED, GREEN, PINK, ORANGE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"
SKY, BROWN, INDIGO = "#56B4E9", "#6B4C12", "#332288"
PALETTE = (BLUE, RED, GREEN, PINK, ORANGE, SKY, BROWN, INDIGO)
MARKERS = "osD^vPX*<>hp"
BLACK, GREY = "#222222", "#555555"
RESERVED = {"original": (BLACK, "X"), "original again": (BLACK, "P")}
RESERVED |= {"retrained": (GREY, "o"), "retrained again": (GREY, "s")}
COLOURS = {"retain": BLUE, "forget": RED, "test": GREEN, "test_forget": PINK}
COLOURS |= {"membership_attack": INDIGO, "confidence_attack": ORANGE}
STYLE = {"figure.dpi": 100, "savefig.dpi": 200, "figure.constrained_layout.use": True}
STYLE |= {"font.size": 10, "axes.titlesize": 10.5, "legend.frameon": False, "lines.linewidth": 1.6}
STYLE |= {"axes.spines.top": False, "axes.spines.right": False, "axes.formatter.useoffset": False}
STYLE |= {"axes.grid": True, "axes.axisbelow": True, "grid.color": "#e3e3e3"}
RADIUS = 4.5  # of a marker and the space around it, in points of 1/72 inch
ALONG = np.linspace(0, 1, 40)[1:]  # places on the line from a marker to its name
GOAL = "dashed: retrained; grey: noise floor, from retrained again"
styled = plt.rc_context(STYLE)  # a decorator: the style holds in the function and nowhere else


def method_style(name: str) -> tuple[str, str]:
    """Colour and marker of a method: in the order of METHODS, by a checksum for any other name."""
    if name in RESERVED:
        return RESERVED[name]
    place, taken = zlib.crc32(name.encode()) % (len(PALETTE) * len(MARKERS)), len(METHODS)
    place = list(METHODS).index(name) if name in METHODS else place + taken * (place < taken)
    return _style_at(place)


def _style_at(place: int) -> tuple[str, str]:
    """One of the 96 pairs of a colour and a marker; neighbours differ in both."""
    turn, colour = divmod(place, len(PALETTE))
    return PALETTE[colour], MARKERS[(turn + colour) % len(MARKERS)]


def method_styles(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """The styles of one figure's methods: a marker that its colour already has gives way."""
    names, styles = list(names), {}
    if not {*METHODS, *RESERVED} & set(names):  # scenarios, for example: the palette in order
        return {name: _style_at(place) for place, name in enumerate(names)}
    for name in names:
        colour, marker = method_style(name)
        free = [other for other in marker + MARKERS if (colour, other) not in styles.values()]
        styles[name] = colour, (free or marker)[0]
    return styles


def scale_and_colour(name: str) -> tuple[float, str]:
    """Per cent or as it is; each part of the data and each attack in its own colour, else brown."""
    return (100 if in_per_cent(name) else 1), COLOURS.get(name.removesuffix("_accuracy"), BROWN)


def panels(
    count: int, across: int, size: tuple[float, float], **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels, each of ``size`` in inches, in rows of at most ``across``."""
    across = min(across, count)
    rows = -(-count // across)
    shape = (0.8 + size[0] * across, 0.8 + size[1] * rows)
    figure, axes = plt.subplots(rows, across, figsize=shape, squeeze=False, **options)
    for empty in axes.flat[count:]:
        empty.remove()
    return figure, list(axes.flat[:count])


def scenario_panels(
    tables: Tables, columns: Sequence[str], size: tuple[float, float], **options: Any
) -> Iterator[tuple[Axes, str, str, pd.DataFrame]]:
    """A row of panels per scenario, one per number: each axis, scenario, number, mean and std.

    What one scenario lacks, such as test_forget_accuracy if no class is forgotten, is NaN there.
    """
    known = {*STANDARD}.union(*(numbers.columns.unique(0) for numbers in tables.values()))
    check(tables, [name for name in columns if name not in known])
    _, axes = panels(len(tables) * len(columns), len(columns), size, **options)
    for axis, (scenario, name) in zip(axes, product(tables, columns), strict=True):
        if axis.get_subplotspec().is_first_col():
            axis.set_title(scenario, loc="left", fontweight="bold")
        kinds = pd.MultiIndex.from_product([[name], ["mean", "std"]])
        yield axis, scenario, name, tables[scenario].reindex(columns=kinds)[name]


def check(tables: Tables, columns: Iterable[str]) -> None:
    """Raise ValueError if there are no tables, or one lacks the row "retrained" or a column."""
    if not isinstance(tables, Mapping) or not tables:
        raise ValueError("there are no tables to draw: give {scenario: what report.table returns}")
    for scenario, numbers in tables.items():
        there = [*map(str, [*numbers.index, *numbers.columns.unique(0)])]
        missing = [name for name in ("retrained", *columns) if name not in there]
        if missing:
            raise ValueError(
                f"{scenario!r} has no {missing[0]!r}, which the figure shows; it has "
                f"{', '.join(there)}"
            )


def draw_goal(axis: Axes, direction: str, name: str, numbers: pd.DataFrame) -> None:
    """Draw the retrained network's number dashed, the noise floor as a band; fit the axis."""
    line, band = (axis.axvline, axis.axvspan) if direction == "x" else (axis.axhline, axis.axhspan)
    found = numbers * scale_and_colour(name)[0]
    goal = found["mean"]["retrained"]
    line(goal, color=GREY, linestyle="--", linewidth=1)
    if "retrained again" in found.index:
        again, std = found.loc["retrained again", ["mean", "std"]]
        below, above = error_bars(name, goal, max(abs(again - goal), np.nan_to_num(std)))
        band(goal - below, goal + above, color=GREY, alpha=0.18, linewidth=0)
    axis.set(**{f"{direction}label": heading(name)})
    _fit_axis(axis, direction, name)


def error_bars(name: str, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Lengths below and above the mean, (2, N), of bars that stay above 0 and below 100 %."""
    room = [mean, 100 - mean if in_per_cent(name) else np.inf]
    return np.stack([np.minimum(np.nan_to_num(spread), np.maximum(0, side)) for side in room])


def _fit_axis(axis: Axes, direction: str, name: str) -> None:
    """Show a range of at least one point, and no tick labels below 0 or above 100 per cent."""
    low, high = getattr(axis.dataLim, f"interval{direction}")
    if not np.isfinite(high - low):
        axis.text(0.5, 0.5, "not measured", transform=axis.transAxes, ha="center", color=GREY)
        axis.set(**{f"{direction}ticks": []})
        return
    least = 1 if in_per_cent(name) else max(0.01, 0.05 * abs(low))
    middle, half = (low + high) / 2, max(high - low, least) / 2
    if in_per_cent(name):
        middle = np.clip(middle, half, 100 - half)
        getattr(axis, f"{direction}axis").set_major_formatter(_tick_label)
    axis.set(**{f"{direction}lim": (middle - 1.2 * half, middle + 1.2 * half)})


def _tick_label(at: float, _: int | None = None) -> str:  # no lambda: figures can be pickled
    return f"{at:g}" if -1e-9 < at < 100 + 1e-9 else ""


def place_labels(axis: Axes, points: pd.DataFrame) -> None:
    """Write each point's name near it, where neither it nor its line covers much.

    Not to be covered are other names and their lines, and points. The figure must have been drawn,
    which gives its panels their places.
    """
    dots, scale = axis.transData.transform(points.to_numpy()), axis.figure.dpi / 72
    taken = np.hstack([dots - RADIUS * scale, dots + RADIUS * scale])
    thread = {"arrowstyle": "-", "color": GREY, "linewidth": 0.5}
    middle = {"ha": "center", "va": "center", "textcoords": "offset points"}
    for i, (name, xy, dot) in enumerate(zip(points.index, points.to_numpy(), dots, strict=True)):
        label = axis.annotate(name, xy, (0, 0), fontsize=8, arrowprops=thread, **middle)
        label.set_in_layout(False)
        half = np.array(Text.get_window_extent(label).size) / 2 + scale
        shifts = _shifts(half, RADIUS * scale)
        boxes = np.hstack([dot + shifts - half, dot + shifts + half])
        outside = (boxes[:, :2] < axis.bbox.min).any(1) | (boxes[:, 2:] > axis.bbox.max).any(1)
        lines = np.tile(dot + shifts[:, None] * ALONG[:, None], 2)  # (N, P, 4), boxes of no size
        crossed = _covered(lines.reshape(-1, 4), np.delete(taken, i, axis=0))
        covered = _covered(boxes, taken) + crossed.reshape(lines.shape[:2]).any(1)
        far = np.linspace(0, 2, len(shifts))  # the farthest is as bad as one that covers two
        best = (covered + 100 * outside + far).argmin()
        label.set_position(shifts[best] / scale)
        taken = np.vstack([taken, boxes[best], lines[best]])


def _covered(boxes: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """How many of the boxes that are taken each box covers, (N,); a box is x0, y0, x1, y1."""
    (left, low, right, high), (lefts, lows, rights, highs) = boxes.T[..., None], taken.T
    beside, level = (left < rights) & (lefts < right), (low < highs) & (lows < high)
    return (beside & level).sum(1)


def _shifts(half: np.ndarray, radius: float) -> np.ndarray:
    """Where a box of this half width and height may go around a point, nearest first, (N, 2)."""
    steps = (0, 0.5, -0.5, 1, -1)
    around = np.array([(x, y) for x in steps for y in steps if 1 in (abs(x), abs(y))])
    away = radius * np.arange(1, 40, 0.5)[:, None, None]
    return (around * (half + away)).reshape(-1, 2)


def finish(figure: Figure, title: str, path: Target, note: str = "") -> Figure:
    """Write the title and, in parentheses below, how to read the figure; save and close it."""
    texts, width = [title, note and f"({note})"], int(11 * figure.get_figwidth())
    figure.suptitle("\n".join(textwrap.fill(text, width) for text in texts if text), size=11)
    return save_and_close(figure, path)


def save_and_close(figure: Figure, path: Target = None, alt: str | None = None) -> Figure:
    """Save the figure whole, if told where, and close it, so that a notebook shows it once.

    A notebook shows it at 100 dpi with alt text; a file has 200 dpi.

    Args:
        path: of the PNG file; another suffix becomes .png.
        alt: what the figure shows, for readers who cannot see it; by default its title and axes.
    """
    if path is not None:
        with atomic_write(Path(path).with_suffix(".png")) as tmp_path:
            tmp_path.write_bytes(_png(figure, STYLE["savefig.dpi"]))
    figure._repr_mimebundle_ = partial(_mimebundle, figure, alt or _describe(figure))
    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()):
        shell.display_formatter.formatters["image/png"].for_type(Figure, _inline_png)
    plt.close(figure)
    return figure


def _inline_png(figure: Figure) -> bytes:
    """What a notebook draws: figures of this package small, all others as it always does."""
    if hasattr(figure, "_repr_mimebundle_"):
        return _png(figure, STYLE["figure.dpi"])
    return sys.modules["IPython"].core.pylabtools.print_figure(figure, fmt="png")


def _mimebundle(figure: Figure, alt: str, **_: Any) -> tuple[dict, dict]:
    """What IPython shows: data, the alt text where there are no images, and metadata."""
    data = {"image/png": _png(figure, STYLE["figure.dpi"]), "text/plain": alt}
    return data, {"image/png": {"alt": alt}}


@styled
def _png(figure: Figure, dpi: float) -> bytes:
    """The figure as a PNG of at most 256 colours, a third of the size."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    few = Image.open(drawn).convert("RGB").quantize(256)
    few.save(small, format="png", optimize=True)
    return small.getvalue()


def _describe(figure: Figure) -> str:
    """The title, then the panels' titles and the axes' labels, each once."""
    axes = figure.axes
    titles = [axis.get_title(place) for axis in axes for place in ("left", "center")]
    parts = {"": [figure.get_suptitle()], "Panels: ": titles}
    parts["Horizontal: "] = [*(axis.get_xlabel() for axis in axes), figure.get_supxlabel()]
    parts["Vertical: "] = [*(axis.get_ylabel() for axis in axes), figure.get_supylabel()]
    told = {start: ", ".join(dict.fromkeys(filter(None, texts))) for start, texts in parts.items()}
    return " ".join(" ".join(f"{start}{text}." for start, text in told.items() if text).split())
