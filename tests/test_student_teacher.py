"""Student and teachers: the divergence by hand, each step by hand, and who is left alone."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unlearning import (
    accuracy,
    build,
    impair_repair,
    js_divergence,
    predict,
    student_teacher,
    train,
)
from unlearning.methods.student_teacher import Part, divergence
from unlearning.models import normalisation_layers, reinitialise


@pytest.fixture
def retain(tiny, loader):
    return list(loader(tiny.of_classes([0], others=True)))


@pytest.fixture
def forget(tiny, loader):
    return list(loader(tiny.of_classes([0]), batch_size=10))


@pytest.fixture(scope="module")
def original(tiny):
    torch.manual_seed(0)
    return train(build("mlp", 4, 1, 8), tiny.batches(16), epochs=10, lr=0.05)


def doubled(batches):
    return [(images.double(), labels) for images, labels in batches]


def network(name, seed=0, outputs=4):
    """A network whose BatchNorm statistics are not those of a fresh one."""
    torch.manual_seed(seed)
    if name == "smooth":  # no dead unit, whose gradient is mere rounding that Adam would blow up
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, outputs))
    model = build(name, outputs, 1, 8)
    for layer in normalisation_layers(model):
        layer.running_mean.uniform_(-0.1, 0.1)
        layer.running_var.uniform_(0.8, 1.2)
    return model


def weights(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def assert_same_weights(found, wanted):
    torch.testing.assert_close(weights(found), weights(wanted), rtol=0, atol=0)


def differ(a, b):
    b = weights(b)
    return any(not torch.equal(value, b[name]) for name, value in weights(a).items())


# ------------------------------------------------------------------------------------------------
# The divergence


def test_divergence_has_the_value_worked_out_by_hand_and_that_of_the_right_direction():
    target = torch.tensor([[math.log(9.0), 0.0]] * 2)  # p = (9/10, 1/10)
    logits = torch.tensor([[0.0, 0.0], [math.log(9.0), 0.0]])  # q = (1/2, 1/2), and p itself
    there = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)  # 0.368
    back = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)  # 0.511
    assert float(divergence(target, logits, 1.0)) == pytest.approx(there / 2, rel=1e-5)
    assert float(divergence(logits, target, 1.0)) == pytest.approx(back / 2, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_divergence_is_torchs_mean_over_the_batch_of_tempered_softmaxes(temperature):
    generator = torch.Generator().manual_seed(0)
    target, logits = torch.randn(2, 9, 7, generator=generator) * 3
    p = (target / temperature).softmax(-1)
    wanted = F.kl_div((logits / temperature).log_softmax(-1), p, reduction="batchmean")
    torch.testing.assert_close(divergence(target, logits, temperature), wanted)
    assert float(wanted) > 0.05


def test_divergence_of_equal_outputs_is_zero_even_if_the_logits_are_not():
    logits = torch.randn(9, 7, generator=torch.Generator().manual_seed(0)) * 5
    assert float(divergence(logits, logits, 1.0)) == 0
    assert float(divergence(logits, logits + 3, 2.0)) == pytest.approx(0, abs=1e-6)


def test_divergence_of_saturated_outputs_is_finite_and_so_is_its_gradient():
    sure = torch.tensor([[2000.0, -2000.0, 0.0]])
    logits = (-sure).requires_grad_()
    value = divergence(sure, logits, 1.0)
    assert float(value.detach()) == 4000
    value.backward()
    assert logits.grad.tolist() == [[-1, 1, 0]]
    assert float(divergence(sure, sure, 1.0)) == 0


def test_divergence_is_the_mean_over_the_batch_and_the_sum_over_members():
    target, logits = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    members = sum(divergence(a, b, 2.0) for a, b in zip(target, logits, strict=True))
    torch.testing.assert_close(divergence(target, logits, 2.0), members)
    rows = sum(divergence(a[None], b[None], 2.0) for a, b in zip(target[0], logits[0], strict=True))
    torch.testing.assert_close(divergence(target[0], logits[0], 2.0), rows / 5)


# ------------------------------------------------------------------------------------------------
# The steps


def by_hand(model, bad, pairs, *, lr, temperature, weight_decay):
    """Adam with a cosine; the teachers one after the other, each in eval mode; in place."""
    good, bad = copy.deepcopy(model).eval(), copy.deepcopy(bad).eval()
    adam = torch.optim.Adam(model.parameters(), weight_decay=weight_decay)
    model.train()
    for step, (kept, lost) in enumerate(pairs):
        adam.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / len(pairs))) / 2
        targets = torch.cat([good(kept), bad(lost)]).float().detach() / temperature
        logits = model(torch.cat([kept, lost])).float() / temperature
        total = F.kl_div(logits.log_softmax(1), targets.softmax(1), reduction="none").sum()
        adam.zero_grad()
        (total / (len(kept) + len(lost))).backward()
        adam.step()
    return model.eval()


@pytest.mark.parametrize("name", ["smooth", "cnn"])
@pytest.mark.parametrize("temperature, weight_decay", [(1.0, 0.0), (3.0, 0.01)])
def test_each_step_is_adam_on_the_divergence_from_both_teachers_as_one_batch(
    name, temperature, weight_decay, retain, forget
):
    model, bad = network(name).double(), network(name, seed=5).double()
    kept, lost = doubled(retain)[:3], doubled(forget)[1:]  # of 10 and of 4 images: one mean
    options = {"lr": 0.01, "temperature": temperature, "weight_decay": weight_decay}
    found = student_teacher(
        model, kept, lost, bad_teacher=bad, retain_fraction=1.0, epochs=2, **options
    )
    pairs = [(kept[step % 3][0], lost[step % 2][0]) for step in range(6)]
    by_hand(model, bad, pairs, **options)
    torch.testing.assert_close(weights(found), weights(model), rtol=1e-3, atol=1e-5)


def test_the_student_starts_from_the_original(retain, forget):
    model = network("cnn")
    assert_same_weights(student_teacher(model, retain, forget, epochs=0), model)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_the_bad_teacher_is_the_network_with_all_weights_drawn_again(name, retain, forget):
    model = network(name)
    found = student_teacher(model, retain, forget, seed=5)
    drawn = {seed: reinitialise(copy.deepcopy(model), seed=seed) for seed in (5, 6)}
    same, other = (
        student_teacher(model, retain, forget, bad_teacher=drawn[seed], seed=5) for seed in (5, 6)
    )
    assert_same_weights(found, same)
    assert differ(found, other)


def test_a_given_bad_teacher_is_read_in_eval_mode_and_not_changed(retain, forget):
    model, bad = network("cnn"), network("cnn", seed=5).train()
    bad[4].eval()
    before, modes = weights(bad), [module.training for module in bad.modules()]
    found = student_teacher(model, retain, forget, bad_teacher=bad, epochs=2)
    assert [module.training for module in bad.modules()] == modes
    torch.testing.assert_close(weights(bad), before, rtol=0, atol=0)
    assert all(p.requires_grad and p.grad is None for p in bad.parameters())
    again = student_teacher(model, retain, forget, bad_teacher=bad.eval(), epochs=2)
    assert_same_weights(found, again)


def test_the_bad_teacher_may_be_of_another_architecture(retain, forget):
    bad = network("mlp", seed=5)
    found = student_teacher(network("cnn"), retain, forget, bad_teacher=bad)
    assert weights(found).keys() == weights(network("cnn")).keys()


def test_labels_are_not_read(retain, forget):
    model = network("cnn")
    garbage = [
        [(images, torch.full_like(labels, number)) for images, labels in batches]
        for batches, number in ((retain, -100), (forget, 99))
    ]
    wanted = student_teacher(model, retain, forget)
    assert_same_weights(student_teacher(model, *garbage), wanted)


# ------------------------------------------------------------------------------------------------
# The part of the retain set


@pytest.mark.parametrize(
    "total, fraction, count",
    [(10, 0.3, 3), (10, 1.0, 10), (10, 1e-9, 1), (1, 0.3, 1), (3, 0.5, 2), (7, 0.9, 6)],
)
def test_a_part_holds_its_fraction_of_the_batches_and_never_none(total, fraction, count):
    part = Part(range(total), fraction, seed=0)
    assert len(part) == len(list(part)) == count


def test_a_part_keeps_the_order_and_is_the_same_in_each_epoch_of_a_list():
    part = Part(range(100), 0.4, seed=0)
    first, second = list(part), list(part)
    assert first == second == sorted(set(first))
    assert first != list(range(40))


def test_a_part_is_drawn_evenly_by_its_seed():
    assert list(Part(range(100), 0.3, seed=1)) == list(Part(range(100), 0.3, seed=1))
    times = torch.zeros(10)
    for seed in range(400):
        times[list(Part(range(10), 0.3, seed=seed))] += 1
    # Each batch is read Binomial(400, 0.3) times: 120 on average, 9.2 standard deviation.
    assert times.min() > 120 - 5 * 9.2
    assert times.max() < 120 + 5 * 9.2


def test_a_part_of_shuffled_batches_follows_the_order_of_the_epoch(tiny):
    batches = tiny.batches(8, shuffle=True, seed=0)
    part = Part(batches, 0.25, seed=0)
    epochs = []
    for epoch in (0, 1, 0):
        part.set_epoch(epoch)
        epochs.append(torch.cat([images for images, _ in part]))
    assert [len(images) for images in epochs] == [24] * 3
    assert torch.equal(epochs[0], epochs[2])
    assert not torch.equal(epochs[0], epochs[1])


class Watched(nn.Module):
    """Notes the first pixel of all images that it is trained on."""

    def __init__(self, notes):
        super().__init__()
        self.notes, self.out = notes, nn.Linear(1, 4)

    def __deepcopy__(self, memo):
        twin = Watched(self.notes)  # the same notes
        twin.load_state_dict(self.state_dict())
        return twin.train(self.training)

    def forward(self, images):
        if self.training:
            self.notes.append(images[:, 0, 0, 0].tolist())
        return self.out(images.flatten(1))


@pytest.mark.parametrize("fraction, count", [(0.3, 3), (1.0, 10), (0.01, 1)])
def test_a_step_takes_a_batch_of_the_part_and_one_of_the_forget_set(fraction, count):
    kept = [(torch.full((2, 1, 1, 1), float(n)), torch.tensor([0, 0])) for n in range(10)]
    lost = [(torch.full((1, 1, 1, 1), float(n)), torch.tensor([0])) for n in (-1, -2)]
    notes = []
    student_teacher(Watched(notes).eval(), kept, lost, retain_fraction=fraction, epochs=2, seed=4)
    read = [first for first, _, _ in notes]
    assert len(read) == 2 * count
    assert read[:count] == read[count:] == sorted(set(read))
    assert read[:count] == list(map(float, Part(range(10), fraction, seed=4)))
    assert [(first, lost) for first, _, lost in notes] == [
        (number, -1.0 - place % 2) for place, number in enumerate(read)
    ]
    assert all(first == second for first, second, _ in notes)


def test_three_tenths_of_the_retain_set_are_read_by_default():
    kept = [(torch.randn(2, 1, 1, 1), torch.tensor([0, 0]))] * 20
    notes = []
    student_teacher(Watched(notes), kept, kept[:1])
    assert len(notes) == 6


# ------------------------------------------------------------------------------------------------
# What it does


def test_a_class_is_forgotten_as_the_untrained_teacher_has_it_and_the_rest_is_kept(
    original, retain, forget
):
    assert accuracy(*predict(original, forget)) > 0.95
    left = []
    for seed in range(4):
        found = student_teacher(
            original, retain, forget, retain_fraction=1.0, epochs=10, lr=3e-3, seed=seed
        )
        assert accuracy(*predict(found, retain)) > 0.95
        logits, labels = predict(found, forget)
        bad, _ = predict(reinitialise(copy.deepcopy(original), seed=seed), forget)
        assert js_divergence(logits, bad) < 0.02
        assert js_divergence(logits, predict(original, forget)[0]) > 0.3
        left.append(accuracy(logits, labels))
    assert sum(left) / 4 < 0.5  # an untrained network may guess right, but not each time


def test_a_class_is_forgotten_as_an_impaired_teacher_has_it(original, retain, forget):
    bad = impair_repair(original, retain, noise_size=64, impair_lr=0.05, repair_epochs=0)
    assert accuracy(*predict(bad, forget)) < 0.1
    found = student_teacher(
        original, retain, forget, bad_teacher=bad, retain_fraction=1.0, epochs=10, lr=3e-3
    )
    assert accuracy(*predict(found, forget)) < 0.1
    assert accuracy(*predict(found, retain)) > 0.95


# ------------------------------------------------------------------------------------------------
# What is refused

FRACTION = "retain_fraction must be above 0 and at most 1, not {}"


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"temperature": 0}, "temperature must be positive, not 0"),
        ({"temperature": -1.5}, "temperature must be positive, not -1.5"),
        ({"temperature": math.nan}, "temperature must be positive, not nan"),
        ({"retain_fraction": 0}, FRACTION.format(0)),
        ({"retain_fraction": -0.3}, FRACTION.format(-0.3)),
        ({"retain_fraction": 1.1}, FRACTION.format(1.1)),
        ({"retain_fraction": math.nan}, FRACTION.format("nan")),
        (
            {"bad_teacher": network("mlp", outputs=3)},
            "the bad teacher has 3 outputs, the network 4: teachers must know the same classes",
        ),
        (
            {"bad_teacher": network("mlp", outputs=1)},  # would spread over the four
            "the bad teacher has 1 outputs, the network 4: teachers must know the same classes",
        ),
    ],
)
def test_a_bad_argument_is_refused_in_one_sentence(options, sentence, retain, forget):
    with pytest.raises(ValueError) as caught:
        student_teacher(network("mlp"), retain, forget, **options)
    assert str(caught.value) == sentence
