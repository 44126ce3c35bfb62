"""What is left inside networks: saliency, relearn curves, features as a map, and layer by layer."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ..core.checks import class_list
from ..core.images import Images
from ..probing import FeatureMap
from . import style
from .style import BLACK, COLOURS, Target, styled

BRIGHTEST = 99.5  # percentile of an image's |saliency| that has the full colour
MOST_NAMED = 20  # classes on a map


@styled
def saliency_grid(
    images: Images,
    maps: Mapping[str, np.ndarray],
    *,
    count: int = 4,
    captions: Sequence[str] | None = None,
    title: str,
    path: Target = None,
) -> Figure:
    """A row for each of the first ``count`` images: the image, and each network's saliency of it.

    Each map is scaled by its own largest values, so that places can be compared and sizes cannot.

    Args:
        images: as shown to ``probing.saliency``.
        maps: name of a network -> (N, H, W), signed.
        captions: for each image; by default its class.
    """
    count = min(count, len(images), *map(len, maps.values()))
    captions = captions or [images.classes[label] for label in images.labels[:count]]
    if len(captions) != count:
        raise ValueError(f"give one caption for each of the {count} images, not {len(captions)}")
    across = 1 + len(maps)
    figure, axes = style.panels(count * across, across, (1.35, 1.3))
    for place, row in enumerate(np.reshape(axes, (count, across))):
        pixels = images.images[place].permute(1, 2, 0).squeeze(-1).cpu().numpy()
        row[0].imshow(pixels, cmap="gray_r", vmin=0, vmax=255)
        row[0].set_ylabel(textwrap.fill(captions[place], 12), rotation=0, ha="right", va="center")
        for axis, values in zip(row[1:], maps.values(), strict=True):
            limit = np.percentile(np.abs(values[place]), BRIGHTEST) or 1
            axis.imshow(values[place], cmap="RdBu_r", vmin=-limit, vmax=limit)
    for axis, name in zip(axes, ["image", *maps], strict=False):
        axis.set_title(textwrap.fill(name, 16))
    for axis in axes:
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        axis.spines[:].set(visible=True, color="#cccccc")
    note = "red speaks for the class, blue against it; each map on its own scale"
    return style.finish(figure, title, path, note)


@styled
def relearn_curves(
    curves: Mapping[str, pd.DataFrame],
    *,
    title: str,
    goal: str = "retrained",
    ylabel: str = "forget accuracy (%)",
    path: Target = None,
) -> Figure:
    """One panel per form of relearning: each network's accuracy against steps; the goal is dashed.

    Args:
        curves: what was trained on -> steps x networks, as ``probing.relearn_from_forgotten`` and
            ``relearn_from_retained`` give it. Networks that lie on each other have markers of
            several sizes.
        goal: name of the retrained network.
    """
    names = list(dict.fromkeys(name for table in curves.values() for name in table))
    figure, axes = style.panels(len(curves), 3, (3.4, 2.7), sharey=True)
    for axis, (form, table) in zip(axes, curves.items(), strict=True):
        _draw_networks(axis, table * 100, names, goal)
        axis.set_xscale("symlog", base=2, linthresh=1)
        axis.set_xticks(table.index, table.index, size=9)
        axis.minorticks_off()
        axis.set(title=form, xlabel="steps", ylim=(-5, 105), yticks=range(0, 101, 20))
    axes[0].set_ylabel(ylabel)
    return _with_legend(figure, title, path, goal)


@styled
def by_layer(
    numbers: Mapping[str, pd.DataFrame], *, title: str, goal: str = "retrained", path: Target = None
) -> Figure:
    """One panel per number: each network's value against the layers, in their order.

    Args:
        numbers: what was measured, its unit in parentheses -> layers x networks.
        goal: name of the retrained network, drawn dashed.
    """
    names = list(dict.fromkeys(name for table in numbers.values() for name in table))
    width = max(3.4, 0.42 * max(map(len, numbers.values())))
    figure, axes = style.panels(len(numbers), 2, (width, 3))
    for axis, (what, table) in zip(axes, numbers.items(), strict=True):
        _draw_networks(axis, table.set_axis(range(len(table))), names, goal)
        axis.set_xticks(range(len(table)), table.index, rotation=45, ha="right", size=9)
        axis.set(xlabel="layer", ylabel=what)
    return _with_legend(figure, title, path, goal)


def _draw_networks(axis: Axes, table: pd.DataFrame, names: list[str], goal: str) -> None:
    """A line per network; the first has the largest markers, so that all of a heap are seen."""
    sizes = dict(zip(names, np.linspace(8.5, 4, len(names)), strict=True))
    for name, (colour, marker) in style.method_styles(names).items():
        if name in table:
            look = {"color": colour, "marker": marker, "markersize": sizes[name], "label": name}
            if name == goal:  # hollow, so that what lies under it is seen
                look |= {"linestyle": "--", "markerfacecolor": "white"}
            axis.plot(table[name], **look)


def _with_legend(figure: Figure, title: str, path: Target, goal: str) -> Figure:
    lines = {line.get_label(): line for axis in figure.axes for line in axis.lines}
    figure.legend(lines.values(), lines, loc="outside right center")
    return style.finish(figure, title, path, f"dashed: {goal}" if goal in lines else "")


@styled
def feature_maps(
    found: FeatureMap,
    labels: Sequence[int],
    *,
    forgotten: int | Iterable[int],
    classes: Sequence[str] | None = None,
    title: str,
    path: Target = None,
) -> Figure:
    """One panel per network: its features in two dimensions, the forgotten class coloured, on top.

    Other classes are grey dots. Up to twenty classes are named beside their medians, crosses; of
    more, the forgotten ones alone.

    Args:
        found: as ``probing.feature_map`` gives it.
        labels: of the images, (N,).
        forgotten: the class to forget, or several.
        classes: names of all classes; by default their numbers.
    """
    labels, shared = np.asarray(labels), found.fitted_on != "each"
    forgotten = class_list(forgotten)
    for name, points in found.points.items():
        if len(points) != len(labels) or not np.isin(forgotten, labels).all():
            raise ValueError(
                f"give one label for each of the {len(points)} images of {name}, the forgotten "
                f"classes {forgotten} among them"
            )
    count = len(found.points)
    across = count if count <= 4 else 3
    figure, axes = style.panels(count, across, (2.7, 2.6), sharex=shared, sharey=shared)
    middles = {}
    for axis, (name, points) in zip(axes, found.points.items(), strict=True):
        middles[axis] = _draw_classes(axis, points, labels, forgotten)
        share = f"\n{found.shares[name]:.0%} of its variance" if name in found.shares else ""
        axis.set_title(name + share)
        axis.set(xticks=[], yticks=[])
    note = f"axes of {found.fitted_on}" if shared else "each network on axes of its own"
    style.finish(figure, title, None, f"coloured: what was forgotten; crosses: medians; {note}")
    figure.draw_without_rendering()  # gives the panels their places, which the names need
    for axis, places in middles.items():
        places = places if len(places) <= MOST_NAMED else places.loc[forgotten]
        names = [classes[label] if classes else str(label) for label in places.index]
        style.place_labels(axis, places.set_axis(names))
        for label, text in zip(places.index, axis.texts, strict=True):
            text.set(weight="bold", color=COLOURS["forget"] if label in forgotten else BLACK)
            text.set_path_effects([withStroke(linewidth=2, foreground="white")])
    return style.save_and_close(figure, path)


def _draw_classes(
    axis: Axes, points: np.ndarray, labels: np.ndarray, top: list[int]
) -> pd.DataFrame:
    """Dots, those of classes ``top`` coloured and last; each class's median, (K, 2)."""
    is_top = np.isin(labels, top)
    axis.scatter(*points[~is_top].T, s=9, linewidths=0, alpha=0.35, color="#8a8a8a")
    axis.scatter(*points[is_top].T, s=9, linewidths=0, alpha=0.8, color=COLOURS["forget"])
    middles = pd.DataFrame(points).groupby(labels).median()
    axis.scatter(*middles.to_numpy().T, s=30, marker="x", color=BLACK, linewidths=1.3)
    return middles
