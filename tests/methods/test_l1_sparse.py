"""l1-sparse: its penalty epoch by epoch, and fine-tuning where that is 0."""

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
    sgd,
    usual_loss,
)
from torch import nn

from unlearning.methods import fine_tune, l1_sparse
from unlearning.methods.l1_sparse import _strength


class Silent(nn.Module):
    """A network whose parameters do not change its logits, so that the penalty alone moves them."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images):
        return images.new_zeros(len(images), 4) + 0 * self.weight.sum()


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_without_a_penalty_it_is_fine_tuning(name, tiny):
    batches = tiny.batches(16, shuffle=True, seed=1)
    model = nn.Sequential(*network(name), nn.Dropout(0.3))
    options = {"epochs": 2, "lr": 0.05, "weight_decay": 1e-3, "seed": 4}
    found = l1_sparse(model, batches, gamma=0, **options)
    assert_same(found, fine_tune(model, batches, **options))
    assert differ(found, l1_sparse(model, batches, gamma=1e-6, **options))


def test_the_strength_falls_in_a_line():
    assert [_strength(8.0, epoch, 4) for epoch in range(4)] == [8.0, 6.0, 4.0, 2.0]
    assert _strength(5e-4, 0, 1) == 5e-4


def test_each_step_is_sgd_on_the_loss_and_that_epochs_penalty_on_all_parameters(retain):
    model, data = network().double(), doubled(retain)
    found = l1_sparse(model, data, gamma=0.03, epochs=3, lr=0.05, weight_decay=0.01)
    strengths = [0.03] * 3 + [0.02] * 3 + [0.01] * 3

    def by_hand(model, images, labels, strength):
        norm = sum(w.abs().sum() for w in model.parameters())
        return usual_loss(model, images, labels) + strength * norm

    batches = [(*batch, g) for batch, g in zip(data * 3, strengths, strict=True)]
    sgd(model, batches, by_hand, lr=0.05, weight_decay=0.01)
    assert_close(found, model, rtol=1e-8)


def test_without_a_loss_each_weight_shrinks_by_rate_times_strength_and_stays_near_zero(retain):
    start = torch.tensor([3.0, -3.0, 1.0, -0.2, 0.05, 0.0], dtype=torch.float64)
    model = Silent(start)
    options = {"gamma": 0.5, "epochs": 2, "lr": 0.2, "momentum": 0, "weight_decay": 0}
    found = l1_sparse(model, doubled(retain), **options).weight
    steps = [cosine(0.2, step, 6) * (0.5 if step < 3 else 0.25) for step in range(6)]
    whole = start.abs() > sum(steps)
    assert whole.tolist() == [True, True, True, False, False, False]
    wanted = start - start.sign() * sum(steps)
    torch.testing.assert_close(found[whole], wanted[whole], rtol=1e-12, atol=0)
    assert (found[~whole].abs() <= max(steps)).all() and found[-1] == 0


def test_it_costs_its_epochs_over_the_retain_set(tiny):
    retain = Counted(tiny.without_classes([3]))
    cost = passes(l1_sparse, network("cnn"), retain.batches(), count=96, epochs=3)
    assert cost == 3 * 72 / 96
    assert (retain.reads == 3).all()
