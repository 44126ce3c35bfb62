"""What is to be forgotten: each split depends on its own arguments and seed alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from .core.checks import check_number, check_positions, check_whole, class_list
from .core.images import Images
from .core.own_sets import labels_of
from .core.randomness import generator_from

CIFAR20 = {  # superclass -> its five classes of CIFAR-100: Krizhevsky 2009, chapter 3
    "aquatic mammals": (4, 30, 55, 72, 95),
    "fish": (1, 32, 67, 73, 91),
    "flowers": (54, 62, 70, 82, 92),
    "food containers": (9, 10, 16, 28, 61),
    "fruit and vegetables": (0, 51, 53, 57, 83),
    "household electrical devices": (22, 39, 40, 86, 87),
    "household furniture": (5, 20, 25, 84, 94),
    "insects": (6, 7, 14, 18, 24),
    "large carnivores": (3, 42, 43, 88, 97),
    "large man-made outdoor things": (12, 17, 37, 68, 76),
    "large natural outdoor scenes": (23, 33, 49, 60, 71),
    "large omnivores and herbivores": (15, 19, 21, 31, 38),
    "medium-sized mammals": (34, 63, 64, 66, 75),
    "non-insect invertebrates": (26, 45, 77, 79, 99),
    "people": (2, 11, 35, 46, 98),
    "reptiles": (27, 29, 44, 78, 93),
    "small mammals": (36, 50, 65, 74, 80),
    "trees": (47, 52, 56, 59, 96),
    "vehicles 1": (8, 13, 48, 58, 90),
    "vehicles 2": (41, 69, 81, 85, 89),
}


class Split(NamedTuple):
    """The training set in two disjoint parts: what stays and what is to be forgotten.

    The functions of this module give ``Images``; ``measure`` reads data sets and batches as well.
    """

    retain: Images
    forget: Images

    @property
    def forget_classes(self) -> tuple[int, ...]:
        """Classes of which nothing is retained; empty when single examples are forgotten."""
        return forgotten_classes(*map(labels_of, self))


def forgotten_classes(retain_labels: Tensor, forget_labels: Tensor) -> tuple[int, ...]:
    """Classes of which there is something to forget and nothing to retain, in order."""
    return tuple(sorted(set(forget_labels.tolist()) - set(retain_labels.tolist())))


def forget_classes(images: Images, classes: int | Iterable[int]) -> Split:
    """Forget all images of one class or of several.

    Args:
        images: training set.
        classes: numbers of the classes.

    Raises:
        ValueError: if a class does not exist or has no images, or none or all are named.
    """
    classes = class_list(classes)
    present = sorted(set(images.labels.tolist()))
    missing = [label for label in classes if label not in present]
    if missing:
        raise ValueError(f"class {missing[0]} does not exist: the images are of classes {present}")
    chosen = torch.isin(images.labels.cpu(), torch.tensor(classes, dtype=torch.long))
    return _split(images, chosen)


def superclasses(images: Images, groups: Mapping[str, Iterable[int]] = CIFAR20) -> Images:
    """The same images, labelled by superclass: CIFAR-100 becomes CIFAR-20.

    Args:
        images: labelled by class.
        groups: name of each superclass -> its classes; every class is in exactly one.

    Raises:
        ValueError: if a class does not exist, or is in no superclass or in two.
    """
    superclass = torch.full((images.num_classes,), -1)
    for number, (name, classes) in enumerate(groups.items()):
        for label in classes:
            if not 0 <= label < images.num_classes:
                raise ValueError(
                    f"class {label} of {name!r} does not exist: classes are numbered from 0 to "
                    f"{images.num_classes - 1}"
                )
            if superclass[label] >= 0:
                raise ValueError(f"class {label} is in two superclasses: name it in one group only")
            superclass[label] = number
    alone = (superclass < 0).nonzero().flatten().tolist()
    if alone:
        raise ValueError(f"class {alone[0]} is in no superclass: name it in one of the groups")
    labels = superclass.to(images.device).index_select(0, images.labels)
    return replace(images, labels=labels, classes=tuple(groups))


def forget_subclass(
    images: Images,
    classes: int | Iterable[int],
    *,
    groups: Mapping[str, Iterable[int]] = CIFAR20,
) -> Split:
    """Forget one class or several, while the network is trained on superclasses.

    Both parts are labelled by superclass: when the rocket is forgotten, the network still has to
    know its superclass, vehicles 2. The same call on the test set gives the unseen images of both
    parts.

    Source: Chundawat et al., Can Bad Teaching Induce Forgetting?, AAAI 2023, section 5 (CIFAR-20:
    rocket, class 69).

    Args:
        images: labelled by class.
        classes: numbers of the classes to forget.
        groups: name of each superclass -> its classes; by default CIFAR-20 of CIFAR-100.

    Raises:
        ValueError: if ``forget_classes`` or ``superclasses`` would raise one.
    """
    groups = {name: tuple(own) for name, own in groups.items()}
    return Split(*(superclasses(part, groups) for part in forget_classes(images, classes)))


def forget_random(
    images: Images, *, count: int | None = None, fraction: float | None = None, seed: int
) -> Split:
    """Forget ``count`` images, or a ``fraction`` of them, drawn without replacement.

    Args:
        images: training set.
        count: number of images to forget; give this or ``fraction``.
        fraction: share of the images to forget, between 0 and 1.
        seed: random seed for the draw.

    Raises:
        ValueError: unless exactly one of ``count`` and ``fraction`` is given; if nothing or
            everything would be forgotten.
    """
    if (count is None) == (fraction is None):
        raise ValueError("give either count= or fraction=, not both")
    if fraction is not None:
        words = "between 0 and 1, both excluded"
        count = round(check_number("fraction", fraction, "(0, 1)", words) * len(images))
    count = check_whole("count", count, least=None)
    if not 0 < count < len(images):
        raise ValueError(
            f"{count} of {len(images)} images cannot be forgotten: the forget set and the retain "
            "set must both hold at least one image"
        )
    generator = generator_from(seed)
    return forget_indices(images, torch.randperm(len(images), generator=generator)[:count])


def forget_indices(images: Images, indices: Iterable[int] | Tensor) -> Split:
    """Forget the images at these positions of ``images``.

    Args:
        images: training set.
        indices: positions, whole numbers from 0 to ``len(images) - 1``, in any order.

    Raises:
        ValueError: if positions are not whole numbers, out of range or named twice; if nothing or
            everything would be forgotten.
    """
    indices = check_positions(indices, len(images))
    if len(indices.unique()) != len(indices):
        raise ValueError("an image is named twice among the indices to forget: name each once")
    chosen = torch.zeros(len(images), dtype=torch.bool)
    chosen[indices] = True
    return _split(images, chosen)


def _split(images: Images, chosen: Tensor) -> Split:
    """The split that forgets the images where the mask ``chosen`` (N,) is true."""
    if not chosen.any():
        raise ValueError("the forget set is empty: name at least one image or class to forget")
    if chosen.all():
        raise ValueError("the forget set is the whole training set: nothing would be retained")
    positions = torch.arange(len(images))
    return Split(images.select(positions[~chosen]), images.select(positions[chosen]))
