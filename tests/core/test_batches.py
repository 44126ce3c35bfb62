"""core.batches: every image once, orders that can be repeated, and batches made of batches."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unlearning import Images
from unlearning.core.batches import Subsample, ZipCycle, iterate_epochs, materialize


def numbered(count, **options) -> Images:
    """Images whose one pixel and label are their own position in the set."""
    places = torch.arange(count)
    return Images(places.to(torch.uint8).view(-1, 1, 1, 1), places, **options)


def order(batches):
    return [int(label) for _, labels in batches for label in labels]


@given(st.integers(1, 60), st.integers(1, 70), st.booleans())
def test_batches_hold_every_image_once_with_its_own_label(count, batch_size, shuffle):
    batches = numbered(count).batches(batch_size, shuffle=shuffle, seed=0)
    for _ in range(2):
        got = list(batches)
        assert len(got) == len(batches)
        assert sorted(order(got)) == list(range(count))
        for pixels, labels in got:
            assert (pixels.dtype, labels.dtype) == (torch.float32, torch.int64)
            torch.testing.assert_close(pixels.flatten() * 255, labels.float())


@given(st.integers(2, 60), st.integers(2, 70))
def test_last_batch_of_one_joins_the_batch_before_when_shuffling(count, batch_size):
    sizes = [len(labels) for _, labels in numbered(count).batches(batch_size, shuffle=True)]
    assert min(sizes) > 1
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    assert sizes[-1] <= batch_size + 1


def test_batches_are_in_order_unless_shuffled():
    assert [len(labels) for _, labels in numbered(9).batches(4)] == [4, 4, 1]
    assert order(numbered(9).batches(4)) == order(numbered(9).sequential_batches()) == [*range(9)]
    assert order(numbered(50).batches(4, shuffle=True, seed=0)) != list(range(50))
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        numbered(5).batches(0)


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


def test_batches_with_a_seed_or_in_order_leave_the_global_generator_alone():
    state = torch.get_rng_state()
    for options in ({}, {"shuffle": True, "augment": True, "seed": 0}):
        list(numbered(20).batches(8, **options))
    assert torch.equal(torch.get_rng_state(), state)


def test_without_a_seed_the_order_follows_the_global_generator():
    def drawn(global_seed):
        torch.manual_seed(global_seed)
        return [order(numbered(50).batches(8, shuffle=True)) for _ in range(2)]

    assert drawn(0) == drawn(0)
    assert drawn(0)[0] != drawn(0)[1]
    assert drawn(0) != drawn(1)


def test_set_moves_to_the_device_once_and_not_every_epoch(monkeypatch):
    moves = []
    monkeypatch.setattr(Images, "to", lambda images, device: moves.append(device) or images)
    batches = numbered(5).batches(8, device="the device")
    assert order(batches) == order(batches) and moves == ["the device"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_batches_on_a_gpu_are_those_on_the_cpu():
    images = Images(torch.randint(256, (50, 3, 8, 8)).byte(), torch.arange(50), mirror=True)
    options = {"shuffle": True, "augment": True, "seed": 0}
    here, there = images.batches(8, **options), images.batches(8, device="cuda", **options)
    for (mine, labels), (theirs, their_labels) in zip(here, there, strict=True):
        torch.testing.assert_close(mine.cuda(), theirs)
        assert torch.equal(labels.cuda(), their_labels)


def test_materialize_turns_a_generator_into_a_list_and_keeps_what_has_a_length():
    batches = numbered(5).batches(2)
    assert materialize(batches) is batches
    assert order(materialize(batch for batch in batches)) == list(range(5))
    for empty in ([], iter([])):
        with pytest.raises(ValueError, match=r"the loader yields no batches: .* drop_last"):
            materialize(empty)


def test_iterate_epochs_repeats_the_order_of_each_epoch():
    batches = numbered(20).batches(4, shuffle=True, seed=0)
    twice = order(iterate_epochs(batches, [0, 1]))
    assert twice[:20] != twice[20:]
    assert order(iterate_epochs(batches, [1, 0])) == twice[20:] + twice[:20]
    assert order(iterate_epochs(list(numbered(3).batches(2)), range(2))) == [0, 1, 2] * 2


def pairs(batches):
    return [(first.tolist(), second.tolist()) for _, first, _, second in batches]


def test_zip_cycle_goes_once_over_the_first_and_cycles_the_second():
    zipped = ZipCycle(numbered(5).batches(1), numbered(3).batches(1))
    assert len(zipped) == 5
    first, second = pairs(zipped), pairs(zipped)
    assert [one for one, _ in first] == [one for one, _ in second] == [[i] for i in range(5)]
    # the second continues in the next epoch where it stopped
    assert [other for _, other in first + second] == [[i % 3] for i in range(10)]


def test_zip_cycle_starts_again_at_epoch_0_and_each_cycle_has_a_new_order():
    zipped = ZipCycle(numbered(6).batches(1), numbered(6).batches(2, shuffle=True, seed=0))

    def others(epoch):
        zipped.set_epoch(epoch)
        return [label for _, pair in pairs(zipped) for label in pair]

    first, second = others(0), others(1)
    assert sorted(first[:6]) == sorted(first[6:]) == list(range(6))
    assert len({tuple(cycle) for cycle in (first[:6], first[6:], second[:6])}) == 3
    assert others(0) == first


@pytest.mark.parametrize(("fraction", "count"), [(0.3, 3), (1.0, 10), (0.01, 1)])
def test_subsample_keeps_the_order_and_the_same_places_in_every_pass(fraction, count):
    inner = numbered(20).batches(2)
    batches = Subsample(inner, fraction, seed=0)
    places = order(batches)
    assert len(batches) == count and len(places) == 2 * count
    assert places == sorted(places) == order(batches)
    others = {tuple(order(Subsample(inner, fraction, seed=seed))) for seed in range(9)}
    assert (len(others) > 1) is (fraction < 1)
    batches.set_epoch(3)
    assert inner.epoch == 3
