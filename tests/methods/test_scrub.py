"""SCRUB: its passes step by step, where its climb starts, and which student rewinding returns."""

import copy

import pytest
import torch
import torch.nn.functional as F
from by_hand import (
    Counted,
    assert_close,
    assert_same,
    differ,
    doubled,
    network,
    passes,
    sgd,
    usual_loss,
)
from torch import nn

from unlearning import predict, train
from unlearning.core.loop import minimise
from unlearning.core.losses import classification_loss
from unlearning.core.randomness import generator_from
from unlearning.methods import fine_tune, scrub
from unlearning.methods.scrub import _closest, _decay, _divergence
from unlearning.metrics import accuracy


def divergence(teacher, student, images, temperature):
    p, log_q = (m(images).float() / temperature for m in (teacher, student))
    kl = F.kl_div(log_q.log_softmax(1), p.detach().softmax(1), reduction="batchmean")
    return temperature**2 * kl


def test_each_step_is_sgd_on_the_loss_of_its_pass(retain, forget):
    model, retain, forget = network().double(), doubled(retain), doubled(forget)
    options = {"lr": 0.01, "weight_decay": 0.01}
    weigh = {"temperature": 3.0, "alpha": 0.3, "gamma": 0.6}
    found = scrub(model, retain, forget, max_epochs=2, epochs=3, **weigh, **options)
    teacher = copy.deepcopy(model)

    def by_hand(student, images, labels, forgets):
        value = divergence(teacher, student, images, 3.0)
        return -value if forgets else 0.6 * usual_loss(student, images, labels) + 0.3 * value

    climb, descent = [(*batch, True) for batch in forget], [(*batch, False) for batch in retain]
    batches = (climb + descent) * 2 + descent
    sgd(model, batches, by_hand, **options)
    assert_close(found, model, rtol=1e-4, atol=1e-6)  # the divergence is taken in float32


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_without_a_climb_and_a_teacher_it_is_fine_tuning(name, tiny, forget):
    batches = tiny.batches(16, shuffle=True, seed=1)
    model = nn.Sequential(*network(name), nn.Dropout(0.3))
    options = {"epochs": 2, "lr": 0.05, "weight_decay": 1e-3, "seed": 4}
    plain = {"alpha": 0, "gamma": 1, **options}
    found = scrub(model, batches, forget, max_epochs=0, **plain)
    assert_same(found, fine_tune(model, batches, **options))
    assert differ(scrub(model, batches, forget, max_epochs=1, **plain), found)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_gradient_of_the_divergence_is_the_difference_of_both_distributions(temperature):
    generator = generator_from(0)
    target, logits = (3 * torch.randn(6, 5, generator=generator) for _ in range(2))
    logits.requires_grad_()
    found = torch.autograd.grad(_divergence(target, logits, temperature), logits)[0]
    p, q = ((each / temperature).softmax(-1).detach() for each in (target, logits))
    torch.testing.assert_close(found, temperature * (q - p) / 6, rtol=1e-5, atol=1e-7)
    start = target.clone().requires_grad_()
    value = _divergence(target, start, temperature)
    assert abs(float(value.detach())) < 1e-6
    assert torch.autograd.grad(value, start)[0].abs().max() < 1e-7


def test_the_climb_starts_at_a_stationary_point_and_is_set_off_by_a_retain_pass(retain, forget):
    model, options = network("smooth"), {"alpha": 0, "lr": 0.1, "weight_decay": 0}

    def climbs_move_weights_by(epochs, **others):
        options_of_both = {"epochs": epochs, "decay_after": (), **options, **others}
        with_climb, without = (
            scrub(model, retain, forget, max_epochs=m, **options_of_both) for m in (epochs, 0)
        )
        pairs = zip(with_climb.parameters(), without.parameters(), strict=True)
        return max(float((a - b).detach().abs().max()) for a, b in pairs)

    assert climbs_move_weights_by(3, gamma=0) < 1e-5  # no retain pass that moves anything
    assert climbs_move_weights_by(1) < 1e-5
    assert climbs_move_weights_by(2) > 0.01


def test_the_rate_falls_to_a_tenth_after_the_epochs_named(retain, forget):
    factor = _decay([3, 5, 8], [1, 3])
    found = [factor(step) for step in range(9)]
    assert found == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.01])
    model, options = network().double(), {"lr": 0.05, "weight_decay": 0.01}
    found = scrub(
        *(model, doubled(retain), forget),
        **options,
        **{"max_epochs": 0, "alpha": 0, "epochs": 2, "decay_after": [1]},
    )
    wanted = minimise(
        *(model, doubled(retain), classification_loss),
        **options,
        **{"epochs": 2, "schedule": lambda step: 1 if step < 3 else 0.1},
    )
    assert_close(found, wanted)


def wrong(model, batches):
    return 1 - accuracy(*predict(model, batches))


@pytest.mark.parametrize("aim", ["retain", "half", "forget"])
def test_rewinding_returns_the_student_whose_error_is_closest_to_the_last_ones_on_unseen_images(
    aim, tiny
):
    """At a constant rate, the student after k epochs is that of a run of k epochs."""
    retain, forget = (
        list(part.batches(16)) for part in (tiny.without_classes([3]), tiny.of_classes([3]))
    )
    model = train(network("cnn"), tiny.batches(16), epochs=6, lr=0.02)
    validation = {"retain": retain, "half": [forget[0], retain[0]], "forget": forget}[aim]
    options = {"max_epochs": 5, "decay_after": (), "lr": 0.002, "temperature": 2.0, "alpha": 0.1}
    students = [scrub(model, retain, forget, epochs=e, **options) for e in range(1, 6)]
    errors = [wrong(student, forget) for student in students]
    reference = wrong(students[-1], validation)
    distances = [abs(error - reference) for error in errors]
    place = max(p for p in range(5) if distances[p] == min(distances))
    found = scrub(model, retain, forget, epochs=5, validation=validation, **options)
    assert_same(found, students[place])
    assert len(set(errors)) > 2
    assert (place == 4) == (aim == "forget")


def test_of_equally_close_errors_the_last_one_counts():
    assert _closest([0.1, 0.5, 0.75, 0.5], 0.55) == 3
    assert _closest([0.0, 0.3, 1.0], 0.1) == 0
    assert _closest([0.25, 0.75, 0.0], 0.5) == 1
    assert _closest([1.0, 1.0, 1.0], 0.2) == 2


def test_it_costs_its_passes_and_the_teachers_forward(tiny):
    retain, forget = (Counted(part) for part in (tiny.without_classes([3]), tiny.of_classes([3])))
    data, model = (retain.batches(), forget.batches()), network("cnn")
    options = {"count": 96, "epochs": 3, "max_epochs": 2}
    cost = passes(scrub, model, *data, **options)
    assert cost == pytest.approx((3 * 72 + 2 * 24) / 96 * 4 / 3)
    assert (retain.reads == 3).all() and (forget.reads == 2).all()
    validation = list(tiny.of_classes([3]).batches(16))
    rewinding = passes(scrub, model, *data, validation=validation, **options)
    assert rewinding == pytest.approx(cost + (3 * 24 + 24) / 96 / 3)
    found = scrub(model, *data, epochs=3, max_epochs=2)
    assert found[1].num_batches_tracked == 7 + 3 * 5 + 2 * 2


def test_labels_of_the_forget_set_are_not_read(retain, forget):
    others = [(images, torch.full_like(labels, -100)) for images, labels in forget]
    assert_same(*(scrub(network(), retain, batches) for batches in (forget, others)))
