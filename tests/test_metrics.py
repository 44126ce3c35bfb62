"""Every metric against a case whose value is known by hand, and against its literal definition."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.svm import SVC
from torch import nn

from unlearning import (
    accuracy,
    activation_distance,
    average_gap,
    build,
    confidence_attack,
    confusion_matrix,
    cross_entropies,
    js_divergence,
    membership_attack,
    per_class_accuracy,
    predict,
    relearn_time,
    train,
    tug_of_war,
    zero_retrain_forgetting,
)

# Of class 0 one of two is right, of class 1 all three, of class 2 none, class 3 has no example.
LOGITS = np.array(
    [
        [2.0, 1.0, 0.0, 0.0],
        [0.0, 1.0, 3.0, 0.0],
        [0.0, 1.0, 0.0, 0.0],
        [0.0, 9.0, 1.0, 0.0],
        [0.0, 0.1, 0.0, 0.0],
        [1.0, 0.0, 0.0, 5.0],
    ]
)
LABELS = np.array([0, 0, 1, 1, 1, 2])


def both_kinds(*arrays):
    """The arrays as NumPy has them, and as torch has them, in float32."""
    tensors = [torch.from_numpy(a) for a in arrays]
    return arrays, [t.float() if t.is_floating_point() else t for t in tensors]


# ------------------------------------------------------------------------------------------------
# Accuracy


def test_accuracy_is_the_fraction_whose_largest_logit_is_at_the_label():
    for logits, labels in both_kinds(LOGITS, LABELS):
        assert accuracy(logits, labels) == pytest.approx(4 / 6)
        assert accuracy(logits, logits.argmax(1)) == 1.0


def test_confusion_matrix_has_true_classes_in_rows():
    wanted = [[1, 0, 1, 0], [0, 3, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    for logits, labels in both_kinds(LOGITS, LABELS):
        assert confusion_matrix(logits, labels).tolist() == wanted


def test_per_class_accuracy_is_nan_for_a_class_without_examples():
    for logits, labels in both_kinds(LOGITS, LABELS):
        np.testing.assert_array_equal(per_class_accuracy(logits, labels), [0.5, 1, 0, np.nan])


def test_cross_entropies_are_torchs_and_survive_saturation():
    wanted = F.cross_entropy(
        torch.from_numpy(LOGITS), torch.from_numpy(LABELS), reduction="none"
    ).numpy()
    for logits, labels in both_kinds(LOGITS, LABELS):
        np.testing.assert_allclose(cross_entropies(logits, labels), wanted, rtol=1e-6)
    far = np.array([[1000.0, 0.0], [40.0, 0.0]])
    assert cross_entropies(far, np.array([1, 1])).tolist() == [1000, 40]
    tiny = cross_entropies(far.astype(np.float32), np.array([0, 0]))
    assert tiny.tolist() == [0, pytest.approx(math.exp(-40), rel=0.1)]  # not lost, as in float32


def test_metrics_leave_their_arrays_alone():
    logits, labels = LOGITS.copy(), LABELS.copy()
    for metric in (accuracy, confusion_matrix, per_class_accuracy, cross_entropies):
        metric(logits, labels)
    js_divergence(logits, logits)
    np.testing.assert_array_equal(logits, LOGITS)
    np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize(
    "metric", [accuracy, confusion_matrix, per_class_accuracy, cross_entropies]
)
@pytest.mark.parametrize(
    "logits, labels, sentence",
    [
        (LOGITS * np.nan, LABELS, "logits hold NaN or infinite values"),
        (LOGITS + np.inf, LABELS, "logits hold NaN or infinite values"),
        (LOGITS[:0], LABELS[:0], r"of shape \(S, K\) with S at least 1, not \(0, 4\)"),
        (LOGITS[0], LABELS[:1], r"of shape \(S, K\) with S at least 1, not \(4,\)"),
        (LOGITS[None], LABELS, r"not \(1, 6, 4\)"),
        (LOGITS, LABELS[:5], r"6 rows of logits need as many labels, not \(5,\)"),
        (LOGITS, LABELS[:, None], r"6 rows of logits need as many labels, not \(6, 1\)"),
        (LOGITS, LABELS + 2, "labels go from 2 to 4, but there are 4 classes"),
        (LOGITS, LABELS - 1, "labels go from -1 to 1, but there are 4 classes"),
    ],
)
def test_accuracies_refuse_bad_arrays_in_a_sentence(metric, logits, labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        metric(logits, labels)


# ------------------------------------------------------------------------------------------------
# Distances

SOME_LOGITS = arrays(np.float64, (4, 3), elements=st.floats(-1e4, 1e4))


def test_js_divergence_is_zero_for_equal_outputs_and_exactly_one_for_disjoint_ones():
    one, other = np.array([[1000.0, -1000], [-1000, 1000]]), np.array([[-1000.0, 1000]] * 2)
    assert js_divergence(one, one) == 0
    assert js_divergence(one[:1], other[:1]) == 1
    assert js_divergence(one, other) == 0.5  # the mean of 1 and 0
    assert js_divergence(one, one + 7) == 0  # a shift of the logits is no difference


def test_js_divergence_has_the_value_worked_out_by_hand():
    p, q = np.log([[0.5, 0.5]]), np.array([[1000.0, 0.0]])  # m = (3/4, 1/4)
    to_middle = 0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25)
    wanted = (to_middle + math.log2(1 / 0.75)) / 2
    for a, b in both_kinds(p, q):
        assert js_divergence(a, b) == pytest.approx(wanted, rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(SOME_LOGITS, SOME_LOGITS)
def test_js_divergence_is_symmetric_and_between_zero_and_one(a, b):
    value = js_divergence(a, b)
    assert 0 <= value <= 1
    assert value == pytest.approx(js_divergence(b, a), abs=1e-12)


def test_zrf_is_one_where_the_network_knows_no_more_than_an_untrained_one():
    knows, ignorant = np.array([[1000.0, -1000]]), np.array([[0.0, 0.0]])
    opposite = -knows
    assert zero_retrain_forgetting(ignorant, ignorant) == 1
    assert zero_retrain_forgetting(knows, opposite) == 0
    wanted = 1 - (0.5 * math.log2(0.5 / 0.75) + 0.5 + math.log2(4 / 3)) / 2
    assert zero_retrain_forgetting(knows, ignorant) == pytest.approx(wanted)


@settings(max_examples=50, deadline=None)
@given(SOME_LOGITS, SOME_LOGITS)
def test_zrf_is_between_zero_and_one_and_what_the_divergence_leaves(a, b):
    value = zero_retrain_forgetting(a, b)
    assert 0 <= value <= 1
    assert value == 1 - js_divergence(a, b)


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
@pytest.mark.parametrize("height", [800.0, 1e4, 1e30])
def test_sure_and_disjoint_outputs_have_no_rounding_beyond_their_bounds(classes, height):
    """A mean over many rows of divergences that are each 1 is 1, to the last digit."""
    labels = np.arange(7 * classes) % classes
    sure, other = height * np.eye(classes)[labels], height * np.eye(classes)[(labels + 1) % classes]
    for a, b in both_kinds(sure, other):
        assert js_divergence(a, b) == 1.0
        assert zero_retrain_forgetting(a, b) == 0.0
        assert zero_retrain_forgetting(a, a) == 1.0


def test_zrf_of_a_sure_network_is_not_that_of_the_reversed_kl_divergence():
    """F.kl_div with its arguments reversed and its default mean gave 0.915 for a case of 0.623."""
    generator = np.random.default_rng(0)
    sure = 1000 * np.eye(10)[generator.integers(10, size=50)]
    p, q = np.eye(10)[sure.argmax(1)], np.full((50, 10), 0.1)
    middle = (p + q) / 2
    literal = [
        sum(a * math.log2(a / m) for a, m in zip(row, mid, strict=True) if a > 0)
        for rows in (p, q)
        for row, mid in zip(rows, middle, strict=True)
    ]
    found = zero_retrain_forgetting(sure, np.zeros((50, 10)))
    assert found == pytest.approx(1 - np.mean(literal))


def test_activation_distance_is_root_two_for_disjoint_outputs():
    one, other = np.array([[1000.0, 0, 0]] * 3), np.array([[0.0, 1000, 0]] * 3)
    assert activation_distance(one, other) == pytest.approx(math.sqrt(2))
    assert activation_distance(one, one) == 0
    halves = np.array([[1000.0, 1000, 0]] * 3)  # (1/2, 1/2, 0)
    assert activation_distance(one, halves) == pytest.approx(math.sqrt(0.5))
    mixed = np.concatenate([halves[:1], one[:2]])
    assert activation_distance(one, mixed) == pytest.approx(math.sqrt(0.5) / 3)


@pytest.mark.parametrize("metric", [js_divergence, activation_distance, zero_retrain_forgetting])
@pytest.mark.parametrize(
    "a, b, sentence",
    [
        (LOGITS, LOGITS * np.nan, "logits hold NaN"),
        (LOGITS * np.nan, LOGITS, "logits hold NaN"),
        (LOGITS[:0], LOGITS[:0], "with S at least 1"),
        (LOGITS, LOGITS[:5], r"on the same examples: logits of shape \(6, 4\) and \(5, 4\)"),
        (LOGITS, LOGITS[:, :3], r"on the same examples: logits of shape \(6, 4\) and \(6, 3\)"),
    ],
)
def test_distances_refuse_bad_arrays_in_a_sentence(metric, a, b, sentence):
    with pytest.raises(ValueError, match=sentence):
        metric(a, b)


# ------------------------------------------------------------------------------------------------
# Gaps

UNLEARNED = {
    "retain_accuracy": 0.9,
    "forget_accuracy": 0.7,
    "test_accuracy": 0.8,
    "confidence_attack": 0.1,
}
RETRAINED = {
    "retain_accuracy": 1.0,
    "forget_accuracy": 0.5,
    "test_accuracy": 0.85,
    "confidence_attack": 0.3,
}


def test_tug_of_war_is_the_product_worked_out_by_hand():
    assert tug_of_war(UNLEARNED, RETRAINED) == pytest.approx(0.9 * 0.8 * 0.95)
    assert tug_of_war(RETRAINED, UNLEARNED) == tug_of_war(UNLEARNED, RETRAINED)
    assert tug_of_war(RETRAINED, RETRAINED) == 1


def test_tug_of_war_is_zero_when_one_part_is_as_wrong_as_can_be():
    assert tug_of_war({**RETRAINED, "retain_accuracy": 0.0}, RETRAINED) == 0


def test_average_gap_is_the_mean_worked_out_by_hand():
    assert average_gap(UNLEARNED, RETRAINED) == pytest.approx((0.1 + 0.2 + 0.05 + 0.2) / 4)
    assert average_gap(RETRAINED, RETRAINED) == 0


# ------------------------------------------------------------------------------------------------
# Attacks


def test_membership_attack_guesses_where_there_is_nothing_to_see():
    generator = np.random.default_rng(0)
    forget, test = generator.exponential(size=(2, 1000))
    assert membership_attack(forget, test) == pytest.approx(0.5, abs=0.05)


def test_membership_attack_is_right_where_losses_are_apart():
    generator = np.random.default_rng(0)
    forget, test = generator.uniform(0, 1, 300), generator.uniform(4, 5, 200)
    assert membership_attack(forget, test) == 1
    assert membership_attack(test, forget) == 1  # either side may be the larger one
    assert membership_attack(torch.from_numpy(forget), torch.from_numpy(test)) == 1


def test_membership_attack_is_half_right_about_a_half():
    """Half of the forgotten have the loss of a memory, half that of unseen images."""
    forget = np.repeat([0.0, 10.0], 100)
    assert membership_attack(forget, np.full(200, 10.0)) == pytest.approx(0.75, abs=0.04)


@pytest.mark.parametrize("sizes", [(60, 60), (40, 90), (90, 40)])
def test_membership_attack_is_its_literal_definition(sizes):
    generator = np.random.default_rng(1)
    forget, test = generator.exponential(1, sizes[0]), generator.exponential(2, sizes[1])
    draw = np.random.default_rng(7)
    drawn = [draw.choice(losses, min(sizes), replace=False) for losses in (forget, test)]
    x = np.concatenate([drawn[1], drawn[0]]).reshape(-1, 1)
    y = np.array([0] * min(sizes) + [1] * min(sizes))
    scores = []
    for learn, held_out in StratifiedShuffleSplit(n_splits=10, random_state=7).split(x, y):
        attacker = LogisticRegression().fit(x[learn], y[learn])
        scores.append(np.mean(attacker.predict(x[held_out]) == y[held_out]))
    assert len(scores) == 10 and len(held_out) == round(0.2 * min(sizes))
    assert membership_attack(forget, test, seed=7) == pytest.approx(np.mean(scores))


def test_membership_attack_follows_its_seed_and_leaves_the_global_one_alone():
    forget, test = np.random.default_rng(1).exponential(size=(2, 60))
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    values = [membership_attack(forget, test, seed=seed) for seed in (1, 1, 2, 3)]
    assert values[0] == values[1]
    assert len(set(values)) > 1
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_confidence_attack_calls_non_members_what_looks_like_test_images():
    retain, test = np.full(50, 0.99), np.full(50, 0.2)
    assert confidence_attack(retain, test, np.full(8, 0.2)) == 1
    assert confidence_attack(retain, test, np.full(8, 0.99)) == 0
    quarter = np.array([0.2, 0.99, 0.99, 0.99])
    assert confidence_attack(retain, test, quarter) == 0.25
    assert confidence_attack(*(torch.from_numpy(x) for x in (retain, test, quarter))) == 0.25


@pytest.mark.parametrize("sizes", [(200, 50), (50, 200), (80, 80)])
def test_confidence_attack_is_its_literal_definition(sizes):
    generator = np.random.default_rng(0)
    retain, test = generator.beta(4, 1, sizes[0]), generator.beta(2, 2, sizes[1])
    forget, count = generator.beta(3, 2, 70), min(sizes)
    draw = np.random.default_rng(3)
    members = draw.choice(retain, count, replace=False)
    others = test if sizes[1] == count else draw.choice(test, count, replace=False)
    attacker = SVC(C=3, gamma="auto", kernel="rbf")
    attacker.fit(np.concatenate([members, others])[:, None], np.array([1] * count + [0] * count))
    called = attacker.predict(forget[:, None])
    wanted = np.mean(called == 0)
    assert 0 < wanted < 1
    assert confidence_attack(retain, test, forget, seed=3) == pytest.approx(wanted)


def test_confidence_attack_is_not_fooled_by_more_members_than_others():
    """With all 5,000 retained it would call everything a member; balanced, it cannot."""
    generator = np.random.default_rng(0)
    retain, test, forget = (generator.uniform(size=count) for count in (5000, 50, 400))
    assert 0.2 < confidence_attack(retain, test, forget) < 0.8


@pytest.mark.parametrize(
    "attack, sentence",
    [
        (lambda: membership_attack(np.ones(9), np.ones(50)), r"at least 10 of them, not \(9,\)"),
        (lambda: membership_attack(np.ones(50), np.ones(0)), r"at least 10 of them, not \(0,\)"),
        (lambda: membership_attack(np.ones((20, 2)), np.ones(50)), r"not \(20, 2\)"),
        (lambda: membership_attack(np.full(20, np.nan), np.ones(20)), "some are NaN or infinite"),
        (lambda: membership_attack(np.ones(20), np.full(20, np.inf)), "some are NaN or infinite"),
        (lambda: confidence_attack(np.ones(0), np.ones(5), np.ones(5)), r"at least 1 of them"),
        (lambda: confidence_attack(np.ones(5), np.ones(0), np.ones(5)), r"at least 1 of them"),
        (lambda: confidence_attack(np.ones(5), np.ones(5), np.ones(0)), r"at least 1 of them"),
        (lambda: confidence_attack(np.ones(5), np.ones(5), np.full(3, np.nan)), "some are NaN"),
    ],
)
def test_attacks_refuse_bad_arrays_in_a_sentence(attack, sentence):
    with pytest.raises(ValueError, match=sentence):
        attack()


# ------------------------------------------------------------------------------------------------
# Relearning


@pytest.fixture
def batches(tiny, loader):
    return [(images.double(), labels) for images, labels in loader(tiny)]


def mlp():
    torch.manual_seed(0)
    return build("mlp", 4, 1, 8).double()


def steps_by_hand(model, batches, target, *, optimizer, limit):
    """One step, one look, at a constant rate, until the target is met."""
    model = copy.deepcopy(model)
    for steps in range(limit + 1):
        model.eval()
        right = sum(int((model(x).argmax(1) == y).sum()) for x, y in batches)
        if right / sum(len(y) for _, y in batches) >= target:
            return steps
        if steps == 0:
            stepper = optimizer(model.parameters())
        model.train()
        images, labels = batches[steps % len(batches)]
        stepper.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        stepper.step()
    return math.inf


@pytest.mark.parametrize("target", [0.8, 0.9, 1.0])
@pytest.mark.parametrize(
    "name, make",
    [
        ("adam", lambda p: torch.optim.Adam(p, 2e-3)),
        ("sgd", lambda p: torch.optim.SGD(p, 2e-3, momentum=0.9)),
    ],
)
def test_relearn_time_counts_the_steps_of_a_loop_written_out(name, make, target, batches):
    wanted = steps_by_hand(mlp(), batches, target, optimizer=make, limit=300)
    assert 1 < wanted < 300
    found = relearn_time(mlp(), batches, batches, target=target, lr=2e-3, optimizer=name)
    assert found == wanted


def test_relearn_time_counts_with_dropout_and_batchnorm_off_when_it_looks(batches):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4)
    ).double()
    wanted = steps_by_hand(
        model, batches, 0.95, optimizer=lambda p: torch.optim.Adam(p, 1e-3), limit=300
    )
    assert 1 < wanted < 300
    assert relearn_time(model, batches, batches, target=0.95) == wanted


def test_relearn_time_is_zero_if_nothing_was_forgotten(batches):
    model = train(mlp(), batches, epochs=20, lr=0.05)
    assert relearn_time(model, batches, batches, target=0.95) == 0


def test_relearn_time_is_infinite_if_the_target_is_not_met(batches):
    wrong = [(images, (labels + 1) % 4) for images, labels in batches]
    model = train(mlp(), batches, epochs=20, lr=0.05)
    assert relearn_time(model, batches, wrong, target=0.95, max_steps=30) == math.inf
    assert relearn_time(model, batches, wrong, target=0.95, max_steps=0) == math.inf


def test_relearn_time_gives_up_after_exactly_max_steps(batches):
    needed = int(relearn_time(mlp(), batches, batches, target=0.9))
    options = {"target": 0.9, "max_steps": needed}
    assert relearn_time(mlp(), batches, batches, **options) == needed
    options["max_steps"] -= 1
    assert relearn_time(mlp(), batches, batches, **options) == math.inf


def test_relearn_time_looks_every_so_many_steps_and_at_the_last_one(batches):
    needed = int(relearn_time(mlp(), batches, batches, target=0.9))
    every = needed - 1
    assert relearn_time(mlp(), batches, batches, target=0.9, check_every=every) == 2 * every
    found = relearn_time(
        mlp(), batches, batches, target=0.9, check_every=1000, max_steps=needed + 3
    )
    assert found == needed + 3


def test_relearn_time_reads_generators(batches):
    wanted = relearn_time(mlp(), batches, batches, target=0.9)
    found = relearn_time(mlp(), (b for b in batches), (b for b in batches), target=0.9)
    assert found == wanted


def test_relearn_time_leaves_the_network_alone(batches):
    model = mlp().train()
    model[1].eval()
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    state = torch.get_rng_state()
    relearn_time(model, batches, batches, target=1.0, max_steps=5)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert [m.training for m in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_relearning_from_the_retain_set_alone_is_the_relearn_attack(tiny, loader):
    kept, lost = loader(tiny.of_classes([0], others=True)), loader(tiny.of_classes([0]))
    model = train(mlp().float(), kept, epochs=5, lr=0.05)
    assert accuracy(*predict(model, lost)) < 0.5
    from_forget = relearn_time(model, lost, lost, target=0.95)
    assert 0 < from_forget < 100
    assert relearn_time(model, kept, lost, target=0.95, max_steps=50) > from_forget
