"""Features in two dimensions, to look at: PCA, or UMAP where it is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA

from ..core.checks import check_seed
from ..metrics.arrays import Array
from .arrays import check_features, check_same


class FeatureMap(NamedTuple):
    """Features of some networks in two dimensions; ``plots.feature_maps`` draws them."""

    points: dict[str, np.ndarray]  # network -> (N, 2)
    shares: dict[str, float]  # network -> fraction of its features' variance on the map; of PCA
    fitted_on: str  # one network's name, or "each"


def feature_map(
    features: Mapping[str, Array], *, fit_on: str = "each", method: str = "pca", seed: int = 0
) -> FeatureMap:
    """Map the features (N, D) of each network to (N, 2).

    With ``fit_on="each"`` every network has axes of its own: shapes can be compared, places cannot,
    nor can left and right, which are arbitrary. With the name of one network, all are drawn on
    the axes of that one, so that a class which moved is seen to move. That needs features that
    mean the same in all of them, as in networks that were made from one another. A retrained
    network's features are other ones: on the original's axes its map is meaningless.

    "pca": the two directions of the largest variance (scikit-learn). A class that seems to lie
    within another may be apart in a direction that is not drawn; ``shares`` says how much is.
    "umap": neighbours stay neighbours (McInnes et al. 2018, arXiv 1802.03426). Distances between
    clusters and their sizes mean nothing. It needs the package umap-learn.

    A map is to look at, and proves nothing: ``class_probe`` counts what can be told apart.

    Args:
        features: network -> its features of the same images, as ``layer_features`` gives them for
            one layer.
        fit_on: name of the network whose features the map is fitted on, or "each".
        method: "pca" or "umap".
        seed: random seed for UMAP; PCA has none.

    Raises:
        ValueError: if there are no networks or none of that name, features do not fit, there is no
            such method, or umap-learn is not installed.
    """
    if not isinstance(features, Mapping) or not features:
        raise ValueError("features must be a dict, name of a network -> its features (N, D)")
    arrays = {name: check_features(values, name) for name, values in features.items()}
    if fit_on != "each" and fit_on not in arrays:
        raise ValueError(f"there is no network {fit_on!r}: fit on each, or on {', '.join(arrays)}")
    first = next(iter(arrays.values()))
    for name, values in arrays.items():
        if not np.ptp(values, axis=0).any():
            raise ValueError(f"{name} has the same features for all images: there is no map of it")
        check_same(first, values, 0, "maps are of the same images")
        if fit_on != "each":
            check_same(first, values, 1, "one map for all needs one layer of one architecture")
    if min(first.shape) < 2:
        raise ValueError(f"a map needs two images and two features or more, not {first.shape}")
    make, points = _maker(method, check_seed(seed)), {}
    shared = None if fit_on == "each" else make().fit(arrays[fit_on])
    for name, values in arrays.items():
        own = make().fit(values) if shared is None else shared
        points[name] = own.transform(values)
    shares = {name: _share(arrays[name], points[name]) for name in points if method == "pca"}
    return FeatureMap(points, shares, fit_on)


def _maker(method: str, seed: int) -> Callable:
    """What makes a map that is not yet fitted."""
    if method == "pca":
        return lambda: PCA(2, svd_solver="full")
    if method != "umap":
        raise ValueError(f"there is no map {method!r}: choose pca or umap")
    try:
        from umap import UMAP
    except ImportError as error:
        raise ValueError("UMAP is not installed: pip install umap-learn, or choose pca") from error
    return lambda: UMAP(random_state=seed, n_jobs=1)


def _share(features: np.ndarray, points: np.ndarray) -> float:
    """Fraction of the features' variance that their places on the map have, in [0, 1]."""
    return float(points.var(0).sum() / features.var(0).sum())
