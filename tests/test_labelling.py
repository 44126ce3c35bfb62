"""Other labels: superclasses as in the files, wrong labels that are exactly so many, clusters."""

import pytest
import torch

from unlearning import Images
from unlearning.labelling import CIFAR20, clusters, corrupt

FILES = (  # the coarse label of each class, 0 to 99, as the files of CIFAR-100 have them
    "4 1 14 8 0 6 7 7 18 3 3 14 9 18 7 11 3 9 7 11 6 11 5 10 7 6 13 15 3 15 0 11 1 10 12 14 16 9 "
    "11 5 5 19 8 8 15 13 14 17 18 10 16 4 17 4 2 0 17 4 18 17 10 3 2 12 12 16 12 1 9 19 2 10 0 1 "
    "16 12 9 13 15 13 16 19 2 4 6 19 5 5 8 19 18 1 2 15 6 0 17 8 14 13"
)


def test_cifar20_has_the_coarse_labels_of_the_files():
    coarse = [int(label) for label in FILES.split()]
    found = [[k for k, classes in enumerate(CIFAR20.values()) if c in classes] for c in range(100)]
    assert found == [[label] for label in coarse]
    assert {len(classes) for classes in CIFAR20.values()} == {5}
    assert list(CIFAR20) == sorted(CIFAR20)  # coarse labels are in the order of the alphabet
    assert 69 in CIFAR20["vehicles 2"]  # the rocket


def of_labels(labels) -> Images:
    return Images(torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8), torch.as_tensor(labels))


@pytest.mark.parametrize("share", [0.001, 0.1, 0.33, 1])
def test_exactly_the_share_of_labels_is_wrong_and_none_of_these_true(share):
    images = of_labels(torch.arange(3000) % 5)
    noisy, wrong = corrupt(images, share, seed=1)
    assert len(wrong) == round(share * 3000)
    assert torch.equal((noisy.labels != images.labels).nonzero().flatten(), wrong)
    assert torch.equal(images.labels, torch.arange(3000) % 5)
    assert torch.equal(corrupt(images, share, seed=1).images.labels, noisy.labels)
    assert not torch.equal(corrupt(images, share, seed=2).images.labels, noisy.labels)


def test_wrong_labels_are_drawn_evenly_from_the_others():
    images = of_labels(torch.arange(4000) % 4)
    noisy = corrupt(images, 1, seed=0).images
    counts = torch.bincount(4 * images.labels + noisy.labels, minlength=16).view(4, 4)
    assert counts.diag().sum() == 0  # others: Binomial(1000, 1/3), 333 with deviation 15
    assert counts[~torch.eye(4, dtype=torch.bool)].sub(333.3).abs().max() < 5 * 15


def test_confused_classes_exchange_a_share_of_their_labels():
    images = of_labels([0] * 10 + [1] * 40 + [2] * 20)
    noisy, wrong = corrupt(images, 0.5, seed=0, between=[2, 0])
    assert torch.bincount(noisy.labels).tolist() == [10 - 5 + 10, 40, 20 - 10 + 5]
    assert torch.equal((noisy.labels != images.labels).nonzero().flatten(), wrong)


@pytest.mark.parametrize(
    ("labels", "options", "words"),
    [
        ([0, 0, 0], {"share": 0.5}, "one class alone"),
        ([0, 1, 0], {"share": 0}, "share must be above 0 and at most 1, not 0"),
        ([0, 1, 0], {"share": 0.1}, "makes none of 3 labels wrong"),
        ([0, 1, 2], {"share": 1, "between": [1]}, "two classes, such as .* not .1."),
        ([0, 1, 2], {"share": 1, "between": [1, 5]}, "class 5 has no images"),
    ],
)
def test_labels_that_cannot_be_wrong_are_refused(labels, options, words):
    with pytest.raises(ValueError, match=words):
        corrupt(of_labels(labels), seed=0, **options)


def test_clusters_find_images_that_look_alike_whatever_the_global_seed():
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(90) % 3
    pixels = 80 * truth[:, None] + torch.randint(0, 20, (90, 16), generator=generator)
    images = Images(pixels.view(90, 1, 4, 4).to(torch.uint8), torch.zeros(90, dtype=torch.long))
    state = torch.get_rng_state()
    found = clusters(images, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert {tuple(truth[found == k].unique().tolist()) for k in range(3)} == {(0,), (1,), (2,)}
    torch.manual_seed(5)
    assert torch.equal(clusters(images, 3), found)
    for count, words in ((1, "at least 2, not 1"), (91, "90 images cannot be in 91 clusters")):
        with pytest.raises(ValueError, match=words):
            clusters(images, count)
