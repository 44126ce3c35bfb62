"""core.relabelling: what is read when, when a label is drawn, and which labels come out."""

import itertools
import math

import pytest
import torch
from scipy.stats import binom
from torch.utils.data import DataLoader, TensorDataset

from unlearning.core.losses import cross_entropy
from unlearning.core.randomness import generator_from
from unlearning.core.relabelling import BothSets, random_labels_from


def numbered(sizes, first=0):
    """Batches of these sizes; each image holds its own number, which is its label as well."""
    numbers = torch.arange(first, first + sum(sizes))
    images = numbers.double().view(-1, 1, 1, 1)
    return list(zip(images.split(sizes), numbers.split(sizes), strict=True))


def both(retain, forget, redraw="epoch", order="mixed", seed=0):
    return BothSets(retain, forget, redraw=redraw, order=order, seed=seed)


def forgotten(batches, epoch=0):
    """{label: draw} of all images to forget, in the order in which they are read."""
    batches.set_epoch(epoch)
    read = [(y, u) for _, labels, draws in batches for y, u in zip(labels, draws, strict=True)]
    return {int(label): float(draw) for label, draw in read if draw >= 0}


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("sizes", [[24], [10, 10, 4], [3] * 9, [1, 1], [16] * 5])
def test_each_step_takes_its_exact_fraction_of_the_forget_batches(steps, sizes):
    retain = numbered([4] * steps, first=1000)
    taken, batches = [], both(retain, numbered(sizes))
    assert len(batches) == steps
    for step, (images, labels, draws) in enumerate(batches, 1):
        assert torch.equal(images.flatten().long(), labels)
        assert torch.equal(labels[:4], retain[step - 1][1]) and (draws[:4] == -1).all()
        assert ((draws[4:] >= 0) & (draws[4:] < 1)).all()
        taken += labels[4:].tolist()
        whole, part = divmod(step * len(sizes), steps)
        images_of_part = sizes[whole] * part // steps if part else 0
        assert len(taken) == sum(sizes[:whole]) + images_of_part
    assert taken == list(range(sum(sizes)))


def test_forget_first_reads_all_forget_batches_and_then_the_others():
    batches = both(numbered([4, 2], 1000), numbered([3, 3, 1]), order="forget_first")
    read = list(batches)
    assert len(read) == len(batches) == 5
    wanted = [*numbered([3, 3, 1]), *numbered([4, 2], 1000)]
    assert all(torch.equal(y, labels) for (_, y, _), (_, labels) in zip(read, wanted, strict=True))
    assert [bool((draws == -1).all()) for *_, draws in read] == [False] * 3 + [True] * 2


@pytest.mark.parametrize("order", ["mixed", "forget_first"])
def test_draws_made_once_stay_with_their_images_in_orders_that_change(order):
    batches = both(numbered([4] * 5, 1000), numbered([8, 8, 5]), "once", order, seed=3)
    epochs = [forgotten(batches, epoch) for epoch in (0, 1, 2)]
    assert epochs[0] == epochs[1] == epochs[2] and len(epochs[0]) == 21
    assert len({tuple(epoch) for epoch in epochs}) == 3
    again = both(numbered([4] * 5, 1000), numbered([8, 8, 5]), "once", order, seed=3)
    assert list(forgotten(again, 1).items()) == list(epochs[1].items())


def test_draws_of_an_epoch_follow_from_seed_and_epoch_and_running_ones_from_what_was_drawn():
    def fresh(redraw, seed=3):
        return both(numbered([4] * 5, 1000), numbered([8, 8, 5]), redraw, seed=seed)

    for redraw in ("epoch", "batch"):
        batches = fresh(redraw)
        epochs = [forgotten(batches, epoch) for epoch in (0, 1, 2)]
        values = [draw for epoch in epochs for draw in epoch.values()]
        assert len(set(values)) == 63
        assert forgotten(batches, 0) == epochs[0] != forgotten(fresh(redraw, seed=4), 0)
        assert (forgotten(fresh(redraw), 2) == epochs[2]) == (redraw == "epoch")


def test_draws_are_not_the_stream_that_dropout_or_the_order_of_images_comes_from():
    for seed, redraw in itertools.product((0, 3), ("once", "epoch", "batch")):
        draws = forgotten(both(numbered([96], 1000), numbered([96]), redraw, seed=seed))
        draws = torch.tensor([draws[number] for number in range(96)])
        for other in (seed, seed * 1_000_003):
            assert not torch.equal(draws, torch.rand(96, generator=generator_from(other)))


def test_loaders_keep_their_orders_whichever_other_set_is_read_between(tiny):
    def loader(first):
        numbers = torch.arange(first, first + 32)
        images = numbers.double().view(-1, 1, 1, 1)
        return DataLoader(TensorDataset(images, numbers), 8, shuffle=True)

    def read(order):
        torch.manual_seed(0)
        batches = both(loader(0), loader(100), order=order)
        return [y for _ in range(2) for _, labels, _ in batches for y in labels.tolist()]

    mixed, first = read("mixed"), read("forget_first")
    assert mixed != first
    assert [y for y in mixed if y < 100] == [y for y in first if y < 100]
    assert [y for y in mixed if y >= 100] == [y for y in first if y >= 100]


def test_the_mean_loss_over_all_labels_is_that_of_the_uniform_target():
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).double() * 3
    labels = torch.arange(6) % 5
    losses = []
    for place in range(5):
        drawn = random_labels_from(torch.full((6,), (place + 0.5) / 5), labels, logits, False)
        assert (drawn == place).all()
        losses.append(cross_entropy(logits, drawn))
    divergence = -(math.log(5) + logits.log_softmax(-1)).mean()  # KL(uniform || p)
    wanted = math.log(5) + divergence
    torch.testing.assert_close(sum(losses) / 5, wanted, rtol=1e-13, atol=0)


@pytest.mark.parametrize("exclude_true", [False, True])
def test_each_class_that_may_be_drawn_is_drawn_equally_often(exclude_true):
    labels = torch.arange(4).repeat(20_000)
    draws = torch.rand(len(labels), generator=torch.Generator().manual_seed(1))
    drawn = random_labels_from(draws, labels, torch.zeros(len(labels), 4), exclude_true)
    counts = torch.stack([torch.bincount(drawn[labels == k], minlength=4) for k in range(4)])
    allowed = ~torch.eye(4, dtype=torch.bool) if exclude_true else torch.ones(4, 4).bool()
    assert (counts[~allowed] == 0).all()
    low, high = binom.interval(1 - 1e-6, 20_000, 1 / (3 if exclude_true else 4))
    assert ((counts[allowed] >= low) & (counts[allowed] <= high)).all()


def test_what_is_retained_keeps_its_label_and_the_largest_draw_is_still_a_class():
    largest = torch.nextafter(torch.ones(1), torch.zeros(1))
    for classes in (2, 3, 10, 1000, 4097):
        logits = torch.zeros(1, classes)
        for label in (0, classes - 1):
            labels = torch.tensor([label])
            for exclude_true in (False, True):
                assert random_labels_from(-torch.ones(1), labels, logits, exclude_true) == labels
            assert random_labels_from(largest, labels, logits, False) == classes - 1
            assert random_labels_from(largest, labels, logits, True) == (label - 1) % classes
