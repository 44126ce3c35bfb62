"""Sets that somebody hands in: two for an experiment, or batches of any kind to read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .batches import Batches, check_rereadable, fixed_order, read_pairs
from .images import Images
from .randomness import seeded


def own_pair(dataset: Any) -> tuple[Images, Images]:
    """Training and test images, each an ``Images`` or what ``Images.of`` takes.

    Raises:
        ValueError: if there are not two, or they differ in channels or in the order of classes.
    """
    if not isinstance(dataset, tuple | list) or len(dataset) != 2:
        raise ValueError(
            "dataset must be the name of a set or (training images, test images), not "
            f"{type(dataset).__name__}"
        )
    train, test = (part if isinstance(part, Images) else Images.of(part) for part in dataset)
    if train.in_channels != test.in_channels:
        raise ValueError(
            f"training images have {train.in_channels} channels and test images "
            f"{test.in_channels}: give both as many"
        )
    if test.classes != train.classes[: test.num_classes]:
        raise ValueError(
            f"training and test images number their classes differently ({train.classes[:9]} and "
            f"{test.classes[:9]}): give both the same classes in the same order"
        )
    return train, test


def batches_of(data: Images | Dataset | Batches) -> Batches:
    """Batches of anything that can be read in batches.

    Raises:
        ValueError: if they can be read only once or not at all, or a data set yields no floats.
    """
    if isinstance(data, Images):
        return data.sequential_batches()
    if isinstance(data, Dataset):
        _check_floats(data)
        return DataLoader(data, 100)
    check_rereadable(data)
    return data


def labels_of(data: Images | Dataset | Batches) -> Tensor:
    """The labels of all images, (N,)."""
    if isinstance(data, Images):
        return data.labels
    batches = batches_of(data)
    with fixed_order(batches, torch.device("cpu")):
        return torch.cat([labels for _, labels in read_pairs(batches)])


def _check_floats(dataset: Dataset) -> None:
    with seeded(0, torch.device("cpu")):
        item = next(iter(dataset), None)
    image = item[0] if isinstance(item, tuple | list) else item
    if not (isinstance(image, Tensor) and image.is_floating_point()):
        found = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(
            f"a data set must yield (normalised float tensor, label), not {found}: add a "
            "transform, or read it with Images.of(dataset, mean=..., std=...)"
        )
