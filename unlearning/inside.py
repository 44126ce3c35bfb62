"""What is left in a network of what it no longer answers: the measurements of notebook 11."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from itertools import chain

import numpy as np
import pandas as pd
import torch
from torch import nn

from .core.images import Images
from .data import balanced_subset
from .probing import (
    class_probe,
    layer_features,
    linear_cka,
    membership_probe,
    relearn_from_forgotten,
    relearn_from_retained,
    saliency,
    saliency_agreement,
    weight_distances,
)
from .probing.features import PENULTIMATE
from .probing.similarity import ALL
from .report import Tables
from .splitting import Split, forget_random

LABELLED = 50  # images of each class that a class probe trains on
MOST = 1000  # images that are looked at, of the forgotten ones and of others
TEN = 10  # forgotten images that a network relearns from
STEPS = (0, 1, 2, 4, 8, 16, 32, 64)  # of relearning, after which the accuracy is measured
LATE = 32  # of them, after which the retrained network does not yet know a class
RELEARNED = "relearned_{}_steps_accuracy"  # on ten forgotten images
MIXED = "mixed_{}_steps_accuracy"  # on them and retained images
RETAINED = "retained_{}_steps_accuracy"  # on retained images alone
OTHERS = f"others_{LATE}_steps_accuracy"
FORMS = {
    "on ten forgotten images": RELEARNED,
    "on ten beside retained images": MIXED,
    "on retained images": RETAINED,
}
BY_LAYER = {
    "distance from the original": "distance_in_",
    "CKA to the original": "cka_to_original_in_",
    "CKA to the retrained": "cka_to_retrained_in_",
}
QUESTIONS = {
    "what it answers": ["forget_accuracy", "test_forget_accuracy"],
    "what it knows": [f"{kind}_probe_accuracy" for kind in ("linear", "knn", "membership")],
    "what comes back": [
        *(form.format(LATE) for form in (MIXED, RELEARNED)),
        OTHERS,
        RETAINED.format(LATE),
    ],
}
LIKENESS = [
    *(f"cka_to_{other}_in_{PENULTIMATE}" for other in ("original", "retrained")),
    *(f"saliency_to_{other}" for other in ("original", "retrained")),
]
NUMBERS = [*chain(*QUESTIONS.values()), *LIKENESS]


def inside(
    model: nn.Module, split: Split, test: Images, *, original: nn.Module, retrained: nn.Module
) -> dict[str, float]:
    """Numbers of what a network holds, for ``prepare(more=inside)``; all networks of one seed.

    Of more than 1,000 forgotten images, as many are drawn, the same for every network.

    - ``linear_probe_accuracy``, ``knn_probe_accuracy``, if classes are forgotten: ``class_probe``
      on the penultimate features. It trains on 50 test images of each class, and is asked about
      the forgotten classes' other test images, so that no network has trained on any of them.
    - ``membership_probe_accuracy``: forgotten images against test images, of the forgotten classes
      if there are any.
    - ``relearned_<n>_steps_accuracy``, if classes are forgotten: on the forgotten images, after n
      steps on ten of them with frozen BatchNorm statistics (``relearn_from_forgotten``);
      ``mixed_<n>_steps_accuracy``: on ten of them beside 54 retained ones in each step.
    - ``others_32_steps_accuracy``, if classes are forgotten: on test images of the other classes,
      after 32 steps on the ten alone, which teach a network to call all images by their class.
    - ``retained_<n>_steps_accuracy``: on the forgotten images, after n steps on retained ones.
    - ``cka_to_<original, retrained>_in_<layer>``: linear CKA on the forgotten images; NaN where a
      collapsed network has the same features for all of them.
    - ``saliency_to_<original, retrained>``: cosine of the saliencies (input x gradient), mean over
      the forgotten images; those with no saliency are left out.
    - ``distance_in_<layer>``: relative L2 of its weights and biases, from the original's.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        split: what it was to retain and to forget.
        test: test images of all classes.
        original: the network before unlearning.
        retrained: the network that never saw the forget set.

    Raises:
        ValueError: if the penultimate features cannot be told, a class has fewer than two test
            images, or so few are forgotten that none is left after ten; see ``probing``.
        ImportError: if captum is not installed.
    """
    others = {"original": original, "retrained": retrained}
    split = Split(split.retain, _some(split.forget))
    numbers = _known(model, split, test) | _back(model, split, test)
    numbers |= _features_alike(model, others, split.forget)
    numbers |= _saliency_alike(model, others, split.forget)
    distances = weight_distances(original, model)["distance"].drop(ALL)
    return numbers | {f"distance_in_{layer}": float(d) for layer, d in distances.items()}


def _known(model: nn.Module, split: Split, test: Images) -> dict[str, float]:
    """Accuracies of probes of the penultimate features."""
    forget, x = (layer_features(model, s, PENULTIMATE)[0] for s in (split.forget, test))
    forget, x = forget[PENULTIMATE], x[PENULTIMATE]
    labels, classes = test.labels.cpu(), split.forget_classes
    unseen = x[torch.isin(labels, torch.tensor(classes))] if classes else x
    numbers = {"membership_probe_accuracy": membership_probe(forget, unseen)}
    if classes:
        fewest = int(torch.bincount(labels, minlength=test.num_classes).min())
        if fewest < 2:
            raise ValueError("a probe needs two test images of each class or more: give more")
        count = min(LABELLED, fewest // 2) * test.num_classes
        is_fitted = torch.isin(test.indices, balanced_subset(test, count).indices)
        sets = x[is_fitted], labels[is_fitted], x[~is_fitted], labels[~is_fitted]
        for probe in ("linear", "knn"):
            numbers[f"{probe}_probe_accuracy"] = class_probe(*sets, classes=classes, probe=probe)
    return numbers


def _back(model: nn.Module, split: Split, test: Images) -> dict[str, float]:
    """Accuracies after some steps of training."""
    network, (retain, forget), numbers = {"own": model}, split, {}
    curves = {RETAINED: relearn_from_retained(network, retain, forget, steps=STEPS)}
    if split.forget_classes:
        ten = partial(relearn_from_forgotten, network, forget, count=TEN, steps=STEPS)
        curves |= {RELEARNED: ten(), MIXED: ten(beside=retain)}
        few = forget_random(forget, count=TEN, seed=0).forget  # which ``ten`` draws
        others = _some(test.without_classes(split.forget_classes))
        late = relearn_from_retained(network, few, others, steps=[LATE], freeze_bn=True)
        numbers[OTHERS] = float(late["own"][LATE])
    for form, curve in curves.items():
        numbers |= {form.format(step): float(curve["own"][step]) for step in STEPS}
    return numbers


def _some(images: Images) -> Images:
    """The images, or as many as are looked at, the same every time."""
    if len(images) <= MOST:
        return images
    return forget_random(images, count=MOST, seed=0).forget


def _features_alike(
    model: nn.Module, others: Mapping[str, nn.Module], images: Images
) -> dict[str, float]:
    """CKA to other networks in every layer."""
    own, _ = layer_features(model, images)
    theirs = {name: layer_features(other, images)[0] for name, other in others.items()}
    return {
        f"cka_to_{name}_in_{layer}": _cka(x, layers[layer])
        for name, layers in theirs.items()
        for layer, x in own.items()
    }


def _cka(x: torch.Tensor, y: torch.Tensor) -> float:
    constant = any(bool((values == values[0]).all()) for values in (x, y))
    return np.nan if constant else linear_cka(x, y)


def _saliency_alike(
    model: nn.Module, others: Mapping[str, nn.Module], images: Images
) -> dict[str, float]:
    """Mean agreement with the saliencies of other networks."""
    own, found = saliency(model, images), {}
    for name, other in others.items():
        agreement = saliency_agreement(own, saliency(other, images))
        found[f"saliency_to_{name}"] = float(pd.Series(agreement).mean())
    return found


def by_question(setting: Tables) -> pd.DataFrame:
    """The table of an experiment as people read it, its columns under the three questions."""
    return pd.concat({what: setting.table(names) for what, names in QUESTIONS.items()}, axis=1)


def relearning(numbers: pd.DataFrame, networks: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Mean relearn curves over seeds, form -> steps x networks, as ``plots.relearn_curves`` takes.

    Args:
        numbers: as ``Experiment.numbers`` gives them, measured with ``inside``.
        networks: names of rows; those that are missing are left out.
    """
    means, found = _means(numbers, networks), {}
    for form, name in FORMS.items():
        columns = [name.format(step) for step in STEPS]
        if {*columns} <= {*means}:  # single images are not relearned from others
            found[form] = means[columns].set_axis(STEPS, axis=1).T.rename_axis("step")
    return found


def by_layer(numbers: pd.DataFrame, networks: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Means over seeds, number -> layers x networks, as ``plots.by_layer`` takes them.

    Args:
        numbers, networks: as ``relearning``.
    """
    means, found = _means(numbers, networks), {}
    for what, start in BY_LAYER.items():
        columns = [name for name in means if name.startswith(start)]
        own = means[columns].rename(columns=lambda name, start=start: name.removeprefix(start)).T
        found[what] = own.rename_axis("layer")
    return found


def _means(numbers: pd.DataFrame, networks: Iterable[str]) -> pd.DataFrame:
    means = numbers.xs("mean", axis=1, level=1)
    return means.loc[[name for name in networks if name in means.index]]
