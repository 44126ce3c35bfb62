"""Relearn curves: step 0 is what is known, networks stay as they are, a hidden class returns."""

import copy

import pandas as pd
import pytest
import torch
from torch import nn

from unlearning.metrics import accuracy
from unlearning.probing import relearn_from_forgotten, relearn_from_retained
from unlearning.splitting import forget_classes, forget_random
from unlearning.training import predict, train

LIGHT = {"steps": (0, 1, 2, 4, 8), "lr": 0.01}


def network(seed=0):
    torch.manual_seed(seed)
    layers = nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)
    return nn.Sequential(nn.Flatten(), *layers)


def hidden(model, label=3):
    """The network, which answers no longer for a class but has lost nothing else."""
    model = copy.deepcopy(model)
    model[-1].bias.data[label] = -15
    return model


@pytest.fixture(name="split")
def make_split(tiny):
    return forget_classes(tiny, 3)


@pytest.fixture(name="networks")
def make_networks(tiny, split):
    original = train(network(), tiny.batches(16, shuffle=True, seed=0), epochs=10, lr=0.1)
    retrained = train(network(), split.retain.batches(16, shuffle=True, seed=0), epochs=10, lr=0.1)
    return {"original": original, "hidden": hidden(original), "retrained": retrained}


def test_step_0_is_what_is_known_and_networks_and_random_state_are_left_alone(networks, split):
    for model in networks.values():
        model.train()
    before = {name: copy.deepcopy(model.state_dict()) for name, model in networks.items()}
    state = torch.get_rng_state()
    found = relearn_from_retained(networks, split.retain, split.forget, **LIGHT)
    assert found.index.name == "step" and found.index.tolist() == [0, 1, 2, 4, 8]
    assert list(found) == ["original", "hidden", "retrained"]
    for name, model in networks.items():
        assert found.loc[0, name] == accuracy(*predict(model, split.forget.batches(50)))
        torch.testing.assert_close(model.state_dict(), before[name], rtol=0, atol=0)
        assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert (found.loc[0] == [1, 0, 0]).all()


def test_a_hidden_class_comes_back_before_one_that_was_never_known(networks, split):
    found = relearn_from_forgotten(networks, split.forget, count=6, steps=(0, 8, 16, 64), lr=0.01)
    assert found.loc[0, "hidden"] == found.loc[0, "retrained"] == 0
    steps = {name: (found[name] > 0.9).idxmax() for name in ("hidden", "retrained")}
    assert steps == {"hidden": 16, "retrained": 64}


def test_the_few_are_not_measured_on_and_the_seed_draws_them(networks, split):
    """All forgotten images but one are trained on: accuracy is that of one, so 0 or 1."""
    options = {"count": len(split.forget) - 1, **LIGHT}
    curves = [relearn_from_forgotten(networks, split.forget, seed=s, **options) for s in range(3)]
    for found in curves:
        assert set(found.to_numpy().flat) <= {0, 1}
    few = [relearn_from_forgotten(networks, split.forget, seed=s, **LIGHT) for s in (0, 0, 1)]
    pd.testing.assert_frame_equal(few[0], few[1])
    assert not few[0].equals(few[2])


def test_each_network_trains_on_the_same_images_in_the_same_order(networks, split):
    twins = {"one": networks["original"], "other": copy.deepcopy(networks["original"])}
    found = relearn_from_retained(twins, split.retain, split.forget, batch_size=8, lr=0.1)
    assert (found["one"] == found["other"]).all() and found["one"].nunique() > 1
    again = relearn_from_retained(twins, split.retain, split.forget, batch_size=8, lr=0.1, seed=1)
    assert not found.equals(again)


def test_own_batches_are_read_as_they_come(networks, split, loader):
    of_images = relearn_from_retained(
        networks, split.retain.batches(16), split.forget.batches(9), **LIGHT
    )
    own = relearn_from_retained(networks, loader(split.retain), loader(split.forget), **LIGHT)
    pd.testing.assert_frame_equal(own, of_images)


def test_what_cannot_be_relearned_from_is_refused(networks, split, loader):
    for wanted, words in ((network(), "networks must be a dict"), ({}, "networks must be a dict")):
        with pytest.raises(ValueError, match=words):
            relearn_from_retained(wanted, split.retain, split.forget)
    with pytest.raises(ValueError, match="a step must be a whole number, at least 0, not -1"):
        relearn_from_retained(networks, split.retain, split.forget, steps=[-1])
    with pytest.raises(ValueError, match="must be Images, of which a few are drawn"):
        relearn_from_forgotten(networks, loader(split.forget))
    with pytest.raises(ValueError, match="24 of 24 images cannot be forgotten"):
        relearn_from_forgotten(networks, split.forget, count=24)


def test_beside_retained_images_every_step_sees_all_few_and_others_in_turn(networks, split):
    options = {"count": 3, "steps": (0, 2, 9), "lr": 0.01, "batch_size": 19, "seed": 5}
    found = relearn_from_forgotten(networks, split.forget, beside=split.retain, **options)
    others, few = forget_random(split.forget, count=3, seed=5)
    (own,) = few.batches(3)
    retained, by_hand = split.retain.batches(16, shuffle=True, seed=5), []
    for epoch in range(2):  # of 5 batches
        retained.set_epoch(epoch)
        by_hand += [(torch.cat([own[0], x]), torch.cat([own[1], y])) for x, y in retained]
    assert [len(labels) for _, labels in by_hand[:9]] == [19, 19, 19, 19, 11, 19, 19, 19, 19]
    same = {"steps": (0, 2, 9), "lr": 0.01, "freeze_bn": True, "seed": 5}
    pd.testing.assert_frame_equal(
        found, relearn_from_retained(networks, by_hand[:9], others, **same)
    )
    still = relearn_from_forgotten(networks, split.forget, beside=split.retain, steps=[])
    assert still.index.tolist() == [0]
    with pytest.raises(ValueError, match="a batch of 3 has no place beside 3 images"):
        relearn_from_forgotten(
            networks, split.forget, beside=split.retain, **{**options, "batch_size": 3}
        )
