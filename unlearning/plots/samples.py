"""One panel per sample: images, and how losses, eps and confidences are spread."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..core.images import Images
from . import style
from .style import COLOURS, GREY, Target, styled


@styled
def loss_histograms(losses: Mapping[str, tuple], *, title: str, path: Target = None) -> Figure:
    """One panel per network: how the loss is spread over the forget set and over unseen images.

    Args:
        losses: name of a network -> (losses of forgotten, losses of unseen images), in nats; what
            is below 1e-6 or above 20 is drawn there.
    """
    figure, axes = style.panels(len(losses), 5, (2.3, 2), sharey=True)
    edges = np.logspace(-6, 1.3, 40)
    for axis, (name, pair) in zip(axes, losses.items(), strict=True):
        forgotten, unseen = (np.clip(values, edges[0], edges[-1]) for values in pair)
        _outline(axis, forgotten, edges, label="forget set", color=COLOURS["forget"])
        _outline(axis, unseen, edges, label="unseen", color=COLOURS["test"], linestyle="--")
        axis.set_xscale("log")
        axis.set_title(textwrap.fill(name, 25))
    return _finish(figure, "cross-entropy (nats)", "images (%)", title, path)


@styled
def eps_histograms(eps: Mapping[str, np.ndarray], *, title: str, path: Target = None) -> Figure:
    """One panel per method: how many forgotten examples have which eps; 7 stands for 7 and more."""
    figure, axes = style.panels(len(eps), 4, (2.4, 1.8), sharex=True, sharey=True)
    for axis, (name, values) in zip(axes, eps.items(), strict=True):
        weights, colour = np.full(len(values), 100 / len(values)), style.method_style(name)[0]
        axis.hist(np.minimum(values, 7), np.arange(0, 8, 0.5), weights=weights, color=colour)
        axis.set_title(textwrap.fill(f"{name}: median {np.median(values):.1f}", 30))
    xlabel = "eps of an example: 0 cannot be told apart, 7 and more at the right"
    return _finish(figure, xlabel, "examples (%)", title, path)


@styled
def densities(
    samples: Sequence[tuple], *, title: str, name: str = "unlearned", path: Target = None
) -> Figure:
    """One panel per example: its confidence f over unlearned and over retrained networks.

    Args:
        samples: (caption, f of the unlearned networks (N,), of the retrained ones (M,)), and if
            wanted an attack's threshold, drawn dotted; captions may be equal.
        name: of the method, which gives the colour.
    """
    figure, axes = style.panels(len(samples), 4, (2.5, 2.1))
    for axis, (caption, unlearned, retrained, *thresholds) in zip(axes, samples, strict=True):
        edges = np.histogram_bin_edges(np.concatenate([unlearned, retrained]), 24)
        _outline(axis, unlearned, edges, label=name, color=style.method_style(name)[0])
        _outline(axis, retrained, edges, label="retrained", color=GREY, linestyle="--")
        for threshold in thresholds:
            axis.axvline(threshold, color=GREY, linestyle=":")
        axis.set_title(caption)
    return _finish(figure, "f, logit of the label's probability", "networks (%)", title, path)


def _outline(axis: Axes, values: np.ndarray, edges: np.ndarray, **look: str) -> None:
    """A histogram in per cent, as a line."""
    weights = np.full(len(values), 100 / len(values))
    axis.hist(values, edges, weights=weights, histtype="step", linewidth=1.8, **look)


def _finish(figure: Figure, xlabel: str, ylabel: str, title: str, path: Target) -> Figure:
    figure.supxlabel(xlabel, size=10)
    figure.supylabel(ylabel, size=10)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside right center")
    return style.finish(figure, title, path)


@styled
def example_images(
    images: Images,
    *,
    count: int = 12,
    captions: Sequence[str] | None = None,
    title: str = "",
    path: Target = None,
) -> Figure:
    """Rows of up to twelve images, the first ``count``, each under its caption: its class."""
    count = min(count, len(images))
    captions = captions or [images.classes[label] for label in images.labels[:count]]
    if len(captions) != count:
        raise ValueError(f"give one caption for each of the {count} images, not {len(captions)}")
    figure, axes = style.panels(count, 12, (0.85, 1.1))
    for axis, pixels, caption in zip(axes, images.images[:count], captions, strict=True):
        shown = pixels.permute(1, 2, 0).squeeze(-1).cpu().numpy()
        axis.imshow(shown, cmap="gray_r", vmin=0, vmax=255)
        axis.set_title(textwrap.fill(caption, 12), fontsize=8)
        axis.axis("off")
    return style.finish(figure, title, path)
