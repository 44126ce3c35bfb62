"""One look for every figure; each function returns the figure and saves it where told."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from .core.files import atomic_write
from .core.images import Images
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
LINES = list(
    zip([*COLOURS.values(), "#56B4E9", "#8C6D31", GREY, "#332288"], "osD^vPX*<>", strict=True)
)
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
    images: Images,
    *,
    count: int = 12,
    captions: Sequence[str] | None = None,
    title: str = "",
    path: Path | str | None = None,
) -> Figure:
    """Rows of up to twelve images, the first ``count``, each under its caption: its class."""
    with plt.rc_context(STYLE):
        count = min(count, len(images))
        captions = captions or [images.classes[label] for label in images.labels[:count]]
        rows = -(-count // 12)
        across = -(-count // rows)
        size = (0.85 * across, 0.3 + 1.05 * rows)
        figure, axes = plt.subplots(rows, across, figsize=size, squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        for axis, pixels, caption in zip(axes.flat, images.images[:count], captions, strict=False):
            axis.imshow(pixels.permute(1, 2, 0).squeeze(-1).cpu().numpy(), cmap="gray_r")
            axis.set_title(caption, fontsize=8)
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


def trade_off(
    tables: Mapping[str, pd.DataFrame], *, title: str, path: Path | str | None = None
) -> Figure:
    """A panel a setting: each method's average gap to retraining against its time.

    Args:
        tables: setting -> its table, as ``report.table`` gives it, with the rows "retrained", whose
            seconds are 100 %, and "original", whose gap is drawn dashed.
    """
    with plt.rc_context(STYLE):
        size = (2 + 2.9 * len(tables), 3.6)
        shared = {"sharex": True, "sharey": True, "squeeze": False}
        figure, axes = plt.subplots(1, len(tables), figsize=size, **shared)
        names = list(dict.fromkeys(name for numbers in tables.values() for name in numbers.index))
        names = [name for name in names if name not in ("original", "retrained")]
        styles = dict(zip(names, LINES, strict=False))
        for axis, (setting, numbers) in zip(axes[0], tables.items(), strict=True):
            percent = 100 / numbers.loc["retrained", ("seconds", "mean")]
            for name in numbers.index.intersection(names, sort=False):
                x, y = (
                    numbers.loc[name, "seconds"] * percent,
                    100 * numbers.loc[name, "average_gap"],
                )
                bars = {"xerr": np.nan_to_num(x["std"]), "yerr": np.nan_to_num(y["std"])}
                colour, marker = styles[name]
                look = {"color": colour, "marker": marker, "linestyle": "", "capsize": 2}
                axis.errorbar(x["mean"], y["mean"], **bars, **look, label=name)
            axis.axhline(
                100 * numbers.loc["original", ("average_gap", "mean")],
                color=GREY,
                linestyle="--",
                linewidth=1,
            )
            axis.loglog()
            for scale in (axis.xaxis, axis.yaxis):
                scale.set_major_locator(LogLocator(subs=(1, 2, 5)))
                scale.set_major_formatter("{x:g}")
                scale.set_minor_formatter(NullFormatter())
            axis.set_xlabel("time (% of retraining)")
            axis.set_title(setting, loc="left", fontweight="bold")
        axes[0, 0].set_ylabel(heading("average_gap"))
        every = {
            label: handle
            for axis in axes[0]
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        figure.legend(every.values(), every.keys(), loc="outside right center")
        figure.suptitle(f"{title}\n(dashed: original; bars: standard deviation over seeds)")
        return finished(figure, path)


def differences(
    numbers: pd.DataFrame,
    columns: Sequence[str],
    *,
    claims: Mapping[str, float],
    title: str,
    path: Path | str | None = None,
) -> Figure:
    """A panel a number, a line a pair of methods: their difference and its 95 % interval.

    Args:
        numbers: as ``report.differences`` gives it.
        columns: which numbers to draw.
        claims: number -> the difference that was claimed for it, drawn dotted.
    """
    with plt.rc_context(STYLE):
        size = (2.8 + 2.9 * len(columns), 1.5 + 0.32 * len(numbers))
        figure, axes = plt.subplots(1, len(columns), figsize=size, sharey=True, squeeze=False)
        places = np.arange(len(numbers))[::-1]
        for axis, name in zip(axes[0], columns, strict=True):
            scale, colour = scale_and_colour(name)
            mean, half = (numbers[name, kind] * scale for kind in ("mean", "half95"))
            axis.errorbar(mean, places, xerr=half.fillna(0), fmt="o", color=colour, capsize=3)
            axis.axvline(0, color=GREY, linewidth=1)
            if name in claims:
                axis.axvline(claims[name] * scale, color=GREY, linestyle=":", linewidth=1.6)
            axis.set_xlabel(heading(name).replace("(%)", "(percentage points)"))
            axis.margins(x=0.12, y=0.08)
            axis.grid(axis="y", visible=False)
        axes[0, 0].set_yticks(places, numbers.index)
        figure.suptitle(f"{title}\n(bars: 95 % interval over seeds; dotted: claimed)")
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
            forgotten, unseen = (np.clip(values, edges[0], edges[-1]) for values in pair)
            outline(axis, forgotten, edges, "forget", "forget set")
            outline(axis, unseen, edges, "test", "unseen")
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


def eps_histograms(
    eps: Mapping[str, np.ndarray], *, title: str, path: Path | str | None = None
) -> Figure:
    """A panel a method: of how many forgotten examples eps lies where; what is beyond 7 is at 7.

    Args:
        eps: method -> eps of each example, as ``forgetting_quality`` gives it.
    """
    with plt.rc_context(STYLE):
        across = min(4, len(eps))
        rows = -(-len(eps) // across)
        size = (0.6 + 2.3 * across, 1 + 1.75 * rows)
        figure, axes = plt.subplots(
            rows, across, figsize=size, sharex=True, sharey=True, squeeze=False
        )
        for axis in axes.flat[len(eps) :]:
            axis.set_visible(False)
        for axis, (name, values) in zip(axes.flat, eps.items(), strict=False):
            weights = np.full(len(values), 100 / len(values))
            edges = np.arange(0, 8, 0.5)
            axis.hist(np.minimum(values, 7), edges, weights=weights, color=COLOURS["forget"])
            axis.set_title(f"{name}: median {np.median(values):.1f}")
        figure.supxlabel(
            "eps of an example: 0 cannot be told apart, 7 and more at the right", size=10
        )
        figure.supylabel("examples (%)", size=10)
        figure.suptitle(title)
        return finished(figure, path)


def densities(
    samples: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    thresholds: Mapping[str, float] | None = None,
    title: str,
    path: Path | str | None = None,
) -> Figure:
    """A panel an example: its confidence f over unlearned and over retrained networks.

    Args:
        samples: name of a panel -> (f of the unlearned networks (N,), of the retrained ones (M,)).
        thresholds: name of a panel -> an attack's threshold, drawn dotted.
    """
    with plt.rc_context(STYLE):
        size = (1 + 2.6 * len(samples), 2.9)
        figure, axes = plt.subplots(1, len(samples), figsize=size, squeeze=False)
        for axis, (name, pair) in zip(axes[0], samples.items(), strict=True):
            edges = np.linspace(*np.percentile(np.concatenate(pair), [0, 100]), 41)
            outline(axis, pair[0], edges, "forget", "unlearned")
            outline(axis, pair[1], edges, "retain", "retrained")
            if thresholds:
                axis.axvline(thresholds[name], color=GREY, linestyle=":", linewidth=1.6)
            axis.set_title(name)
            axis.set_xlabel("f, logit of the label's probability")
        axes[0, 0].set_ylabel("networks (%)")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center")
        figure.suptitle(title)
        return finished(figure, path)


def lines(
    numbers: pd.DataFrame,
    *,
    xlabel: str,
    ylabel: str,
    title: str,
    goal: str | None = None,
    log: bool = False,
    path: Path | str | None = None,
) -> Figure:
    """A line a column against the index, on a logarithmic axis.

    Args:
        numbers: index: what is varied; columns: names of the lines.
        goal: the column that is drawn dashed, as the retrained network is everywhere.
        log: whether the numbers' axis is logarithmic too.
    """
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7.6, 3.8))
        styles = zip(numbers.columns, LINES, strict=False)
        for name, (colour, marker) in styles:
            dashed = {"color": GREY, "linestyle": "--"} if name == goal else {"color": colour}
            axis.plot(
                numbers.index, numbers[name], marker=marker, markersize=5, label=name, **dashed
            )
        axis.set_xscale("log", base=2)
        axis.set_xticks(numbers.index, numbers.index)
        axis.set_xlabel(xlabel)
        axis.set_ylabel(ylabel)
        if log:
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter("{x:g}")
        else:
            axis.set_ylim(bottom=0)
        figure.legend(loc="outside right center")
        axis.set_title(title)
        return finished(figure, path)


def outline(axis: Axes, values: np.ndarray, edges: np.ndarray, kind: str, label: str) -> None:
    """A histogram in per cent, as a line: whole for what concerns the forget set, else dashed."""
    axis.hist(
        values,
        edges,
        weights=np.full(len(values), 100 / len(values)),
        color=COLOURS[kind],
        histtype="step",
        linewidth=1.8,
        linestyle="-" if kind == "forget" else "--",
        label=label,
    )


def scale_and_colour(name: str) -> tuple[float, str]:
    """Per cent or as it is; each part of the data and each attack in its own colour."""
    return (100 if in_per_cent(name) else 1), COLOURS.get(name.removesuffix("_accuracy"), "#000000")


def finished(figure: Figure, path: Path | str | None) -> Figure:
    """Save the figure if told where, and close it, so that a notebook shows it once."""
    if path is not None:
        with atomic_write(path) as tmp_path:
            figure.savefig(tmp_path)
    plt.close(figure)
    return figure
