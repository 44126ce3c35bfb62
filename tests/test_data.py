"""data: the named sets, from the file that ships, one put in place by hand, and the network."""

import errno
import gzip
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import scipy.io
import torch
import torchvision
from torchvision import datasets

from unlearning import Images, data, load
from unlearning.data import ARRAYS, SOURCES, balanced_subset

# Run by another interpreter and so killed alone, in the middle of a download.
KILLED = """
import os, sys
from unlearning import data

def fetch(name, folder):
    (folder / "part").write_text("half of it")
    os.kill(os.getpid(), 9)

data._fetch = fetch
data.load("svhn", root=sys.argv[1])
"""


def test_mnist_ships_whole():
    train, test = load("mnist")
    # as counted at yann.lecun.com/exdb/mnist
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(train.labels).tolist() == counts
    assert len(test) == 10_000
    pixels = train.normalise(train.images[:10_000])
    assert pixels.mean().abs() < 0.01 and (pixels.std() - 1).abs() < 0.01


def test_mnist_with_one_pixel_changed_is_refused(tmp_path):
    with np.load(data.DATA / "mnist.npz") as file:
        arrays = {key: file[key] for key in ARRAYS}
    arrays["test_images"][1234, 14, 14] ^= 1
    np.savez(tmp_path / "mnist.npz", **arrays)
    with pytest.raises(ValueError, match="does not hold the mnist that ships with this repo"):
        load("mnist", root=tmp_path)
    with pytest.raises(ValueError, match="no data set 'minst': choose one of mnist, fashion_mnist"):
        load("minst", root=tmp_path)


def test_train_size_takes_a_fixed_class_balanced_subset():
    train, state = load("mnist")[0], torch.get_rng_state()
    small, _ = load("mnist", train_size=503)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.bincount(small.labels).tolist() == [51] * 3 + [50] * 7
    assert len(small.indices.unique()) == 503
    assert torch.equal(small.images, train.images[small.indices])
    same, few = load("mnist", train_size=503, test_size=500)
    assert torch.equal(same.indices, small.indices)
    assert torch.bincount(few.labels).tolist() == [50] * 10
    with pytest.raises(ValueError, match=r"test_size must be between 1 and 8920, .* not 9000"):
        load("mnist", test_size=9000)
    larger = set(balanced_subset(train, 5000).indices.tolist())
    assert set(balanced_subset(train, 500).indices.tolist()) < larger
    images = Images(torch.zeros(13, 1, 2, 2, dtype=torch.uint8), torch.tensor([0] * 9 + [1] * 4))
    for size in (0, 9):
        with pytest.raises(ValueError, match=f"must be between 1 and 8, .* not {size}"):
            balanced_subset(images, size)


def save_arrays(path, images, **changes):
    arrays = {"train_images": images, "test_images": images[:2]}
    arrays |= {"train_labels": np.arange(len(images)) % 10, "test_labels": np.arange(2), **changes}
    np.savez_compressed(path, **{k: v for k, v in arrays.items() if v is not None})


@pytest.mark.parametrize("shape", [(20, 6, 6), (20, 6, 6, 1), (20, 6, 6, 3)])
def test_grey_and_colour_layouts_become_channels_first(tmp_path, shape):
    name = "cifar10" if shape[-1] == 3 else "fashion_mnist"
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    save_arrays(tmp_path / f"{name}.npz", images)
    train, test = load(name, root=tmp_path)
    by_hand = images[:, None] if len(shape) == 3 else np.moveaxis(images, -1, 1)
    assert np.array_equal(train.images.numpy(), by_hand)
    assert np.array_equal(test.images.numpy(), by_hand[:2])
    assert train.labels.tolist() == [label % 10 for label in range(20)]


def test_file_that_is_not_a_data_set_is_refused(tmp_path):
    path = tmp_path / "cifar10.npz"
    save_arrays(path, np.random.default_rng(0).integers(0, 16, (20, 30, 30), dtype=np.uint8))
    good = path.read_bytes()
    for spoilt in (b"", good[:700], good[:150] + bytes(range(250)) * 4 + good[1150:]):
        path.write_bytes(spoilt)
        with pytest.raises(ValueError, match=r"cannot be read as a data set \(.*delete it and lo"):
            load("cifar10", root=tmp_path)
    small = np.zeros((20, 4, 4, 3), np.uint8)
    for images, changes, words in (
        (small, {"test_labels": None}, "npz of train_images, train_lab"),
        (np.array([None] * 20), {}, "should be an npz of train_images, train_labels"),
        (small[:0], {}, "at least one image"),
        (np.zeros((20, 784), np.uint8), {}, r"N x H x W or N x H x W x C, .*not \(20, 784\)"),
        (np.zeros((20, 3, 32, 32), np.uint8), {}, r"1, 3 or 4 channels, not \(20, 3, 32, 32\)"),
        (np.zeros((20, 1, 28, 28), np.uint8), {}, r"1, 3 or 4 channels, not \(20, 1, 28, 28\)"),
        (np.full((20, 4, 4), np.nan), {}, "train_images must be uint8 .*, not float64"),
        (np.zeros((20, 4, 4), ">u2"), {}, "train_images must be uint8 .*, not >u2"),
        (small, {"train_labels": np.full(20, 0.5)}, "train_labels whole numbers, not .* float64"),
        (small, {"test_labels": np.array([0, 10])}, "labels go from 0 to 10, but 10 classes"),
        (small, {"test_labels": np.array([-1, 0])}, "labels go from -1 to 0"),
        (small, {"test_labels": np.arange(3)}, r"labels must be integers of shape \(2,\)"),
    ):
        save_arrays(path, images, **changes)
        with pytest.raises(ValueError, match=words):
            load("cifar10", root=tmp_path)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def publish_idx(dataset, arrays, folder, monkeypatch):
    """MNIST's format: two zeros, 8 for uint8, the number of axes, their sizes, the bytes."""
    resources = []
    for key, file in zip(ARRAYS, ["train-images-idx3", "train-labels-idx1"] * 2, strict=True):
        file = f"{file.replace('train', 't10k') if 'test' in key else file}-ubyte.gz"
        array = arrays[key]
        head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
        (folder / file).write_bytes(gzip.compress(head + array.tobytes()))
        resources.append((file, md5((folder / file).read_bytes())))
    monkeypatch.setattr(dataset, "mirrors", [f"{folder.as_uri()}/"])
    monkeypatch.setattr(dataset, "resources", resources)


def publish_svhn(arrays, folder, monkeypatch):
    """Matlab files of (H, W, C, N) images and (N, 1) labels, in which the digit 0 is a 10."""
    split_list = {}
    for part in ("train", "test"):
        labels = arrays[f"{part}_labels"][:, None]
        pixels = arrays[f"{part}_images"].transpose(1, 2, 3, 0)
        file = f"{part}_32x32.mat"
        scipy.io.savemat(folder / file, {"X": pixels, "y": np.where(labels == 0, 10, labels)})
        digest = md5((folder / file).read_bytes())
        split_list[part] = [f"{folder.as_uri()}/{file}", file, digest]
    monkeypatch.setattr(datasets.SVHN, "split_list", split_list)


@pytest.fixture
def publish(tmp_path_factory, monkeypatch):
    """Put a small set of a name on "the network"; return its arrays and the server's folder."""
    folder, draws = tmp_path_factory.mktemp("served"), np.random.default_rng(0)

    def copy(url, filename, **_):
        shutil.copyfile(url.removeprefix("file://"), filename)

    def make(name):
        shape, arrays = (28, 28) if name.endswith("mnist") else (32, 32, 3), {}
        for part, count in (("train", 25), ("test", 11)):
            arrays[f"{part}_images"] = draws.integers(0, 256, (count, *shape), dtype=np.uint8)
            arrays[f"{part}_labels"] = np.arange(count, dtype=np.uint8) % 10
        if name == "svhn":
            publish_svhn(arrays, folder, monkeypatch)
        else:
            dataset = getattr(datasets, SOURCES[name].torchvision_name)
            publish_idx(dataset, arrays, folder, monkeypatch)
        return arrays, folder

    monkeypatch.setattr(torchvision.datasets.utils, "_urlretrieve", copy)
    return make


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "svhn"])
def test_set_is_downloaded_once_and_read_from_its_npz_afterwards(
    name, publish, tmp_path, monkeypatch, capsys
):
    arrays, _ = publish(name)
    if name == "mnist":  # another than the one that ships would be refused
        digest = data._digest(arrays[key] for key in ARRAYS)
        monkeypatch.setitem(SOURCES, name, replace(SOURCES[name], digest=digest))
    path = tmp_path / "new" / f"{name}.npz"
    first = load(name, root=path.parent)
    assert capsys.readouterr().out == f"{name}: downloading once, to be kept as {path}\n"
    assert list(path.parent.iterdir()) == [path]
    for images, part in zip(first, ("train", "test"), strict=True):
        expected = arrays[f"{part}_images"].reshape(len(images), *images.images.shape[2:], -1)
        assert np.array_equal(images.images.permute(0, 2, 3, 1), expected)
        assert np.array_equal(images.labels, arrays[f"{part}_labels"])

    monkeypatch.setattr(data, "_fetch", lambda *_: pytest.fail("loaded through the network again"))
    for images, again in zip(first, load(name, root=path.parent), strict=True):
        assert torch.equal(images.images, again.images)
        assert torch.equal(images.labels, again.labels)


@pytest.mark.parametrize("name", ["mnist", "svhn"])
@pytest.mark.parametrize("fault", ["corrupted", "No such file"])
def test_download_that_fails_names_the_file_to_put_in_place(name, fault, publish, tmp_path):
    _, folder = publish(name)
    for path in folder.iterdir():
        half = path.read_bytes()[: path.stat().st_size // 2]
        path.write_bytes(half) if fault == "corrupted" else path.unlink()
    with pytest.raises(ConnectionError) as caught:
        load(name, root=tmp_path)
    sentence = str(caught.value)
    assert f"{name} could not be downloaded (" in sentence and "connect to the network" in sentence
    assert fault in sentence and sentence.endswith(f"at {tmp_path / name}.npz")
    assert list(tmp_path.iterdir()) == []


def test_download_onto_a_full_disk_leaves_nothing(publish, tmp_path, monkeypatch):
    def fill(path, **_):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    publish("svhn")
    monkeypatch.setattr(np, "savez_compressed", fill)
    with pytest.raises(OSError, match=r"svhn\.npz could not be written \(No space left on device"):
        load("svhn", root=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_download_that_the_disk_stops_does_not_blame_the_network(tmp_path, monkeypatch, number):
    def stop(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(data, "_fetch", stop)
    words = rf"svhn\.npz could not be written \({os.strerror(number)}\)"
    with pytest.raises(OSError, match=words) as caught:
        load("svhn", root=tmp_path)
    assert not isinstance(caught.value, ConnectionError) and list(tmp_path.iterdir()) == []


def test_what_cannot_be_opened_or_made_is_not_said_to_be_damaged(tmp_path):
    (tmp_path / "svhn.npz").mkdir()
    with pytest.raises(OSError, match=r"svhn\.npz cannot be opened \(Is a directory\)"):
        load("svhn", root=tmp_path)
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(OSError, match=r"svhn\.npz cannot be opened \(Not a directory\)"):
            load("svhn", root=root)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_the_next_download_removes_what_a_killed_one_left(publish, tmp_path):
    publish("svhn")
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    assert subprocess.run(command, cwd=data.ROOT).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert (left / "part").read_text() == "half of it"
    load("svhn", root=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["svhn.npz"]
