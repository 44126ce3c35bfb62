"""core.augment: whole-batch augmentation against one that goes image by image."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unlearning import Images
from unlearning.core.augment import flip_and_crop


def slow_flip_and_crop(images, downs, rights, coins, mirror):
    """Image by image: mirrored if its coin says so, padded by 4 black pixels, cropped."""
    results = []
    for image, down, right, coin in zip(images.numpy(), downs, rights, coins, strict=True):
        image = image[:, :, ::-1] if mirror and coin else image
        padded = np.pad(image, ((0, 0), (4, 4), (4, 4)))
        height, width = image.shape[1:]
        results.append(padded[:, down : down + height, right : right + width])
    return torch.from_numpy(np.stack(results))


sizes = st.tuples(st.integers(1, 9), st.integers(1, 3), st.integers(1, 12), st.integers(1, 12))


@given(sizes, st.booleans(), st.integers(0, 1000))
def test_augmentation_pads_crops_and_mirrors_each_image(shape, mirror, seed):
    draws = torch.Generator().manual_seed(seed)
    images = torch.randint(256, shape, generator=draws, dtype=torch.uint8)
    fast = flip_and_crop(images, torch.Generator().manual_seed(seed), mirror=mirror)
    draws.manual_seed(seed)
    downs, rights = torch.randint(9, (2, shape[0]), generator=draws).tolist()
    coins = (torch.rand(shape[0], generator=draws) < 0.5).tolist()
    assert torch.equal(fast, slow_flip_and_crop(images, downs, rights, coins, mirror))


def test_batches_are_augmented_anew_each_epoch_and_mirrored_only_where_allowed():
    ramp = torch.arange(1, 17, dtype=torch.uint8).repeat(64, 1, 16, 1)
    for mirror in (False, True):
        batches = Images(ramp, torch.zeros(64).long(), mirror=mirror).batches(
            64, augment=True, seed=0
        )
        ((pixels, _),), ((others, _),) = list(batches), list(batches)
        assert bool(((pixels.diff(dim=-1) * 255).round() == -1).any()) is mirror
        assert not torch.equal(pixels, others)


def mirrored(batches):
    """Which images of a rising ramp come mirrored in the next pass, ordered by label."""
    found = [(labels, (pixels[:, 0, 4, 9] - pixels[:, 0, 4, 6]) < 0) for pixels, labels in batches]
    labels, flips = (torch.cat(parts) for parts in zip(*found, strict=True))
    return flips[labels.argsort()]


def test_every_image_is_mirrored_exactly_every_other_epoch_in_any_order():
    ramp = torch.arange(0, 160, 10, dtype=torch.uint8).repeat(99, 1, 16, 1)
    images = Images(ramp, torch.arange(99), mirror=True)
    options = {"augment": "alternate", "seed": 3}
    batches = images.batches(16, shuffle=True, **options)
    epochs = [mirrored(batches) for _ in range(4)]
    assert 25 < epochs[0].sum() < 75
    for now, then in pairwise(epochs):
        assert torch.equal(now, ~then)
    in_order = images.batches(40, **options)  # neither order nor size of batches matters
    assert torch.equal(mirrored(in_order), epochs[0])
    batches.set_epoch(2)
    assert torch.equal(mirrored(batches), epochs[2])
    assert not torch.equal(mirrored(images.batches(40, augment="alternate", seed=4)), epochs[0])
    digits = Images(ramp, torch.arange(99)).batches(40, **options)
    assert not mirrored(digits).any()
    with pytest.raises(
        ValueError, match="augment must be False, True or \"alternate\", not 'both'"
    ):
        images.batches(40, augment="both")
