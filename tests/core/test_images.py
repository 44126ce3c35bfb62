"""core.images: a labelled set of uint8 images, its parts and its normalisation."""

import math

import numpy as np
import pytest
import torch

from unlearning import Images


def test_normalise_follows_its_formula():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (5, 3, 4, 4), generator=generator, dtype=torch.uint8)
    mean, std = (0.1, 0.5, 0.7), (0.2, 1.0, 3.0)
    images = Images(pixels, torch.zeros(5, dtype=torch.long), mean=mean, std=std)
    normalised = images.normalise(pixels)
    assert normalised.dtype == torch.float32
    for channel in range(3):
        by_hand = (pixels[:, channel].double() / 255 - mean[channel]) / std[channel]
        torch.testing.assert_close(normalised[:, channel].double(), by_hand, rtol=1e-5, atol=1e-6)


def test_selecting_twice_keeps_the_positions_in_the_first_set():
    pixels = torch.arange(9, dtype=torch.uint8).view(9, 1, 1, 1)
    images = Images(pixels, torch.arange(9)).select(torch.tensor([8, 2, 5]))
    images = images.select(torch.tensor([2, 0]))
    assert images.indices.tolist() == images.labels.tolist() == [5, 8]
    assert images.images.flatten().tolist() == [5, 8]
    assert images.num_classes == 9
    assert images.of_classes([8, 1]).labels.tolist() == [8]
    assert images.without_classes([8, 1]).labels.tolist() == [5]


PIXELS = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("images", "labels", "options", "words"),
    [
        (PIXELS.float(), torch.arange(3), {}, r"must be uint8 .*float32 of shape \(3, 1, 2, 2\)"),
        (PIXELS[0], torch.arange(3), {}, r"of shape \(N, C, H, W\) .* not \(1, 2, 2\)"),
        (np.full((3, 1, 2, 2), 256), [0, 1, 2], {}, "pixels go from 256 to 256: give uint8"),
        (PIXELS[:0], torch.arange(0), {}, "at least one image"),
        (PIXELS, torch.arange(2), {}, r"integers of shape \(3,\), not torch.int64 of .*\(2,\)"),
        (PIXELS, torch.tensor([0, -1, 1]), {}, "labels go from -1 to 1, but 2 classes"),
        (PIXELS, torch.arange(3), {"classes": ("cat", "dog")}, "labels go from 0 to 2, but 2"),
        (PIXELS, torch.arange(3), {"mean": (0.1,) * 3}, "each of 1 channels, not 3 and 1 times"),
        (PIXELS, torch.arange(3), {"mean": math.nan}, "mean must be finite, one number or one per"),
        (PIXELS, torch.arange(3), {"std": [math.inf]}, "std must be finite"),
        (PIXELS, torch.arange(3), {"std": 0}, "std must be above 0, not 0.0"),
    ],
)
def test_what_is_not_a_set_of_images_is_refused(images, labels, options, words):
    with pytest.raises(ValueError, match=words):
        Images(images, labels, **options)


def test_groups_go_along_with_their_images():
    images = Images.of(np.zeros((4, 5, 5)), [0, 1, 1, 0], groups=[7, 7, 9, 9])
    assert images.select([3, 0]).groups.tolist() == [9, 7]
    assert images.of_classes(1).groups.tolist() == [7, 9]
    assert images.to("cpu").groups.tolist() == [7, 7, 9, 9]
    assert Images.of(np.zeros((4, 5, 5)), [0, 1, 1, 0]).select([1]).groups is None
    for wrong in ([7, 7, 9], [0.5] * 4):
        with pytest.raises(ValueError, match=r"groups must be integers of shape \(4,\)"):
            Images.of(np.zeros((4, 5, 5)), [0, 1, 1, 0], groups=wrong)


def test_arrays_lists_and_plain_numbers_are_taken():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 1, 2, 2)
    for images in (pixels, pixels.tolist(), torch.tensor(pixels)):
        for labels in (np.arange(3, dtype=np.uint16), [0, 1, 2], torch.arange(3).to(torch.int8)):
            found = Images(images, labels, mean=0.5, std=np.float32(0.25))
            assert np.array_equal(found.images, pixels) and found.labels.tolist() == [0, 1, 2]
            assert (found.mean, found.std, found.labels.dtype) == ((0.5,), (0.25,), torch.int64)
