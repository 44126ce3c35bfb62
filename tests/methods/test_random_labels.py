"""Random labels: each step by hand with labels written down, what is read, and what it costs."""

import itertools

import pytest
import torch
from by_hand import (
    Counted,
    assert_close,
    assert_same,
    differ,
    doubled,
    network,
    passes,
    sgd,
    usual_loss,
)

from unlearning.core.relabelling import BothSets
from unlearning.methods import random_labels

ORDERS = ("mixed", "forget_first")
REDRAWS = ("once", "epoch", "batch")


def by_hand(model, retain, forget, *, epochs, lr, exclude_true, seed, **how):
    """SGD on batches whose labels are made one by one; in place."""
    batches, both = [], BothSets(retain, forget, seed=seed, **how)
    for epoch in range(epochs):
        both.set_epoch(epoch)
        for images, labels, draws in both:
            found = []
            for y, u in zip(labels.tolist(), draws.tolist(), strict=True):
                others = [(y + 1) % 4, (y + 2) % 4, (y + 3) % 4]
                choices = others if exclude_true else [0, 1, 2, 3]
                found.append(y if u < 0 else choices[int(u * len(choices))])
            batches.append((images, torch.tensor(found)))
    sgd(model, batches, usual_loss, lr=lr)


@pytest.mark.parametrize("exclude_true", [False, True])
@pytest.mark.parametrize("redraw", REDRAWS)
@pytest.mark.parametrize("order", ORDERS)
def test_it_is_sgd_on_the_labels_that_were_drawn(order, redraw, exclude_true, retain, forget):
    model, retain, forget = network().double(), doubled(retain), doubled(forget)
    options = {"redraw": redraw, "order": order, "exclude_true": exclude_true, "seed": 5}
    options |= {"epochs": 2, "lr": 0.05}
    found = random_labels(model, retain, forget, weight_decay=0, **options)
    by_hand(model, retain, forget, **options)
    assert_close(found, model, rtol=1e-7)


@pytest.mark.parametrize("redraw", REDRAWS)
@pytest.mark.parametrize("order", ORDERS)
def test_an_epoch_reads_each_image_of_both_sets_once(order, redraw, tiny):
    retain, forget = (Counted(part) for part in (tiny.without_classes([3]), tiny.of_classes([3])))
    data = retain.batches(), forget.batches()
    cost = passes(
        random_labels, network("cnn"), *data, count=96, epochs=3, order=order, redraw=redraw
    )
    assert cost == 3
    assert (retain.reads == 3).all()
    assert (forget.reads == (1 if redraw == "once" else 3)).all()


@pytest.mark.parametrize("order, steps", [("mixed", 3), ("forget_first", 5)])
def test_batchnorm_sees_one_batch_a_step(order, steps, retain, forget):
    found = random_labels(network("cnn"), retain, forget, epochs=2, order=order)
    assert found[1].num_batches_tracked == 7 + 2 * steps


def test_labels_of_the_forget_set_are_read_only_to_exclude_them(retain, forget):
    wrong = [(images, torch.full_like(labels, -100)) for images, labels in forget]
    model = network()
    assert_same(random_labels(model, retain, wrong), random_labels(model, retain, forget))
    with pytest.raises(ValueError, match=r"labels go from -100 to ., but the network has 4 out"):
        random_labels(model, retain, wrong, exclude_true=True)


def test_each_way_to_draw_and_to_order_gives_other_weights(retain, forget):
    model = network()
    ways = itertools.product(REDRAWS, ORDERS)
    found = [random_labels(model, retain, forget, redraw=r, order=o) for r, o in ways]
    assert all(differ(a, b) for a, b in itertools.combinations(found, 2))
