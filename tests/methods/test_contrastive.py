"""Contrastive forgetting: its loss and its bound, and all phases by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from by_hand import Counted, assert_close, assert_same, differ, doubled, network, passes
from hypothesis import given
from hypothesis import strategies as st

from unlearning.methods import contrastive
from unlearning.methods.contrastive import _contrastive_loss, _cosine, _uniform_loss


def test_the_contrast_is_the_mean_over_all_pairs_by_a_loop():
    torch.manual_seed(0)
    forget, retain = torch.randn(3, 4).double(), torch.randn(5, 4).double()
    total = 0.0
    for z in forget:
        similar = [float(z @ other) / 1.3 for other in retain]
        total -= sum(s - math.log(sum(map(math.exp, similar))) for s in similar)
    found = float(_contrastive_loss(forget, retain, 1.3))
    assert found == pytest.approx(total / 15)


@given(seed=st.integers(0, 1000), count=st.integers(2, 9), scale=st.floats(0.01, 30))
def test_the_contrast_is_at_least_log_b_and_equal_where_all_are_alike(seed, count, scale):
    generator = torch.Generator().manual_seed(seed)
    forget = scale * torch.randn(4, 3, generator=generator, dtype=torch.float64)
    retain = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    least = math.log(count)
    assert float(_contrastive_loss(forget, retain, 1.15)) > least
    for alike in (0 * forget, forget):
        same = retain if alike is not forget else retain[:1].expand(count, -1)
        assert float(_contrastive_loss(alike, same, 1.15)) == pytest.approx(least, rel=1e-12)


def test_no_gradient_reaches_the_retain_set_and_it_is_0_where_logits_are_0():
    forget = torch.zeros(4, 3, requires_grad=True)
    retain = torch.randn(5, 3, requires_grad=True)
    loss = _contrastive_loss(forget, retain, 1.15)
    assert torch.autograd.grad(loss, retain, allow_unused=True, retain_graph=True) == (None,)
    assert torch.autograd.grad(loss, forget)[0].abs().max() < 1e-7


def test_bfloat16_does_not_round_the_products():
    torch.manual_seed(0)
    forget, retain = 10 * torch.randn(8, 10), 10 * torch.randn(16, 10)
    wanted = _contrastive_loss(forget.double(), retain.double(), 1.15)
    with torch.autocast("cpu", torch.bfloat16):
        found = _contrastive_loss(forget, retain, 1.15)
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)


def test_the_first_phase_is_the_divergence_from_uniform_and_0_there(retain):
    images, labels = retain[0]
    model = network()
    model[5].weight.data *= 5
    logits = model(images).detach()
    by_hand = -logits.log_softmax(-1).mean(-1) - math.log(4)  # CE to uniform, less its entropy
    found = _uniform_loss(model, images, labels).detach()
    assert float(found) == pytest.approx(float(by_hand.mean()), abs=1e-6)
    model[5].weight.data.zero_()
    model[5].bias.data.fill_(0.7)
    assert float(_uniform_loss(model, images, labels).detach()) == pytest.approx(0, abs=1e-7)
    start = network()
    start[5].weight.data.zero_()
    start[5].bias.data.fill_(0.0)
    found = contrastive(start, retain, retain, rounds=0, uniform_lr=1.0)
    assert_close(found, start, atol=1e-6)


def cosine(step, steps, lr):
    return 1e-6 + (lr - 1e-6) * (1 + math.cos(math.pi * step / steps)) / 2


class SGD:
    """SGD of textbooks, with a momentum of its own."""

    def __init__(self, model, weight_decay):
        self.parameters, self.weight_decay = list(model.parameters()), weight_decay
        self.velocity = [torch.zeros_like(w) for w in self.parameters]

    def step(self, loss, lr):
        gradients = torch.autograd.grad(loss, self.parameters)
        for w, v, g in zip(self.parameters, self.velocity, gradients, strict=True):
            v.mul_(0.8).add_(g + self.weight_decay * w.detach())
            w.data -= lr * v


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_all_phases_are_as_by_hand_each_with_its_optimizer_and_order(name, tiny):
    images = tiny.select(range(64)), tiny.select(range(64, 96))
    retain, forget = (part.batches(16, shuffle=True, seed=5) for part in images)
    rates = {"uniform_lr": 0.02, "forget_lr": 0.01, "retain_lr": 0.03}
    options = {"rounds": 3, "temperature": 1.3, "momentum": 0.8, "weight_decay": 0.05}
    model = network(name).double()
    found = contrastive(model, retain, forget, **rates, **options)

    def epoch(batches, number):
        batches.set_epoch(number)
        return doubled(batches)

    model.train()
    first, away, back = SGD(model, 0.0), SGD(model, 0.0), SGD(model, 0.05)
    for x, _ in epoch(forget, 0):
        first.step(-model(x).log_softmax(-1).mean(), 0.02)
    step = 0
    for number in range(3):
        pairs = zip(epoch(forget, 1 + number), epoch(retain, 2 * number), strict=False)
        for (x, _), (other, _) in pairs:
            logits = model(x)
            similar = logits @ model(other).detach().T / 1.3
            away.step(-similar.log_softmax(-1).mean(), cosine(step, 6, 0.01))
            step += 1
        for x, y in epoch(retain, 2 * number + 1):
            back.step(F.cross_entropy(model(x), y), 0.03)
    assert_close(
        found, model, rtol=1e-6, atol=1e-8
    )  # the divergence of the first phase is in float32


def test_the_cosine_goes_on_from_round_to_round_and_ends_at_a_millionth():
    rates = [3e-4 * _cosine(3e-4, first, 8)(step) for first in (0, 4) for step in range(4)]
    wanted = [cosine(step, 8, 3e-4) for step in range(8)]
    assert rates == pytest.approx(wanted)
    assert 3e-4 * _cosine(3e-4, 4, 8)(4) == pytest.approx(1e-6)
    assert _cosine(1e-8, 0, 8)(5) == 1  # never up


def test_statistics_follow_every_batch_that_is_read(retain, forget):
    model = network("cnn")
    found = contrastive(model, retain, forget, rounds=3)
    moved = int(found[1].num_batches_tracked - model[1].num_batches_tracked)
    assert moved == 2 + 3 * (2 + 2 + 3)


def test_what_was_set_to_eval_mode_by_hand_stays_so_in_all_phases(retain, forget):
    model = network("cnn").train()
    model[1].eval()
    found = contrastive(model, retain, forget, rounds=2)
    assert torch.equal(found[1].running_mean, model[1].running_mean)
    assert not torch.equal(found[4].running_mean, model[4].running_mean)


def test_labels_of_the_forget_set_are_not_read_and_those_of_the_retain_set_are(retain, forget):
    def turned(batches):
        return [(images, labels.flip(0)) for images, labels in batches]

    wanted = contrastive(network(), retain, forget, rounds=2)
    assert_same(contrastive(network(), retain, turned(forget), rounds=2), wanted)
    assert differ(contrastive(network(), turned(retain), forget, rounds=2), wanted)


def test_what_it_costs_and_how_often_each_image_is_read(tiny):
    retain, forget = Counted(tiny.select(range(72))), Counted(tiny.select(range(72, 96)))
    data = retain.batches(12), forget.batches(12)
    cost = passes(contrastive, network("cnn"), *data, count=96, rounds=4)
    f = 24 / 96
    assert cost == pytest.approx(f + 4 * (1 - f) + 4 * (f + f / 3))
    assert (forget.reads == 5).all()
    assert (retain.reads[:24] == 8).all() and (retain.reads[24:] == 4).all()
