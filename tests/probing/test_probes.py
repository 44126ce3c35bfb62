"""Probes on features whose answer is known: held linearly, in a ring, or not at all."""

import numpy as np
import pytest
import torch

from unlearning.probing import class_probe, membership_probe

DRAW = np.random.default_rng(0)


def classes(count, held=True, width=4, per_class=60):
    """Features (N, 6) of labels (N,): one-hot plus a little noise, or noise alone."""
    labels = np.repeat(np.arange(count), per_class)
    noise = np.random.default_rng(per_class).normal(size=(len(labels), width + 2))
    return (
        np.pad(np.eye(count), ((0, 0), (0, width + 2 - count)))[labels] * 9 * held + noise,
        labels,
    )


@pytest.mark.parametrize("probe", ["linear", "knn"])
def test_a_class_that_is_held_linearly_is_read_and_noise_gives_chance(probe):
    train, test = classes(4), classes(4, per_class=200)
    assert class_probe(*train, *test, classes=2, probe=probe) == 1
    noise = classes(4, held=False), classes(4, held=False, per_class=200)
    assert class_probe(*noise[0], *noise[1], probe=probe) == pytest.approx(1 / 4, abs=0.05)
    half = classes(4), (noise[1][0], noise[1][1])  # trained on what is not there in the test
    assert class_probe(*half[0], *half[1], probe=probe) < 0.4


def test_accuracy_is_that_of_the_classes_asked_for():
    """Classes 0 and 1 look alike, and one has twice as many images to train on."""
    x, y = np.eye(3)[[0, 0, 0, 2, 2, 2]], np.array([0, 0, 1, 2, 2, 2])
    test = np.eye(3)[[0, 0, 2]], np.array([0, 1, 2])
    for probe in ("linear", "knn"):
        options = {"probe": probe, "neighbours": 3}
        found = [class_probe(x, y, *test, classes=label, **options) for label in (0, 1, 2, [0, 1])]
        assert found == [1, 0, 1, 0.5]
        assert class_probe(x, y, *test, **options) == pytest.approx(2 / 3)


def test_a_ring_is_read_by_neighbours_and_not_by_a_line():
    angles = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], 1)
    x, y = np.concatenate([circle, 4 * circle]), np.repeat([0, 1], 100)
    parts = x[::2], y[::2], x[1::2], y[1::2]
    assert class_probe(*parts, probe="knn") == 1
    assert class_probe(*parts) < 0.7


def test_the_scale_of_a_feature_does_not_matter():
    (x, y), (test, labels) = classes(3), classes(3, per_class=50)
    scale = np.array([1e-6, 1, 1e6, 1, 1e-3, 1e3])
    for probe in ("linear", "knn"):
        found = class_probe(x * scale + 5, y, test * scale + 5, labels, probe=probe)
        assert found == class_probe(x, y, test, labels, probe=probe)


@pytest.mark.parametrize("probe", ["linear", "knn"])
def test_members_that_differ_are_told_and_those_that_do_not_are_guessed(probe):
    draw = np.random.default_rng(1)
    forget, unseen = draw.normal(size=(300, 5)), draw.normal(size=(900, 5))
    apart = forget + 9 * np.eye(5)[0]
    assert membership_probe(apart, unseen, probe=probe) == 1
    assert membership_probe(forget, unseen, probe=probe) == pytest.approx(0.5, abs=0.06)
    first = membership_probe(forget + 0.5, unseen, probe=probe, seed=3)
    assert 0.5 < first < 1
    assert membership_probe(torch.tensor(forget + 0.5), unseen, probe=probe, seed=3) == first
    seeds = {membership_probe(forget + 0.5, unseen, probe=probe, seed=seed) for seed in range(4)}
    assert len(seeds) > 1


def test_the_side_with_more_images_has_no_advantage():
    """Were sides not balanced, calling everything unseen would be right 9 times of 10."""
    same = np.zeros((20, 2)), np.zeros((180, 2))
    assert membership_probe(*same) == 0.5


def test_each_image_is_held_out_once():
    """Pairs of one forgotten and one unseen image: the nearest neighbour is of the other side."""
    places = np.arange(40.0)[:, None] * 10
    assert membership_probe(places, places + 1, probe="knn", neighbours=1, folds=40) < 0.2
    assert membership_probe(places, places + 1000, probe="knn", neighbours=1, folds=40) == 1


def test_what_does_not_fit_is_refused():
    x, y = classes(3)
    for arguments, words in (
        ((x, y, x[:, 1:], y), "one layer"),
        ((x, y, x[:60], y[:60] + 7), "labels hold no image of class 7"),
        ((x[:60], y[:60], x[:60], y[:60]), "two classes or more"),
    ):
        with pytest.raises(ValueError, match=words):
            class_probe(*arguments)
    with pytest.raises(ValueError, match="test_labels hold no image of class 3"):
        class_probe(x, np.where(y == 2, 3, y), x[:60], y[:60], classes=3)
    for options, words in (
        ({"probe": "svm"}, "choose linear or knn"),
        ({"probe": "knn", "neighbours": 200}, "fewer than 200 neighbours"),
        ({"folds": 61}, "60 images of a side cannot be cut into 61 folds"),
    ):
        with pytest.raises(ValueError, match=words):
            membership_probe(x[:60], x[60:], **options)
