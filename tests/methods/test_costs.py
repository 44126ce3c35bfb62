"""What the methods that are older than ``Counted`` cost, and how often they read each image."""

from inspect import Parameter, signature

import pytest
from by_hand import Counted, network, passes

from unlearning.core.layers import normalisation_layers
from unlearning.hyperparameters import bind
from unlearning.methods import METHODS
from unlearning.splitting import forget_classes

F, E = 1 / 4, 2  # the share to forget, and epochs; all batches are equally large
COSTS = {  # passes over all images; then how often each image is read, to keep and to forget
    "fine-tuning": (E * (1 - F), E, 0),
    "negative gradient": (E * F, 0, E),
    "NegGrad+": (2 * E * (1 - F), E, E * (1 - F) / F),
    "Fisher noise": (1 - F, 2, 0),  # a first time for the classes that there are
    "random mask": (E * (1 - F), E, 0),
    "uniform target": (E * F, 0, E),
    "bad teacher": (E * (1 - F) * 2 * 4 / 3, E, E * (1 - F) / F),
    "UNSIR": ((1 - F) * (2 + 1 / 2) + 5 * 48 / 96, 3, 0),  # noise: half a retain batch, 5 x 48
}
OPTIONS = {
    "negative gradient": {"stop_at_chance": False},
    "bad teacher": {"retain_fraction": 1.0},
    "UNSIR": {"noise_size": 48, "noise_steps": 5, "noise_ratio": 0.5},
}
LOOKS = {"Fisher noise": 25, "UNSIR": 8 / 3}  # images, at most, of which only the outputs are seen


@pytest.mark.parametrize("name", COSTS)
def test_the_cost_in_passes_and_the_readings_are_what_the_signature_says(name, tiny):
    split, method = forget_classes(tiny, 3), METHODS[name]
    retain, forget = Counted(split.retain), Counted(split.forget)
    given = {"retain": retain.batches(8), "forget": forget.batches(8), "forget_classes": [3]}
    parameters = signature(method).parameters
    data = [
        given[one]
        for one in parameters
        if parameters[one].default is Parameter.empty and one in given
    ]
    options = OPTIONS.get(name, {}) | ({"epochs": E} if "epochs" in parameters else {})
    cost, kept, forgotten = COSTS[name]
    found = passes(method, network("cnn"), *data, count=96, **options)
    assert cost - 1e-9 <= found <= cost + LOOKS.get(name, 0) / 96 + 1e-9
    looked = 8 if name in LOOKS else 0  # the first batch, once more
    assert retain.reads.tolist() == [kept + 1] * looked + [kept] * (72 - looked)
    assert forget.reads.tolist() == [forgotten] * 24


STEPS = {  # training batches that BatchNorm sees: 9 to retain, 3 to forget, 2 epochs
    "fine-tuning": 18,
    "negative gradient": 6,
    "NegGrad+": 18,  # both batches of a step in one pass
    "Fisher noise": 0,
    "random mask": 18,
    "uniform target": 18,  # with the retain set
    "UNSIR": 9 + 9,
    "bad teacher": 18,
    "random labels": 18,  # each holds images of both sets
    "SalUn": 18,
    "SCRUB": 18 + 2 * 3,
    "SSD": 0,
    "l1-sparse": 18,
    "MSG": 18,
    "CT": 18,
    "FCS": 3 + 2 * (3 + 3 + 9),  # the contrast reads a batch of each set
    "boundary shrink": 6,
    "DELETE": 6,
    "UAM": 2 * 18,
}


@pytest.mark.parametrize("name", METHODS)
def test_batchnorm_sees_the_batches_that_the_method_trains_on_and_no_others(name, tiny):
    split = forget_classes(tiny, 3)
    data = bind(METHODS[name], split, 0, lambda images, seed: images.batches(8))
    parameters = signature(METHODS[name]).parameters
    options = OPTIONS.get(name, {}) | {
        n: 2 for n in ("epochs", "rounds", "max_epochs") if n in parameters
    }
    model = network("cnn")
    found = METHODS[name](model, **data, **options)
    counts = [
        int(after.num_batches_tracked - before.num_batches_tracked)
        for before, after in zip(
            normalisation_layers(model), normalisation_layers(found), strict=True
        )
    ]
    assert set(counts) == {STEPS[name]}
