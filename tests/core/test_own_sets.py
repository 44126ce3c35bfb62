"""core.own_sets: two sets that fit each other, and batches that can be read again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from unlearning import Images
from unlearning.core.batches import fixed_order
from unlearning.core.own_sets import batches_of, labels_of, own_pair


def test_a_pair_is_read_like_two_sets(tiny, loader):
    arrays = tiny.images.numpy()[:, 0], tiny.labels.numpy()
    train, test = own_pair((arrays, TensorDataset(tiny.images[:9], tiny.labels[:9])))
    assert torch.equal(train.images, tiny.images) and torch.equal(test.images, tiny.images[:9])
    assert own_pair([tiny, tiny]) == (tiny, tiny)


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (5, "name of a set or .training images, test images., not int"),
        ((1, 2, 3), "not tuple"),
        (lambda tiny: (tiny, Images.of(np.zeros((4, 8, 8, 3)), [0] * 4)), "1 channels .* images 3"),
        (lambda tiny: (tiny, replace(tiny, classes="abcd")), "number their classes differently"),
        (lambda tiny: (tiny.without_classes([3]), replace(tiny, classes="01234")), "differently"),
    ],
)
def test_sets_that_do_not_fit_each_other_are_refused(tiny, pair, words):
    with pytest.raises(ValueError, match=words):
        own_pair(pair(tiny) if callable(pair) else pair)


def test_batches_of_every_kind_hold_the_same_images_in_order(tiny, loader):
    floats = tiny.normalise(tiny.images)
    state = torch.get_rng_state()
    for given in (tiny, TensorDataset(floats, tiny.labels), [(floats, tiny.labels)]):
        batches = batches_of(given)
        for _ in range(2):
            with fixed_order(batches, torch.device("cpu")):
                images, labels = map(torch.cat, zip(*batches, strict=True))
            assert torch.equal(images, floats) and torch.equal(labels, tiny.labels)
    assert torch.equal(torch.get_rng_state(), state)
    lazy = loader(tiny)
    assert batches_of(lazy) is lazy


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda tiny: iter([]), "list_iterator can be read only once"),
        (lambda tiny: (batch for batch in []), "generator can be read only once"),
        (lambda tiny: None, "a NoneType cannot be read"),
        (lambda tiny: TensorDataset(tiny.images, tiny.labels), "not torch.uint8: add a transform"),
    ],
)
def test_what_cannot_be_read_twice_or_holds_no_floats_is_refused(tiny, given, words):
    with pytest.raises(ValueError, match=words):
        labels_of(given(tiny))
