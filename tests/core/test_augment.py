"""core.augment: whole-batch augmentation against one that goes image by image."""

import numpy as np
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
