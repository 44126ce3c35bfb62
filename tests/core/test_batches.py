"""core.batches: every image once, orders that can be repeated, and batches made of batches."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from unlearning import Images
from unlearning.core.batches import (
    Rereadable,
    Subsample,
    ZipCycle,
    classes_in,
    first_images,
    fixed_order,
)


def numbered(count) -> Images:
    """Images whose one pixel and label are their own position in the set."""
    places = torch.arange(count)
    return Images(places.to(torch.uint8).view(-1, 1, 1, 1), places)


def order(batches):
    return [int(label) for _, labels in batches for label in labels]


@given(st.integers(1, 60), st.integers(1, 70), st.booleans())
def test_batches_hold_every_image_once_and_one_is_never_alone(count, size, shuffle):
    batches = numbered(count).batches(size, shuffle=shuffle, seed=0)
    for got in (list(batches), list(batches)):
        assert sorted(order(got)) == list(range(count))
        assert shuffle or order(got) == list(range(count))
        for pixels, labels in got:
            torch.testing.assert_close(pixels.flatten() * 255, labels.float())
        *full, last = [len(labels) for _, labels in got]
        assert len(got) == len(batches) and full == [size] * len(full)
        assert 1 + (count > 1 and (shuffle or size > 1)) <= last <= size + 1


def test_order_depends_on_seed_and_epoch_only():
    images = numbered(50)
    torch.manual_seed(0)
    first = images.batches(8, shuffle=True, seed=3)
    epochs = [order(first) for _ in range(3)]
    torch.manual_seed(1)
    second = images.batches(16, shuffle=True, seed=3)
    next(iter(second))  # an epoch left early is an epoch
    assert order(second) == epochs[1]
    for epoch in (2, 0, 1):
        second.set_epoch(epoch)
        assert order(second) == epochs[epoch]
    other_seeds = [order(images.batches(8, shuffle=True, seed=seed)) for seed in range(3)]
    assert len({tuple(one) for one in epochs + other_seeds}) == 6


def test_only_a_shuffle_without_a_seed_draws_from_the_global_generator():
    state = torch.manual_seed(0).get_state()
    for options in ({}, {"shuffle": True, "augment": True, "seed": 0}):
        list(numbered(20).batches(8, **options))
    assert torch.equal(torch.get_rng_state(), state)
    drawn = [order(numbered(50).batches(8, shuffle=True)) for _ in range(2)]
    torch.manual_seed(0)
    assert drawn[0] == order(numbered(50).batches(8, shuffle=True)) != drawn[1]


def test_no_batches_are_refused():
    with pytest.raises(ValueError, match=r"the loader yields no batches: .* drop_last"):
        Rereadable([])
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        numbered(5).batches(0)


def test_zip_cycle_goes_once_over_the_first_and_cycles_the_second_in_new_orders():
    zipped = ZipCycle(numbered(6).batches(1), numbered(8).batches(2, shuffle=True, seed=0))

    def pairs():
        return [(int(a), b.tolist()) for _, a, _, b in zipped]

    epochs = [pairs(), pairs()]
    assert len(zipped) == 6 and [[a for a, _ in epoch] for epoch in epochs] == [[*range(6)]] * 2
    others = [b for epoch in epochs for _, two in epoch for b in two]
    cycles = [others[start : start + 8] for start in (0, 8, 16)]  # the second across two epochs
    assert all(sorted(cycle) == [*range(8)] for cycle in cycles)
    assert len({tuple(cycle) for cycle in cycles}) == 3
    zipped.set_epoch(0)
    assert pairs() == epochs[0]


def test_subsample_keeps_the_order_and_the_same_places_in_every_pass():
    inner = numbered(20).batches(2)
    batches = Subsample(inner, 0.3, seed=0)
    places = order(batches)
    assert len(batches) == 3 and len(places) == 6 and len(Subsample(inner, 0.01, seed=0)) == 1
    assert places == sorted(places) == order(batches)
    assert len({tuple(order(Subsample(inner, 0.3, seed=seed))) for seed in range(9)}) > 1
    batches.set_epoch(3)
    assert inner.epoch == 3


class Unsized:
    """Batches that can be read again, without a length."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def test_batches_without_a_length_are_counted_and_read_again():
    batches = Rereadable(Unsized(numbered(5).batches(2)))
    assert len(batches) == 2 and order(batches) == order(batches) == list(range(5))
    with pytest.raises(ValueError, match=r"yields no batches in this epoch, though it did before"):
        list(Rereadable(Unsized(iter([1, 2]))))  # the count has read them
    with pytest.raises(ValueError, match="list_iterator can be read only once"):
        Rereadable(iter([1, 2]))
    with pytest.raises(ValueError, match="an Images cannot be read as batches: give a DataLoader"):
        Rereadable(numbered(5))


def test_reading_leaves_no_trace_and_always_comes_in_the_same_order():
    own = torch.Generator().manual_seed(5)
    images = numbered(40)
    data = TensorDataset(images.normalise(images.images), images.labels)
    for batches in (
        images.batches(8, shuffle=True, seed=1),
        DataLoader(data, 8, shuffle=True),
        DataLoader(data, 8, shuffle=True, generator=own),
        DataLoader(data, batch_sampler=BatchSampler(RandomSampler(data, generator=own), 8, False)),
        Rereadable(DataLoader(data, 8, shuffle=True, generator=own)),
    ):
        orders, states = [], []
        for seed in (0, 1):
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            before = traces(own, batches)
            with fixed_order(batches, torch.device("cpu")):
                orders.append(order(batches))
            states.append(before == traces(own, batches))
        assert orders[0] == orders[1] != sorted(orders[0]) and all(states)


def traces(own, batches):
    """All that reading could move, in a form that can be compared."""
    torch_states = torch.get_rng_state().tolist(), own.get_state().tolist()
    of_numpy = np.random.get_state()[1].tolist()  # noqa: NPY002
    return torch_states, of_numpy, random.getstate(), getattr(batches, "epoch", None)


def test_a_loader_draws_from_a_stream_of_its_own():
    images = numbered(20)
    data = TensorDataset(images.normalise(images.images), images.labels)

    def drawn_between(batches):
        torch.manual_seed(0)
        return [float(torch.rand(())) for _ in Rereadable(batches)]

    wanted = drawn_between(list(images.batches(4)))
    assert (
        drawn_between(DataLoader(data, 4))
        == drawn_between(DataLoader(data, 4, shuffle=True))
        == wanted
    )


def test_the_classes_and_the_first_images_of_a_loader_are_read_without_a_trace():
    batches = numbered(20).batches(4, shuffle=True, seed=0)
    unsized = Unsized(numbered(20).batches(4))
    assert classes_in(batches) == classes_in(unsized) == set(range(20)) and batches.epoch == 0
    assert torch.equal(first_images(unsized), next(iter(numbered(20).batches(4)))[0])
