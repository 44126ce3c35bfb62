"""Uniform target: each objective by hand, the retain term, and the Adam that is carried on."""

import copy

import pytest
import torch
import torch.nn.functional as F
from by_hand import adam, assert_close, assert_same, cosine, doubled, network, usual_loss, weights

from unlearning.methods import uniform_target


def mse_by_hand(model, images, labels):
    return (model(images) - 0.25).square().mean()


def kl_by_hand(model, images, labels):
    log_p = model(images).log_softmax(-1)
    return F.kl_div(log_p, torch.full_like(log_p, 0.25), reduction="batchmean")


def kl_without_class_1(model, images, labels):
    """KL from (1/3, 0, 1/3, 1/3): the sum over its support, one class after the other."""
    log_p, third = model(images).log_softmax(-1), torch.tensor(1 / 3)
    return sum((third * (third.log() - log_p[:, k])).mean() for k in (0, 2, 3))


@pytest.mark.parametrize(
    "options, loss",
    [
        ({"objective": "kl"}, kl_by_hand),
        ({"objective": "mse"}, mse_by_hand),
        ({"objective": "kl", "forget_classes": [1]}, kl_without_class_1),
    ],
)
def test_steps_are_adam_on_the_distance_from_uniform(options, loss, forget):
    model, data = network("smooth").double(), doubled(forget)
    found = uniform_target(model, data, epochs=2, lr=0.01, **options)
    rates = [cosine(0.01, step, 4) for step in range(4)]
    adam(model, data * 2, loss, rates=rates)
    assert_close(found, model, rtol=1e-3, atol=1e-5)  # the package's loss is in float32


@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_the_retain_term_has_weight_alpha(alpha, retain, forget):
    model, retained, forgotten = network("smooth").double(), doubled(retain), doubled(forget)

    def by_hand(model, images, labels, forget_images):
        to_uniform = kl_by_hand(model, forget_images, None)
        return alpha * usual_loss(model, images, labels) + (1 - alpha) * to_uniform

    found = uniform_target(model, forgotten, retain=retained, alpha=alpha, epochs=1, lr=0.01)
    pairs = [(*batch, forgotten[place % 2][0]) for place, batch in enumerate(retained)]
    adam(model, pairs, by_hand, rates=[cosine(0.01, step, 3) for step in range(3)])
    assert_close(found, model, rtol=1e-3, atol=1e-5)


def test_adam_is_carried_on_from_the_state_of_training(retain, forget):
    model = network()
    carried = adam(model, retain * 2, usual_loss, rates=[0.01] * 6)
    state = carried.state_dict()
    wanted = uniform_target(model, forget, optimizer_state=state, epochs=4)
    state = copy.deepcopy(state)
    state["param_groups"][0]["initial_lr"] = 5.0  # left by a schedule of the training
    before = copy.deepcopy(state)
    assert_same(uniform_target(model, forget, optimizer_state=state, epochs=4), wanted)
    options = {"objective": "mse", "epochs": 2, "lr": 2e-3, "schedule": "constant"}
    found = uniform_target(model, forget, optimizer_state=state, **options)
    fresh = uniform_target(model, forget, **options)
    assert_same(uniform_target(model, forget, optimizer_state=state, **options), found)
    torch.testing.assert_close(state["state"], before["state"], rtol=0, atol=0)
    adam(model, forget * 2, mse_by_hand, rates=[2e-3] * 4, state=carried.state_dict())
    torch.testing.assert_close(weights(found), weights(model), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found[5].weight, fresh[5].weight, atol=1e-4)
