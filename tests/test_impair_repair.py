"""Impair and repair: the noise, its share of the batches, and each step against Adam by hand."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unlearning import Diverged, accuracy, build, impair_repair, predict, train
from unlearning.methods.impair_repair import Mixed, error_maximising_noise

FEW = {"noise_size": 6, "noise_steps": 5}


def retained(tiny, *lost):
    """Batches of 16, in order, of all classes of ``tiny`` but the lost ones."""
    return list(tiny.of_classes(lost, others=True).batches(16))


def doubled(batches):
    return [(images.double(), labels) for images, labels in batches]


def mlp(seed=0):
    torch.manual_seed(seed)
    return build("mlp", 4, 1, 8)


class Moody(nn.Sequential):
    """Another network in train mode than in eval mode: BatchNorm that has lived, and dropout."""

    def __init__(self):
        torch.manual_seed(0)
        norm = nn.BatchNorm2d(6)
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
        super().__init__(
            nn.Conv2d(1, 6, 3), norm, nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(216, 4)
        )


def weights(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def assert_same(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def assert_close(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-10)


def learned(model, retain, **options):
    """The noise alone."""
    _, noise = impair_repair(
        model, retain, return_noise=True, impair_epochs=0, repair_epochs=0, **(FEW | options)
    )
    return noise


def adam_by_hand(model, batches, lr):
    """torch's own Adam, from its beginning, at a constant rate; in place."""
    adam = torch.optim.Adam(model.parameters(), lr=lr)
    for images, labels in batches:
        adam.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        adam.step()


# ------------------------------------------------------------------------------------------------
# Noise


def noise_by_hand(model, label, start, *, lr, steps, penalty):
    x = start.clone().requires_grad_()
    adam = torch.optim.Adam([x], lr=lr)
    for _ in range(steps):
        norms = [(image**2).sum() for image in x]
        error = F.cross_entropy(model(x), torch.full((len(x),), label))
        loss = -error + penalty * sum(norms) / len(norms)
        adam.zero_grad()
        loss.backward()
        adam.step()
    return x.detach()


@pytest.mark.parametrize(
    "lr, steps, penalty", [(0.1, 5, 0.1), (0.1, 1, 0.0), (0.02, 12, 0.7), (0.1, 0, 0.1)]
)
def test_noise_is_adam_on_minus_the_loss_and_the_norm_of_the_network_in_eval_mode(
    lr, steps, penalty, tiny
):
    model = Moody().double().train()
    found = learned(
        model,
        doubled(retained(tiny, 1, 3)),
        noise_lr=lr,
        noise_steps=steps,
        noise_penalty=penalty,
        seed=7,
    )
    generator = torch.Generator().manual_seed(7)
    fixed = copy.deepcopy(model).eval()
    for label in (1, 3):  # one draw after the other
        start = torch.randn(6, 1, 8, 8, generator=generator).double()
        wanted = noise_by_hand(fixed, label, start, lr=lr, steps=steps, penalty=penalty)
        assert_close(found[label], wanted)


def test_forty_steps_at_a_tenth_with_a_penalty_of_a_tenth_are_the_defaults(tiny):
    model, retain = mlp().double(), doubled(retained(tiny, 2))
    _, noise = impair_repair(model, retain, return_noise=True, impair_epochs=0)
    start = torch.randn(256, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    wanted = noise_by_hand(model, 2, start, lr=0.1, steps=40, penalty=0.1)
    torch.testing.assert_close(noise[2], wanted, rtol=1e-4, atol=1e-5)


def test_noise_is_what_the_network_least_takes_for_its_class(tiny):
    model = train(mlp(), tiny.batches(16), epochs=10, lr=0.05)
    retain = retained(tiny, 1, 3)
    start, noise = (learned(model, retain, noise_steps=steps, noise_size=32) for steps in (0, 40))
    for label in (1, 3):
        labels = torch.full((32,), label)
        before, after = (
            float(F.cross_entropy(model(x[label]), labels).detach()) for x in (start, noise)
        )
        assert after > before + 1
        assert accuracy(*predict(model, [(noise[label], labels)])) == 0


def test_the_penalty_keeps_noise_small(tiny):
    model, retain = mlp(), retained(tiny, 3)
    free, kept = (
        float(learned(model, retain, noise_penalty=penalty, noise_steps=40)[3].square().mean())
        for penalty in (0.0, 1.0)
    )
    assert kept < 0.05
    assert free > 0.9


@pytest.mark.parametrize("size, shape", [(1, (1, 8, 8)), (5, (3, 6, 4))])
def test_noise_comes_on_request_with_the_shape_of_the_images(size, shape):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(4))
    retain = [(torch.randn(9, *shape), torch.arange(9) % 3)]
    model(retain[0][0])
    found, noise = impair_repair(model, retain, noise_size=size, return_noise=True)
    assert {label: tuple(images.shape) for label, images in noise.items()} == {3: (size, *shape)}
    assert not noise[3].requires_grad
    assert noise[3].isfinite().all()
    alone = impair_repair(model, retain, noise_size=size)
    assert isinstance(alone, nn.Module)
    assert_same(weights(alone), weights(found))


def test_learning_noise_moves_neither_statistics_nor_weights(tiny):
    model = Moody().train()
    found = impair_repair(model, retained(tiny, 3), impair_epochs=0, repair_epochs=0, **FEW)
    assert_same(weights(found), weights(Moody()))
    assert_same(weights(model), weights(Moody()))
    assert all(p.requires_grad and p.grad is None for p in found.parameters())


def test_noise_is_learned_through_frozen_parameters_too(tiny):
    model, retain = Moody(), retained(tiny, 3)
    wanted = learned(model, retain)
    for layer in model[0], model[1]:
        layer.requires_grad_(False)
    assert_same(learned(model, retain), wanted)


def test_noise_does_not_depend_on_the_mode_of_the_network(tiny):
    retain = retained(tiny, 3)
    assert_same(learned(Moody().train(), retain), learned(Moody().eval(), retain))


# ------------------------------------------------------------------------------------------------
# The mixture


def numbered_noise(*labels, size=5):
    """Noise whose pixels say class and number: 310 is number 10 of class 3."""
    numbers = torch.arange(size).view(-1, 1, 1, 1)
    return {label: (100.0 * label + numbers).expand(-1, 1, 2, 2) for label in labels}


def kept_batches(*sizes):
    return [(torch.full((size, 1, 2, 2), -1.0), torch.zeros(size).long()) for size in sizes]


@pytest.mark.parametrize(
    "ratio, counts", [(0.64, [10, 6, 1]), (0.5, [8, 5, 1]), (2.0, [32, 20, 2]), (0.01, [1, 1, 1])]
)
def test_each_batch_is_joined_by_noise_of_each_class_in_proportion(ratio, counts):
    retain = kept_batches(16, 10, 1)
    mixed = Mixed(retain, numbered_noise(1, 3), ratio, seed=0)
    assert len(mixed) == 3
    for (images, labels), (kept, true), count in zip(mixed, retain, counts, strict=True):
        assert len(images) == len(labels) == len(kept) + 2 * count
        assert_same((images[: len(kept)], labels[: len(true)]), (kept, true))
        assert labels[len(true) :].tolist() == [1] * count + [3] * count


def test_noise_of_each_class_carries_the_label_of_its_own_class():
    for images, labels in Mixed(kept_batches(16, 10), numbered_noise(1, 2, 3), 0.64, seed=0):
        noise = images[:, 0, 0, 0] >= 0
        assert int(noise.sum()) in (30, 18)
        assert torch.equal((images[noise, 0, 0, 0] / 100).floor().long(), labels[noise])


def test_noise_is_drawn_anew_for_each_batch_and_evenly():
    mixed = Mixed(kept_batches(*[100] * 50), numbered_noise(3), 1.0, seed=0)
    draws = [(images[100:, 0, 0, 0] - 300).long() for images, _ in mixed]
    assert len({tuple(draw.tolist()) for draw in draws}) == 50
    counts = torch.cat(draws).bincount(minlength=5)
    # Each of 5 is drawn Binomial(5000, 1/5) times: 1000 on average, 28.3 standard deviation.
    assert len(counts) == 5
    assert counts.sub(1000).abs().max() < 5 * 28.3


def test_draws_of_noise_follow_their_seed():
    first, again, other = (
        torch.cat([x for x, _ in Mixed(kept_batches(16, 16), numbered_noise(3), 1.0, seed=seed)])
        for seed in (4, 4, 5)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_order_of_each_epoch_is_that_of_the_retain_set(tiny):
    batches = tiny.batches(16, shuffle=True, seed=0)
    mixed = Mixed(batches, {3: torch.zeros(2, 1, 8, 8)}, 0.1, seed=0)
    for epoch in (0, 1, 0):
        batches.set_epoch(epoch)
        wanted = [labels for _, labels in batches]
        batches.set_epoch(7)
        mixed.set_epoch(epoch)
        assert_same([labels[:-2] for _, labels in mixed], wanted)


# ------------------------------------------------------------------------------------------------
# Impair, then repair


@pytest.mark.parametrize("ratio, count", [(0.64, 10), (0.01, 1)])
@pytest.mark.parametrize("epochs", [1, 2])
def test_impairing_is_adam_on_the_retain_set_and_the_noise_as_one_batch(epochs, ratio, count, tiny):
    model, retain = mlp().double(), doubled(retained(tiny, 1, 3))
    found, noise = impair_repair(
        model,
        retain,
        noise_size=1,  # so that it is known which one is drawn
        noise_steps=5,
        noise_ratio=ratio,
        impair_epochs=epochs,
        impair_lr=0.01,
        repair_epochs=0,
        return_noise=True,
    )
    assert [len(labels) for _, labels in retain] == [16] * 3
    parts, targets = [noise[1]] * count + [noise[3]] * count, [1] * count + [3] * count
    mixed = [
        (torch.cat([images, *parts]), torch.cat([labels, torch.tensor(targets)]))
        for images, labels in retain
    ]
    adam_by_hand(model, mixed * epochs, lr=0.01)
    assert_close(weights(found), weights(model))


def test_no_repair_leaves_the_network_impaired_and_repair_is_a_fresh_adam(tiny):
    model, retain = mlp().double(), doubled(retained(tiny, 3))
    options = {"impair_lr": 0.02, "seed": 3, **FEW}
    impaired = impair_repair(model, retain, repair_epochs=0, **options)
    repaired = impair_repair(model, retain, repair_epochs=2, repair_lr=5e-3, **options)
    adam_by_hand(impaired, retain * 2, lr=5e-3)
    assert_close(weights(repaired), weights(impaired))


def test_repair_alone_is_adam_on_the_retain_set(tiny):
    model, retain = mlp().double(), doubled(retained(tiny, 3))
    found = impair_repair(model, retain, impair_epochs=0, repair_lr=5e-3, **FEW)
    adam_by_hand(model, retain, lr=5e-3)
    assert_close(weights(found), weights(model))


def test_frozen_parameters_stay_and_the_rest_moves(tiny):
    model = mlp()
    model[1].requires_grad_(False)
    found = impair_repair(model, retained(tiny, 3), **FEW)
    assert_same(weights(found[1]), weights(model[1]))
    assert [p.requires_grad for p in found.parameters()] == [False] * 2 + [True] * 4
    for layer in (3, 5):
        assert not torch.equal(found[layer].weight, model[layer].weight)


@pytest.mark.parametrize("lost", [(3,), (1, 3), (0, 1)])
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_classes_are_forgotten_and_the_rest_is_kept(name, lost, tiny):
    torch.manual_seed(0)
    model = train(build(name, 4, 1, 8), tiny.batches(16), epochs=10, lr=0.05)
    forget, retain = tiny.of_classes(lost).batches(16), retained(tiny, *lost)
    assert accuracy(*predict(model, forget)) > 0.95
    found = impair_repair(
        model, retain, noise_size=64, impair_lr=0.05, repair_lr=0.02, repair_epochs=5
    )
    assert accuracy(*predict(found, forget)) < 0.1
    assert accuracy(*predict(found, retain)) > 0.95


def test_noise_does_what_repair_alone_does_not(tiny):
    model = train(mlp(), tiny.batches(16), epochs=10, lr=0.05)
    forget, retain = tiny.of_classes([1, 3]).batches(16), retained(tiny, 1, 3)
    left = [
        accuracy(*predict(impair_repair(model, retain, impair_epochs=epochs), forget))
        for epochs in (0, 1)
    ]
    assert left[0] > 0.9
    assert left[1] < 0.6


# ------------------------------------------------------------------------------------------------
# Which classes


@pytest.mark.parametrize(
    "classes", [3, [3], (3,), {3}, range(3, 4), np.int64(3), np.array([3]), torch.tensor([3]), None]
)
def test_one_class_may_be_a_number_or_a_list_or_what_is_not_retained(classes, tiny):
    model, retain = mlp(), retained(tiny, 3)
    found, noise = impair_repair(model, retain, forget_classes=classes, return_noise=True, **FEW)
    wanted, theirs = impair_repair(model, retain, forget_classes=[3], return_noise=True, **FEW)
    assert list(noise) == [3]
    assert_same(noise[3], theirs[3])
    assert_same(weights(found), weights(wanted))


def test_a_class_named_twice_is_forgotten_once(tiny):
    model, retain = mlp(), retained(tiny, 3)
    assert_same(
        learned(model, retain, forget_classes=[3, 3]), learned(model, retain, forget_classes=3)
    )


def test_by_default_all_outputs_that_are_not_retained_are_forgotten(tiny):
    torch.manual_seed(0)
    six = build("mlp", 6, 1, 8)  # two outputs never had an image
    assert list(learned(six, retained(tiny, 1))) == [1, 4, 5]
    assert list(learned(mlp(), retained(tiny, 3, 1))) == [1, 3]


def test_the_last_batch_is_looked_at_too_for_what_is_retained(tiny):
    in_order = [*retained(tiny, 1, 3), *tiny.of_classes([1]).batches(16)]
    assert list(learned(mlp(), in_order)) == [3]


def test_of_several_classes_that_are_not_retained_only_the_named_ones_are_forgotten(tiny):
    assert list(learned(mlp(), retained(tiny, 1, 3), forget_classes=[1])) == [1]
    assert list(learned(mlp(), retained(tiny, 1, 3), forget_classes=[3, 1])) == [3, 1]


RETAINED = (
    "class 1 is among the retained labels: leave its images out of retain, or its name out of "
    "forget_classes"
)
NOTHING = (
    "there is no class to forget: all of the network's classes are retained, and this method "
    "forgets whole classes"
)
MISSING = "class {} does not exist: the network has 4 outputs"
SIZES = "noise_size and noise_ratio must be positive, not {} and {}"


@pytest.mark.parametrize(
    "lost, options, sentence",
    [
        ([3], {"forget_classes": 4}, MISSING.format(4)),
        ([3], {"forget_classes": [3, -1]}, MISSING.format(-1)),
        ([3], {"forget_classes": 1}, RETAINED),
        ([3], {"forget_classes": [3, 2, 1]}, RETAINED),
        ([3], {"forget_classes": torch.tensor([1])}, RETAINED),
        ([], {}, NOTHING),
        ([3], {"forget_classes": []}, NOTHING),
        ([3], {"noise_size": 0}, SIZES.format(0, 0.64)),
        ([3], {"noise_size": -2}, SIZES.format(-2, 0.64)),
        ([3], {"noise_ratio": 0}, SIZES.format(256, 0)),
        ([3], {"noise_ratio": -0.5}, SIZES.format(256, -0.5)),
        ([3], {"noise_ratio": float("nan")}, SIZES.format(256, "nan")),
    ],
)
def test_what_cannot_be_forgotten_is_refused_in_one_sentence(lost, options, sentence, tiny):
    with pytest.raises(ValueError) as caught:
        impair_repair(mlp(), retained(tiny, *lost), **options)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("rate", ["noise_lr", "impair_lr", "repair_lr"])
def test_every_absurd_rate_is_reported(rate, tiny):
    with pytest.raises(Diverged, match=r"with learning rate 1e\+30: lower lr"):
        impair_repair(mlp(), retained(tiny, 3) * 4, **FEW, **{rate: 1e30})


def test_a_network_without_trainable_parameters_is_refused(tiny):
    with pytest.raises(ValueError, match="no parameter of the network requires a gradient"):
        impair_repair(mlp().requires_grad_(False), retained(tiny, 3), **FEW)


def test_noise_can_be_learned_for_any_shape_and_class():
    model = mlp()
    found = error_maximising_noise(
        model, [2, 0], (3, 1, 8, 8), lr=0.1, steps=2, penalty=0.1, seed=1
    )
    assert list(found) == [2, 0]
    assert not torch.equal(found[2], found[0])
