"""What can be read from frozen features: a forgotten class, or that an image was trained on."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from ..core.checks import check_seed, check_whole, class_list
from ..metrics.arrays import Array
from .arrays import check_features, check_labels, check_same

MOST_STEPS = 2000  # of L-BFGS


def class_probe(
    features: Array,
    labels: Array,
    test_features: Array,
    test_labels: Array,
    *,
    classes: int | Iterable[int] | None = None,
    probe: str = "linear",
    neighbours: int = 5,
) -> float:
    """Is a class still readable from the features? Accuracy of a probe on unseen images of it.

    The probe is a fresh classifier, trained on ``features`` of labelled images of all classes, the
    forgotten one included, and asked about images that neither it nor the network has trained on.
    Every network gets its own probe, on the same images. What is compared is

        the fraction of the test images of ``classes`` that the probe labels right,

    of the unlearned network against the *retrained* one, which is usually far above chance: a
    network that never saw a 5 has features in which a 5 can be told from others. Only what is above
    the retrained network's value was left over. The original's value is the other end. Where these
    two agree, the probe tells nothing: of a CNN on 2,000 images of MNIST, the linear probe reads
    class 5 from the penultimate features with 92 % (original) and 93 % (retrained), five nearest
    neighbours with 92 and 83 %.

    In [0, 1]. Chance, from features that hold nothing, is about the share of ``classes`` among the
    training labels: 1/K for one class of K that are equally frequent.

    Source: Alain and Bengio, Understanding intermediate layers using linear classifier probes,
    2016, arXiv 1610.01644. Features are standardised here, by the training set's mean and
    deviation, and the linear probe has scikit-learn's L2 penalty (C = 1).

    >>> x, y = np.repeat(np.eye(3), 9, axis=0), np.repeat([0, 1, 2], 9)
    >>> class_probe(x, y, x, y, classes=2)
    1.0

    Args:
        features, labels: of the images that the probe trains on, (N, D) and (N,).
        test_features, test_labels: of unseen images, (T, D) and (T,).
        classes: the forgotten ones, on whose test images the accuracy is taken; by default all.
        probe: "linear" (logistic regression) or "knn" (the nearest neighbours' majority).
        neighbours: how many of them.

    Raises:
        ValueError: if features are not finite or do not fit, a class has no image to train or test
            on, or there is no such probe.
    """
    x, test_x = check_features(features), check_features(test_features, "test_features")
    y = check_labels(labels, len(x))
    test_y = check_labels(test_labels, len(test_x), "test_labels")
    check_same(x, test_x, 1, "a probe reads the features of one layer")
    classes = np.unique(test_y).tolist() if classes is None else class_list(classes)
    for name, there in {"labels": y, "test_labels": test_y}.items():
        if missing := sorted(set(classes) - set(there.tolist())):
            raise ValueError(f"{name} hold no image of class {missing[0]}: add some")
    if len(np.unique(y)) < 2:
        raise ValueError("a probe needs images of two classes or more to train on")
    asked = np.isin(test_y, classes)
    with threadpool_limits(1, user_api="blas"):
        fitted = _probe(probe, neighbours, len(x)).fit(x, y)
        return float(fitted.score(test_x[asked], test_y[asked]))


def membership_probe(
    forget_features: Array,
    unseen_features: Array,
    *,
    probe: str = "linear",
    neighbours: int = 5,
    folds: int = 5,
    seed: int = 0,
) -> float:
    """Can forgotten images be told from unseen ones by their features? Cross-validated accuracy.

    The larger side is subsampled to the size n of the smaller one. The probe tells the two apart;
    its accuracy is the mean over stratified folds, each held out once. If a class is forgotten,
    unseen images must be of the same class, since others differ in more than membership.

    In [0, 1]. Chance is 0.5, as for the retrained network, which has seen neither side; its values
    scatter by about 0.5 / sqrt(2 n). Below 0.5 is chance too.

    The features tell at least as much as the loss that ``metrics.membership_attack`` reads, but a
    probe has to find it among D numbers: with few images and many features it may find less.

    Args:
        forget_features: of the forgotten images, (F, D).
        unseen_features: of images that no network was trained on, (U, D).
        probe, neighbours: as ``class_probe``.
        folds: parts of the cross-validation.
        seed: random seed for the subsample and the folds.

    Raises:
        ValueError: if features are not finite or do not fit, a side has fewer images than there are
            folds, or there is no such probe.
    """
    forget = check_features(forget_features, "forget_features")
    unseen = check_features(unseen_features, "unseen_features")
    check_same(forget, unseen, 1, "a probe reads the features of one layer")
    folds, seed = check_whole("folds", folds, least=2), check_seed(seed)
    count = min(len(forget), len(unseen))
    if count < folds:
        raise ValueError(f"{count} images of a side cannot be cut into {folds} folds: give more")
    generator = np.random.default_rng(seed)
    sides = [side[generator.permutation(len(side))[:count]] for side in (forget, unseen)]
    members = np.repeat([1, 0], count)
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed)
    attack = _probe(probe, neighbours, 2 * (count - math.ceil(count / folds)))
    with threadpool_limits(1, user_api="blas"):
        scores = cross_val_score(attack, np.concatenate(sides), members, cv=parts)
    return float(scores.mean())


def _probe(kind: str, neighbours: int, count: int) -> Pipeline:
    """A classifier of standardised features, not yet fitted."""
    if kind == "linear":
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=MOST_STEPS))
    if kind != "knn":
        raise ValueError(f"there is no probe {kind!r}: choose linear or knn")
    if check_whole("neighbours", neighbours, least=1) > count:
        raise ValueError(
            f"there are {count} images to train on, fewer than {neighbours} neighbours"
        )
    return make_pipeline(StandardScaler(), KNeighborsClassifier(neighbours))
