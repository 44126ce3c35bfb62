"""Somebody's own images, from arrays or a data set: uint8 (N, C, H, W), and labels (N,)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from .progress import Progress
from .randomness import seeded

LAYOUTS = {"NHW": None, "NCHW": (0, 1, 2, 3), "NHWC": (0, 3, 1, 2)}  # name -> its axes as NCHW
CHANNELS = (1, 3, 4)
CHUNK = 1024  # images that are turned into uint8 at a time
SLACK = 1e-5  # by which rounding may leave [0, 1]
OF_ARRAYS = {"mnist", "cifar", "svhn", "stl10", "usps"}  # of torchvision.datasets, with .data
EMPTY = "a set of images must hold at least one image"
ADVICE = "give uint8 or floats in [0, 1], and normalise through mean= and std="


def read_images(
    x: Any, labels: Any = None, layout: str | None = None
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Pixels (N, C, H, W), labels (N,) and names of classes of what ``Images.of`` takes.

    Raises:
        ValueError: if ``x`` is neither arrays nor a data set, does not fit into memory, or is not
            images of one shape.
    """
    if labels is None and isinstance(x, tuple) and len(x) == 2:
        x, labels = x
    if labels is None:
        _check_map_style(x)
        return *_read_dataset(x, layout), _class_names(x)
    if isinstance(x, Dataset):
        raise ValueError("labels= goes with arrays: a data set yields its own labels")
    of_items = isinstance(x, list | tuple) and len(x) and _is_image(x[0])
    pixels = _stack(x.__getitem__, len(x), layout) if of_items else _convert(x, layout)
    return pixels, as_tensor(labels, "labels"), ()


def as_tensor(array: Any, what: str) -> Tensor:
    """An array, a tensor or nested lists as a tensor, without a copy where that is possible.

    Raises:
        ValueError: if it does not hold numbers, or lists are of different lengths.
    """
    if isinstance(array, Tensor):
        return array.detach()
    if isinstance(array, np.ma.MaskedArray):
        raise ValueError(f"{what} have a mask, which would be lost: give those that count")
    try:
        array = np.require(array, requirements=["C", "W"])
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{what} must be numbers, in an array, a tensor or lists of one length"
        ) from error


def as_uint8(pixels: Tensor) -> Tensor:
    """Pixels as uint8: floats from 0 to 1 are multiplied by 255 and rounded.

    Raises:
        ValueError: if they are neither floats from 0 to 1 nor whole numbers from 0 to 255.
    """
    if pixels.dtype == torch.uint8 or pixels.numel() == 0:
        return pixels.to(torch.uint8)
    if pixels.dtype == torch.bool or pixels.is_complex():
        raise ValueError(f"pixels are {pixels.dtype}: {ADVICE}")
    if pixels.dtype in (torch.uint16, torch.uint32, torch.uint64):  # of which torch has no minimum
        pixels = pixels.to(torch.int64)
    low, high = pixels.min().item(), pixels.max().item()
    floats = pixels.is_floating_point()
    if not (low >= -SLACK and high <= (1 + SLACK if floats else 255)):  # nor NaN
        raise ValueError(f"pixels go from {low:g} to {high:g}: {ADVICE}")
    if floats:
        pixels = pixels.float().mul(255).round().clamp(0, 255)
    return pixels.to(torch.uint8)


def check_memory(size: int) -> None:
    """Raise a ValueError if so many bytes are more than the machine has free."""
    free = _free_memory()
    if size > free:
        raise ValueError(
            f"the images would take {size / 1e9:,.1f} GB as uint8, but {free / 1e9:,.1f} GB of "
            "memory are free: keep a DataLoader, which methods and measure read batch by batch"
        )


def _free_memory() -> float:
    """Bytes that a process can still take; of other systems than Linux, all there are."""
    try:
        entries = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return 1024 * int(entries["MemAvailable"].split()[0])
    except (OSError, KeyError):
        names = getattr(os, "sysconf_names", {})
        known = {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= names.keys()
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else math.inf


def _check_map_style(x: Any) -> None:
    if isinstance(x, Tensor | np.ndarray):
        raise ValueError("labels are missing: give Images.of(images, labels)")
    by_position = hasattr(x, "__getitem__") and hasattr(x, "__len__")
    if not by_position or isinstance(x, IterableDataset | Mapping):
        raise ValueError(
            "Images.of reads arrays, or a data set with a length whose items are (image, label), "
            f"not {type(x).__name__}: methods and measure read a DataLoader as it is"
        )


def _read_dataset(dataset: Dataset, layout: str | None) -> tuple[Tensor, Tensor]:
    whole = _whole(dataset)
    if whole is not None:
        return _convert(whole[0], layout), as_tensor(whole[1], "labels")
    labels = []

    def image(place: int) -> Any:
        item = dataset[place]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise ValueError(
                f"item {place} of the data set is a {type(item).__name__}, not (image, label): "
                "wrap the set so that it yields these two"
            )
        labels.append(np.asarray(item[1]))
        return item[0]

    return _stack(image, len(dataset), layout), as_tensor(labels, "labels")


def _whole(dataset: Dataset) -> tuple[Any, Any] | None:
    """Images and labels of a set that holds arrays and changes nothing when it is read."""
    if type(dataset) is Subset:
        whole = _whole(dataset.dataset)
        if whole is None:
            return None
        places = torch.tensor([_place(place) for place in dataset.indices], dtype=torch.long)
        return tuple(as_tensor(part, "a data set")[places] for part in whole)
    if type(dataset) is TensorDataset:
        return dataset.tensors if len(dataset.tensors) == 2 else None
    package, _, module = type(dataset).__module__.rpartition(".")
    if package != "torchvision.datasets" or module not in OF_ARRAYS:
        return None
    labels = dataset.labels if hasattr(dataset, "labels") else dataset.targets
    as_they_are = dataset.transform is None and dataset.target_transform is None
    return (dataset.data, labels) if as_they_are and np.ndim(labels) == 1 else None


def _place(place: Any) -> int:
    if isinstance(place, bool | np.bool_) or int(place) != place:
        raise ValueError(f"a Subset needs whole positions, not {place!r}: give mask.nonzero()")
    return int(place)


def _class_names(dataset: Dataset) -> tuple[str, ...]:
    """Names that a data set, or the one that it is a subset of, has for its classes."""
    while not hasattr(dataset, "classes") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    names = getattr(dataset, "classes", ())
    return tuple(map(str, names)) if isinstance(names, list | tuple) else ()


def _convert(images: Any, layout: str | None) -> Tensor:
    """A whole array as uint8 (N, C, H, W)."""
    images = as_tensor(images, "images")
    if images.numel() == 0:
        raise ValueError(EMPTY)
    images = _channels_first(images, layout or _layout_of(images.shape))
    check_memory(images.numel())
    if images.dtype == torch.uint8:
        return images.contiguous()
    converted = torch.empty(images.shape, dtype=torch.uint8, device=images.device)
    for start in range(0, len(images), CHUNK):
        converted[start : start + CHUNK] = as_uint8(images[start : start + CHUNK])
    return converted


def _stack(image: Callable[[int], Any], count: int, layout: str | None) -> Tensor:
    """``image(0)`` to ``image(count - 1)`` as uint8 (N, C, H, W), read under a fixed seed."""
    if count == 0:
        raise ValueError(EMPTY)
    bar = Progress("reading images", count, unit="images")
    with seeded(0, torch.device("cpu")), bar:
        first, own_layout = _one(image(0))
        check_memory(count * first.numel())
        stacked = torch.empty((count, *first.shape), dtype=torch.uint8)
        for place in range(count):
            one = first if place == 0 else _one(image(place))[0]
            if one.shape != first.shape:
                raise ValueError(
                    f"images differ in shape: {tuple(first.shape)} first, {tuple(one.shape)} at "
                    f"{place}: let the data set resize them (transforms.Resize((H, W))) or turn "
                    "all to as many channels"
                )
            stacked[place] = as_uint8(one)
            bar.update()
    layout = layout or own_layout or _layout_of(stacked.shape)
    return _channels_first(stacked, layout).contiguous()


def _one(image: Any) -> tuple[Tensor, str | None]:
    """One image as a tensor and, of a PIL image, the layout of a set of them."""
    if not _is_image(image):
        raise ValueError(f"an image must be a PIL image, an array or a tensor, not {image!r:.40}")
    if not hasattr(image, "getbands"):
        return as_tensor(image, "images"), None
    if is_deep(image):
        raise ValueError(f"an image has more than 8 bits per channel (mode {image.mode}): {ADVICE}")
    if image.mode not in ("L", "RGB", "RGBA"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    return torch.from_numpy(np.array(image)), "NHW" if image.mode == "L" else "NHWC"


def is_deep(image: Any) -> bool:
    """Whether a PIL image has more than 8 bits per channel."""
    return image.mode in ("I", "F") or image.mode.startswith("I;")


def _is_image(value: Any) -> bool:
    """Whether it is an array, a tensor or a PIL image of more than a number."""
    return hasattr(value, "getbands") or (isinstance(value, Tensor | np.ndarray) and value.ndim > 1)


def _layout_of(shape: torch.Size) -> str:
    """The layout of images of this shape: channels are an axis of 1, 3 or 4.

    Raises:
        ValueError: if there is no such axis, or there are two.
    """
    if len(shape) not in (3, 4):
        raise ValueError(
            f"images must be N x H x W, N x C x H x W or N x H x W x C, not {tuple(shape)}"
        )
    first, last = (axis in CHANNELS for axis in (shape[1], shape[-1]))
    if len(shape) == 3:
        return "NHW"
    if first == last:
        raise ValueError(
            f"which axis of {tuple(shape)} holds the channels cannot be told: give layout='NCHW' "
            "or layout='NHWC'"
        )
    return "NCHW" if first else "NHWC"


def _channels_first(images: Tensor, layout: str) -> Tensor:
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, not {layout!r}")
    if images.ndim != len(layout):
        raise ValueError(f"images of layout {layout} cannot be of shape {tuple(images.shape)}")
    axes = LAYOUTS[layout]
    return images[:, None] if axes is None else images.permute(axes)
