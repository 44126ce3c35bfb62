"""Relearn time against a loop written out."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unlearning.metrics import accuracy, relearn_time
from unlearning.metrics.relearn import accuracy_by_step
from unlearning.training import predict, train


@pytest.fixture
def batches(tiny, loader):
    return [(images.double(), labels) for images, labels in loader(tiny)]


def network():
    torch.manual_seed(0)
    layers = nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4)
    return nn.Sequential(nn.Flatten(), *layers).double()


def steps_by_hand(model, batches, target, make_optimizer, limit=300):
    """One step, one measurement, at a constant rate, until the target is met."""
    optimizer = make_optimizer(model.parameters())
    for steps in range(limit + 1):
        model.eval()
        right = sum(int((model(x).argmax(1) == y).sum()) for x, y in batches)
        if right / sum(len(y) for _, y in batches) >= target:
            return steps
        model.train()
        images, labels = batches[steps % len(batches)]
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return math.inf


OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, 2e-3),
    "sgd": lambda p: torch.optim.SGD(p, 2e-3, momentum=0.9),
}


@pytest.mark.parametrize("target", [0.8, 1.0])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_those_of_a_loop_written_out(name, target, batches):
    wanted = steps_by_hand(network(), batches, target, OPTIMIZERS[name])
    assert 1 < wanted < 300
    found = relearn_time(network(), batches, batches, target=target, lr=2e-3, optimizer=name)
    assert found == wanted


def test_nothing_forgotten_takes_no_steps_and_an_unmet_target_is_infinite(batches):
    model = train(network(), batches, epochs=20, lr=0.05)
    assert relearn_time(model, batches, batches, target=0.95) == 0
    wrong = [(images, (labels + 1) % 4) for images, labels in batches]
    for limit in (30, 0):
        assert relearn_time(model, batches, wrong, target=0.95, max_steps=limit) == math.inf


def test_accuracy_is_measured_when_asked_and_at_the_last_step(batches):
    needed = int(relearn_time(network(), batches, batches, target=0.9))
    for options, wanted in (
        ({"max_steps": needed}, needed),
        ({"max_steps": needed - 1}, math.inf),
        ({"check_every": needed - 1}, 2 * (needed - 1)),
        ({"check_every": 1000, "max_steps": needed + 3}, needed + 3),
    ):
        assert relearn_time(network(), batches, batches, target=0.9, **options) == wanted


def test_the_network_and_the_global_seed_are_left_alone(batches):
    model = network().train()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    relearn_time(model, batches, batches, target=1.0, max_steps=5)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_accuracies_by_step_are_those_of_a_loop_written_out(batches):
    model, wanted = network(), {}
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    for step in range(15):
        model.eval()
        right = sum(int((model(x).argmax(1) == y).sum()) for x, y in batches[:2])
        wanted[step] = right / 32
        model.train()
        images, labels = batches[step % len(batches)]
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    options = {"lr": 0.01, "optimizer": "sgd"}
    found = accuracy_by_step(network(), batches, batches[:2], steps=[14, 3, 7], **options)
    assert list(found) == [0, 3, 7, 14] and found == {step: wanted[step] for step in found}
    assert len(set(found.values())) > 2
    early = accuracy_by_step(
        network(), batches, batches[:2], steps=range(15), target=found[7], **options
    )
    assert max(early) == min(step for step in wanted if wanted[step] >= found[7])
    assert accuracy_by_step(network(), batches, batches[:2], steps=[]) == {0: wanted[0]}


def test_frozen_statistics_stay_and_others_move(batches):
    """Steps of next to nothing teach nothing, but statistics of brighter images do harm."""
    model = train(network(), batches, epochs=20, lr=0.05)
    bright = [(images + 9, labels) for images, labels in batches]
    options = {"steps": [30], "lr": 1e-9, "optimizer": "sgd"}
    frozen = accuracy_by_step(model, bright, batches, freeze_bn=True, **options)
    moved = accuracy_by_step(model, bright, batches, **options)
    assert frozen == {0: 1, 30: 1} and moved[0] == 1 > moved[30]
    model.train()
    for step in range(30):
        model(bright[step % len(bright)][0])
    assert moved[30] == accuracy(*predict(model, batches))
