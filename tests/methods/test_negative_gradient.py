"""Negative gradient and NegGrad+: each step by hand, and where the climb stops."""

import copy
import math

import pytest
from by_hand import assert_close, doubled, network, sgd, usual_loss

from unlearning import train
from unlearning.methods import fine_tune, negative_gradient, negative_gradient_plus


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
    forget = doubled(forget)
    model = train(network().double(), doubled(retain) + forget, epochs=5, lr=0.02)
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
    model, retain = network().double(), doubled(retain)
    forget = [(x[:10], y[:10]) for x, y in doubled(forget)]  # a smaller batch weighs no less
    options = {"epochs": 1, "lr": 0.1}
    found = negative_gradient_plus(model, retain, forget, alpha=alpha, weight_decay=0, **options)
    if alpha == 1:
        assert_close(found, fine_tune(model, retain, weight_decay=0, **options))

    def by_hand(model, x, y, forget_x, forget_y):
        forget_loss = usual_loss(model, forget_x, forget_y)
        return alpha * usual_loss(model, x, y) - (1 - alpha) * forget_loss

    pairs = [(*batch, *forget[place % 2]) for place, batch in enumerate(retain)]
    sgd(model, pairs, by_hand, lr=0.1)
    assert_close(found, model, rtol=1e-7)


def test_plus_stops_climbing_where_the_forget_loss_is_that_of_a_guess(retain, forget):
    model, batches = network().double(), doubled(retain)
    forget = [(x, y) for x, y in doubled(forget)]
    options = {"epochs": 1, "lr": 0.1, "alpha": 0.3, "weight_decay": 0, "stop_at_chance": True}
    found = negative_gradient_plus(model, batches, forget, **options)

    def by_hand(model, x, y, forget_x, forget_y):
        forget_loss = usual_loss(model, forget_x, forget_y)
        climbs = float(forget_loss.detach() < math.log(4))
        return 0.3 * usual_loss(model, x, y) - 0.7 * climbs * forget_loss

    pairs = [(*batch, *forget[place % 2]) for place, batch in enumerate(batches)]
    sgd(model, pairs, by_hand, lr=0.1)
    assert_close(found, model, rtol=1e-7)
