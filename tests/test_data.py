"""data: the named sets, from the file that ships, one put in place by hand, and the network."""

import errno
import gzip
import hashlib
import io
import os
import pickle
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io
import torch
import torchvision
from torchvision import datasets

from unlearning import Images, data, load
from unlearning.data import ARRAYS, SOURCES, balanced_subset

# ------------------------------------------------------------------------------------------------
# MNIST, as it ships


@pytest.fixture(scope="module")
def mnist():
    return load("mnist")


def test_mnist_ships_whole(mnist):
    train, test = mnist
    assert train.images.shape == (60_000, 1, 28, 28)
    assert test.images.shape == (10_000, 1, 28, 28)
    assert train.classes == test.classes == tuple("0123456789")
    # as counted at yann.lecun.com/exdb/mnist
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(train.labels).tolist() == counts
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert torch.bincount(test.labels).tolist() == counts
    pixels = train.normalise(train.images[:10_000])
    assert pixels.mean().abs() < 0.01 and (pixels.std() - 1).abs() < 0.01


def test_mnist_with_one_pixel_changed_is_refused(tmp_path):
    path = tmp_path / "mnist.npz"
    with np.load(data.DATA / "mnist.npz") as file:
        arrays = {key: file[key] for key in ARRAYS}
    arrays["test_images"][1234, 14, 14] ^= 1
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="does not hold the mnist that ships with this repo"):
        load("mnist", root=tmp_path)


def test_train_size_takes_a_fixed_class_balanced_subset(mnist):
    train, test = mnist
    torch.manual_seed(1)
    state = torch.get_rng_state()
    small, same_test = load("mnist", train_size=503)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.bincount(small.labels).tolist() == [51] * 3 + [50] * 7
    assert len(small.indices.unique()) == 503
    assert torch.equal(small.images, train.images[small.indices])
    assert torch.equal(small.labels, train.labels[small.indices])
    assert torch.equal(same_test.images, test.images)
    larger = set(balanced_subset(train, 5000).indices.tolist())
    assert set(balanced_subset(train, 500).indices.tolist()) < larger


@pytest.mark.parametrize("size", [0, -1, 13, 1000])
def test_train_size_that_the_classes_cannot_give_equally_is_refused(size):
    images = Images(torch.zeros(13, 1, 2, 2, dtype=torch.uint8), torch.tensor([0] * 9 + [1] * 4))
    assert len(balanced_subset(images, 8)) == 8
    with pytest.raises(ValueError, match=f"train_size must be between 1 and 8, .* not {size}"):
        balanced_subset(images, size)


def test_unknown_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no data set 'minst': choose one of mnist, fashion_mnist"):
        load("minst", root=tmp_path)


# ------------------------------------------------------------------------------------------------
# A file put in place by hand


def save_arrays(path, images, **changes):
    arrays = {"train_images": images, "test_images": images[:2]}
    arrays |= {"train_labels": np.arange(len(images)) % 10, "test_labels": np.arange(2)}
    arrays |= changes
    np.savez_compressed(path, **{k: v for k, v in arrays.items() if v is not None})


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("fashion_mnist", (20, 6, 6)),
        ("fashion_mnist", (20, 6, 6, 1)),
        ("cifar10", (20, 6, 6, 3)),
    ],
)
def test_grey_and_colour_layouts_become_channels_first(tmp_path, name, shape):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    save_arrays(tmp_path / f"{name}.npz", images)
    train, test = load(name, root=tmp_path)
    by_hand = images[:, None] if len(shape) == 3 else np.moveaxis(images, -1, 1)
    assert np.array_equal(train.images.numpy(), by_hand)
    assert np.array_equal(test.images.numpy(), by_hand[:2])
    assert train.labels.tolist() == [label % 10 for label in range(20)]
    assert len(train.mean) == train.in_channels


def broken_stream(good: bytes) -> bytes:
    return good[:150] + bytes(range(250)) * 4 + good[1150:]


def an_npy(good: bytes) -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda good: b"<html>not found</html>",
        lambda good: b"",
        lambda good: pickle.dumps({"train_images": 1}),
        lambda good: good[:700],
        an_npy,
        broken_stream,
    ],
    ids=["text", "nothing", "pickle", "half", "npy", "broken stream"],
)
def test_file_that_is_not_a_data_set_is_refused(tmp_path, spoil):
    path = tmp_path / "cifar10.npz"
    save_arrays(path, np.random.default_rng(0).integers(0, 16, (20, 30, 30), dtype=np.uint8))
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ValueError, match=r"cannot be read as a data set \(.*delete it and load"):
        load("cifar10", root=tmp_path)


@pytest.mark.parametrize(
    ("images", "changes"),
    [(np.zeros((20, 4, 4), np.uint8), {"test_labels": None}), (np.array([None] * 20), {})],
    ids=["without labels", "objects"],
)
def test_npz_of_other_arrays_is_refused(tmp_path, images, changes):
    save_arrays(tmp_path / "cifar10.npz", images, **changes)
    with pytest.raises(ValueError, match="should be an npz of train_images, train_labels, test_"):
        load("cifar10", root=tmp_path)


def test_flat_images_are_refused_by_their_shape(tmp_path):
    save_arrays(tmp_path / "cifar10.npz", np.zeros((20, 784), np.uint8))
    with pytest.raises(ValueError, match=r"N x H x W or N x H x W x C, not \(20, 784\)"):
        load("cifar10", root=tmp_path)


# ------------------------------------------------------------------------------------------------
# The network: torchvision's own code, with addresses of files on this machine


@pytest.fixture
def served(tmp_path_factory, monkeypatch):
    """A folder that torchvision takes for a server, its address, and monkeypatch."""
    folder = tmp_path_factory.mktemp("served")

    def copy(url, filename, **_):
        shutil.copyfile(url.removeprefix("file://"), filename)

    monkeypatch.setattr(torchvision.datasets.utils, "_urlretrieve", copy)
    return folder, f"{folder.as_uri()}/", monkeypatch


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def idx(array) -> bytes:
    """The format of MNIST: two zeros, 8 for uint8, the number of axes, their sizes, the bytes."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def publish_idx(dataset, arrays, folder, url, monkeypatch):
    resources = []
    for part, prefix in (("train", "train"), ("test", "t10k")):
        for kind, name in (("images", "images-idx3"), ("labels", "labels-idx1")):
            content = gzip.compress(idx(arrays[f"{part}_{kind}"]))
            file = f"{prefix}-{name}-ubyte.gz"
            (folder / file).write_bytes(content)
            resources.append((file, md5(content)))
    monkeypatch.setattr(dataset, "mirrors", [url])
    monkeypatch.setattr(dataset, "resources", resources)


def publish_cifar(name, arrays, folder, url, monkeypatch):
    """A class with the arrays of torchvision's, which fails as it does where a file is broken."""
    (folder / "archive").write_bytes(b"whole")

    def cifar(root, train, download):
        if (folder / "archive").read_bytes() != b"whole":
            raise RuntimeError("File not found or corrupted.")
        part = "train" if train else "test"
        labels = arrays[f"{part}_labels"].tolist()
        return SimpleNamespace(data=arrays[f"{part}_images"], targets=labels)

    monkeypatch.setattr(datasets, name, cifar)


def publish_svhn(arrays, folder, url, monkeypatch):
    """Matlab files of (H, W, C, N) images and (N, 1) labels, in which the digit 0 is a 10."""
    split_list = {}
    for part in ("train", "test"):
        labels = arrays[f"{part}_labels"][:, None]
        content = {
            "X": arrays[f"{part}_images"].transpose(1, 2, 3, 0),
            "y": np.where(labels == 0, 10, labels).astype(np.uint8),
        }
        file = f"{part}_32x32.mat"
        scipy.io.savemat(folder / file, content)
        split_list[part] = [url + file, file, md5((folder / file).read_bytes())]
    monkeypatch.setattr(datasets.SVHN, "split_list", split_list)


def publish(name, folder, url, monkeypatch) -> dict[str, np.ndarray]:
    """Put a small set of that name into the folder and torchvision onto it; return its arrays."""
    draws = np.random.default_rng(0)
    shape = (28, 28) if name.endswith("mnist") else (32, 32, 3)
    arrays = {}
    for part, count in (("train", 25), ("test", 11)):
        arrays[f"{part}_images"] = draws.integers(0, 256, (count, *shape), dtype=np.uint8)
        labels = draws.integers(0, len(SOURCES[name].classes), count, dtype=np.uint8)
        labels[:2] = 0, len(SOURCES[name].classes) - 1
        arrays[f"{part}_labels"] = labels
    where = (arrays, folder, url, monkeypatch)
    {
        "mnist": lambda: publish_idx(datasets.MNIST, *where),
        "fashion_mnist": lambda: publish_idx(datasets.FashionMNIST, *where),
        "cifar10": lambda: publish_cifar("CIFAR10", *where),
        "cifar100": lambda: publish_cifar("CIFAR100", *where),
        "svhn": lambda: publish_svhn(*where),
    }[name]()
    return arrays


REMOTE = ["fashion_mnist", "cifar10", "cifar100", "svhn"]


@pytest.mark.parametrize("name", REMOTE)
def test_set_is_downloaded_once_and_read_from_its_npz_afterwards(
    name, served, tmp_path, monkeypatch, capsys
):
    arrays = publish(name, *served)
    root = tmp_path / "new"
    first = load(name, root=root)
    path = root / f"{name}.npz"
    assert capsys.readouterr().out == f"{name}: downloading once, to be kept as {path}\n"
    assert list(root.iterdir()) == [path]
    with np.load(path) as kept:
        assert sorted(kept) == sorted(ARRAYS)
        assert {kept[key].dtype for key in ARRAYS} == {np.dtype(np.uint8)}
    for images, part in zip(first, ("train", "test"), strict=True):
        expected = arrays[f"{part}_images"].reshape(len(images), 28 if "mnist" in name else 32, -1)
        shown = images.images.permute(0, 2, 3, 1).reshape(expected.shape)
        assert np.array_equal(shown, expected)
        assert np.array_equal(images.labels, arrays[f"{part}_labels"])
        assert images.classes == SOURCES[name].classes

    monkeypatch.setattr(data, "_fetch", lambda *_: pytest.fail("loaded through the network again"))
    for images, again in zip(first, load(name, root=root), strict=True):
        assert torch.equal(images.images, again.images)
        assert torch.equal(images.labels, again.labels)
    assert capsys.readouterr().out == ""


def test_mnist_is_downloaded_if_it_is_missing_and_refused_if_it_is_another(
    served, tmp_path, monkeypatch
):
    arrays = publish("mnist", *served)
    with pytest.raises(ValueError, match="does not hold the mnist that ships with this repo"):
        load("mnist", root=tmp_path)
    digest = data._digest(arrays[key] for key in ARRAYS)
    monkeypatch.setitem(SOURCES, "mnist", replace(SOURCES["mnist"], digest=digest))
    train, _ = load("mnist", root=tmp_path / "new")
    assert np.array_equal(train.images[:, 0], arrays["train_images"])


@pytest.mark.parametrize("name", [*SOURCES])
@pytest.mark.parametrize("fault", ["half", "missing"])
def test_download_that_fails_names_the_file_to_put_in_place_and_leaves_nothing(
    name, fault, served, tmp_path
):
    publish(name, *served)
    for path in served[0].iterdir():
        if fault == "half":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        else:
            path.unlink()
    with pytest.raises(ConnectionError) as caught:
        load(name, root=tmp_path)
    sentence = str(caught.value)
    assert f"{name} could not be downloaded (" in sentence and "connect to the network" in sentence
    assert {"half": "corrupted", "missing": "No such file"}[fault] in sentence
    assert sentence.endswith(f"at {tmp_path / name}.npz")
    assert list(tmp_path.iterdir()) == []


def test_download_onto_a_full_disk_leaves_nothing(served, tmp_path, monkeypatch):
    publish("svhn", *served)

    def fill(path, **_):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez_compressed", fill)
    with pytest.raises(OSError, match=r"svhn\.npz could not be written \(No space left on device"):
        load("svhn", root=tmp_path)
    assert list(tmp_path.iterdir()) == []
