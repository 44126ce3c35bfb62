"""UNSIR: the noise, its share of the batches, and each step against Adam by hand."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from by_hand import adam, assert_close, assert_same, doubled, network
from by_hand import usual_loss as loss
from torch import nn

from unlearning.methods import impair_repair
from unlearning.methods.impair_repair import _WithNoise, error_maximising_noise

FEW = {"noise_size": 6, "noise_steps": 5}
SHAPE = (6, 1, 8, 8)


def without(tiny, *classes):
    """Batches of 16, in order, of all other classes."""
    return list(tiny.without_classes(classes).batches(16))


def moody():
    """Another network in train mode than in eval mode: used BatchNorm, and dropout."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6)
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    layers = nn.Conv2d(1, 6, 3), norm, nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(216, 4)
    return nn.Sequential(*layers).double()


def noise_by_hand(model, label, start, *, lr=0.1, steps=40, penalty=0.1):
    x = start.clone().requires_grad_()
    adam = torch.optim.Adam([x], lr=lr)
    for _ in range(steps):
        norms = [(image**2).sum() for image in x]
        error = F.cross_entropy(model(x), torch.full((len(x),), label))
        adam.zero_grad()
        (-error + penalty * sum(norms) / len(norms)).backward()
        adam.step()
    return x.detach()


@pytest.mark.parametrize("options", [{}, {"lr": 0.02, "steps": 12, "penalty": 0.7}, {"steps": 0}])
def test_noise_is_adam_on_minus_the_loss_and_the_norm_with_the_network_in_eval_mode(options):
    model = moody().train()
    model[0].requires_grad_(False)
    found = error_maximising_noise(model, [1, 3], SHAPE, seed=7, **options)
    assert_same(model, moody())
    generator, fixed = torch.Generator().manual_seed(7), copy.deepcopy(model).eval()
    for label in (1, 3):  # one draw after the other
        start = torch.randn(SHAPE, generator=generator).double()
        wanted = noise_by_hand(fixed, label, start, **options)
        torch.testing.assert_close(found[label], wanted, rtol=1e-4, atol=1e-5)
        assert not found[label].requires_grad


def batches_and_noise(*sizes):
    """Blank batches, and noise of 1 and 3 whose pixels say class and number: 301 is 1 of 3."""
    blank = [(torch.full((size, 1, 2, 2), -1.0), torch.zeros(size).long()) for size in sizes]
    numbers = torch.arange(5).view(-1, 1, 1, 1)
    return blank, {label: (100.0 * label + numbers).expand(-1, 1, 2, 2) for label in (1, 3)}


@pytest.mark.parametrize("ratio, counts", [(0.64, [10, 6, 1]), (2.0, [32, 20, 2]), (0.01, [1] * 3)])
def test_each_batch_is_joined_by_noise_of_each_class_with_its_own_label(ratio, counts):
    retain, noise = batches_and_noise(16, 10, 1)
    noisy = _WithNoise(retain, noise, ratio, seed=0)
    assert len(noisy) == 3
    for (images, labels), (own, own_labels), count in zip(noisy, retain, counts, strict=True):
        assert torch.equal(images[: len(own)], own)
        assert labels.tolist() == own_labels.tolist() + [1] * count + [3] * count
        classes = (images[len(own) :, 0, 0, 0] / 100).floor().long()
        assert torch.equal(classes, labels[len(own) :])


def test_noise_is_drawn_anew_for_each_batch_evenly_and_by_the_seed():
    def draws(seed):
        noisy = _WithNoise(*batches_and_noise(*[100] * 50), 1.0, seed=seed)
        return torch.stack([images[200:, 0, 0, 0] - 300 for images, _ in noisy]).long()

    assert len(draws(0).unique(dim=0)) == 50
    # Each of 5 is drawn Binomial(5000, 1/5) times: 1000 on average, 28.3 standard deviation.
    counts = draws(0).flatten().bincount()
    assert len(counts) == 5 and counts.sub(1000).abs().max() < 5 * 28.3
    assert torch.equal(draws(4), draws(4)) and not torch.equal(draws(4), draws(5))


@pytest.mark.parametrize("ratio, count, epochs", [(0.64, 10, 1), (0.01, 1, 2)])
def test_impairing_and_repairing_are_adam_by_hand(ratio, count, epochs, tiny):
    model, retain = network().double(), doubled(without(tiny, 1, 3))
    noise = error_maximising_noise(model, [1, 3], (1, 1, 8, 8), steps=5)  # one: no choice to draw
    options = {"noise_size": 1, "noise_steps": 5, "noise_ratio": ratio, "impair_epochs": epochs}
    options |= {"impair_lr": 0.01, "repair_lr": 5e-3}
    impaired = impair_repair(model, retain, [1, 3], repair_epochs=0, **options)
    repaired = impair_repair(model, retain, [1, 3], repair_epochs=2, **options)
    images = [noise[1]] * count + [noise[3]] * count  # in one batch with the retain set's
    labels = torch.tensor([1] * count + [3] * count)
    noisy = [(torch.cat([x, *images]), torch.cat([y, labels])) for x, y in retain] * epochs
    adam(model, noisy, loss, rates=[0.01] * len(noisy))
    assert_close(impaired, model, rtol=1e-7, atol=1e-10)
    adam(model, retain * 2, loss, rates=[5e-3] * len(retain * 2))  # a fresh one
    assert_close(repaired, model, rtol=1e-7, atol=1e-9)


def test_classes_may_be_any_collection_but_not_retained(tiny):
    wanted = impair_repair(network(), without(tiny, 3), [3], **FEW)
    for one in (3, {3}, [3, 3], np.array([3]), torch.tensor([3])):
        assert_same(impair_repair(network(), without(tiny, 3), one, **FEW), wanted)
    retain = [*without(tiny, 1, 3), *tiny.of_classes([1]).batches(16)]  # 1 is in the last alone
    with pytest.raises(ValueError, match="class 1 is among the retained labels"):
        impair_repair(network(), retain, [3, 2, 1])
