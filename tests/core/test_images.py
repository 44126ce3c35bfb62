"""core.images: a labelled set of uint8 images, its parts and its normalisation."""

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
        (PIXELS[:0], torch.arange(0), {}, "at least one image"),
        (PIXELS, torch.arange(2), {}, r"integers of shape \(3,\), not torch.int64 of .*\(2,\)"),
        (PIXELS, torch.tensor([0, -1, 1]), {}, "labels go from -1 to 1, but 2 classes"),
        (PIXELS, torch.arange(3), {"classes": ("cat", "dog")}, "labels go from 0 to 2, but 2"),
        (PIXELS, torch.arange(3), {"mean": (0.1,) * 3}, "each of 1 channels, not 3 and 1 times"),
    ],
)
def test_what_is_not_a_set_of_images_is_refused(images, labels, options, words):
    with pytest.raises(ValueError, match=words):
        Images(images, labels, **options)
