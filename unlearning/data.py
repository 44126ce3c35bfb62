"""Where do images come from: a set is one uint8 tensor, on the device where it is used."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .files import ROOT, whole

DATA = ROOT / "data"

Batches = Iterable[tuple[Tensor, Tensor]]
"""What methods read: any iterable of (images (B, C, H, W) float, labels (B,) long)."""


@dataclass(frozen=True, eq=False)
class Images:
    """A labelled set of images, held as uint8 and normalised batch by batch.

    Args:
        images: uint8, (N, C, H, W).
        labels: integers from 0 to ``len(classes) - 1``, (N,).
        classes: names of the classes; by default the numbers from 0 to the largest label.
        mean, std: per channel, on the scale of 0 to 1; a batch is (image / 255 - mean) / std.
        mirror: whether a mirrored image still is of its class: true of a cat, not of a 5.
        indices: place of each image in the set that it was taken from, (N,).

    Raises:
        ValueError: images that are not uint8 (N, C, H, W), none at all, labels out of range,
            means or deviations that are not as many as the channels.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    mirror: bool = False
    indices: Tensor = field(default=None)

    def __post_init__(self):
        images, labels = self.images, self.labels
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise ValueError(
                f"images must be uint8 of shape (N, C, H, W), not {images.dtype} of shape "
                f"{tuple(images.shape)}"
            )
        if len(images) == 0:
            raise ValueError("a set of images must hold at least one image")
        if labels.shape != images.shape[:1] or labels.is_floating_point():
            raise ValueError(
                f"labels must be integers of shape ({len(images)},), not {labels.dtype} of shape "
                f"{tuple(labels.shape)}"
            )
        if not {len(self.mean), len(self.std)} <= {1, images.shape[1]}:
            raise ValueError(
                f"mean and std must be given once or for each of {images.shape[1]} channels, not "
                f"{len(self.mean)} and {len(self.std)} times"
            )
        low, high = int(labels.min()), int(labels.max())
        classes = tuple(self.classes) or tuple(str(label) for label in range(high + 1))
        if low < 0 or high >= len(classes):
            raise ValueError(
                f"labels go from {low} to {high}, but {len(classes)} classes are numbered from 0 "
                f"to {len(classes) - 1}"
            )
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "labels", labels.long())
        if self.indices is None:
            object.__setattr__(self, "indices", torch.arange(len(images)))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def in_channels(self) -> int:
        return self.images.shape[1]

    @property
    def image_size(self) -> int:
        return self.images.shape[-1]

    @property
    def device(self) -> torch.device:
        return self.images.device

    def to(self, device: torch.device | str | None) -> Images:
        """The same set on another device; uint8, so CIFAR-10 takes 150 MB there."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def select(self, positions: Tensor) -> Images:
        """The images at these positions, in this order."""
        there = positions.to(self.device)
        return replace(
            self,
            images=self.images.index_select(0, there),
            labels=self.labels.index_select(0, there),
            indices=self.indices[positions.cpu()],
        )

    def of_classes(self, classes: Iterable[int], *, others: bool = False) -> Images:
        """The images whose label is one of ``classes``, or with ``others`` all the rest."""
        wanted = torch.isin(self.labels, torch.tensor(list(classes), device=self.device))
        return self.select((wanted ^ others).nonzero().flatten())

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 images (B, C, H, W) to floats: (pixels / 255 - mean) / std."""
        scale, shift = self._scale_and_shift
        return (pixels * scale).sub_(shift)

    @cached_property
    def _scale_and_shift(self) -> tuple[Tensor, Tensor]:
        mean = torch.tensor(self.mean, device=self.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=self.device).view(-1, 1, 1)
        return 1 / (255 * std), mean / std

    def batches(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int | None = None,
        augment: bool = False,
        device: torch.device | str | None = None,
        members: int | None = None,
    ) -> ImageBatches:
        """Batches of (images, labels), made on the device; iterate as often as you like.

        Args:
            batch_size: images in a batch; the last one holds what is left.
            shuffle: a new order every epoch, a function of ``seed`` and the epoch alone.
            seed: of the order and the augmentation; by default drawn from torch's generator.
            augment: each image padded by 4, cropped at its own place and, where the set allows it
                (``mirror``), flipped with probability 1/2.
            device: where the batches are made; by default where the images are.
            members: batches for an ``Ensemble`` of N, images (N, B, C, H, W) and labels (N, B), to
                each member its own order and augmentation: member i's are those of ``seed + i``.
                By default batches have no such dimension, and all members share them.

        Raises:
            ValueError: a batch size or a number of members below 1.
        """
        images = self if device is None else self.to(device)
        return ImageBatches(
            images, batch_size, shuffle=shuffle, seed=seed, augment=augment, members=members
        )

    def in_order(self) -> ImageBatches:
        """Batches to read the whole set with: as large as a GPU likes, as small as a CPU's caches.

        On a CPU the CNN and ResNet-20 read batches of 100 at 2.4 times the speed of 1,000.
        """
        return self.batches(100 if self.device.type == "cpu" else 1000)


class ImageBatches:
    """The batches of an ``Images``: sized, and iterable again with a new order each time.

    ``set_epoch(0)`` starts the sequence of orders afresh, which ``minimise`` does, so that the same
    batches given to two methods come in the same order.
    """

    def __init__(self, images, batch_size, *, shuffle, seed, augment, members=None):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        if members is not None and members < 1:
            raise ValueError(f"members must be at least 1, not {members}")
        self.images, self.batch_size = images, batch_size
        self.shuffle, self.augment, self.members = shuffle, augment, members
        if seed is None:  # drawn where there is something to draw, so that reading draws nothing
            seed = int(torch.randint(2**31, ())) if shuffle or augment else 0
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def member(self, number: int) -> ImageBatches:
        """The batches of one member alone."""
        seed, augment = self.seed + number, self.augment
        return ImageBatches(
            self.images, self.batch_size, shuffle=self.shuffle, seed=seed, augment=augment
        )

    def __len__(self) -> int:
        return len(self._starts())

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        images, seeds = self.images, range(self.seed, self.seed + (self.members or 1))
        generators = [torch.Generator().manual_seed(s * 1_000_003 + self.epoch) for s in seeds]
        self.epoch += 1
        orders = torch.stack([self._order(generator) for generator in generators])  # (N, S)
        orders = orders.to(images.device)
        starts = self._starts()
        for start, stop in zip(starts, [*starts[1:], len(images)], strict=True):
            positions = orders[:, start:stop].flatten()
            pixels = images.images.index_select(0, positions)
            if self.augment:
                pixels = flip_and_crop(pixels, *generators, mirror=images.mirror)
            batch = images.normalise(pixels), images.labels.index_select(0, positions)
            if self.members is not None:
                batch = tuple(part.unflatten(0, (self.members, -1)) for part in batch)
            yield batch

    def _order(self, generator: torch.Generator) -> Tensor:
        if self.shuffle:
            return torch.randperm(len(self.images), generator=generator)
        return torch.arange(len(self.images))

    def _starts(self) -> list[int]:
        """First position of each batch. While training (``shuffle``) a last batch of one image
        joins the one before it, since BatchNorm has no variance to take from one image."""
        starts = list(range(0, len(self.images), self.batch_size))
        lonely = self.shuffle and len(starts) > 1 and len(self.images) - starts[-1] == 1
        return starts[:-1] if lonely else starts


def flip_and_crop(
    images: Tensor, *generators: torch.Generator, mirror: bool, padding: int = 4
) -> Tensor:
    """Crop each padded image at its own random place and mirror half of them.

    A crop is one ``index_select`` of whole rows from a view in which every pixel starts a row: it
    was measured 40 times faster than advanced indexing (512 x 3 x 32 x 32: 0.18 ms against 7.5).

    Args:
        images: uint8, (B, C, H, W), on any device.
        generators: CPU generators; each draws, for its equal share of the images, two offsets and
            one coin an image.
    """
    count, channels, height, width = images.shape
    offsets, coins = [], []
    for generator in generators:
        each = count // len(generators)
        offsets.append(torch.randint(2 * padding + 1, (2, each, 1, 1), generator=generator))
        coins.append(torch.rand(each, generator=generator))
    if mirror:
        coins = (torch.cat(coins) < 0.5).to(images.device).view(-1, 1, 1, 1)
        images = torch.where(coins, images.flip(-1), images)
    padded = F.pad(images, (padding,) * 4)
    tall, wide = padded.shape[-2:]
    down, right = torch.cat(offsets, dim=1).to(images.device)
    planes = torch.arange(count * channels, device=images.device).view(count, channels, 1)
    rows = planes * tall + down + torch.arange(height, device=images.device)  # (B, C, H)
    first_pixels = (rows * wide + right).flatten()
    every_row = padded.flatten().as_strided((padded.numel() - width + 1, width), (1, 1))
    return every_row.index_select(0, first_pixels).view(count, channels, height, width)


# ------------------------------------------------------------------------------------------------
# The sets that have a name


@dataclass(frozen=True)
class Source:
    """A named set: how torchvision calls it, and how its pixels are normalised."""

    torchvision_name: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mirror: bool = False
    digest: str | None = None


def names(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


DIGITS = tuple("0123456789")
SOURCES = {
    "mnist": Source(
        "MNIST",
        DIGITS,
        (0.1307,),
        (0.3081,),
        digest="52cd6c10ae77107af32269dd9d10ca19c1b749e83235a0c75e2f0729ebeaf141",
    ),
    "fashion_mnist": Source(
        "FashionMNIST",
        names("T-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot"),
        (0.2860,),
        (0.3530,),
        mirror=True,
    ),
    "cifar10": Source(
        "CIFAR10",
        names("airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck"),
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
        mirror=True,
    ),
    "cifar100": Source(
        "CIFAR100",
        tuple(str(label) for label in range(100)),
        (0.5071, 0.4865, 0.4409),
        (0.2673, 0.2564, 0.2762),
        mirror=True,
    ),
    "svhn": Source("SVHN", DIGITS, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
}
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
UNREADABLE = (EOFError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)


def load(
    name: str, *, root: Path | str = DATA, train_size: int | None = None
) -> tuple[Images, Images]:
    """Training and test images of a named set, from ``root/<name>.npz``.

    MNIST ships with the repo. The others come through torchvision the first time, are kept as one
    npz of uint8 arrays (images N x H x W or N x H x W x C) and read from it afterwards.

    Args:
        name: "mnist", "fashion_mnist", "cifar10", "cifar100" or "svhn".
        root: folder of the npz files.
        train_size: take a fixed, class-balanced subset of the training images. Small sets overfit,
            which is what makes membership worth attacking.

    Raises:
        ValueError: no set of that name; a file with other arrays, or, for MNIST, other pixels than
            it shipped with; a ``train_size`` that the set cannot give in equal parts.
        ConnectionError: not there yet and no network; says which file to put in place.
    """
    if name not in SOURCES:
        raise ValueError(f"there is no data set {name!r}: choose one of {', '.join(SOURCES)}")
    path = Path(root) / f"{name}.npz"
    if not path.exists():
        download(name, path)
    source, arrays = SOURCES[name], read_arrays(path)
    if source.digest and digest(arrays[key] for key in ARRAYS) != source.digest:
        raise ValueError(
            f"{path} does not hold the {name} that ships with this repo: "
            f"delete it, then restore it with git checkout or let load('{name}') download it"
        )
    train, test = (
        Images(
            channels_first(arrays[f"{part}_images"]),
            torch.from_numpy(arrays[f"{part}_labels"].astype(np.int64)),
            source.classes,
            source.mean,
            source.std,
            source.mirror,
        )
        for part in ("train", "test")
    )
    return (train if train_size is None else balanced_subset(train, train_size)), test


def balanced_subset(images: Images, size: int) -> Images:
    """The same ``size`` images every time, equally many of each class (to within one)."""
    counts = torch.bincount(images.labels.cpu(), minlength=images.num_classes)
    each, extra = divmod(size, images.num_classes)
    if size < 1 or each + (extra > 0) > int(counts.min()):
        raise ValueError(
            f"train_size must be between 1 and {int(counts.min()) * images.num_classes}, "
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
    """N x H x W or N x H x W x C to a tensor (N, C, H, W)."""
    if images.ndim not in (3, 4):
        raise ValueError(f"images must be N x H x W or N x H x W x C, not {images.shape}")
    tensor = torch.from_numpy(images)
    return tensor[:, None] if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2).contiguous()


def digest(arrays: Iterable[np.ndarray]) -> str:
    """SHA-256 of the arrays' types, shapes and bytes."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.dtype.str}{array.shape}".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            return {key: file[key] for key in ARRAYS}
    except UNREADABLE as error:
        raise ValueError(
            f"{path} cannot be read as a data set ({error}): it should be an npz of "
            f"{', '.join(ARRAYS)}; delete it and load again"
        ) from error


def download(name: str, path: Path) -> None:
    """Fetch a set through torchvision (which checks its sums and shows a bar) into ``path``."""
    print(f"{name}: downloading once, to be kept as {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{name}-") as folder:
        try:
            arrays = fetch(SOURCES[name].torchvision_name, folder)
        except (OSError, RuntimeError) as error:
            raise ConnectionError(
                f"{name} could not be downloaded ({str(error).strip() or type(error).__name__}): "
                f"connect to the network and load again, or put {name}.npz (uint8 arrays "
                f"{', '.join(ARRAYS)}) at {path}"
            ) from error
        with whole(path) as beside:
            np.savez_compressed(beside, **arrays)


def fetch(torchvision_name: str, folder: str) -> dict[str, np.ndarray]:
    """Download the two parts of a torchvision set, as arrays by their names in the npz."""
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
