"""Where do images come from: named sets, each cached as one file of uint8 arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .core.archives import read_npz
from .core.batches import Batches
from .core.files import OF_THE_DISK, ROOT, atomic_write, temporary, unwritable
from .core.images import Images
from .core.own_images import CHANNELS
from .core.own_sets import own_pair

__all__ = ["Batches", "Images", "balanced_subset", "channels_first", "load", "train_and_test"]

DATA = ROOT / "data"


@dataclass(frozen=True)
class _Source:
    """A named set: its title, what torchvision calls it, and how its pixels are normalised."""

    title: str
    torchvision_name: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mirror: bool = False
    digest: str | None = None


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


DIGITS = tuple("0123456789")
CIFAR100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch
    crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo
    keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain
    mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain
    plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
    skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
    television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
SOURCES = {
    "mnist": _Source(
        "MNIST",
        "MNIST",
        DIGITS,
        (0.1307,),
        (0.3081,),
        digest="52cd6c10ae77107af32269dd9d10ca19c1b749e83235a0c75e2f0729ebeaf141",
    ),
    "fashion_mnist": _Source(
        "Fashion-MNIST",
        "FashionMNIST",
        _names("T-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot"),
        (0.2860,),
        (0.3530,),
        mirror=True,
    ),
    "cifar10": _Source(
        "CIFAR-10",
        "CIFAR10",
        _names("airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck"),
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
        mirror=True,
    ),
    "cifar100": _Source(
        "CIFAR-100",
        "CIFAR100",
        tuple(name.replace("_", " ") for name in CIFAR100.split()),
        (0.5071, 0.4865, 0.4409),
        (0.2673, 0.2564, 0.2762),
        mirror=True,
    ),
    "svhn": _Source("SVHN", "SVHN", DIGITS, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
}
LARGEST = 2**31  # bytes of a set; that of SVHN has 305 million
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def load(
    name: str,
    *,
    root: Path | str = DATA,
    train_size: int | None = None,
    test_size: int | None = None,
) -> tuple[Images, Images]:
    """Training and test images of a named set, from ``root/<name>.npz``.

    MNIST ships with the repo. The others are downloaded through torchvision once, and kept as one
    npz of uint8 arrays (images N x H x W or N x H x W x C).

    Args:
        name: "mnist", "fashion_mnist", "cifar10", "cifar100" or "svhn".
        root: folder of the npz files.
        train_size: take a fixed, class-balanced subset of the training images. Small sets overfit,
            which is what makes membership worth attacking.
        test_size: the same of the test images.

    Raises:
        ValueError: if there is no set of that name, the file holds other arrays (for MNIST, other
            pixels than it shipped with), or a size cannot be met in equal parts.
        ConnectionError: if the set cannot be downloaded; says which file to put in place.
        OSError: if the file cannot be opened, or what is downloaded cannot be written.
    """
    if not isinstance(name, str) or name not in SOURCES:
        raise ValueError(f"there is no data set {name!r}: choose one of {', '.join(SOURCES)}")
    path, source = Path(root) / f"{name}.npz", SOURCES[name]
    try:
        arrays = _read_arrays(path)
    except FileNotFoundError:
        _download(name, path)
        arrays = _read_arrays(path)
    if source.digest and _digest(arrays[key] for key in ARRAYS) != source.digest:
        raise ValueError(
            f"{path} does not hold the {name} that ships with this repo: "
            f"delete it, then restore it with git checkout or let load('{name}') download it"
        )
    try:
        train, test = (_as_images(source, arrays, part) for part in ("train", "test"))
    except ValueError as error:
        raise ValueError(
            f"{path} does not hold {name}: {error}; delete it and load again"
        ) from error
    return balanced_subset(train, train_size), balanced_subset(test, test_size, name="test_size")


def _as_images(source: _Source, arrays: dict[str, np.ndarray], part: str) -> Images:
    """One part of a set, whose arrays must be what the npz should hold."""
    images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    if images.dtype != np.uint8 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{part}_images must be uint8 and {part}_labels whole numbers, not {images.dtype} and "
            f"{labels.dtype}"
        )
    labels = torch.from_numpy(labels.astype(np.int64))
    pixels = channels_first(images)
    return Images(pixels, labels, source.classes, source.mean, source.std, source.mirror)


def train_and_test(
    dataset: str | tuple[Any, Any], *, train_size: int | None = None, test_size: int | None = None
) -> tuple[Images, Images]:
    """Training and test images of a named set or of your own; sizes as ``load``.

    Args:
        dataset: name of a set, or (training images, test images), as ``own_pair`` takes them.
        train_size, test_size: as ``load``.
    """
    train, test = load(dataset) if isinstance(dataset, str) else own_pair(dataset)
    return balanced_subset(train, train_size), balanced_subset(test, test_size, name="test_size")


def balanced_subset(images: Images, size: int | None, *, name: str = "train_size") -> Images:
    """Take ``size`` images, the same every time and equally many of each class (to within one).

    Args:
        images: to choose from.
        size: number of images; None takes all.
        name: of the argument that ``size`` was given as, for messages.

    Raises:
        ValueError: if a class has too few images.
    """
    if size is None:
        return images
    if isinstance(size, bool) or not isinstance(size, int):
        raise ValueError(f"{name} must be a whole number of images, such as 5_000, not {size!r}")
    counts = torch.bincount(images.labels.cpu(), minlength=images.num_classes)
    each, extra = divmod(size, images.num_classes)
    if size < 1 or each + (extra > 0) > int(counts.min()):
        raise ValueError(
            f"{name} must be between 1 and {int(counts.min()) * images.num_classes}, "
            f"so that every class gives equally many, not {size}"
        )
    generator = torch.Generator().manual_seed(0)
    chosen = []
    for label in range(images.num_classes):
        positions = (images.labels.cpu() == label).nonzero().flatten()
        order = torch.randperm(len(positions), generator=generator)
        chosen.append(positions[order[: each + (label < extra)]])
    return images.select(torch.cat(chosen).sort().values)


def channels_first(images: np.ndarray) -> Tensor:
    """Turn an array N x H x W or N x H x W x C into a tensor (N, C, H, W).

    Raises:
        ValueError: if it has another number of axes, or its last is not one of channels.
    """
    if images.ndim != 3 and (images.ndim != 4 or images.shape[-1] not in CHANNELS):
        raise ValueError(
            "images must be N x H x W or N x H x W x C, the last with 1, 3 or 4 channels, not "
            f"{images.shape}"
        )
    tensor = torch.from_numpy(images)
    return tensor[:, None] if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2).contiguous()


def _digest(arrays: Iterable[np.ndarray]) -> str:
    """SHA-256 of the arrays' types, shapes and bytes."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.dtype.str}{array.shape}".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        return read_npz(path, ARRAYS, most=LARGEST)
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be read as a data set ({error}): it should be an npz of "
            f"{', '.join(ARRAYS)}; delete it and load again"
        ) from error


def _download(name: str, path: Path) -> None:
    """Fetch a set through torchvision, which verifies it and shows a bar, into ``path``."""
    print(f"{name}: downloading once, to be kept as {path}")
    try:
        with temporary(path) as folder:
            folder.mkdir()
            arrays = _fetch(SOURCES[name].torchvision_name, folder)
    except (OSError, RuntimeError) as error:
        if getattr(error, "errno", None) in OF_THE_DISK:
            raise unwritable(path, error) from error
        raise ConnectionError(
            f"{name} could not be downloaded ({str(error).strip() or type(error).__name__}): "
            f"connect to the network and load again, or put {name}.npz (uint8 arrays "
            f"{', '.join(ARRAYS)}) at {path}"
        ) from error
    with atomic_write(path) as tmp_path:
        np.savez_compressed(tmp_path, **arrays)


def _fetch(torchvision_name: str, folder: Path) -> dict[str, np.ndarray]:
    """Download both parts of a torchvision set, and return them as the arrays of the npz."""
    from torchvision import datasets

    make: Callable = getattr(datasets, torchvision_name)
    arrays = {}
    for part in ("train", "test"):
        which = {"split": part} if torchvision_name == "SVHN" else {"train": part == "train"}
        data = make(folder, download=True, **which)
        images = np.asarray(data.data)
        if torchvision_name == "SVHN":
            images = images.transpose(0, 2, 3, 1)
        labels = data.labels if hasattr(data, "labels") else data.targets
        arrays[f"{part}_images"] = images
        arrays[f"{part}_labels"] = np.asarray(labels).astype(np.uint8)
    return arrays
