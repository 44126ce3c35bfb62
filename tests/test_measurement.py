"""One way from a network to numbers: each number is the metric's own."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from strangers import Scaled
from torch.utils.data import TensorDataset

from unlearning import Split, build, predict, train
from unlearning.core.layers import reinitialise
from unlearning.core.loop import Timed
from unlearning.measurement import Measurement, measure, measure_seeds
from unlearning.metrics import (
    accuracy,
    activation_distance,
    average_gap,
    cross_entropies,
    js_divergence,
    membership_attack,
    svc_attacks,
    tug_of_war,
    zero_retrain_forgetting,
)
from unlearning.report import ATTACKS
from unlearning.splitting import forget_classes, forget_random


@pytest.fixture(scope="module")
def test(tiny):
    """Other images of the same kind: each is the mean of two training images of its class."""
    mixed = (tiny.images.int() + tiny.images.roll(4, 0).int()) // 2
    return replace(tiny, images=mixed.to(torch.uint8))


def network(images, seed):
    torch.manual_seed(seed)
    batches = images.batches(16, shuffle=True, seed=seed)
    return train(build("cnn", 4, 1, 8), batches, epochs=3, lr=0.02)


@pytest.fixture(scope="module", params=["single images", "class 2"])
def case(request, tiny):
    """(split, original, retrained)"""
    of_class = request.param == "class 2"
    split = forget_classes(tiny, 2) if of_class else forget_random(tiny, count=20, seed=0)
    return split, network(tiny, 0), network(split.retain, 1)


def by_hand(model, split, test):
    """The same numbers, each by a call of its metric."""
    of_class = bool(split.forget_classes)
    sets = {"retain": split.retain, "forget": split.forget}
    sets["test"] = test.without_classes([2]) if of_class else test
    sets |= {"test_forget": test.of_classes([2])} if of_class else {}
    read = {name: predict(model, images.batches(32)) for name, images in sets.items()}
    losses = {name: cross_entropies(*pair) for name, pair in read.items()}
    generator, known = np.random.default_rng(0), []
    for logits, labels in (read["retain"], read["test"]):
        order = generator.permutation(len(labels))
        known += [logits[order], labels[order]]
    unseen = losses["test_forget" if of_class else "test"]
    untrained = predict(reinitialise(copy.deepcopy(model), seed=0), split.forget.batches(32))
    return {
        **{f"{name}_accuracy": accuracy(*pair) for name, pair in read.items()},
        "membership_attack": membership_attack(losses["forget"], unseen),
        **{f"{name}_attack": x for name, x in svc_attacks(*known, *read["forget"]).items()},
        "zrf": zero_retrain_forgetting(read["forget"][0], untrained[0]),
    }


def test_numbers_are_those_of_the_metrics(case, test):
    split, original, _ = case
    found = measure(original, split, test)
    assert found.numbers == pytest.approx(by_hand(original, split, test))
    logits, labels = predict(original, split.forget.batches(32))
    np.testing.assert_allclose(found.forget_logits, logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.forget_losses, cross_entropies(logits, labels), atol=1e-5)


def test_distances_are_taken_on_the_forget_set_and_survive_as_arrays(case, test):
    split, original, retrained = case
    ours, theirs = measure(original, split, test), measure(retrained, split, test)
    found, same = ours.compare_to(theirs), theirs.compare_to(theirs)
    logits = ours.forget_logits, theirs.forget_logits
    assert found["js_to_retrained"] == js_divergence(*logits) > 0
    assert found["activation_distance"] == activation_distance(*logits)
    assert found["tug_of_war"] == tug_of_war(ours.numbers, theirs.numbers)
    assert found["average_gap"] == average_gap(ours.numbers, theirs.numbers)
    assert ours.numbers.items() <= found.items()
    assert same["js_to_retrained"] == same["activation_distance"] == same["average_gap"] == 0
    assert same["tug_of_war"] == 1
    back = [Measurement.from_arrays(measured.arrays()) for measured in (ours, theirs)]
    assert back[0].compare_to(back[1]) == pytest.approx(found, rel=1e-3)
    np.testing.assert_allclose(back[0].test_losses, ours.test_losses, rtol=1e-3, atol=1e-6)


def test_measuring_changes_neither_the_network_nor_the_global_generators(case, test):
    split, original, _ = case
    model = copy.deepcopy(original).train()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    first = measure(model, split, test).numbers
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert measure(model, split, test).numbers == first


def test_without_attacks_there_are_accuracies_and_distances_alone(case, test):
    split, original, retrained = case
    full = measure(original, split, test)
    found = measure(original, split, test, attacks=False)
    left_out = {*ATTACKS, "zrf"}
    assert found.numbers == {k: v for k, v in full.numbers.items() if k not in left_out}
    compared = found.compare_to(measure(retrained, split, test, attacks=False))
    assert "average_gap" not in compared and compared["js_to_retrained"] > 0


def test_a_test_set_without_the_forgotten_class_is_measured_all_the_same(tiny, test):
    split = forget_classes(tiny, 2)
    found = measure(network(tiny, 0), split, test.without_classes([2])).numbers
    assert "test_forget_accuracy" not in found and found["test_accuracy"] > 0.5


class Passes(list):
    """Batches that count how often they are read."""

    passes = 0

    def __iter__(self):
        self.passes += 1
        return super().__iter__()


def as_dataset(images):
    return TensorDataset(images.normalise(images.images), images.labels)


@pytest.mark.parametrize("kind", ["data set", "loader", "batches"])
def test_sets_of_every_kind_give_the_same_numbers_and_are_read_once(case, test, kind, loader):
    split, original, _ = case
    make = {
        "data set": as_dataset,
        "loader": loader,
        "batches": lambda images: Passes(loader(images)),
    }
    parts = [make[kind](images) for images in (*split, test)]
    state = torch.get_rng_state()
    found, expected = measure(original, parts[:2], parts[2]), measure(original, split, test)
    assert found.numbers == pytest.approx(expected.numbers)
    np.testing.assert_allclose(found.test_losses, expected.test_losses, rtol=1e-4, atol=1e-6)
    if kind == "batches":
        assert [part.passes for part in parts] == [1, 2, 1]  # the second time for ZRF
    assert torch.equal(torch.get_rng_state(), state)
    assert Split(*parts[:2]).forget_classes == split.forget_classes


def test_a_test_set_may_say_itself_which_images_are_like_the_forgotten_ones(tiny, test):
    model, split = network(tiny, 0), forget_classes(tiny, 2)
    parts = Split(test.without_classes(2), test.of_classes(2))
    found, wanted = (measure(model, split, own).numbers for own in (parts, test))
    assert found == pytest.approx(wanted)
    coarse = Split(*(replace(part, labels=part.labels // 2) for part in split))
    parts = Split(*(replace(part, labels=part.labels // 2) for part in parts))
    numbers = measure(model, coarse, parts, attacks=False).numbers
    for name, part in (("test_accuracy", parts.retain), ("test_forget_accuracy", parts.forget)):
        assert numbers[name] == accuracy(*predict(model, part.batches(7)))


def test_a_test_set_of_forgotten_classes_alone_is_refused(tiny, test):
    split, model = forget_classes(tiny, 2), network(tiny, 0)
    with pytest.raises(ValueError, match=r"nothing but the forgotten classes \(2,\): give test"):
        measure(model, split, test.of_classes([2]))


def test_another_order_of_the_forget_set_is_noticed(tiny, test, loader):
    split, original = forget_random(tiny, count=20, seed=0), network(tiny, 0)
    turned = split.forget.select(torch.arange(len(split.forget)).flip(0))

    class Turning(Passes):
        def __iter__(self):
            super().__iter__()
            return iter(loader(turned if self.passes % 2 else split.forget))

        def __len__(self):
            return 2

    with pytest.raises(ValueError, match="another order the second time: do not shuffle it"):
        measure(original, (split.retain, Turning()), test)
    goal = measure(original, (split.retain, turned), test)
    with pytest.raises(ValueError, match="on one forget set in the same order"):
        measure(original, split, test).compare_to(goal)


def test_zrf_is_missing_where_weights_cannot_be_drawn_again_or_is_taken_from_a_given_network(
    case, test
):
    split, original, _ = case
    expected = measure(original, split, test).numbers
    numbers = measure(Scaled(original), split, test).numbers
    assert math.isnan(numbers.pop("zrf"))
    assert numbers == pytest.approx({k: v for k, v in expected.items() if k != "zrf"})
    untrained = reinitialise(copy.deepcopy(original), seed=0)
    before = copy.deepcopy(untrained.state_dict())
    found = measure(Scaled(original), split, test, untrained=untrained).numbers
    assert found == pytest.approx(expected)
    torch.testing.assert_close(untrained.state_dict(), before, rtol=0, atol=0)


def test_the_svm_is_fitted_to_at_most_so_many_examples(case, test, monkeypatch):
    sizes, (split, original, _) = [], case
    monkeypatch.setattr(
        "unlearning.measurement.svc_attacks",
        lambda *sides, seed: sizes.extend(map(len, sides)) or {},
    )
    measure(original, split, test, attacked=30)
    assert sizes == [30, 30, 30, 30, len(split.forget), len(split.forget)]


def test_every_seed_is_made_once_and_measured_with_its_own_split(tiny, test):
    made, model = [], network(tiny, 0)

    def make(seed):
        made.append(seed)
        return Timed(model, seed + 0.5)

    def split(seed):
        return forget_random(tiny, count=20, seed=seed)

    def more(network, split, test, seed):
        return {"share": len(split.forget) / len(test), "own_seed": float(seed)}

    arrays = measure_seeds(make, split, test, more=more)([3, 7])
    assert made == [3, 7] and arrays["seconds"].tolist() == [3.5, 7.5]
    assert arrays["share"].tolist() == [20 / len(test)] * 2
    assert arrays["own_seed"].tolist() == [3, 7]
    assert set(arrays["torch"]) <= {torch.__version__.partition("+")[0]} and all(arrays["device"])
    for place, seed in enumerate((3, 7)):
        own = Measurement.from_arrays({name: array[place] for name, array in arrays.items()})
        expected = measure(model, split(seed), test).numbers
        assert {name: own.numbers[name] for name in expected} == pytest.approx(expected)
