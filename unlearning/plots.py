"""One look for every figure; each function returns the figure and saves it where told."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .data import Images
from .files import whole
from .report import heading, in_per_cent, write_csv

# Okabe and Ito's colours, told apart by colour-blind readers; the same thing always has the same.
COLOURS = {
    "retain": "#0072B2",
    "forget": "#D55E00",
    "test": "#009E73",
    "test_forget": "#CC79A7",
    "membership_attack": "#000000",
    "confidence_attack": "#E69F00",
}
GREY = "#555555"
RANGE = ("mean", "min", "max")
STYLE = {
    "figure.dpi": 100,
    "savefig.dpi": 100,
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


def example_images(
    images: Images, *, count: int = 12, title: str = "", path: Path | str | None = None
) -> Figure:
    """A row of the first ``count`` images, each under the name of its class."""
    with plt.rc_context(STYLE):
        count = min(count, len(images))
        figure, axes = plt.subplots(1, count, figsize=(0.85 * count, 1.35), squeeze=False)
        for axis, pixels, label in zip(axes[0], images.images, images.labels, strict=False):
            axis.imshow(pixels.permute(1, 2, 0).squeeze(-1).cpu().numpy(), cmap="gray_r")
            axis.set_title(images.classes[label], fontsize=8)
            axis.axis("off")
        figure.suptitle(title)
        return finished(figure, path)


def comparison(
    tables: Mapping[str, pd.DataFrame],
    columns: Sequence[str],
    *,
    title: str,
    path: Path | str | None = None,
) -> Figure:
    """A row of panels a setting, a panel a number, a line a method: its mean and spread.

    Args:
        tables: setting -> its table, as ``report.table`` gives it, with a row "retrained", whose
            mean is drawn dashed.
        columns: which numbers to draw.
    """
    with plt.rc_context(STYLE):
        heights = [len(numbers) + 2.6 for numbers in tables.values()]
        figure, axes = plt.subplots(
            len(tables),
            len(columns),
            figsize=(1.6 + 2.1 * len(columns), 0.9 + 0.27 * sum(heights)),
            sharey="row",
            squeeze=False,
            height_ratios=heights,
        )
        for row, (setting, numbers) in zip(axes, tables.items(), strict=True):
            places = np.arange(len(numbers))[::-1]
            for axis, name in zip(row, columns, strict=True):
                scale, colour = scale_and_colour(name)
                mean = numbers[name, "mean"].to_numpy() * scale
                spread = np.nan_to_num(numbers[name, "std"].to_numpy() * scale)
                axis.errorbar(mean, places, xerr=spread, fmt="o", color=colour, capsize=3)
                there = numbers.loc["retrained", (name, "mean")] * scale
                axis.axvline(there, color=GREY, linestyle="--", linewidth=1)
                axis.set_xlabel(heading(name))
                axis.margins(x=0.12, y=0.08)
                axis.grid(axis="y", visible=False)
            row[0].set_yticks(places, numbers.index)
            row[0].set_title(setting, loc="left", fontweight="bold")
        figure.suptitle(f"{title}\n(dashed: retrained; bars: standard deviation over seeds)")
        return finished(figure, path)


def sweep(
    runs: pd.DataFrame,
    knob: str,
    columns: Sequence[str],
    *,
    title: str,
    xlabel: str,
    tables: Mapping[str, pd.DataFrame],
    log: bool = False,
    path: Path | str | None = None,
) -> Figure:
    """What a hyperparameter does: a row of panels a setting, a panel a number against the knob.

    Args:
        runs: a row a run, with columns "setting", ``knob`` and ``columns``.
        knob: the hyperparameter's column.
        tables: setting -> its table, whose row "retrained" is drawn dashed.
        log: whether the knob's axis is logarithmic.
        path: of the figure; the runs are written beside it, as .csv.
    """
    if path is not None:
        write_csv(runs, Path(path).with_suffix(".csv"))
    with plt.rc_context(STYLE):
        settings = list(runs["setting"].unique())
        size = (0.6 + 2.3 * len(columns), 1 + 2.1 * len(settings))
        figure, axes = plt.subplots(len(settings), len(columns), figsize=size, squeeze=False)
        for row, setting in zip(axes, settings, strict=True):
            groups = runs[runs["setting"] == setting].groupby(knob)
            for axis, name in zip(row, columns, strict=True):
                scale, colour = scale_and_colour(name)
                mean, low, high = (getattr(groups[name], f)() * scale for f in RANGE)
                axis.plot(mean.index, mean, marker="o", color=colour)
                axis.fill_between(mean.index, low, high, color=colour, alpha=0.2, linewidth=0)
                there = tables[setting].loc["retrained", (name, "mean")] * scale
                axis.axhline(there, color=GREY, linestyle="--", linewidth=1)
                axis.set_ylabel(heading(name))
                if log:
                    axis.set_xscale("log")
            row[0].set_title(setting, loc="left", fontweight="bold")
        figure.supxlabel(xlabel, fontsize=10)
        figure.suptitle(f"{title}\n(band: range over seeds; dashed: retrained)")
        return finished(figure, path)


def loss_histograms(
    losses: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    title: str,
    path: Path | str | None = None,
) -> Figure:
    """A panel a network: how the loss is spread over the forget set and over unseen images.

    Where the two curves part, an attacker can tell them apart.

    Args:
        losses: name of a network -> (losses of forgotten, losses of unseen images), in nats.
    """
    with plt.rc_context(STYLE):
        size = (1 + 2.6 * len(losses), 2.9)
        figure, axes = plt.subplots(1, len(losses), figsize=size, sharey=True, squeeze=False)
        edges = np.logspace(-6, 1.3, 40)
        for axis, (name, pair) in zip(axes[0], losses.items(), strict=True):
            for values, kind in zip(pair, ("forget", "test"), strict=True):
                weights = np.full(len(values), 100 / len(values))
                axis.hist(
                    np.clip(values, edges[0], edges[-1]),
                    edges,
                    weights=weights,
                    color=COLOURS[kind],
                    histtype="step",
                    linewidth=1.8,
                    linestyle="-" if kind == "forget" else "--",
                    label={"forget": "forget set", "test": "unseen"}[kind],
                )
            axis.set_xscale("log")
            axis.set_title(name)
            axis.set_xlabel("cross-entropy (nats)")
        axes[0, 0].set_ylabel("images (%)")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center")
        figure.suptitle(title)
        return finished(figure, path)


def per_class(
    accuracies: Mapping[str, np.ndarray],
    classes: Sequence[str],
    *,
    title: str,
    path: Path | str | None = None,
) -> Figure:
    """A row a network, a column a class: accuracy in per cent, written in its cell."""
    with plt.rc_context(STYLE):
        values = np.stack(list(accuracies.values())) * 100
        size = (2.2 + 0.62 * len(classes), 1.3 + 0.36 * len(values))
        figure, axis = plt.subplots(figsize=size)
        axis.imshow(values, cmap="Blues", vmin=0, vmax=170, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            axis.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=9)
        axis.set_yticks(range(len(values)), accuracies)
        turned = max(len(name) for name in classes) > 3
        axis.set_xticks(
            range(len(classes)),
            classes,
            rotation=30 if turned else 0,
            ha="right" if turned else "center",
        )
        axis.grid(False)
        axis.set_xlabel("class")
        axis.set_title(title)
        return finished(figure, path)


def stages(
    numbers: pd.DataFrame, columns: Sequence[str], *, title: str, path: Path | str | None = None
) -> Figure:
    """Accuracy at each stage, learned, unlearned, relearned: bars with mean and spread.

    Args:
        numbers: as ``report.table`` gives it, a row a stage, in order.
        columns: accuracies to draw, a bar each.
    """
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(1.9 + 1.75 * len(numbers), 3.9))
        width = 0.8 / len(columns)
        for place, name in enumerate(columns):
            x = np.arange(len(numbers)) + (place - (len(columns) - 1) / 2) * width
            mean = numbers[name, "mean"].to_numpy() * 100
            spread = np.nan_to_num(numbers[name, "std"].to_numpy() * 100)
            _, colour = scale_and_colour(name)
            label = heading(name).removesuffix(" (%)")
            axis.bar(x, mean, 0.92 * width, yerr=spread, color=colour, capsize=2, label=label)
            for left, value, bar in zip(x, mean, spread, strict=True):
                axis.text(
                    left, value + bar + 1, f"{value:.1f}", ha="center", va="bottom", fontsize=7.5
                )
        axis.set_xticks(range(len(numbers)), [textwrap.fill(name, 13) for name in numbers.index])
        axis.set_ylim(0, 109)
        axis.set_ylabel("accuracy (%)")
        axis.grid(axis="x", visible=False)
        figure.legend(loc="outside lower center", ncols=len(columns))
        axis.set_title(title)
        return finished(figure, path)


def scale_and_colour(name: str) -> tuple[float, str]:
    """Per cent or as it is; each part of the data and each attack in its own colour."""
    return (100 if in_per_cent(name) else 1), COLOURS.get(name.removesuffix("_accuracy"), "#000000")


def finished(figure: Figure, path: Path | str | None) -> Figure:
    """Save the figure if told where, and close it, so that a notebook shows it once."""
    if path is not None:
        with whole(path) as beside:
            figure.savefig(beside)
    plt.close(figure)
    return figure
