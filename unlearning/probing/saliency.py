"""Which pixels speak for a class? Saliency of each image, by captum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from ..core.batches import fixed_order, read_pairs
from ..core.checks import check_labels, check_logits, check_module, check_whole, kind_of
from ..core.devices import (
    device_of,
    dtype_of,
    on_device,
    performance_settings,
    use_channels_last,
    with_gradients,
)
from ..core.layers import eval_mode, unwrapped
from ..core.own_sets import batches_of
from ..measurement import Readable
from ..metrics.arrays import Array, all_finite, as_floats

METHODS = ("input x gradient", "integrated gradients")
AT_ONCE = 100  # points of the integral and images, if not more of these are in a batch


def saliency(
    model: nn.Module,
    data: Readable,
    *,
    method: str = "input x gradient",
    label: int | None = None,
    steps: int = 50,
) -> np.ndarray:
    """How much each pixel adds to a logit, (N, H, W), summed over channels, signed.

    - "input x gradient": x * d f_y(x) / dx (Shrikumar et al. 2016, arXiv 1605.01713).
    - "integrated gradients": x * the mean of d f_y / dx along the straight line from 0 to x
      (Sundararajan et al. 2017, arXiv 1703.01365). Its pixels sum to f_y(x) - f_y(0).

    x is the normalised image, so 0 is an image of the mean colour: a black pixel of MNIST is not 0,
    and gets a share. Values are on the scale of the logit; ``plots.saliency_grid`` alone scales
    each image by its own. Both look like the image's edges even of an untrained network (Adebayo
    et al. 2018, arXiv 1810.03292): compare with the retrained network before you read anything
    into a picture.

    The network runs in eval mode and is not changed; all random state is left as it was.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K).
        data: images and labels, as ``measure`` takes them.
        method: "input x gradient" or "integrated gradients".
        label: the class whose logit is explained; by default each image's own label.
        steps: points of the integral.

    Raises:
        ValueError: if there is no such method or class, images are not (B, C, H, W), or the network
            returns no logits.
        ImportError: if captum is not installed.
    """
    check_module(model)
    if method not in METHODS:
        raise ValueError(f"there is no saliency {method!r}: choose {' or '.join(METHODS)}")
    steps, batches, device = (
        check_whole("steps", steps, least=1),
        batches_of(data),
        device_of(model),
    )
    label = None if label is None else check_whole("label", label)
    last, dtype, found = use_channels_last(model), dtype_of(model), []
    speed, order = performance_settings(model), fixed_order(batches, device)
    with eval_mode(model), speed, order, with_gradients():
        for images, labels in read_pairs(batches):
            images, labels = on_device([images, labels], device, last, dtype)
            labels = labels if label is None else torch.full_like(labels, label)
            values = _attributions(unwrapped(model)[0], images, labels, method, steps)
            found.append(values.sum(1).double().cpu())
    return torch.cat(found).numpy()


def _attributions(
    network: nn.Module, images: Tensor, labels: Tensor, method: str, steps: int
) -> Tensor:
    """Shares of the pixels in the labels' logits, (B, C, H, W)."""
    try:  # here, for it takes a second, and Colab has none
        from captum.attr import InputXGradient, IntegratedGradients
    except ImportError as error:
        raise ImportError("saliency needs the package captum: pip install captum") from error

    def logits(inputs: Tensor) -> Tensor:
        found = check_logits(network(inputs.clone()))  # a copy, which may be changed in place
        check_labels(labels, found.shape[-1])
        return found

    if images.ndim != 4:
        raise ValueError(f"images must be (B, C, H, W) to have pixels, not {tuple(images.shape)}")
    inputs = images.clone().requires_grad_()
    if method == "input x gradient":
        return InputXGradient(logits).attribute(inputs, target=labels).detach()
    options = {"n_steps": steps, "internal_batch_size": max(len(images), AT_ONCE)}
    return IntegratedGradients(logits).attribute(inputs, target=labels, **options).detach()


def saliency_agreement(maps_a: Array, maps_b: Array, *, by: str = "cosine") -> np.ndarray:
    """How far two networks look at the same pixels of each image, (N,), in [-1, 1].

    "cosine" is that of the two maps, and is mostly about their largest pixels; "rank" is Spearman's
    correlation of the pixels' values, ties at their mean rank. 1: the same pixels speak for the
    class; 0: unrelated. NaN where a map is 0, or constant, everywhere.

    Unrelated networks agree too, since both maps follow the image's edges: the yardstick is the
    agreement of the original, or of a second retrained network, with the retrained one.

    Args:
        maps_a, maps_b: of two networks on the same images, (N, H, W), as ``saliency`` gives them.
        by: "cosine" or "rank".

    Raises:
        ValueError: if the maps differ in shape or are not finite, or there is no such agreement.
    """
    a, b = (_check_maps(maps, f"maps_{n}") for maps, n in ((maps_a, "a"), (maps_b, "b")))
    if a.shape != b.shape:
        raise ValueError(f"both maps must be of the same images, not {a.shape} and {b.shape}")
    if by not in ("cosine", "rank"):
        raise ValueError(f"there is no agreement by {by!r}: choose cosine or rank")
    a, b = (maps.reshape(len(maps), -1) for maps in (a, b))
    if by == "rank":
        a, b = (rankdata(maps, axis=1) - (maps.shape[1] + 1) / 2 for maps in (a, b))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    norms[norms == 0] = np.nan
    return (a * b).sum(1) / norms


def mean_agreement(
    maps: Mapping[str, Array], goals: Iterable[str], *, by: str = "cosine"
) -> pd.DataFrame:
    """Agreement of each network's maps with those of some of them, mean over the images.

    Args:
        maps: network -> its maps of the same images, (N, H, W), as ``saliency`` gives them.
        goals: names of the networks that all are compared with.
        by: as ``saliency_agreement``.

    Returns:
        One row per network, one column per goal, without the images whose agreement is NaN.

    Raises:
        ValueError: if a goal is not among the maps, or ``saliency_agreement`` raises one.
    """
    goals = list(goals)
    if missing := [goal for goal in goals if goal not in maps]:
        raise ValueError(f"there are no maps of {missing[0]!r}, only of {', '.join(maps)}")
    rows = {
        name: {goal: pd.Series(saliency_agreement(own, maps[goal], by=by)).mean() for goal in goals}
        for name, own in maps.items()
    }
    return pd.DataFrame.from_dict(rows, "index", columns=goals)


def _check_maps(maps: Array, name: str) -> np.ndarray:
    maps = as_floats(maps, name)
    if maps.ndim != 3 or 0 in maps.shape or not all_finite(maps):
        raise ValueError(f"{name} must be finite numbers of shape (N, H, W), not {kind_of(maps)}")
    return maps
