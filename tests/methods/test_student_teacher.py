"""Bad teacher: each step by hand, who is read and who is left alone, and what is forgotten."""

import copy

import pytest
import torch
import torch.nn.functional as F
from by_hand import assert_close, assert_same, cosine, differ, doubled, network, weights
from torch import nn

from unlearning import predict, train
from unlearning.core.layers import reinitialise
from unlearning.methods import student_teacher
from unlearning.metrics import accuracy, js_divergence


@pytest.fixture(name="retain", scope="module")
def retain_of_other_classes(tiny):
    return list(tiny.without_classes([0]).batches(16))


@pytest.fixture(name="forget", scope="module")
def forget_of_one_class(tiny):
    return list(tiny.of_classes([0]).batches(10))


def redrawn(model, seed):
    return reinitialise(copy.deepcopy(model), seed=seed)


def by_hand(model, bad, pairs, *, lr, temperature, weight_decay):
    """Adam with a cosine; the teachers one after the other, each in eval mode; in place."""
    good, bad = copy.deepcopy(model).eval(), copy.deepcopy(bad).eval()
    adam = torch.optim.Adam(model.parameters(), weight_decay=weight_decay)
    model.train()
    for step, (retained, forgotten) in enumerate(pairs):
        adam.param_groups[0]["lr"] = cosine(lr, step, len(pairs))
        targets = torch.cat([good(retained), bad(forgotten)]).float().detach() / temperature
        logits = model(torch.cat([retained, forgotten])).float() / temperature
        total = F.kl_div(logits.log_softmax(1), targets.softmax(1), reduction="none").sum()
        adam.zero_grad()
        (total / (len(retained) + len(forgotten))).backward()
        adam.step()


@pytest.mark.parametrize(
    "name, temperature, weight_decay",
    [("smooth", 1.0, 0.0), ("smooth", 3.0, 0.01), ("cnn", 3.0, 0)],
)
def test_each_step_is_adam_on_the_divergence_from_both_teachers_as_one_batch(
    name, temperature, weight_decay, retain, forget
):
    model, bad = network(name).double(), network(name, seed=5).double()
    retain, forget = doubled(retain)[:3], doubled(forget)[1:]  # of 10 and of 4 images: one mean
    retain = [(images, torch.full_like(labels, -100)) for images, labels in retain]  # not read
    options = {"lr": 0.01, "temperature": temperature, "weight_decay": weight_decay}
    found = student_teacher(
        model, retain, forget, bad_teacher=bad, retain_fraction=1.0, epochs=2, **options
    )
    pairs = [(retain[step % 3][0], forget[step % 2][0]) for step in range(6)]
    by_hand(model, bad, pairs, **options)
    assert_close(found, model, rtol=1e-3, atol=1e-5)


def test_the_bad_teacher_has_all_weights_drawn_again_and_is_read_in_eval_mode(retain, forget):
    model = network("cnn")
    found = student_teacher(model, retain, forget, seed=5)
    bad, other = redrawn(model, 5).train(), network("mlp")  # a given one may be of any kind
    bad[4].eval()
    before, modes = weights(bad), [module.training for module in bad.modules()]
    assert_same(student_teacher(model, retain, forget, bad_teacher=bad, seed=5), found)
    assert differ(student_teacher(model, retain, forget, bad_teacher=other, seed=5), found)
    assert [module.training for module in bad.modules()] == modes
    torch.testing.assert_close(weights(bad), before, rtol=0, atol=0)
    assert all(p.requires_grad and p.grad is None for p in bad.parameters())


@pytest.mark.parametrize(
    "options, count", [({}, 3), ({"retain_fraction": 1.0}, 10), ({"retain_fraction": 0.01}, 1)]
)
def test_a_step_takes_one_batch_of_the_share_and_one_of_the_forget_set(options, count):
    retain = [(torch.full((2, 1, 1, 1), float(n)), torch.tensor([0, 0])) for n in range(10)]
    forget = [(torch.full((1, 1, 1, 1), float(n)), torch.tensor([0])) for n in (-1, -2)]
    notes, model = [], nn.Sequential(nn.Flatten(), nn.Linear(1, 4))

    def note(module, inputs):  # a copied network notes in the same list
        if module.training:
            notes.append(inputs[0].flatten().tolist())

    model.register_forward_pre_hook(note)
    student_teacher(model.eval(), retain, forget, epochs=2, seed=4, **options)
    read = [first for first, _, _ in notes]
    assert len(read) == 2 * count
    assert read[:count] == read[count:] == sorted(set(read))  # the same share, in order
    assert notes == [[number, number, -1.0 - place % 2] for place, number in enumerate(read)]


def test_a_class_is_forgotten_as_the_untrained_teacher_has_it(tiny, retain, forget):
    model = train(network(), tiny.batches(16), epochs=10, lr=0.05)
    found = student_teacher(model, retain, forget, retain_fraction=1.0, epochs=10, seed=1)
    assert accuracy(*predict(found, retain)) > 0.95
    logits, untrained = (predict(each, forget)[0] for each in (found, redrawn(model, 1)))
    assert js_divergence(logits, untrained) < 0.02
    assert js_divergence(logits, predict(model, forget)[0]) > 0.3
