"""Negative gradient and NegGrad+: each step by hand, and where the climb stops."""

import copy
import math

import pytest
import torch
from by_hand import assert_close, doubled, gradients, network, sgd, usual_loss

from unlearning import predict, train
from unlearning.methods import fine_tune, negative_gradient, negative_gradient_plus
from unlearning.metrics import accuracy


@pytest.fixture(name="retain")
def retain_doubled(retain):
    return doubled(retain)


@pytest.fixture(name="forget")
def forget_doubled(forget):
    return doubled(forget)


class Counted(list):
    """A list of batches that counts how many were taken."""

    taken = 0

    def __iter__(self):
        for batch in super().__iter__():
            self.taken += 1
            yield batch


def climb(model, images, labels):
    return -usual_loss(model, images, labels)


def test_ascent_stops_at_the_first_batch_whose_loss_reaches_log_k(retain, forget):
    model = train(network().double(), retain + forget, epochs=5, lr=0.02)
    counted, whole = Counted(forget), Counted(forget)
    stopped = negative_gradient(model, counted, epochs=20, lr=0.02)
    negative_gradient(model, whole, epochs=20, lr=0.02, stop_at_chance=False)
    losses = sgd(copy.deepcopy(model), forget * 20, climb, lr=0.02)
    first = next(place for place, loss in enumerate(losses, 1) if -loss >= math.log(4))
    assert 2 < first < 40
    assert (counted.taken, whole.taken) == (first, 40)
    sgd(model, (forget * 20)[:first], climb, lr=0.02, steps=40)
    assert_close(stopped, model)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_plus_weighs_the_two_gradients_by_alpha(alpha, retain, forget):
    model, retained = network().double(), retain[0]
    forgotten = (forget[0][0][:10], forget[0][1][:10])  # a smaller batch weighs no less
    options = {"alpha": alpha, "epochs": 1, "lr": 0.1, "weight_decay": 0.0}
    found = negative_gradient_plus(model, [retained], [forgotten], **options)
    both = gradients(model, *retained), gradients(model, *forgotten)
    for new, w, g, h in zip(found.parameters(), model.parameters(), *both, strict=True):
        torch.testing.assert_close(new, w - 0.1 * (alpha * g - (1 - alpha) * h))


def test_plus_at_alpha_one_is_fine_tuning(retain, forget):
    model = network().double()
    found = negative_gradient_plus(model, retain, forget, alpha=1.0, epochs=3, lr=0.05)
    assert_close(found, fine_tune(model, retain, epochs=3, lr=0.05))


def test_plus_raises_the_forget_loss_and_keeps_the_rest(tiny):
    retain, forget = tiny.without_classes([0]).batches(16), tiny.of_classes([0]).batches(16)
    model = train(network(), tiny.batches(16), epochs=6, lr=0.02)
    found = negative_gradient_plus(model, retain, forget, alpha=0.8, epochs=10)
    assert accuracy(*predict(model, forget)) > 0.9
    assert accuracy(*predict(found, forget)) < 0.1
    assert accuracy(*predict(found, retain)) > 0.9


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan])
def test_an_alpha_outside_its_range_is_refused(alpha, retain, forget):
    with pytest.raises(ValueError, match="alpha must be between 0 and 1"):
        negative_gradient_plus(network(), retain, forget, alpha=alpha)
