"""SalUn: which weights are chosen, that no other moves, and random labels where all are."""

import copy

import pytest
import torch
from by_hand import (
    Counted,
    assert_close,
    assert_same,
    cosine,
    differ,
    doubled,
    network,
    passes,
    usual_loss,
    weights,
)
from torch import nn

from unlearning.core.losses import classification_loss, cross_entropy
from unlearning.core.relabelling import BothSets, random_labels_from
from unlearning.methods import random_labels, saliency_unlearning
from unlearning.methods.saliency_unlearning import _freeze, _largest, _summed_gradient


def masks_by_hand(model, forget, share):
    """All entries in one long list, sorted by size; where equal, by place."""
    model, total = copy.deepcopy(model).eval(), None
    parameters = [p for p in model.parameters() if p.requires_grad]
    for images, labels in forget:
        found = torch.autograd.grad(usual_loss(model, images, labels), parameters)
        found = torch.cat([g.flatten().double() for g in found])
        total = found if total is None else total + found
    ranked = sorted(range(len(total)), key=lambda place: (-abs(float(total[place])), place))
    chosen = torch.zeros(len(total), dtype=torch.bool)
    chosen[ranked[: int(share * len(total))]] = True
    parts = chosen.split([p.numel() for p in parameters])
    return [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]


@pytest.mark.parametrize("name", ["mlp", "cnn"])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_largest_entries_of_the_summed_gradient_are_chosen_and_no_other_moves(
    name, share, retain, forget
):
    model = network(name)
    masks = masks_by_hand(model, forget, share)
    found = saliency_unlearning(model, retain, forget, share=share, epochs=2)
    total = sum(p.numel() for p in model.parameters())
    assert sum(int(mask.sum()) for mask in masks) == int(share * total)
    for now, old, mask in zip(found.parameters(), model.parameters(), masks, strict=True):
        assert torch.equal(now[~mask], old[~mask])
    pairs = zip(found.parameters(), model.parameters(), strict=True)
    moved = sum(int((now != old).sum()) for now, old in pairs)
    assert moved > 0.9 * int(share * total)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.29, 0.5, 0.999, 1.0])
def test_the_share_is_met_exactly_and_equal_entries_are_taken_in_order(share):
    random = [torch.randn(7, 11), torch.randn(3, 2, 5)]
    equal = [torch.ones(7, 11), -torch.ones(3, 2, 5)]  # by size
    few = [torch.arange(77).view(7, 11) % 3, torch.arange(30).view(3, 2, 5) % 3]
    for gradient in (random, equal, few):
        masks = _largest(gradient, share)
        assert [mask.shape for mask in masks] == [g.shape for g in gradient]
        pooled = torch.cat([g.flatten().abs() for g in gradient])
        wanted = pooled.sort(descending=True, stable=True).indices[: int(share * 107)]
        chosen = torch.cat([mask.flatten() for mask in masks]).nonzero().flatten()
        assert chosen.tolist() == sorted(wanted.tolist()) and len(chosen) == int(share * 107)


def test_absolute_values_are_taken_after_the_sum_over_the_batches(forget):
    """Twice the same batch, once with the sign of its loss turned, leaves nothing."""
    model, (batch, _), signs = network(), forget, iter((1, -1))
    found = _summed_gradient(
        model, [batch, batch], lambda *batch: next(signs) * classification_loss(*batch)
    )
    assert all((g == 0).all() for g in found)


def test_the_mask_depends_on_neither_the_order_of_batches_nor_the_scale_of_the_loss(forget):
    for name in ("mlp", "cnn"):
        model = network(name)
        wanted = _largest(_summed_gradient(model, forget), 0.3)
        turned = _largest(_summed_gradient(model, forget[::-1]), 0.3)
        double = _summed_gradient(model, forget, lambda *batch: 2 * classification_loss(*batch))
        for masks in (turned, _largest(double, 0.3)):
            assert all(torch.equal(a, b) for a, b in zip(masks, wanted, strict=True))


@pytest.mark.parametrize("name", ["mlp", "cnn"])
@pytest.mark.parametrize("order", ["mixed", "forget_first"])
def test_with_all_weights_it_is_random_labels(name, order, tiny):
    parts = [tiny.without_classes([3]), tiny.of_classes([3])]
    data = [part.batches(16, shuffle=True, seed=1) for part in parts]
    model = nn.Sequential(*network(name), nn.Dropout(0.3))
    options = {"epochs": 2, "order": order, "redraw": "batch", "exclude_true": True, "seed": 4}
    options |= {"momentum": 0.8, "weight_decay": 0.01, "lr": 0.03}
    found = saliency_unlearning(model, *data, share=1.0, **options)
    assert_same(found, random_labels(model, *data, **options))


def test_without_a_weight_only_running_statistics_move(retain, forget):
    model = network("cnn")
    found = saliency_unlearning(model, retain, forget, share=0)
    for now, old in zip(found.parameters(), model.parameters(), strict=True):
        assert torch.equal(now, old)
    assert not torch.equal(found[1].running_mean, model[1].running_mean)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_what_may_move_follows_sgd_in_which_the_rest_has_neither_step_nor_momentum(
    momentum, retain, forget
):
    model, retain, forget = network().double(), doubled(retain), doubled(forget)
    options = {"lr": 0.05, "weight_decay": 0.01, "momentum": momentum, "epochs": 1}
    found = saliency_unlearning(model, retain, forget, share=0.4, seed=2, **options)
    masks = masks_by_hand(model, forget, 0.4)
    batches = BothSets(retain, forget, redraw="epoch", order="mixed", seed=2)
    parameters = list(model.parameters())
    velocity = [torch.zeros_like(w) for w in parameters]
    for step, (images, labels, draws) in enumerate(batches):
        logits = model(images)
        value = cross_entropy(logits, random_labels_from(draws, labels, logits, False))
        gradients = torch.autograd.grad(value, parameters)
        for w, v, g, mask in zip(parameters, velocity, gradients, masks, strict=True):
            v.mul_(momentum).add_(g + 0.01 * w.detach()).mul_(mask)
            w.data -= cosine(0.05, step, len(batches)) * v
    assert_close(found, model, rtol=1e-7)


def test_what_may_not_move_is_put_back_and_gathers_no_momentum():
    p = nn.Parameter(torch.tensor([0.1, 0.2, 0.3]))
    mask, before = torch.tensor([True, False, True]), p.detach().clone()
    sgd = torch.optim.SGD([p], lr=1.0, momentum=0.9, weight_decay=0.1)
    restore = _freeze([p], [mask], sgd)
    p.grad = torch.ones(3)
    sgd.step()
    with torch.no_grad():
        restore(None)
    assert (p != before).tolist() == mask.tolist()
    assert (sgd.state[p]["momentum_buffer"] != 0).tolist() == mask.tolist()


def test_frozen_parameters_do_not_count(retain, forget):
    model = network("cnn")
    model[0].weight.requires_grad_(False)
    found = saliency_unlearning(model, retain, forget, share=1.0)
    assert torch.equal(found[0].weight, model[0].weight)
    masks = _largest(_summed_gradient(model, forget), 0.5)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert sum(int(mask.sum()) for mask in masks) == trained // 2
    with pytest.raises(ValueError, match=r"there are none to choose from: call requires_grad_\(\)"):
        saliency_unlearning(model.requires_grad_(False), retain, forget)


def test_weights_in_channels_last_are_masked_by_index(retain, forget):
    plain = network("cnn")
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    found = [saliency_unlearning(model, retain, forget, share=0.3) for model in (plain, last)]
    masks = masks_by_hand(plain, forget, 0.3)
    for each in found:
        for now, old, mask in zip(each.parameters(), plain.parameters(), masks, strict=True):
            assert torch.equal(now[~mask], old[~mask])
    torch.testing.assert_close(weights(found[0]), weights(found[1]), rtol=1e-4, atol=1e-5)
    assert differ(found[0], plain)


def test_it_costs_its_epochs_over_both_sets_and_one_over_the_forget_set(tiny):
    retain, forget = (Counted(part) for part in (tiny.without_classes([3]), tiny.of_classes([3])))
    data = retain.batches(), forget.batches()
    assert passes(saliency_unlearning, network("cnn"), *data, count=96, epochs=3) == 3 + 24 / 96
    assert (retain.reads == 3).all() and (forget.reads == 4).all()
