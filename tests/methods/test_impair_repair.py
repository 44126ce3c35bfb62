"""UNSIR: the noise, its share of the batches, and each step against Adam by hand."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from by_hand import adam, assert_close, assert_same, doubled, network
from by_hand import usual_loss as loss
from torch import nn

from unlearning import predict, train
from unlearning.methods import impair_repair
from unlearning.methods.impair_repair import _WithNoise, error_maximising_noise
from unlearning.metrics import accuracy

FEW = {"noise_size": 6, "noise_steps": 5}
SHAPE = (6, 1, 8, 8)


def without(tiny, *classes):
    """Batches of 16, in order, of all other classes."""
    return list(tiny.without_classes(classes).batches(16))


class Moody(nn.Sequential):
    """Another network in train mode than in eval mode: used BatchNorm, and dropout."""

    def __init__(self):
        torch.manual_seed(0)
        norm = nn.BatchNorm2d(6)
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
        super().__init__(
            nn.Conv2d(1, 6, 3), norm, nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(216, 4)
        )


def noise_by_hand(model, label, start, *, lr, steps, penalty):
    x = start.clone().requires_grad_()
    adam = torch.optim.Adam([x], lr=lr)
    for _ in range(steps):
        norms = [(image**2).sum() for image in x]
        error = F.cross_entropy(model(x), torch.full((len(x),), label))
        adam.zero_grad()
        (-error + penalty * sum(norms) / len(norms)).backward()
        adam.step()
    return x.detach()


@pytest.mark.parametrize(
    "options",
    [{}, {"steps": 1, "penalty": 0.0}, {"lr": 0.02, "steps": 12, "penalty": 0.7}, {"steps": 0}],
)
def test_noise_is_adam_on_minus_the_loss_and_the_norm_with_the_network_in_eval_mode(options):
    model = Moody().double().train()
    model[0].requires_grad_(False)
    found = error_maximising_noise(model, [1, 3], SHAPE, seed=7, **options)
    assert_same(model, Moody().double())
    generator, fixed = torch.Generator().manual_seed(7), copy.deepcopy(model).eval()
    for label in (1, 3):  # one draw after the other
        start = torch.randn(SHAPE, generator=generator).double()
        options = {"lr": 0.1, "steps": 40, "penalty": 0.1} | options
        wanted = noise_by_hand(fixed, label, start, **options)
        torch.testing.assert_close(found[label], wanted, rtol=1e-4, atol=1e-5)
        assert not found[label].requires_grad


def test_noise_is_what_the_network_least_takes_for_its_class(tiny):
    model = train(network(), tiny.batches(16), epochs=10, lr=0.05)
    start, noise = (error_maximising_noise(model, [1, 3], SHAPE, steps=steps) for steps in (0, 40))
    for label in (1, 3):
        labels = torch.full((6,), label)
        before, after = (float(loss(model, x[label], labels).detach()) for x in (start, noise))
        assert after > before + 1
        assert accuracy(*predict(model, [(noise[label], labels)])) == 0


def numbered_noise(*labels, size=5):
    """Noise whose pixels say class and number: 301 is number 1 of class 3."""
    numbers = torch.arange(size).view(-1, 1, 1, 1)
    return {label: (100.0 * label + numbers).expand(-1, 1, 2, 2) for label in labels}


def blank_batches(*sizes):
    return [(torch.full((size, 1, 2, 2), -1.0), torch.zeros(size).long()) for size in sizes]


@pytest.mark.parametrize("ratio, counts", [(0.64, [10, 6, 1]), (2.0, [32, 20, 2]), (0.01, [1] * 3)])
def test_each_batch_is_joined_by_noise_of_each_class_with_its_own_label(ratio, counts):
    retain = blank_batches(16, 10, 1)
    noisy = _WithNoise(retain, numbered_noise(1, 3), ratio, seed=0)
    assert len(noisy) == 3
    for (images, labels), (own, own_labels), count in zip(noisy, retain, counts, strict=True):
        assert torch.equal(images[: len(own)], own)
        assert labels.tolist() == own_labels.tolist() + [1] * count + [3] * count
        classes = (images[len(own) :, 0, 0, 0] / 100).floor().long()
        assert torch.equal(classes, labels[len(own) :])


def test_noise_is_drawn_anew_for_each_batch_evenly_and_by_the_seed():
    def draws(seed):
        noisy = _WithNoise(blank_batches(*[100] * 50), numbered_noise(3), 1.0, seed=seed)
        return torch.stack([(images[100:, 0, 0, 0] - 300).long() for images, _ in noisy])

    assert len(draws(0).unique(dim=0)) == 50
    counts = draws(0).flatten().bincount()
    # Each of 5 is drawn Binomial(5000, 1/5) times: 1000 on average, 28.3 standard deviation.
    assert len(counts) == 5
    assert counts.sub(1000).abs().max() < 5 * 28.3
    assert torch.equal(draws(4), draws(4))
    assert not torch.equal(draws(4), draws(5))


@pytest.mark.parametrize("ratio, count, epochs", [(0.64, 10, 1), (0.01, 1, 2)])
def test_impairing_is_adam_on_the_retain_set_and_the_noise_as_one_batch(ratio, count, epochs, tiny):
    model, retain = network().double(), doubled(without(tiny, 1, 3))
    noise = error_maximising_noise(model, [1, 3], (1, 1, 8, 8), steps=5)  # one: no choice to draw
    options = {"noise_size": 1, "noise_steps": 5, "noise_ratio": ratio, "impair_epochs": epochs}
    found = impair_repair(model, retain, [1, 3], impair_lr=0.01, repair_epochs=0, **options)
    images = [noise[1]] * count + [noise[3]] * count
    labels = torch.tensor([1] * count + [3] * count)
    noisy = [(torch.cat([x, *images]), torch.cat([y, labels])) for x, y in retain] * epochs
    adam(model, noisy, loss, rates=[0.01] * len(noisy))
    assert_close(found, model, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("impair_epochs", [0, 1])
def test_repair_is_a_fresh_adam_on_the_retain_set(impair_epochs, tiny):
    model, retain = network().double(), doubled(without(tiny, 3))
    options = {"impair_epochs": impair_epochs, "seed": 3, **FEW}
    by_hand = impair_repair(model, retain, 3, repair_epochs=0, **options)
    found = impair_repair(model, retain, 3, repair_epochs=2, repair_lr=5e-3, **options)
    adam(by_hand, retain * 2, loss, rates=[5e-3] * len(retain * 2))
    assert_close(found, by_hand, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name, classes", [("mlp", [3]), ("mlp", [0, 1]), ("cnn", [1, 3])])
def test_classes_are_forgotten_and_the_rest_is_kept(name, classes, tiny):
    model = train(network(name), tiny.batches(16), epochs=10, lr=0.05)
    forget, retain = tiny.of_classes(classes).batches(16), without(tiny, *classes)
    assert accuracy(*predict(model, forget)) > 0.95
    options = {"noise_size": 64, "impair_lr": 0.05, "repair_lr": 0.02, "repair_epochs": 5}
    repaired = impair_repair(model, retain, classes, impair_epochs=0)
    assert accuracy(*predict(repaired, forget)) > 0.9  # the noise does it, not the repair
    found = impair_repair(model, retain, classes, **options)
    assert accuracy(*predict(found, forget)) < 0.1
    assert accuracy(*predict(found, retain)) > 0.95


@pytest.mark.parametrize("one", [3, {3}, [3, 3], np.int64(3), np.array([3]), torch.tensor([3])])
def test_one_class_may_be_a_number_or_any_collection(one, tiny):
    wanted = impair_repair(network(), without(tiny, 3), [3], **FEW)
    assert_same(impair_repair(network(), without(tiny, 3), one, **FEW), wanted)


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"forget_classes": 4}, "class 4 does not exist: the network has 4 outputs"),
        ({"forget_classes": [3, -1]}, "class -1 does not exist: the network has 4 outputs"),
        ({"forget_classes": [3, 2, 1]}, "class 1 is among the retained labels: remove its images"),
        ({"forget_classes": []}, "forget_classes is empty"),
        ({"noise_size": 0}, "noise_size and noise_ratio must be positive, not 0 and 0.64"),
        ({"noise_ratio": -0.5}, "noise_size and noise_ratio must be positive, not 256 and -0.5"),
        ({"noise_ratio": math.nan}, "noise_size and noise_ratio must be positive, not 256 and nan"),
    ],
)
def test_what_cannot_be_forgotten_is_refused_in_one_sentence(options, sentence, tiny):
    # Class 1 comes in the last batch alone.
    retain = [*without(tiny, 1, 3), *tiny.of_classes([1]).batches(16)]
    with pytest.raises(ValueError, match=sentence):
        impair_repair(network(), retain, **({"forget_classes": 3} | options))
