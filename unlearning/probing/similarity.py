"""How alike are two networks: their features, their weights, the directions of their classes."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..core.checks import check_module
from ..core.layers import unwrapped, weight_layers
from ..metrics.arrays import Array
from .arrays import check_features, check_labels, check_same

ALL, OWN = "all weights", "in no layer"


def linear_cka(features_a: Array, features_b: Array) -> float:
    """Linear centred kernel alignment of two networks' features of the same images.

    With X (N, D) and Y (N, E), columns centred,

        CKA = ||Y^T X||_F^2 / (||X^T X||_F ||Y^T Y||_F).

    In [0, 1]: 1 for features that are equal up to a rotation, a reflection and one scale for all.
    Not invariant to other linear maps, so that a dead channel or a larger one counts. Independent
    Gaussian noise gives about sqrt(D E) / sqrt((N + D) (N + E)), not 0: take many more images than
    features. Memory is that of the smaller of the D x E and N x N products.

    Weakness: it is mostly about the few directions with the largest variance. Changes that leave
    what a network does untouched, such as moving a subset of the images far away, take CKA down,
    and it can be driven up or down at will (Davari et al. 2022, arXiv 2210.16156); removing
    directions of small variance on which the accuracy depends hardly moves it (Ding et al.,
    Grounding Representation Similarity with Statistical Testing, NeurIPS 2021, arXiv 2108.01661).
    So high CKA to the retrained network is no proof of forgetting, and low CKA none of the
    opposite: read it beside a probe, and beside CKA of two retrained networks.

    Source: Kornblith et al., Similarity of Neural Network Representations Revisited, ICML 2019,
    arXiv 1905.00414, section 3.

    >>> x = np.random.default_rng(0).normal(size=(100, 3))
    >>> round(linear_cka(x, -2 * x[:, ::-1]), 6)
    1.0

    Args:
        features_a, features_b: of the same images in the same order, (N, D) and (N, E).

    Raises:
        ValueError: if they are not of equally many images, not finite, or equal for all images.
    """
    x, y = (check_features(f, f"features_{n}") for f, n in ((features_a, "a"), (features_b, "b")))
    check_same(x, y, 0, "CKA compares features of the same images")
    x, y = (_centred(values) for values in (x, y))
    return _overlap(x, y) / math.sqrt(_overlap(x, x) * _overlap(y, y))


def _centred(x: np.ndarray) -> np.ndarray:
    """Columns with mean 0, all divided by one number, which keeps products in range."""
    centred = x - x.mean(0)
    largest = np.abs(centred).max()
    if largest <= 1e-12 * np.abs(x).max():
        raise ValueError("all images have the same features, which have no similarity to others")
    return centred / largest


def _overlap(x: np.ndarray, y: np.ndarray) -> float:
    """||Y^T X||_F^2, which is sum(X X^T * Y Y^T): by the smaller of the two products."""
    if x.shape[1] * y.shape[1] <= len(x) ** 2:
        return float(np.square(y.T @ x).sum())
    return float(((x @ x.T) * (y @ y.T)).sum())


def weight_distances(model: nn.Module, other: nn.Module) -> pd.DataFrame:
    """How far apart two networks of one architecture are, layer by layer.

    One row per weight layer, its weights and biases as one vector w, and one for all parameters of
    the network, normalisations included. Running statistics are no weights.

    - "distance": ||w_other - w_model|| / ||w_model||, from 0, relative L2.
    - "cosine": of w_model and w_other, in [-1, 1]; NaN if one of them is 0.

    From the original, a short distance means that little was changed, and predicts that the
    forgotten comes back (arXiv 2505.22310). To the retrained network it says little: networks of
    other seeds are far apart although they do the same, since their units come in another order
    (Entezari et al. 2022, arXiv 2110.06296).

    Args:
        model: the one that distances are relative to, usually the original.
        other: the unlearned network.

    Raises:
        ValueError: if their parameters differ in name or shape.
    """
    pair = [_parameters(network) for network in (model, other)]
    shapes = [{name: tuple(w.shape) for name, w in own.items()} for own in pair]
    if shapes[0] != shapes[1]:
        differing = sorted(dict(shapes[0].items() ^ shapes[1].items()))
        raise ValueError(
            f"the two networks differ in {differing[0]}: distances need one architecture"
        )
    layers = weight_layers(unwrapped(model)[0])
    groups = {name: _names_within(name, layer) for name, layer in layers}
    if "" in groups:  # parameters of the network itself, as the class token of a transformer
        groups[OWN] = groups.pop("")
    groups[ALL] = list(pair[0])
    rows = {name: _compared(*(_flat(own, names) for own in pair)) for name, names in groups.items()}
    found = pd.DataFrame.from_dict(rows, orient="index", columns=["distance", "cosine"])
    return found.rename_axis("layer")


def _parameters(model: nn.Module) -> dict[str, Tensor]:
    check_module(model)
    return dict(unwrapped(model)[0].named_parameters(remove_duplicate=False))


def _names_within(name: str, layer: nn.Module) -> list[str]:
    return [f"{name}.{own}".lstrip(".") for own, _ in layer.named_parameters(recurse=False)]


def _flat(parameters: dict[str, Tensor], names: list[str]) -> Tensor:
    return torch.cat([parameters[name].detach().cpu().double().flatten() for name in names])


def _compared(w: Tensor, other: Tensor) -> tuple[float, float]:
    apart, norm = float((other - w).norm()), float(w.norm())
    distance = apart / norm if norm else (math.inf if apart else 0.0)
    product = norm * float(other.norm())
    return distance, float(w @ other) / product if product else math.nan


def class_mean_angles(features: Array, labels: Array, *, centred: bool = True) -> pd.DataFrame:
    """Angles between the classes' mean features, in degrees, (K, K), of the classes that occur.

    Centred by the mean of the class means, K classes of a network trained to the end are as far
    apart as they can be, at arccos(-1 / (K - 1)): 96.4 degrees for ten (neural collapse, Papyan et
    al. 2020, arXiv 2008.08186). A class that a network does not tell from another stands at a
    small angle to it. With ``centred=False``, angles are from the origin; of features that are not
    negative, as after a ReLU, at most 90.

    Angles are within one network; compare the tables of two. NaN for a class whose mean is the
    centre itself.

    Args:
        features: (N, D).
        labels: whole numbers, (N,).
        centred: whether the mean of the class means is subtracted.

    Raises:
        ValueError: if features are not finite, labels do not fit, or there is but one class.
    """
    x = check_features(features)
    y = check_labels(labels, len(x))
    classes = np.unique(y)
    if len(classes) < 2:
        raise ValueError("angles are between two classes or more, but the labels name one")
    means = np.stack([x[y == label].mean(0) for label in classes])
    scale = np.abs(means).max()
    means = means - means.mean(0) if centred else means
    norms = np.linalg.norm(means, axis=1)
    norms[norms <= 1e-12 * scale] = math.nan
    cosines = (means @ means.T) / np.outer(norms, norms)
    names = pd.Index(classes, name="class")
    return pd.DataFrame(np.degrees(np.arccos(np.clip(cosines, -1, 1))), names, names)
