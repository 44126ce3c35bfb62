"""What is to be forgotten: each split depends on its own arguments and seed alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from .core.checks import check_number, check_positions, check_whole, class_list
from .core.images import Images, checked_groups
from .core.own_sets import labels_of
from .core.randomness import order_of
from .labelling import CIFAR20, superclasses


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
    count = size_of(images, count=count, fraction=fraction)
    return forget_indices(images, order_of(len(images), seed)[:count])


def size_of(images: Images, *, count: int | None = None, fraction: float | None = None) -> int:
    """How many images are ``count``, or a ``fraction`` of them all.

    Raises:
        ValueError: as ``forget_random``.
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
    return count


def sequence(
    images: Images,
    *,
    requests: int = 5,
    count: int | None = None,
    fraction: float | None = None,
    seed: int,
) -> list[Split]:
    """Forget ``count`` images, or a ``fraction`` of them all, again and again: one split a request.

    Each forgets the images of its own request, and retains those that no request named so far. The
    first is ``forget_random`` with the same arguments, and the first k of a sequence are a sequence
    of k.

    Args:
        images: training set.
        requests: number of requests.
        count, fraction: size of each, as ``forget_random``.
        seed: random seed for the draw.

    Raises:
        ValueError: if the requests ask for all images, or ``forget_random`` would raise one.
    """
    requests = check_whole("requests", requests, least=1)
    size = size_of(images, count=count, fraction=fraction)
    if requests * size >= len(images):
        raise ValueError(
            f"{requests} requests of {size} ask for {requests * size} of {len(images)} images: at "
            "least one must be retained, so ask for fewer"
        )
    order, splits = order_of(len(images), seed), []
    for start in range(0, requests * size, size):
        retained, own = order[start + size :], order[start : start + size]
        splits.append(Split(*(images.select(part.sort().values) for part in (retained, own))))
    return splits


def forget_groups(
    images: Images, chosen: int | Iterable[int], *, groups: Tensor | Iterable[int] | None = None
) -> Split:
    """Forget all images of one group or of several, such as a writer or an identity.

    Args:
        images: training set.
        chosen: numbers of the groups.
        groups: group of each image, (N,), whole numbers; by default those that the images carry.

    Raises:
        ValueError: if the images have no groups, one does not exist, or none or all are named.
    """
    groups = images.groups if groups is None else checked_groups(groups, len(images))
    if groups is None:
        raise ValueError("the images have no groups: give one whole number per image, groups=")
    chosen = torch.tensor(class_list(chosen), dtype=torch.long)
    missing = chosen[~torch.isin(chosen, groups)].tolist()
    if missing:
        found = groups.unique().tolist()
        shown = ", ".join(map(str, found[:20])) + (", …" if len(found) > 20 else "")
        raise ValueError(f"there is no group {missing[0]}: the groups are {shown}")
    return _split(images, torch.isin(groups, chosen))


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
