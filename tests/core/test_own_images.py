"""core.own_images: data sets and arrays of any layout become the same uint8 images, or say why."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset
from torchvision import datasets
from torchvision import transforms as T

from unlearning import Images
from unlearning.core import own_images

COLOUR = np.random.default_rng(0).integers(0, 256, (6, 8, 9, 3), dtype=np.uint8)  # N x H x W x C
GREY, LABELS = COLOUR[..., 0], np.arange(6) % 3
FIRST = np.moveaxis(COLOUR, -1, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of three colour images, as an ImageFolder reads them."""
    root = tmp_path_factory.mktemp("photos")
    for number, name in enumerate(["cat", "dog"]):
        (root / name).mkdir()
        for place in range(3):
            Image.fromarray(COLOUR[3 * number + place]).save(root / name / f"{place}.png")
    return root


@pytest.mark.parametrize(
    "images",
    [
        COLOUR,
        FIRST,
        FIRST.astype(np.int64),
        COLOUR / 255,
        torch.tensor(FIRST / 255, dtype=torch.float32),
        COLOUR[:, ::-1][:, ::-1],
        COLOUR.tolist(),
        [Image.fromarray(one) for one in COLOUR],
        [torch.tensor(one) / 255 for one in FIRST],
    ],
    ids=["NHWC", "NCHW", "int64", "floats", "tensor", "view", "lists", "PIL", "tensors"],
)
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint32, list, torch.tensor])
def test_arrays_of_every_layout_and_type_become_the_same_images(images, kind):
    labels = LABELS.astype(kind) if isinstance(kind, type) and kind is not list else kind(LABELS)
    found = Images.of(images, labels, mean=0.5)
    assert found.images.dtype == torch.uint8 and np.array_equal(found.images, FIRST)
    assert found.labels.dtype == torch.int64 and np.array_equal(found.labels, LABELS)
    assert (found.mean, found.classes) == ((0.5,), ("0", "1", "2"))


def test_grey_images_have_one_channel_and_a_named_layout_decides():
    for images in (GREY, GREY[:, None], GREY[..., None], [Image.fromarray(one) for one in GREY]):
        assert np.array_equal(Images.of(images, LABELS).images, GREY[:, None])
    narrow = COLOUR[:, :3]
    with pytest.raises(ValueError, match=r"axis of \(6, 3, 9, 3\) holds .* give layout='NCHW'"):
        Images.of(narrow, LABELS)
    found = Images.of(narrow, LABELS, layout="NHWC").images
    assert np.array_equal(found, np.moveaxis(narrow, -1, 1))
    assert Images.of([Image.fromarray(one) for one in narrow], LABELS).images.equal(found)
    assert Images.of(np.zeros((6, 5, 7, 7)), LABELS, layout="NCHW").in_channels == 5


class Items(Dataset):
    """A data set of these items."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, place):
        return self.items[place]


def test_data_sets_are_read_in_order_with_the_names_of_their_classes(folder):
    plain = datasets.ImageFolder(folder)
    for dataset in (plain, datasets.ImageFolder(folder, T.ToTensor())):
        found = Images.of(dataset)
        assert np.array_equal(found.images, FIRST) and found.classes == ("cat", "dog")
        assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]
    part = Images.of(Subset(Subset(plain, [5, 0, 1]), [0, 2]))
    assert np.array_equal(part.images, FIRST[[5, 1]]) and part.classes == ("cat", "dog")
    assert Images.of(plain, classes=["a", "b"]).classes == ("a", "b")


def test_sets_of_arrays_are_taken_whole_unless_they_transform(monkeypatch):
    def never(*_):
        raise AssertionError("read image by image")

    tensors = TensorDataset(torch.tensor(FIRST) / 255, torch.tensor(LABELS))
    digits = datasets.MNIST.__new__(datasets.MNIST)
    digits.data, digits.targets = torch.tensor(GREY), torch.tensor(LABELS)
    digits.transform = digits.target_transform = None
    with monkeypatch.context() as patch:
        patch.setattr(own_images, "_stack", never)
        assert np.array_equal(Images.of(tensors).images, FIRST)
        part = Images.of(Subset(Subset(tensors, np.array([5, 0, 1])), range(0, 3, 2)))
        assert np.array_equal(part.images, FIRST[[5, 1]]) and part.labels.tolist() == [2, 1]
        assert np.array_equal(Images.of(digits).images, GREY[:, None])
        assert Images.of(digits).classes == tuple(datasets.MNIST.classes)
    digits.transform = T.RandomHorizontalFlip(p=1.0)
    assert np.array_equal(Images.of(digits).images, GREY[:, None, :, ::-1])


def test_random_transforms_are_drawn_under_a_fixed_seed_and_generators_stay():
    class Noisy(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, place):
            draws = [float(torch.rand(())), np.random.rand(), random.random()]  # noqa: NPY002
            return np.tile(draws, (2, 1)), place

    torch.manual_seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    first = Images.of(Noisy()).images
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]
    torch.manual_seed(2)
    assert torch.equal(Images.of(Noisy()).images, first) and len(first.unique()) > 3


class Endless(IterableDataset):
    def __iter__(self):
        yield torch.zeros(1, 2, 2), 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((FIRST / 255 - 0.5, LABELS), r"from -0.5 to 0.5: give uint8 or .* mean= and std="),
        ((FIRST * 1.0, LABELS), "floats in"),
        ((np.full((6, 8, 8), np.nan), LABELS), "from nan to nan: give uint8"),
        ((FIRST.astype(int) + 1, LABELS), "to 256: give uint8"),
        ((FIRST > 9, LABELS), "pixels are torch.bool"),
        ((FIRST, LABELS[:, None]), r"integers of shape \(6,\), not torch.int64 of shape \(6, 1\)"),
        ((FIRST, np.eye(6)), r"not torch.float64 of shape \(6, 6\)"),
        ((FIRST, LABELS[:4]), r"of shape \(4,\)"),
        ((FIRST, list("abcabc")), "labels must be numbers"),
        ((FIRST, LABELS * 10**12), "labels go from 0 to 2000000000000: number the classes"),
        (([[1, 2], [3]], LABELS), "images must be numbers"),
        ((FIRST[0], LABELS[:3], "NCHW"), r"layout NCHW cannot be of shape \(3, 8, 9\)"),
        ((FIRST, LABELS, "HWC"), "layout must be one of NHW, NCHW, NHWC, not 'HWC'"),
        ((np.zeros((6, 64)), LABELS), r"N x H x W x C, not \(6, 64\)"),
        ((FIRST[:0], LABELS[:0]), "at least one image"),
        ((Items([]),), "at least one image"),
        ((FIRST,), r"labels are missing: give Images.of\(images, labels\)"),
        ((Items([(GREY[0], 0)]), [0]), "a data set yields its own labels"),
        ((Items([{"image": GREY[0]}]),), r"item 0 .* is a dict, not \(image, label\)"),
        ((Items([(GREY[0], 0, 0)]),), r"item 0 .* is a tuple, not \(image, label\)"),
        ((Items([("cat.png", 0)]),), "PIL image, an array or a tensor, not 'cat.png'"),
        ((Items([(GREY[0], 0), (GREY[0, :5], 0)]),), r"\(8, 9\) first, \(5, 9\) at 1.*Resize"),
        ((Items([(GREY[0], 0), (GREY[0], None)]),), "labels must be numbers"),
        ((Items([(Image.new("I;16", (2, 2)), 0)]),), "more than 8 bits"),
        ((Endless(),), "items are .image, label., not Endless: .* a DataLoader as it is"),
        ((DataLoader(Items([])),), "not DataLoader"),
        ((iter([]),), "not list_iterator"),
        ((None,), "not NoneType"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(given, words):
    with pytest.raises(ValueError, match=words) as caught:
        Images.of(*given[:2], **({"layout": given[2]} if len(given) == 3 else {}))
    assert "\n" not in str(caught.value)


def test_a_set_that_memory_cannot_hold_is_refused_before_it_is_read():
    class Large(Dataset):
        def __len__(self):
            return 10**10

        def __getitem__(self, place):
            assert place == 0
            return torch.zeros(3, 224, 224), 0

    for large in (Large(), Subset(Large(), range(10**9))):
        with pytest.raises(ValueError, match=r"GB as uint8, but .* free: keep a DataLoader"):
            Images.of(large)
