"""What is to be forgotten: every split is a function of its own seed alone."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor

from .data import Images


class Split(NamedTuple):
    """The training set in two disjoint parts: what stays and what is to be forgotten."""

    retain: Images
    forget: Images

    @property
    def forget_classes(self) -> tuple[int, ...]:
        """Classes of which nothing is retained; empty when single examples are forgotten."""
        kept = set(self.retain.labels.tolist())
        return tuple(sorted(set(self.forget.labels.tolist()) - kept))


def forget_classes(images: Images, classes: int | Iterable[int]) -> Split:
    """Forget all images of one class or of several.

    Raises:
        ValueError: a class that does not exist or has no images, none named, or all of them.
    """
    classes = [classes] if isinstance(classes, Integral) else list(classes)
    present = sorted(set(images.labels.tolist()))
    missing = [label for label in classes if label not in present]
    if missing:
        raise ValueError(f"class {missing[0]} does not exist: the images are of classes {present}")
    chosen = torch.isin(images.labels.cpu(), torch.tensor(classes, dtype=torch.long))
    return _split(images, chosen)


def forget_random(
    images: Images, *, count: int | None = None, fraction: float | None = None, seed: int
) -> Split:
    """Forget ``count`` images, or a ``fraction`` of them, drawn without replacement.

    Raises:
        ValueError: not exactly one of ``count`` and ``fraction``; nothing or everything forgotten.
    """
    if (count is None) == (fraction is None):
        raise ValueError("give either count= or fraction=, and not both")
    if fraction is not None:
        if not 0 < fraction < 1:
            raise ValueError(f"fraction must be between 0 and 1, both excluded, not {fraction}")
        count = round(fraction * len(images))
    if not 0 < count < len(images):
        raise ValueError(
            f"{count} of {len(images)} images cannot be forgotten: the forget set and the retain "
            "set must both hold at least one image"
        )
    generator = torch.Generator().manual_seed(seed)
    return forget_indices(images, torch.randperm(len(images), generator=generator)[:count])


def forget_indices(images: Images, indices: Iterable[int] | Tensor) -> Split:
    """Forget the images at these positions of ``images``.

    Raises:
        ValueError: a mask or fractions; a position out of range or named twice; nothing or
            everything forgotten.
    """
    indices = torch.as_tensor(indices if isinstance(indices, Tensor) else list(indices)).cpu()
    if indices.numel() and (indices.is_floating_point() or indices.dtype == torch.bool):
        raise ValueError(
            f"positions are whole numbers, not {indices.dtype}: of a mask, give mask.nonzero()"
        )
    indices = indices.long().flatten()
    outside = indices[(indices < 0) | (indices >= len(images))]
    if len(outside):
        raise ValueError(
            f"there is no image {int(outside[0])}: positions go from 0 to {len(images) - 1}"
        )
    if len(indices.unique()) != len(indices):
        raise ValueError("an image is named twice among the indices to forget: name each once")
    chosen = torch.zeros(len(images), dtype=torch.bool)
    chosen[indices] = True
    return _split(images, chosen)


def _split(images: Images, chosen: Tensor) -> Split:
    if not chosen.any():
        raise ValueError("the forget set is empty: name at least one image or class to forget")
    if chosen.all():
        raise ValueError("the forget set is the whole training set: nothing would be retained")
    positions = torch.arange(len(images))
    return Split(images.select(positions[~chosen]), images.select(positions[chosen]))
