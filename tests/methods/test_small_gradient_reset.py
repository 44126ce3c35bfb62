"""Small-gradient reset: gradients, what is redrawn, and the fine-tuning, each by hand."""

import pytest
import torch
import torch.nn.functional as F
from by_hand import Counted, assert_close, assert_same, differ, doubled, network, passes, weights
from torch import nn

from unlearning.core.batches import Rereadable
from unlearning.core.randomness import generator_from
from unlearning.methods import small_gradient_reset
from unlearning.methods.small_gradient_reset import _as_many, _triangle


def convolutional():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(128, 4)),
    ).double()


def gradient(model, batches):
    """Of each convolution's weight, summed over the batches' means."""
    kernels = [p for p in model.parameters() if p.ndim == 4]
    loss = sum(F.cross_entropy(model.eval()(x), y) for x, y in batches)
    return torch.autograd.grad(loss, kernels)


def test_the_weights_with_the_smallest_gradients_are_redrawn_in_each_convolution(retain, forget):
    model, retain, forget = convolutional(), doubled(retain), doubled(forget)
    found = small_gradient_reset(model, retain, forget, epochs=0, ratio=0.3, seed=2)
    chosen = list(_as_many(Rereadable(retain), 32, generator_from(2)))
    plus, minus = gradient(model, chosen), gradient(model, forget)
    after = weights(found)
    for name, p, m in zip(("0.weight", "3.weight"), plus, minus, strict=True):
        size, old = (p - m).abs(), model.state_dict()[name]
        redrawn = after[name] != old
        assert int(redrawn.sum()) == round(0.3 * p.numel())
        assert size[redrawn].max() <= size[~redrawn].min()
    for name, value in model.state_dict().items():
        assert name in ("0.weight", "3.weight") or torch.equal(after[name], value), name


def test_redrawn_weights_have_the_variance_of_he_for_the_outputs(retain, forget):
    model = network("resnet20")
    found = small_gradient_reset(model, retain, forget, epochs=0, ratio=1.0)
    new = {name: p for name, p in found.named_parameters() if p.ndim == 4 and p.numel() > 9_000}
    assert len(new) > 3
    for name, p in new.items():
        assert float(p.detach().std()) == pytest.approx((2 / (9 * len(p))) ** 0.5, rel=0.05), name
    other = small_gradient_reset(model, retain, forget, epochs=0, ratio=1.0, seed=1)
    assert differ(found, other)


def test_without_a_ratio_nothing_is_redrawn_and_equal_gradients_are_a_tie_by_place(retain):
    model = convolutional()
    assert_same(small_gradient_reset(model, retain, retain, epochs=0, ratio=0), model)
    everything = [(torch.cat([x for x, _ in retain]), torch.cat([y for _, y in retain]))]
    found = small_gradient_reset(model, everything, everything, epochs=0, ratio=0.3)
    for place in (0, 3):  # the retain set is the forget set, so that all gradients are 0
        moved = (found[place].weight != model[place].weight).flatten()
        count = round(0.3 * len(moved))
        assert moved[:count].all() and not moved[count:].any()


@pytest.mark.parametrize("count", [1, 16, 20, 40, 48, 90])
def test_as_many_images_are_taken_at_random_as_there_are_to_forget(count, tiny):
    batches = [*tiny.select(range(40)).batches(16)]  # 16, 16 and 8
    seen = set()
    for seed in range(8):
        found = list(_as_many(Rereadable(batches), count, generator_from(seed)))
        assert sum(len(labels) for _, labels in found) == min(count, 40)
        firsts = [images[0] for images, _ in batches]
        for images, _ in found:
            seen |= {n for n, one in enumerate(firsts) if torch.equal(one, images[0])}
    assert seen == {0, 1, 2}


def test_the_repair_is_sgd_with_a_triangle_in_which_kept_weights_are_slow(retain, forget):
    model, retain, forget = convolutional(), doubled(retain), doubled(forget)
    options = {"ratio": 0.4, "seed": 1}
    sgd = {"lr": 0.05, "momentum": 0.8, "weight_decay": 0.1}
    found = small_gradient_reset(model, retain, forget, kept_lr=0.2, epochs=5, **sgd, **options)
    by_hand = small_gradient_reset(model, retain, forget, epochs=0, **options)
    scale = {
        name: torch.where(p != model.state_dict()[name], 1.0, 0.2) if p.ndim == 4 else 1.0
        for name, p in by_hand.named_parameters()
    }
    names, parameters = zip(*by_hand.train().named_parameters(), strict=True)
    velocity = [torch.zeros_like(p) for p in parameters]
    for factor in (1 / 3, 2 / 3, 1, 2 / 3, 1 / 3):
        for images, labels in retain:
            loss = F.cross_entropy(by_hand(images), labels)
            gradients = torch.autograd.grad(loss, parameters)
            for name, p, v, g in zip(names, parameters, velocity, gradients, strict=True):
                v.mul_(0.8).add_(g * scale[name] + 0.1 * p.detach())
                p.data -= 0.05 * factor * v
    assert_close(found, by_hand)
    assert not any(p._backward_hooks for p in found.parameters())


@pytest.mark.parametrize(
    "epochs, factors", [(1, [1]), (2, [1, 1]), (3, [0.5, 1, 0.5]), (4, [0.5, 1, 1, 0.5])]
)
def test_the_triangle_of_other_numbers_of_epochs(epochs, factors):
    factor = _triangle(epochs, steps=2)
    assert [factor(step) for step in range(2 * epochs)] == [f for f in factors for _ in (0, 1)]


def test_a_network_without_convolutions_has_its_matrices_redrawn(retain, forget):
    model = network()
    found = small_gradient_reset(model, retain, forget, epochs=0, ratio=0.5)
    for (name, old), new in zip(model.named_parameters(), found.parameters(), strict=True):
        count = round(0.5 * old.numel()) if old.ndim == 2 else 0
        assert int((old != new).sum()) == count, name


def test_frozen_kernels_stay(retain, forget):
    model = convolutional()
    model[0].weight.requires_grad_(False)
    found = small_gradient_reset(model, retain, forget, epochs=0)
    assert torch.equal(found[0].weight, model[0].weight)
    assert not torch.equal(found[3].weight, model[3].weight)


def test_it_costs_two_passes_over_the_forget_set_and_the_repair(tiny):
    retain, forget = Counted(tiny.select(range(72))), Counted(tiny.select(range(72, 96)))
    data = retain.batches(12), forget.batches(12)
    cost = passes(small_gradient_reset, network("cnn"), *data, count=96, epochs=5)
    assert cost == pytest.approx((2 * 24 + 5 * 72) / 96)
    assert (forget.reads == 1).all()
    assert (retain.reads >= 5).all() and (retain.reads <= 6).all()


def test_a_pass_moves_statistics_only_in_the_repair(retain, forget):
    model = network("cnn")
    for epochs in (0, 2):
        found = small_gradient_reset(model, retain, forget, epochs=epochs)
        assert int(found[1].num_batches_tracked - model[1].num_batches_tracked) == 3 * epochs
