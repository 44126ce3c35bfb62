"""Scenarios with labels of their own, and requests that follow each other."""

import numpy as np
import pytest
import torch
from torch import nn

from unlearning import Scenario, load_or_train, prepare
from unlearning.labelling import corrupt, superclasses
from unlearning.methods import fine_tune, negative_gradient_plus
from unlearning.metrics import accuracy
from unlearning.splitting import forget_random, forget_subclass, sequence
from unlearning.training import predict

TRAINING = {"model": "mlp", "epochs": 2, "lr": 0.1, "batch_size": 16}
HALVES = {"left": [0, 2], "right": [1, 3]}
SUBCLASS = Scenario.parse("subclass 2", superclasses=HALVES)


def setting_of(tiny, folder, scenarios, **options):
    given = {"seeds": [0, 1], "noise_floor": False, **TRAINING, **options}
    return prepare((tiny, tiny), scenarios=scenarios, folder=folder, **given)


def same(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(*pair) for pair in pairs)


def test_a_sequence_of_one_request_is_the_plain_scenario_bit_by_bit(tiny, tmp_path):
    setting = setting_of(tiny, tmp_path, ["random 10%", "1 request of 10%"])
    values = {"lr": 0.05, "alpha": {"random": 0.8, "class": 0.9}}
    setting.run("NegGrad+", negative_gradient_plus, **values)
    plain, first = "random 10%", "request 1 of 10%"
    for seed in (0, 1):
        networks = [
            setting.unlearn(negative_gradient_plus, of, seed, values) for of in (plain, first)
        ]
        assert same(*(network.result for network in networks))
        assert same(*(setting.retrained(of, seed) for of in (plain, first)))
        for name in ("original", "NegGrad+", "retrained"):
            rows = [setting.rows[name, of, seed] for of in (plain, first)]
            times = dict.fromkeys(["seconds", "scenario"])
            assert rows[0] | times == rows[1] | times
            arrays = [setting.measurements[name, of, seed] for of in (plain, first)]
            for ours, theirs in zip(*(one.arrays().values() for one in arrays), strict=True):
                np.testing.assert_array_equal(ours, theirs)


def test_each_request_starts_from_the_network_of_the_one_before(tiny, tmp_path):
    setting = setting_of(tiny, tmp_path, "3 requests of 8", seeds=[4])
    by_hand = setting.original(4)
    for place, split in enumerate(sequence(tiny, requests=3, count=8, seed=4), start=1):
        of = f"request {place} of 8"
        retain, forget = (setting.batches(part, 4) for part in split)
        by_hand = negative_gradient_plus(by_hand, retain, forget, lr=0.05, seed=4)
        found = setting.unlearn(negative_gradient_plus, of, 4, {"lr": 0.05}).result
        assert same(found, by_hand)
        so_far = forget_random(tiny, count=8 * place, seed=4)
        assert torch.equal(setting.split(of, 4).forget.indices, so_far.forget.indices)
        retrained = load_or_train(so_far.retain, seed=4, folder=tmp_path / "other", **TRAINING)
        assert same(setting.retrained(of, 4), retrained.result)


class Calls(list):
    """Counts calls, and looks the same to an experiment however many there were."""

    about = "calls"


@pytest.mark.parametrize("order", [[1, 2, 3], [3]])
def test_every_request_is_unlearned_once_in_any_order(tiny, tmp_path, order):
    calls = Calls()

    def method(model, retain, forget, *, seed, lr=0.1):
        calls.append(sum(len(labels) for _, labels in forget))
        return fine_tune(model, retain, lr=lr, epochs=1, seed=seed)

    names = [f"request {place} of 12" for place in (1, 2, 3)]
    setting = setting_of(tiny, tmp_path, names, seeds=[0])
    for place in order:
        setting.run("mine", method, scenarios=names[place - 1])
    assert calls == [12, 12, 12]
    setting.run("mine", method)
    again = setting_of(tiny, tmp_path, names, seeds=[0])
    again.run("mine", method)
    assert calls == [12, 12, 12] and again.rows == setting.rows
    setting.run(
        "mine", method, lr={names[0]: 0.3, "random": 0.1}
    )  # what comes after is another, too
    assert calls == [12] * 6


def test_networks_that_were_kept_are_found_by_an_experiment_that_measures_more(tiny, tmp_path):
    calls = Calls()

    def method(model, retain, *, seed, lr=0.1):
        calls.append(seed)
        return fine_tune(model, retain, lr=lr, epochs=1, seed=seed)

    def more(model, split, test):
        return {"number": 1.0}

    setting_of(tiny, tmp_path, "class 1").run("mine", method)
    assert calls == [0, 1] and not (tmp_path / "unlearned").exists()
    first = setting_of(tiny, tmp_path, "class 1", keep_networks=True)
    first.run("mine", method, lr=0.2)
    second = setting_of(tiny, tmp_path, "class 1", keep_networks=True, more=more)
    second.run("mine", method, lr=0.2)
    assert calls == [0, 1, 0, 1]
    for seed in (0, 1):
        rows = [setting.rows["mine", "class 1", seed] for setting in (first, second)]
        assert rows[1] == rows[0] | {"number": 1.0}
    second.run("mine", method, lr=0.3)
    assert calls == [0, 1] * 3


def test_drift_is_told_by_request(tiny, tmp_path):
    setting = setting_of(tiny, tmp_path, ["2 requests of 8", "class 1"])
    assert setting.run_all({"fine-tuning": fine_tune}, {"fine-tuning": {"lr": 0.05}}) == {}
    found = setting.by_request().set_index(["method", "request", "seed"])
    assert len(found) == 3 * 2 * 2 and found.index.is_unique
    for (name, place, seed), row in found.iterrows():
        kept = setting.rows[name, f"request {place} of 8", seed]
        assert row["js_to_retrained"] == kept["js_to_retrained"]
        assert row["scenario"] == kept["scenario"]
    plain = setting_of(tiny, tmp_path, "class 1")
    with pytest.raises(ValueError, match='no requests: name some, as in "5 requests of 2%"'):
        plain.by_request()


def test_a_subclass_is_forgotten_by_networks_trained_and_tested_on_superclasses(tiny, tmp_path):
    setting = setting_of(tiny, tmp_path, ["class 2", SUBCLASS])
    setting.run("fine-tuning", fine_tune)
    split, coarse = forget_subclass(tiny, 2, groups=HALVES), superclasses(tiny, HALVES)
    for seed in (0, 1):
        for name, images, network in [
            ("original", coarse, setting.original(seed, "subclass 2")),
            ("retrained", split.retain, setting.retrained("subclass 2", seed)),
        ]:
            expected = load_or_train(
                images, seed=seed, folder=tmp_path / "other", **TRAINING
            ).result
            assert (
                same(network, expected)
                and predict(network, split.forget.batches(8))[0].shape[1] == 2
            )
            row = setting.rows[name, "subclass 2", seed]
            for number, part in [
                ("retain_accuracy", split.retain),
                ("forget_accuracy", split.forget),
                ("test_accuracy", split.retain),  # the test images are the training images here
                ("test_forget_accuracy", split.forget),
            ]:
                assert row[number] == accuracy(*predict(network, part.batches(8)))
        assert predict(setting.original(seed), tiny.batches(8))[0].shape[1] == 4
    assert {of for name, of, _ in setting.rows if name == "fine-tuning"} == {
        "class 2",
        "subclass 2",
    }


def test_other_superclasses_of_one_name_are_measured_again(tiny, tmp_path):
    found = []
    for given in (HALVES, {"up": [0, 1], "down": [2, 3]}):
        one = Scenario.parse("subclass 2", superclasses=given)
        found.append(setting_of(tiny, tmp_path, one, seeds=[0]).rows["original", "subclass 2", 0])
    assert found[0]["js_to_retrained"] != found[1]["js_to_retrained"]


def test_a_network_of_ones_own_needs_outputs_for_the_superclasses_alone(tiny, tmp_path):
    def network():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))

    setting = setting_of(tiny, tmp_path, SUBCLASS, model=network, seeds=[0])
    assert 0 <= setting.rows["original", "subclass 2", 0]["zrf"] <= 1
    with pytest.raises(ValueError, match="2 outputs, but there are 4 classes"):
        setting_of(tiny, tmp_path, [SUBCLASS, "class 2"], model=network)


def test_wrong_labels_are_learnt_and_the_clean_accuracy_is_by_the_true_ones(tiny, tmp_path):
    more = {"more": lambda model, split, test: {"tested": float(len(test))}}
    setting = setting_of(tiny, tmp_path, ["mislabelled 25%, 50% known", "random 10%"], **more)
    noisy, wrong = corrupt(tiny, 0.25, seed=0)
    of = "mislabelled 25%, 50% known"
    for seed in (0, 1):
        original = load_or_train(noisy, seed=seed, folder=tmp_path / "other", **TRAINING).result
        assert same(setting.original(seed, of), original)
        row = setting.rows["original", of, seed]
        logits, _ = predict(original, tiny.sequential_batches())
        right = (logits.argmax(1) == tiny.labels).double()
        assert row["clean_accuracy"] == pytest.approx(float(right[wrong].mean()))
        assert row["test_accuracy"] == pytest.approx(float(right.mean()))
        assert row["tested"] == 2  # a split
        unseen = corrupt(tiny, 1, seed=0).images
        assert row["test_forget_accuracy"] == accuracy(*predict(original, unseen.batches(8)))
        assert "clean_accuracy" not in setting.rows["original", "random 10%", seed]
    assert "clean accuracy (%)" in setting.table()
    assert "clean accuracy (%)" not in setting_of(tiny, tmp_path, "random 10%").table()


def test_drawn_groups_may_differ_in_size_by_seed(tiny, tmp_path):
    groups = [0] * 20 + [1] * 30 + [2] * 46
    setting = setting_of(tiny, tmp_path, Scenario.parse("1 group", groups=groups), seeds=range(4))
    setting.run("fine-tuning", fine_tune, epochs=1)
    sizes = [len(setting.split("1 group", seed).forget) for seed in range(4)]
    assert len(set(sizes)) > 1
    for name in ("original", "fine-tuning", "retrained"):
        found = [setting.measurements[name, "1 group", seed].forget_labels for seed in range(4)]
        assert list(map(len, found)) == sizes
    assert len(setting.table()) == 3


def test_scores_of_one_name_are_not_mixed_up(tiny, tmp_path):
    splits = []
    for sign in (1, -1):
        one = Scenario.parse("exposed 10%", scores=sign * np.arange(96))
        setting = setting_of(tiny, tmp_path, one, seeds=[0])
        splits.append(setting.measurements["original", "exposed 10%", 0].forget_labels)
        assert splits[-1].tolist() == setting.split("exposed 10%", 0).forget.labels.tolist()
    assert splits[0].tolist() != splits[1].tolist()
