"""What other labels can images have: those of superclasses, wrong ones, and groups of images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from torch import Tensor

from .core.checks import check_number, check_seed, check_whole, class_list
from .core.images import Images
from .core.randomness import generator_from, order_of

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
COMPONENTS = 20  # principal components of the pixels, which k-means reads
FITTED = 5_000  # images that the components and centres are fitted to, at most


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


class Corrupted(NamedTuple):
    """Images of which some have a wrong label, and the positions of those, (W,), in order."""

    images: Images
    wrong: Tensor


def corrupt(
    images: Images, share: float, *, seed: int, between: Iterable[int] | None = None
) -> Corrupted:
    """Give a share of the images a wrong label.

    Without ``between``, round(share x N) of all N images get another class, each of the others
    with equal probability: symmetric noise. With two classes, round(share x N_k) of the N_k images
    of each get the other's label: their confusion. The true label is never kept.

    Source: Goel et al., Corrective Machine Unlearning, TMLR 2024, arXiv 2402.14015.

    >>> images = Images(torch.zeros(8, 1, 2, 2, dtype=torch.uint8), torch.arange(8) % 2)
    >>> noisy, wrong = corrupt(images, 0.25, seed=0)
    >>> torch.equal((noisy.labels != images.labels).nonzero().flatten(), wrong), len(wrong)
    (True, 2)

    Args:
        images: with their true labels; not changed.
        share: of the labels that become wrong, above 0 and at most 1.
        seed: random seed for which images, and which labels.
        between: the two classes that are confused.

    Raises:
        ValueError: if the share is out of range or makes no label wrong, there is one class alone,
            or ``between`` is not two classes that have images.
    """
    share = check_number("share", share, "(0, 1]", "above 0 and at most 1")
    if images.num_classes < 2:
        raise ValueError("there is one class alone, so no label can be wrong: give two or more")
    labels, generator = images.labels.cpu().clone(), generator_from(seed)
    wrong = []
    for own in _confusable(labels, between):
        order = own[torch.randperm(len(own), generator=generator)]
        wrong.append(order[: round(share * len(own))])
    wrong = torch.cat(wrong).sort().values
    if len(wrong) == 0:
        raise ValueError(f"a share of {share:g} makes none of {len(images)} labels wrong: raise it")
    if between is None:
        further = torch.randint(1, images.num_classes, wrong.shape, generator=generator)
        labels[wrong] = (labels[wrong] + further) % images.num_classes
    else:
        labels[wrong] = sum(class_list(between)) - labels[wrong]
    return Corrupted(replace(images, labels=labels.to(images.device)), wrong)


def _confusable(labels: Tensor, between: Iterable[int] | None) -> list[Tensor]:
    """The positions whose labels may become wrong: all of them, or those of each of two classes."""
    if between is None:
        return [torch.arange(len(labels))]
    classes = class_list(between)
    if len(classes) != 2:
        raise ValueError(f"between must be two classes, such as [3, 8], not {classes}")
    positions = [(labels == label).nonzero().flatten() for label in classes]
    for label, own in zip(classes, positions, strict=True):
        if len(own) == 0:
            raise ValueError(f"class {label} has no images: name two classes that have some")
    return positions


def clusters(images: Images, count: int = 20, *, seed: int = 0) -> Tensor:
    """The cluster of each image, (N,): a stand-in for writers or identities that nobody noted.

    k-means on the first 20 principal components of the pixels, both fitted to 5,000 images at most.
    Images of a cluster look alike; those of a writer may not, so forgetting a cluster is easier to
    notice. A cluster can hold most of a class.

    Args:
        images: to be grouped; labels are not read.
        count: number of clusters.
        seed: random seed of the images that are fitted, the components and the first centres.

    Raises:
        ValueError: if ``count`` is not between 2 and the number of images.
    """
    count, seed = check_whole("count", count, least=2), check_seed(seed)
    if count > len(images):
        raise ValueError(f"{len(images)} images cannot be in {count} clusters: ask for fewer")
    pixels, order = images.images.flatten(1).cpu(), order_of(len(images), seed)[:FITTED]
    components = min(COMPONENTS, len(order), pixels.shape[1])
    grouping = make_pipeline(
        PCA(components, random_state=seed), KMeans(count, n_init=4, random_state=seed)
    )
    grouping.fit(_floats(pixels[order]))
    found = [grouping.predict(_floats(some)) for some in pixels.split(FITTED)]
    return torch.cat([torch.from_numpy(own) for own in found]).long()


def _floats(pixels: Tensor):
    return (pixels.float() / 255).numpy()
