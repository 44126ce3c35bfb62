"""One look for every figure: colours, markers, panels, axes, and how a figure is saved."""

from __future__ import annotations

import io
import textwrap
import zlib
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from ..core.files import atomic_write
from ..methods import METHODS
from ..report import in_per_cent

Tables = Mapping[str, pd.DataFrame]  # scenario -> its table, as ``report.table`` gives it
MaybePath = Path | str | None

# Okabe and Ito's colours and two darker ones, told apart by colour-blind readers.
BLUE, RED, GREEN, PINK, ORANGE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"
SKY, BROWN, INDIGO = "#56B4E9", "#6B4C12", "#332288"
PALETTE = (BLUE, RED, GREEN, PINK, ORANGE, SKY, BROWN, INDIGO)
MARKERS = "osD^vPX*<>hp"
BLACK, GREY = "#222222", "#555555"
RESERVED = {"original": (BLACK, "X"), "retrained": (GREY, "o"), "retrained again": (GREY, "s")}
COLOURS = {"retain": BLUE, "forget": RED, "test": GREEN, "test_forget": PINK}
COLOURS |= {"membership_attack": INDIGO, "confidence_attack": ORANGE}
STYLE = {
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": "#e3e3e3",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}
styled = plt.rc_context(STYLE)  # a decorator: the style holds in the function and nowhere else


def method_style(name: str) -> tuple[str, str]:
    """Colour and marker of a method: in the order of METHODS, by a checksum for any other name."""
    if name in RESERVED:
        return RESERVED[name]
    taken, pairs = len(METHODS), len(PALETTE) * len(MARKERS)
    place = zlib.crc32(name.encode()) % pairs
    if name in METHODS:
        place = list(METHODS).index(name)
    elif place < taken:
        place = taken + place % (pairs - taken)
    turn, colour = divmod(place, len(PALETTE))  # neighbours differ in both
    return PALETTE[colour], MARKERS[(turn + colour) % len(MARKERS)]


def method_styles(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """The styles of one figure's methods: a marker that its colour already has gives way."""
    styles = {}
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
    for lowest in axes.flat[count - across : count]:
        lowest.tick_params(labelbottom=True)
    return figure, list(axes.flat[:count])


def write_title(figure: Figure, title: str, note: str = "") -> None:
    """Write the title and, in parentheses below, how to read the figure, wrapped to its width."""
    texts, width = [title, note and f"({note})"], int(11 * figure.get_figwidth())
    figure.suptitle("\n".join(textwrap.fill(text, width) for text in texts if text), size=11)


def finish(figure: Figure, title: str, path: MaybePath, note: str = "") -> Figure:
    """Write the title, then save and close the figure."""
    write_title(figure, title, note)
    return save_and_close(figure, path)


def draw_goal(axis: Axes, direction: str, numbers: pd.DataFrame, name: str) -> None:
    """Draw the retrained network's number dashed, the noise floor as a band; then fit the axis.

    Args:
        direction: "x" if the number is read along x, else "y".
    """
    kinds = {"x": (axis.axvline, axis.axvspan), "y": (axis.axhline, axis.axhspan)}
    line, band = kinds[direction]
    found = numbers[name] * scale_and_colour(name)[0]
    goal = found["mean"]["retrained"]
    line(goal, color=GREY, linestyle="--", linewidth=1)
    if "retrained again" in found.index:
        again, std = found.loc["retrained again", ["mean", "std"]]
        below, above = error_bars(name, goal, max(abs(again - goal), np.nan_to_num(std)))
        band(goal - below, goal + above, color=GREY, alpha=0.18, linewidth=0)
    _fit_axis(axis, direction, name)


def goal_note(tables: Tables) -> str:
    """What ``draw_goal`` drew, in words."""
    floor = "; grey band: noise floor, |retrained again − retrained|, or its spread if larger"
    return "dashed: retrained" + floor * any("retrained again" in t.index for t in tables.values())


def error_bars(name: str, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Lengths below and above the mean, (2, N), of bars that do not leave 0 to 100 per cent."""
    room = [mean, 100 - mean] if in_per_cent(name) else [np.inf, np.inf]
    return np.stack([np.minimum(np.nan_to_num(spread), np.maximum(0, side)) for side in room])


def _fit_axis(axis: Axes, direction: str, name: str) -> None:
    """Show a range of at least one point, and no tick labels below 0 or above 100 per cent."""
    low, high = getattr(axis.dataLim, f"interval{direction}")
    if not np.isfinite(high - low):  # nothing was measured
        return
    least = 1 if in_per_cent(name) else max(0.01, 0.05 * abs(low))
    middle, half = (low + high) / 2, max(high - low, least) / 2
    if in_per_cent(name):
        middle = np.clip(middle, half, 100 - half)
        labels = getattr(axis, f"{direction}axis")
        labels.set_major_formatter(lambda at, _: f"{at:g}" if -1e-9 < at < 100 + 1e-9 else "")
    getattr(axis, f"set_{direction}lim")(middle - 1.2 * half, middle + 1.2 * half)


def check(tables: Tables, columns: Iterable[str]) -> None:
    """Raise ValueError if a table lacks the row "retrained" or a column."""
    for scenario, numbers in tables.items():
        there = [*numbers.index, *numbers.columns.unique(0)]
        missing = [name for name in ("retrained", *columns) if name not in there]
        if missing:
            raise ValueError(
                f"the table of {scenario!r} has no {missing[0]!r}: it has {', '.join(there)}"
            )


def save_and_close(figure: Figure, path: MaybePath = None, alt: str | None = None) -> Figure:
    """Save the figure whole, if told where, and close it, so that a notebook shows it once.

    A notebook shows it at 100 dpi with alt text; a file has 200 dpi.

    Args:
        path: of the file; its suffix says which kind.
        alt: what the figure shows, for readers who cannot see it; by default its title and axes.
    """
    if path is not None:
        with atomic_write(path) as tmp_path:
            if tmp_path.suffix == ".png":
                tmp_path.write_bytes(_png(figure, STYLE["savefig.dpi"]))
            else:
                figure.savefig(tmp_path)
    figure._repr_mimebundle_ = partial(_mimebundle, figure, alt or _describe(figure))
    plt.close(figure)
    return figure


def _mimebundle(figure: Figure, alt: str, **_: Any) -> tuple[dict, dict]:
    """What IPython shows: data, the alt text where there are no images, and metadata."""
    data = {"image/png": _png(figure, STYLE["figure.dpi"]), "text/plain": alt}
    return data, {"image/png": {"alt": alt}}


@styled
def _png(figure: Figure, dpi: float) -> bytes:
    """The figure as a PNG of at most 256 colours, a third of the size."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    Image.open(drawn).convert("RGB").quantize(256).save(small, format="png", optimize=True)
    return small.getvalue()


def _describe(figure: Figure) -> str:
    """The title, then the panels' titles and the axes' labels, each once."""
    axes = figure.axes
    parts = {
        "": [figure.get_suptitle()],
        "Panels: ": [axis.get_title(place) for axis in axes for place in ("left", "center")],
        "Horizontal: ": [*(axis.get_xlabel() for axis in axes), figure.get_supxlabel()],
        "Vertical: ": [*(axis.get_ylabel() for axis in axes), figure.get_supylabel()],
    }
    told = {start: ", ".join(dict.fromkeys(filter(None, texts))) for start, texts in parts.items()}
    return " ".join(" ".join(f"{start}{text}." for start, text in told.items() if text).split())
