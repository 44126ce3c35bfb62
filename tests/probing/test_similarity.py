"""Similarities whose value is known by hand, or from a slow version with N x N matrices."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from unlearning import build
from unlearning.probing import class_mean_angles, linear_cka, weight_distances


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def slow_cka(x, y):
    """HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), with H = I - 1/N and the N x N products."""
    centre = np.eye(len(x)) - 1 / len(x)
    k, l = x @ x.T, y @ y.T  # noqa: E741
    hsic = [np.trace(a @ centre @ b @ centre) for a, b in ((k, l), (k, k), (l, l))]
    return hsic[0] / math.sqrt(hsic[1] * hsic[2])


@pytest.mark.parametrize("shapes", [((50, 4), (50, 3)), ((10, 40), (10, 30)), ((20, 3), (20, 90))])
def test_cka_is_that_of_the_slow_version(shapes):
    x, y = noise(*shapes[0]) + 3, noise(*shapes[1], seed=1)
    y[:, :2] += x[:, :2]
    assert linear_cka(x, y) == pytest.approx(slow_cka(x, y))
    assert linear_cka(y, torch.tensor(x)) == pytest.approx(linear_cka(x, y))


def test_cka_knows_no_rotation_scale_or_shift_but_other_linear_maps():
    x = noise(300, 6) * np.arange(1, 7)
    rotation = np.linalg.qr(noise(6, 6, seed=1))[0]
    for same in (x, x @ rotation, 1e-6 * x, 1e6 * x + 9, -x[:, ::-1]):
        assert linear_cka(x, same) == pytest.approx(1)
    assert linear_cka(x, x * [1, 1, 1, 1, 1, 5]) < 0.95


@pytest.mark.parametrize("count", [50, 5000])
def test_independent_noise_is_near_0_for_many_images_only(count):
    expected = math.sqrt(20 * 30 / (count + 20) / (count + 30))
    found = linear_cka(noise(count, 20), noise(count, 30, seed=1))
    assert found == pytest.approx(expected, rel=0.15)


def test_cka_refuses_what_it_cannot_compare():
    with pytest.raises(ValueError, match="the same images, but the features have shapes"):
        linear_cka(noise(5, 2), noise(6, 2))
    with pytest.raises(ValueError, match="same features"):
        linear_cka(noise(5, 2), np.full((5, 2), 0.1))


def test_distances_of_a_network_to_itself_and_to_scaled_copies():
    torch.manual_seed(0)
    model, scaled, turned = (build("cnn", 4, 1, 8) for _ in range(3))
    for other, factor in ((scaled, 1.5), (turned, -1)):
        other.load_state_dict({k: factor * v for k, v in model.state_dict().items()})
    for other, distance, cosine in ((model, 0, 1), (scaled, 0.5, 1), (turned, 2, -1)):
        found = weight_distances(model, other)
        assert list(found.index) == ["0", "3", "6", "11", "all weights"]
        np.testing.assert_allclose(found["distance"], distance, atol=1e-6)
        np.testing.assert_allclose(found["cosine"], cosine, atol=1e-6)
    found = weight_distances(model, nn.DataParallel(scaled))
    np.testing.assert_allclose(found["distance"], 0.5, atol=1e-6)


def test_distances_by_hand_with_a_bias_and_a_layer_of_zeros():
    one, other = (nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)) for _ in range(2))
    values = {one: ([3.0, 4.0], [0.0, 0.0]), other: ([4.0, -3.0], [0.0, 2.0])}
    for model, layers in values.items():
        for layer, (weight, bias) in zip(model, layers, strict=True):
            nn.init.constant_(layer.weight, weight), nn.init.constant_(layer.bias, bias)
    found = weight_distances(one, other)
    assert found["distance"].tolist() == pytest.approx([math.sqrt(2), math.inf, math.sqrt(54) / 5])
    assert found["cosine"].tolist() == pytest.approx([0, math.nan, 0], nan_ok=True)
    assert weight_distances(one, one)["distance"].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match=r"differ in 0\.weight"):
        weight_distances(one, nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1)))


def test_parameters_of_the_network_itself_have_a_row():
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    other.load_state_dict({name: 2 * values for name, values in one.state_dict().items()})
    found = weight_distances(one, other)
    assert list(found.index) == ["in no layer", "all weights"]
    assert found["distance"].tolist() == pytest.approx([1, 1])


def test_angles_between_class_means_by_hand():
    x = np.array([[2.0, 1.0], [2.0, -1.0], [0.0, 5.0], [3.0, 3.0]])
    found = class_mean_angles(x, [0, 0, 1, 7], centred=False)
    assert list(found.index) == list(found.columns) == [0, 1, 7]
    np.testing.assert_allclose(found, [[0, 90, 45], [90, 0, 45], [45, 45, 0]], atol=1e-5)
    two = class_mean_angles(x[:3], [0, 0, 1])
    np.testing.assert_allclose(two, [[0, 180], [180, 0]], atol=1e-5)


def test_a_collapsed_network_has_the_angles_of_a_simplex_whatever_the_class_sizes():
    labels = np.repeat(np.arange(10), np.arange(1, 11))
    found = class_mean_angles(np.eye(10)[labels] + 3, labels).to_numpy()
    assert found[~np.eye(10, dtype=bool)] == pytest.approx(math.degrees(math.acos(-1 / 9)))
    merged = class_mean_angles(np.eye(10)[np.where(labels == 5, 3, labels)], labels)
    assert merged.loc[5, 3] == pytest.approx(0, abs=1e-5) and merged.loc[5, 4] > 90


def test_a_mean_at_the_centre_has_no_angle_and_one_class_is_refused():
    found = class_mean_angles([[-1.0, 0], [1, 0], [0, 0]], [0, 1, 2])
    assert found.loc[2].isna().all() and found.loc[0, 1] == pytest.approx(180)
    with pytest.raises(ValueError, match="two classes or more"):
        class_mean_angles(noise(3, 2), [1, 1, 1])
