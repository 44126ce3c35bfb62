"""Maps of features that lie in a plane show the plane; UMAP is refused where it is missing."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from unlearning.probing import feature_map


def plane(seed=0):
    """60 points of a plane in 5 dimensions, wider in one direction, and their places in it."""
    places = np.random.default_rng(seed).normal(size=(60, 2)) * [5, 1]
    places -= places.mean(0)
    axes = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0][:2]
    return places @ axes + 3, places


def apart(points):
    return np.linalg.norm(points[:, None] - points[None], axis=2)


def test_points_of_a_plane_keep_their_distances_and_all_variance():
    x, places = plane()
    found = feature_map({"one": x, "other": 2 * x})
    np.testing.assert_allclose(apart(found.points["one"]), apart(places), atol=1e-9)
    np.testing.assert_allclose(apart(found.points["other"]), 2 * apart(places), atol=1e-9)
    assert found.points["one"].var(0)[0] > 9 * found.points["one"].var(0)[1]
    assert found.shares == pytest.approx({"one": 1, "other": 1}) and found.fitted_on == "each"


def test_on_the_axes_of_one_network_a_shift_is_seen_and_other_directions_are_not():
    x = plane()[0]
    off = np.linalg.svd(x - x.mean(0))[2][4]  # across the plane
    networks = {"original": x, "moved": x + np.eye(5)[0], "off": x + 7 * off}
    found = feature_map(networks, fit_on="original")
    moved = found.points["moved"] - found.points["original"]
    assert np.ptp(moved, axis=0) == pytest.approx(0, abs=1e-9) and np.linalg.norm(moved[0]) > 0.1
    np.testing.assert_allclose(found.points["off"], found.points["original"], atol=1e-9)
    alone = feature_map({"moved": networks["moved"]}).points["moved"]
    assert alone.mean(0) == pytest.approx(0, abs=1e-9)


def test_the_share_is_what_the_two_axes_have():
    x = np.random.default_rng(0).normal(size=(4000, 4)) * [4, 2, 1, 1]
    assert feature_map({"x": x}).shares["x"] == pytest.approx(20 / 22, abs=0.01)


def test_umap_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ValueError, match="pip install umap-learn, or choose pca"):
        feature_map({"x": plane()[0]}, method="umap")


def test_umap_is_fitted_under_its_seed_where_it_is_installed(monkeypatch):
    """A stand-in, for the real one compiles for a minute: a map of other axes for each seed."""

    class UMAP:
        def __init__(self, *, random_state, n_jobs):
            self.seed = random_state

        def fit(self, x):
            self.shift = self.seed + x[0, 0]
            return self

        def transform(self, x):
            return x[:, :2] - self.shift

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=UMAP))
    x = plane()[0]
    found = feature_map({"a": x, "b": x + 1}, fit_on="a", method="umap", seed=3)
    assert found.shares == {} and found.fitted_on == "a"
    np.testing.assert_allclose(found.points["b"], x[:, :2] + 1 - 3 - x[0, 0])


def test_what_has_no_map_is_refused():
    x = plane()[0]
    for features, options, words in (
        (x, {}, "features must be a dict"),
        ({}, {}, "features must be a dict"),
        ({"a": x}, {"fit_on": "b"}, "no network 'b': fit on each, or on a"),
        ({"a": x, "b": x[:9]}, {}, "maps are of the same images"),
        ({"a": x, "b": x[:, :3]}, {"fit_on": "a"}, "one map for all"),
        ({"a": x[:, :1]}, {}, "two images and two features"),
        ({"a": x * 0}, {}, "a has the same features for all images"),
        ({"a": x}, {"method": "tsne"}, "choose pca or umap"),
    ):
        with pytest.raises(ValueError, match=words):
            feature_map(features, **options)
