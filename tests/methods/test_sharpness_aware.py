"""UAM: each step by hand with weights moved and moved back, and what it costs."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
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
)
from strangers import pruned, tied, weight_normed
from torch import nn

from unlearning.methods import fine_tune, sharpness_aware
from unlearning.splitting import forget_classes


def by_hand(model, pairs, *, rho, lr, momentum=0.9, weight_decay=0.0):
    """The weights are moved up the forget loss, and moved back before the step; in place."""
    model.train()
    sgd = torch.optim.SGD(model.parameters(), lr, momentum, weight_decay=weight_decay)
    for step, (x, y, forget_x, forget_y) in enumerate(pairs):
        sgd.param_groups[0]["lr"] = cosine(lr, step, len(pairs))
        sgd.zero_grad()
        F.cross_entropy(model(torch.cat([x, forget_x]))[len(x) :], forget_y).backward()
        before = [w.detach().clone() for w in model.parameters()]
        norm = math.sqrt(sum(float((w.grad**2).sum()) for w in model.parameters()))
        for w in model.parameters():
            w.data += cosine(rho, step, len(pairs)) * w.grad / norm
        sgd.zero_grad()
        usual_loss(model, x, y).backward()
        for w, old in zip(model.parameters(), before, strict=True):
            w.data.copy_(old)
        sgd.step()


@pytest.mark.parametrize("name", ["mlp", "cnn", "tied", "pruned", "weight norm"])
def test_each_step_descends_by_the_gradient_found_uphill(name, retain, forget):
    makers = {"tied": tied, "pruned": pruned, "weight norm": weight_normed}
    model = makers[name]() if name in makers else network(name)
    model = copy.deepcopy(model).double() if name != "pruned" else _double_pruned(model)
    retain = doubled(retain)
    forget = [(x[:10], y[:10]) for x, y in doubled(forget)]
    options = {"rho": 0.7, "lr": 0.05, "weight_decay": 5e-4}
    found = sharpness_aware(model, retain, forget, epochs=2, **options)
    pairs = [(*retain[step % 3], *forget[step % 2]) for step in range(6)]
    by_hand(model, pairs, **options)
    assert_close(found, model, rtol=1e-8)  # BatchNorm's statistics too


def _double_pruned(model):
    model = model.double()
    model(torch.zeros(1, 1, 8, 8, dtype=torch.double))  # which computes the masked weights again
    return model


def test_with_a_radius_of_0_it_is_fine_tuning(retain, forget):
    for model in (network("smooth").double(), network("mlp").double()):
        given, options = doubled(retain), {"epochs": 2, "lr": 0.1, "weight_decay": 5e-4}
        wanted = fine_tune(model, given, **options)
        assert_same(sharpness_aware(model, given, doubled(forget), rho=0.0, **options), wanted)
        assert differ(sharpness_aware(model, given, doubled(forget), rho=0.1, **options), wanted)


def test_without_steps_the_weights_stay_to_the_last_bit(retain, forget):
    model = network("mlp")
    assert_same(sharpness_aware(model, retain, forget, rho=3.0, lr=0.0), model)


def test_a_forget_loss_without_a_slope_moves_nothing(retain, forget):
    """Two logits of 1e4 apart: the softmax is exactly one-hot, and its gradient 0."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    sure = [(torch.zeros_like(x), torch.zeros_like(y)) for x, y in forget]
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([1e4, 0, 0, 0]))
    options = {"lr": 1e-3, "epochs": 1, "weight_decay": 0.0}
    assert_same(
        sharpness_aware(model, retain, sure, **options), fine_tune(model, retain, **options)
    )


def test_a_step_costs_two_passes_over_its_retain_batch_and_one_over_its_forget_batch(tiny):
    split = forget_classes(tiny, 2)
    retain, forget = Counted(split.retain), Counted(split.forget)
    for model in (network("mlp"), network("cnn")):
        data = retain.batches(16), forget.batches(16)  # 5 batches, and of 16 and 8 images
        found = passes(sharpness_aware, model, *data, count=96, epochs=2)
        assert found == pytest.approx((2 * 2 * 72 + 5 * (16 + 8)) / 96)
    assert (retain.reads == 4).all() and (forget.reads == 10).all()


def test_batchnorm_sees_two_batches_a_step(retain, forget):
    found = sharpness_aware(network("cnn"), retain, forget, epochs=3)
    assert found[1].num_batches_tracked == 7 + 3 * 2 * len(retain)
