"""Images and their batches; the named sets, from the file that ships and through the network."""

import errno
import functools
import gc
import gzip
import hashlib
import http.server
import io
import os
import pickle
import tarfile
import threading

import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import datasets

from unlearning import Images, data, load
from unlearning.data import ARRAYS, SOURCES, balanced_subset, flip_and_crop

# urllib leaves a socket open in the error of a failed download
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(scope="module", autouse=True)
def no_socket_outlives_this_file():
    yield
    gc.collect()


# ------------------------------------------------------------------------------------------------
# Images


def numbered(count, **options) -> Images:
    """Images whose one pixel and label are their own place in the set."""
    places = torch.arange(count)
    return Images(places.to(torch.uint8).view(-1, 1, 1, 1), places, **options)


def test_batch_is_normalised_as_the_formula_says():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (5, 3, 4, 4), generator=generator, dtype=torch.uint8)
    mean, std = (0.1, 0.5, 0.7), (0.2, 1.0, 3.0)
    images = Images(pixels, torch.zeros(5, dtype=torch.long), mean=mean, std=std)
    normalised = images.normalise(pixels)
    assert normalised.dtype == torch.float32
    for channel in range(3):
        by_hand = (pixels[:, channel].double() / 255 - mean[channel]) / std[channel]
        torch.testing.assert_close(normalised[:, channel].double(), by_hand, rtol=1e-5, atol=1e-6)


def test_default_normalisation_is_the_scale_of_0_to_1():
    images = Images(torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1), torch.arange(3))
    torch.testing.assert_close(
        images.normalise(images.images).flatten(), torch.tensor([0, 0.2, 1.0])
    )


def test_images_know_their_sizes():
    images = Images(torch.zeros(5, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 3, 0, 1, 0]))
    assert (len(images), images.in_channels, images.image_size) == (5, 3, 8)
    assert (images.num_classes, images.classes) == (4, ("0", "1", "2", "3"))
    assert images.indices.tolist() == [0, 1, 2, 3, 4]
    assert images.device == torch.device("cpu")


def test_selecting_twice_keeps_the_places_in_the_first_set():
    images = numbered(9).select(torch.tensor([8, 2, 5])).select(torch.tensor([2, 0]))
    assert images.indices.tolist() == images.labels.tolist() == [5, 8]
    assert images.images.flatten().tolist() == [5, 8]
    assert images.num_classes == 9


def test_of_classes_takes_those_or_all_others():
    images = Images(torch.zeros(5, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 2, 1, 2, 0]))
    assert images.of_classes([2, 1]).indices.tolist() == [1, 2, 3]
    assert images.of_classes([2, 1], others=True).indices.tolist() == [0, 4]


PIXELS = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("images", "labels", "options", "sentence"),
    [
        (
            PIXELS.float(),
            torch.arange(3),
            {},
            "images must be uint8 of shape (N, C, H, W), not torch.float32 of shape (3, 1, 2, 2)",
        ),
        (
            PIXELS[:, 0],
            torch.arange(3),
            {},
            "images must be uint8 of shape (N, C, H, W), not torch.uint8 of shape (3, 2, 2)",
        ),
        (PIXELS[:0], torch.arange(0), {}, "a set of images must hold at least one image"),
        (
            PIXELS,
            torch.arange(2),
            {},
            "labels must be integers of shape (3,), not torch.int64 of shape (2,)",
        ),
        (
            PIXELS,
            torch.arange(3).float(),
            {},
            "labels must be integers of shape (3,), not torch.float32 of shape (3,)",
        ),
        (
            PIXELS,
            torch.tensor([0, -1, 1]),
            {},
            "labels go from -1 to 1, but 2 classes are numbered from 0 to 1",
        ),
        (
            PIXELS,
            torch.arange(3),
            {"classes": ("cat", "dog")},
            "labels go from 0 to 2, but 2 classes are numbered from 0 to 1",
        ),
    ],
)
def test_images_that_are_none_are_refused_in_one_sentence(images, labels, options, sentence):
    with pytest.raises(ValueError) as caught:
        Images(images, labels, **options)
    assert str(caught.value) == sentence


# ------------------------------------------------------------------------------------------------
# Batches


def order(batches):
    return [int(label) for _, labels in batches for label in labels]


@given(st.integers(1, 60), st.integers(1, 70), st.booleans(), st.booleans())
def test_batches_hold_every_image_once_with_its_own_label(count, batch_size, shuffle, augment):
    images = numbered(count)
    batches = images.batches(batch_size, shuffle=shuffle, seed=0)
    for _ in range(2):
        got = list(batches)
        assert len(got) == len(batches)
        assert sorted(order(got)) == list(range(count))
        for pixels, labels in got:
            assert (pixels.dtype, labels.dtype) == (torch.float32, torch.int64)
            torch.testing.assert_close(pixels.flatten() * 255, labels.float())


@given(st.integers(2, 60), st.integers(2, 70))
def test_last_batch_of_one_joins_the_one_before_when_shuffling(count, batch_size):
    sizes = [len(labels) for _, labels in numbered(count).batches(batch_size, shuffle=True)]
    assert min(sizes) > 1
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    assert sizes[-1] <= batch_size + 1


def test_last_batch_of_one_stays_alone_when_not_shuffling():
    assert [len(labels) for _, labels in numbered(9).batches(4)] == [4, 4, 1]


def test_batches_come_in_the_order_of_the_set_unless_shuffled():
    assert order(numbered(10).batches(4)) == list(range(10))
    assert order(numbered(50).batches(4, shuffle=True, seed=0)) != list(range(50))


def test_order_is_a_function_of_seed_and_epoch_alone():
    images = numbered(50)
    torch.manual_seed(0)
    first = images.batches(8, shuffle=True, seed=3)
    epochs = [order(first) for _ in range(3)]
    torch.manual_seed(1)
    torch.rand(7)
    second = images.batches(16, shuffle=True, seed=3)
    next(iter(second))  # an epoch left early is an epoch
    assert order(second) == epochs[1]
    for epoch in (2, 0, 1):
        second.set_epoch(epoch)
        assert order(second) == epochs[epoch]


def test_every_epoch_and_every_seed_has_another_order():
    images = numbered(50)
    batches = images.batches(8, shuffle=True, seed=3)
    orders = [tuple(order(batches)) for _ in range(4)]
    orders += [tuple(order(images.batches(8, shuffle=True, seed=seed))) for seed in range(3)]
    assert len(set(orders)) == 7


@pytest.mark.parametrize("options", [{}, {"shuffle": True, "augment": True, "seed": 0}])
def test_batches_in_order_or_with_a_seed_leave_the_global_generator_alone(options):
    images = numbered(20)
    state = torch.get_rng_state()
    list(images.batches(8, **options))
    assert torch.equal(torch.get_rng_state(), state)


def test_without_a_seed_the_order_follows_the_global_generator():
    images = numbered(50)

    def drawn(global_seed):
        torch.manual_seed(global_seed)
        return [order(images.batches(8, shuffle=True)) for _ in range(2)]

    assert drawn(0) == drawn(0)
    assert drawn(0)[0] != drawn(0)[1]
    assert drawn(0) != drawn(1)


def test_batches_of_no_images_are_refused():
    with pytest.raises(ValueError, match=r"^batch_size must be at least 1, not 0$"):
        numbered(5).batches(0)


def slow_flip_and_crop(images, downs, rights, coins, mirror):
    """Image by image: mirrored if its coin says so, padded by 4 black pixels, cropped."""
    results = []
    for image, down, right, coin in zip(images.numpy(), downs, rights, coins, strict=True):
        image = image[:, :, ::-1] if mirror and coin else image
        padded = np.pad(image, ((0, 0), (4, 4), (4, 4)))
        height, width = image.shape[1:]
        results.append(padded[:, down : down + height, right : right + width])
    return torch.from_numpy(np.stack(results))


@given(
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(1, 12),
    st.integers(1, 12),
    st.booleans(),
    st.integers(0, 1000),
)
def test_augmentation_is_pad_crop_and_flip_of_each_image(
    count, channels, height, width, mirror, seed
):
    draws = torch.Generator().manual_seed(seed)
    shape = (count, channels, height, width)
    images = torch.randint(256, shape, generator=draws, dtype=torch.uint8)
    fast = flip_and_crop(images, torch.Generator().manual_seed(seed), mirror=mirror)
    draws.manual_seed(seed)
    downs, rights = torch.randint(9, (2, count), generator=draws).tolist()
    coins = (torch.rand(count, generator=draws) < 0.5).tolist()
    assert torch.equal(fast, slow_flip_and_crop(images, downs, rights, coins, mirror))


def test_augmentation_is_drawn_anew_for_each_image_and_each_epoch():
    one = torch.randint(256, (1, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator())
    images = Images(one.expand(64, -1, -1, -1), torch.zeros(64, dtype=torch.long), mirror=True)
    batches = images.batches(64, augment=True, seed=0)
    ((first, _),), ((second, _),) = list(batches), list(batches)
    # 64 draws of 81 places and 2 sides: 53 different ones on average
    assert len(first.unique(dim=0)) > 40
    assert not torch.equal(first, second)
    ((again, _),) = images.batches(64, augment=True, seed=0)
    assert torch.equal(first, again)


def test_a_set_that_may_not_be_mirrored_is_only_shifted():
    ramp = torch.arange(1, 17, dtype=torch.uint8).expand(64, 1, 16, 16)
    for mirror in (False, True):
        images = Images(ramp.contiguous(), torch.zeros(64, dtype=torch.long), mirror=mirror)
        ((pixels, _),) = images.batches(64, augment=True, seed=0)
        falling = (pixels.diff(dim=-1) * 255).round() == -1
        assert bool(falling.any()) is mirror


def test_the_set_moves_to_the_device_once_and_not_every_epoch(monkeypatch):
    moves = []
    monkeypatch.setattr(Images, "to", lambda images, device: moves.append(device) or images)
    batches = numbered(20).batches(8, device="the device")
    for _ in range(3):
        list(batches)
    assert moves == ["the device"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_batches_on_a_gpu_are_those_on_the_cpu():
    pixels = torch.randint(256, (50, 3, 8, 8), dtype=torch.uint8)
    images = Images(pixels, torch.arange(50), mirror=True)
    options = {"shuffle": True, "augment": True, "seed": 0}
    here, there = images.batches(8, **options), images.batches(8, device="cuda", **options)
    for (mine, labels), (theirs, their_labels) in zip(here, there, strict=True):
        assert theirs.device.type == their_labels.device.type == "cuda"
        torch.testing.assert_close(mine, theirs.cpu())
        assert torch.equal(labels, their_labels.cpu())


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


def test_mnist_is_normalised_to_mean_0_and_deviation_1(mnist):
    train, _ = mnist
    pixels = train.normalise(train.images[:10_000])
    assert pixels.mean().abs() < 0.01
    assert (pixels.std() - 1).abs() < 0.01


def test_mnist_with_one_pixel_changed_is_refused(tmp_path):
    path = tmp_path / "mnist.npz"
    with np.load(data.DATA / "mnist.npz") as file:
        arrays = {key: file[key] for key in ARRAYS}
    arrays["test_images"][1234, 14, 14] ^= 1
    np.savez(path, **arrays)
    with pytest.raises(ValueError) as caught:
        load("mnist", root=tmp_path)
    assert str(caught.value) == (
        f"{path} does not hold the mnist that ships with this repo: "
        "delete it, then restore it with git checkout or let load('mnist') download it"
    )


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
    torch.manual_seed(2)
    assert torch.equal(balanced_subset(train, 503).indices, small.indices)


def test_smaller_subset_lies_within_the_larger_one(mnist):
    train, _ = mnist
    small, large = balanced_subset(train, 500), balanced_subset(train, 5000)
    assert set(small.indices.tolist()) < set(large.indices.tolist())


@pytest.mark.parametrize("size", [0, -1, 13, 1000])
def test_train_size_that_the_classes_cannot_give_equally_is_refused(size):
    images = Images(torch.zeros(13, 1, 2, 2, dtype=torch.uint8), torch.tensor([0] * 9 + [1] * 4))
    assert len(balanced_subset(images, 8)) == 8
    with pytest.raises(ValueError) as caught:
        balanced_subset(images, size)
    assert str(caught.value) == (
        f"train_size must be between 1 and 8, so that every class gives equally many, not {size}"
    )


def test_unknown_set_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(ValueError) as caught:
        load("minst", root=tmp_path)
    assert str(caught.value) == (
        "there is no data set 'minst': choose one of mnist, fashion_mnist, cifar10, cifar100, svhn"
    )


def test_named_sets_have_as_many_names_and_channels_as_they_should():
    sizes = {
        name: (len(source.classes), len(source.mean), len(source.std))
        for name, source in SOURCES.items()
    }
    assert sizes == {
        "mnist": (10, 1, 1),
        "fashion_mnist": (10, 1, 1),
        "cifar10": (10, 3, 3),
        "cifar100": (100, 3, 3),
        "svhn": (10, 3, 3),
    }


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


def test_means_are_given_once_or_for_each_channel(tiny):
    with pytest.raises(ValueError, match="once or for each of 1 channels, not 3 and 1 times"):
        Images(tiny.images, tiny.labels, mean=(0.1, 0.2, 0.3), std=(0.5,))


def write_text(path):
    path.write_text("<html>not found</html>")


def write_nothing(path):
    path.touch()


def write_npy(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def write_pickle(path):
    path.write_bytes(pickle.dumps({"train_images": 1}))


def write_without_labels(path):
    save_arrays(path, np.zeros((20, 4, 4), np.uint8), test_labels=None)


def write_objects(path):
    save_arrays(path, np.array([None] * 20))


def write_half(path):
    save_arrays(path, np.zeros((20, 4, 4), np.uint8))
    path.write_bytes(path.read_bytes()[:700])


def write_broken_stream(path):
    noise = np.random.default_rng(0).integers(0, 16, (20, 30, 30), dtype=np.uint8)
    save_arrays(path, noise)
    content = bytearray(path.read_bytes())
    content[150:1150] = bytes(range(250)) * 4
    path.write_bytes(content)


@pytest.mark.parametrize(
    "write",
    [
        write_text,
        write_nothing,
        write_npy,
        write_pickle,
        write_without_labels,
        write_objects,
        write_half,
        write_broken_stream,
    ],
)
def test_file_that_is_no_data_set_is_refused_in_one_sentence(tmp_path, write):
    path = tmp_path / "cifar10.npz"
    write(path)
    with pytest.raises(ValueError) as caught:
        load("cifar10", root=tmp_path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path} cannot be read as a data set (")
    assert sentence.endswith(
        "): it should be an npz of train_images, train_labels, test_images, test_labels; "
        "delete it and load again"
    )


def test_flat_images_are_refused_by_their_shape(tmp_path):
    save_arrays(tmp_path / "cifar10.npz", np.zeros((20, 784), np.uint8))
    with pytest.raises(
        ValueError, match=r"^images must be N x H x W or N x H x W x C, not \(20, 784\)$"
    ):
        load("cifar10", root=tmp_path)


# ------------------------------------------------------------------------------------------------
# The network: torchvision's own code, against a server on this machine


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path_factory, monkeypatch):
    """A folder, and the address where it is served; an empty one answers 404."""
    folder = tmp_path_factory.mktemp("served")
    monkeypatch.setenv("no_proxy", "*")
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def unreachable(monkeypatch):
    """Every torchvision set at an address where nobody answers."""
    monkeypatch.setenv("no_proxy", "*")
    nowhere = "http://127.0.0.1:9/"
    monkeypatch.setattr(datasets.MNIST, "mirrors", [nowhere])
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [nowhere])
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{nowhere}cifar-10-python.tar.gz")
    monkeypatch.setattr(datasets.CIFAR100, "url", f"{nowhere}cifar-100-python.tar.gz")
    split_list = {
        part: [f"{nowhere}{file}", file, md5]
        for part, (_, file, md5) in datasets.SVHN.split_list.items()
    }
    monkeypatch.setattr(datasets.SVHN, "split_list", split_list)


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


def publish_cifar(dataset, label_key, arrays, folder, url, monkeypatch):
    """A tar.gz of pickled dicts; the training images are spread over dataset's own batches."""

    def batch(part, rows):
        planes = arrays[f"{part}_images"][rows].transpose(0, 3, 1, 2).reshape(-1, 3072)
        labels = arrays[f"{part}_labels"][rows].tolist()
        return {"data": planes, label_key: labels, "coarse_labels": [0] * len(labels)}

    def listed(part, batches):
        rows = np.array_split(np.arange(len(arrays[f"{part}_images"])), len(batches))
        return {name: batch(part, some) for (name, _), some in zip(batches, rows, strict=True)}

    files = listed("train", dataset.train_list) | listed("test", dataset.test_list)
    files[dataset.meta["filename"]] = {dataset.meta["key"]: ["cat", "dog"]}
    files = {name: pickle.dumps(content) for name, content in files.items()}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{dataset.base_folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    (folder / dataset.filename).write_bytes(packed.getvalue())

    def summed(batches):
        return [[name, md5(files[name])] for name, _ in batches]

    monkeypatch.setattr(dataset, "url", url + dataset.filename)
    monkeypatch.setattr(dataset, "tgz_md5", md5(packed.getvalue()))
    monkeypatch.setattr(dataset, "train_list", summed(dataset.train_list))
    monkeypatch.setattr(dataset, "test_list", summed(dataset.test_list))
    meta = dataset.meta | {"md5": md5(files[dataset.meta["filename"]])}
    monkeypatch.setattr(dataset, "meta", meta)


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
    """Put a small set of that name on the server and torchvision onto it; returns its arrays."""
    draws = np.random.default_rng(0)
    shape = (28, 28) if name.endswith("mnist") else (32, 32, 3)
    arrays = {}
    for part, count in (("train", 25), ("test", 11)):
        arrays[f"{part}_images"] = draws.integers(0, 256, (count, *shape), dtype=np.uint8)
        labels = draws.integers(0, len(SOURCES[name].classes), count, dtype=np.uint8)
        labels[:2] = 0, len(SOURCES[name].classes) - 1
        arrays[f"{part}_labels"] = labels
    served = (arrays, folder, url, monkeypatch)
    if name == "mnist":
        publish_idx(datasets.MNIST, *served)
    elif name == "fashion_mnist":
        publish_idx(datasets.FashionMNIST, *served)
    elif name == "cifar10":
        publish_cifar(datasets.CIFAR10, "labels", *served)
    elif name == "cifar100":
        publish_cifar(datasets.CIFAR100, "fine_labels", *served)
    else:
        publish_svhn(*served)
    return arrays


REMOTE = ["fashion_mnist", "cifar10", "cifar100", "svhn"]
tar_warns = pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning")


@tar_warns
@pytest.mark.parametrize("name", REMOTE)
def test_set_comes_through_torchvision_once_and_from_its_npz_afterwards(
    name, server, tmp_path, monkeypatch, capsys
):
    arrays = publish(name, *server, monkeypatch)
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

    monkeypatch.setattr(data, "fetch", lambda *_: pytest.fail("loaded through the network again"))
    for images, again in zip(first, load(name, root=root), strict=True):
        assert torch.equal(images.images, again.images)
        assert torch.equal(images.labels, again.labels)
    assert capsys.readouterr().out == ""


@pytest.fixture
def mnist_served(server, monkeypatch):
    return publish("mnist", *server, monkeypatch)


def test_mnist_that_is_missing_is_downloaded(mnist_served, tmp_path, monkeypatch):
    same = data.replace(SOURCES["mnist"], digest=data.digest(mnist_served[key] for key in ARRAYS))
    monkeypatch.setitem(SOURCES, "mnist", same)
    train, _ = load("mnist", root=tmp_path)
    assert np.array_equal(train.images[:, 0], mnist_served["train_images"])


def test_downloaded_mnist_that_is_not_the_shipped_one_is_refused(mnist_served, tmp_path):
    with pytest.raises(ValueError, match="does not hold the mnist that ships with this repo"):
        load("mnist", root=tmp_path)


def refusal(name, root) -> str:
    """The sentence with which a download fails."""
    with pytest.raises(ConnectionError) as caught:
        load(name, root=root)
    return str(caught.value)


@pytest.mark.parametrize("name", [*SOURCES])
def test_offline_the_error_names_the_file_to_put_in_place_and_nothing_stays(
    name, unreachable, tmp_path
):
    sentence = refusal(name, tmp_path)
    assert sentence.startswith(f"{name} could not be downloaded (")
    assert "refused" in sentence
    assert sentence.endswith(
        f"): connect to the network and load again, or put {name}.npz (uint8 arrays train_images, "
        f"train_labels, test_images, test_labels) at {tmp_path / name}.npz"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", REMOTE)
@pytest.mark.parametrize("fault", ["half", "missing"])
def test_download_that_goes_wrong_names_the_file_and_leaves_nothing(
    name, fault, server, tmp_path, monkeypatch
):
    folder, _ = server
    publish(name, *server, monkeypatch)
    for path in folder.iterdir():
        if fault == "half":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        else:
            path.unlink()
    sentence = refusal(name, tmp_path)
    reason = {"half": "File not found or corrupted", "missing": "HTTP Error 404"}[fault]
    assert reason in sentence
    assert sentence.endswith(f"at {tmp_path / name}.npz")
    assert list(tmp_path.iterdir()) == []


def test_download_onto_a_full_disk_leaves_nothing(server, tmp_path, monkeypatch):
    publish("svhn", *server, monkeypatch)

    def fill(path, **_):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez_compressed", fill)
    with pytest.raises(OSError, match=r"svhn\.npz could not be written \(No space left on device"):
        load("svhn", root=tmp_path)
    assert list(tmp_path.iterdir()) == []
