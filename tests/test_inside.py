"""What is left in a network: the numbers of notebook 11, where they can be known."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from unlearning import Images, Split, inside, predict, report, train
from unlearning.core.statistics import keep_statistics
from unlearning.data import balanced_subset
from unlearning.metrics import accuracy
from unlearning.probing import (
    class_probe,
    features_of,
    linear_cka,
    membership_probe,
    relearn_from_forgotten,
    relearn_from_retained,
    saliency,
    saliency_agreement,
)
from unlearning.splitting import forget_classes, forget_random


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers = nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)
    return nn.Sequential(nn.Flatten(), *layers)


@pytest.fixture(name="sets", scope="module")
def make_sets(tiny):
    """Two thirds of the images, class 3 to be forgotten, and the other third to test on."""
    places = torch.arange(len(tiny))
    train_set, test = tiny.select(places[places % 3 > 0]), tiny.select(places[places % 3 == 0])
    return forget_classes(train_set, 3), test


@pytest.fixture(name="networks", scope="module")
def make_networks(sets):
    """The original, one whose last bias hides class 3, and one that never saw it."""
    split, _ = sets
    both = Images(
        torch.cat([part.images for part in split]),
        torch.cat([part.labels for part in split]),
        mean=split.retain.mean,
        std=split.retain.std,
    )
    original, retrained = (
        train(network(seed), images.batches(16, shuffle=True, seed=0), epochs=10, lr=0.1)
        for seed, images in enumerate((both, split.retain))
    )
    hidden = copy.deepcopy(original)
    hidden[-1].bias.data[3] = -15
    return {"original": original, "hidden": hidden, "retrained": retrained}


@pytest.fixture(name="found", scope="module")
def measure_all(networks, sets):
    ends = {name: networks[name] for name in ("original", "retrained")}
    return {name: inside.inside(model, *sets, **ends) for name, model in networks.items()}


def test_a_class_that_is_only_hidden_is_known_as_before_and_comes_back(found, networks, sets):
    assert accuracy(*predict(networks["hidden"], sets[0].forget.batches(50))) == 0
    before, hidden, never = (found[name] for name in ("original", "hidden", "retrained"))
    for name in ("linear", "knn", "membership"):
        assert hidden[f"{name}_probe_accuracy"] == before[f"{name}_probe_accuracy"]
    assert hidden["relearned_64_steps_accuracy"] > never["relearned_64_steps_accuracy"]
    assert hidden["distance_in_1"] == 0 < hidden["distance_in_4"]
    for layer in ("3", "penultimate"):
        assert hidden[f"cka_to_original_in_{layer}"] == pytest.approx(1)
        assert hidden[f"cka_to_retrained_in_{layer}"] == before[f"cka_to_retrained_in_{layer}"] < 1
    assert hidden["saliency_to_original"] == pytest.approx(1)  # a bias has no slope
    assert never["saliency_to_retrained"] == never["cka_to_retrained_in_3"] == pytest.approx(1)


def test_numbers_are_those_of_probing_on_the_images_that_are_named(found, networks, sets):
    (split, test), retrained = sets, networks["retrained"]
    model, own = networks["hidden"], found["hidden"]
    x, y = features_of(model, test.sequential_batches())
    forget, _ = features_of(model, split.forget.sequential_batches())
    assert own["membership_probe_accuracy"] == membership_probe(forget, x[y == 3])
    labelled = []  # half of the images of each class, for there are fewer than a hundred
    few = balanced_subset(test, 4 * (len(test) // 8)).indices.tolist()
    labelled = torch.tensor([place in few for place in test.indices.tolist()])
    assert (y[labelled].bincount() == y[~labelled].bincount()).all()
    sets_of_probe = x[labelled], y[labelled], x[~labelled], y[~labelled]
    for probe in ("linear", "knn"):
        expected = class_probe(*sets_of_probe, classes=3, probe=probe)
        assert own[f"{probe}_probe_accuracy"] == expected
    few_shown = relearn_from_forgotten({"": model}, split.forget, steps=inside.STEPS)[""]
    retained = relearn_from_retained({"": model}, split.retain, split.forget, steps=inside.STEPS)
    assert own["relearned_8_steps_accuracy"] == few_shown[8]
    options = {"beside": split.retain, "steps": inside.STEPS}
    mixed = relearn_from_forgotten({"": model}, split.forget, **options)[""]
    assert own["mixed_32_steps_accuracy"] == mixed[32]
    ten = forget_random(split.forget, count=10, seed=0).forget
    options = {"epochs": 32, "lr": 1e-3, "optimizer": "adam", "schedule": "constant"}
    taught = train(keep_statistics(copy.deepcopy(model)), ten.batches(10), **options)
    expected = accuracy(*predict(taught, test.without_classes(3).batches(50)))
    assert own["others_32_steps_accuracy"] == expected
    assert own["retained_32_steps_accuracy"] == retained.loc[32, ""]
    theirs, _ = features_of(retrained, split.forget.sequential_batches())
    assert own["cka_to_retrained_in_penultimate"] == pytest.approx(linear_cka(forget, theirs))
    maps = [saliency(one, split.forget) for one in (model, retrained)]
    assert own["saliency_to_retrained"] == pytest.approx(saliency_agreement(*maps).mean())


def test_single_images_have_no_class_to_be_read_or_relearned(networks, sets):
    retain, forget = forget_random(sets[0].retain, count=12, seed=0)
    ends = {name: networks[name] for name in ("original", "retrained")}
    own = inside.inside(networks["hidden"], Split(retain, forget), sets[1], **ends)
    asked = [name for name in own if name.startswith(("relearned", "mixed", "others", "knn"))]
    assert asked == [] and own["distance_in_1"] == 0
    x, unseen = (
        features_of(networks["hidden"], s.sequential_batches())[0] for s in (forget, sets[1])
    )
    assert own["membership_probe_accuracy"] == membership_probe(x, unseen)
    assert own["retained_1_steps_accuracy"] <= 1


def test_of_many_forgotten_images_some_are_drawn(networks, sets, monkeypatch):
    (retain, forget), test = sets
    ends = {name: networks[name] for name in ("original", "retrained")}
    monkeypatch.setattr(inside, "MOST", 13)
    own = inside.inside(networks["hidden"], Split(retain, forget), test, **ends)
    _, some = forget_random(forget, count=13, seed=0)
    assert own == inside.inside(networks["hidden"], Split(retain, some), test, **ends)


def test_a_class_without_images_to_ask_about_is_refused(networks, sets):
    split, test = sets
    one = test.select([*(test.labels > 0).nonzero().flatten(), test.labels.tolist().index(0)])
    ends = {name: networks[name] for name in ("original", "retrained")}
    with pytest.raises(ValueError, match="two test images of each class"):
        inside.inside(networks["hidden"], split, one, **ends)


def test_a_collapsed_network_has_no_similarity(networks, sets):
    dead = copy.deepcopy(networks["original"])
    dead[2].weight.data.zero_()
    dead[2].bias.data.fill_(-1)  # nothing passes the ReLU after it
    ends = {name: networks[name] for name in ("original", "retrained")}
    own = inside.inside(dead, *sets, **ends)
    for name in inside.LIKENESS:
        assert np.isnan(own[name])
    assert 0 <= own["linear_probe_accuracy"] <= 1


@pytest.fixture(name="rows")
def make_rows(found):
    names = {"hidden": "hidden", "retrained again": "retrained", "retrained": "retrained"}
    return [
        {"method": name, "seed": seed, "forget_accuracy": 0.5, **found[own]}
        for name, own in names.items()
        for seed in (0, 1)
    ]


def test_curves_and_layers_are_the_means_of_the_rows(rows, found):
    rows[0]["relearned_8_steps_accuracy"] += 0.2
    numbers = report.table(rows)
    curves = inside.relearning(numbers, ["hidden", "unknown", "retrained"])
    assert list(curves) == [*inside.FORMS]
    few, _, retained = curves.values()
    assert list(few) == list(retained) == ["hidden", "retrained"]
    assert few.index.tolist() == retained.index.tolist() == [*inside.STEPS]
    assert (few.loc[0] == 0).all()
    assert few.loc[8, "hidden"] == pytest.approx(
        found["hidden"]["relearned_8_steps_accuracy"] + 0.1
    )
    layers = inside.by_layer(numbers, ["retrained", "hidden"])
    assert [list(table.index) for table in layers.values()] == [
        ["1", "4"],
        ["3", "penultimate"],
        ["3", "penultimate"],
    ]
    assert layers["CKA to the retrained"].loc["3", "retrained"] == pytest.approx(1)
    assert layers["distance from the original"].loc["1", "hidden"] == 0
    without = report.table([{k: v for k, v in row.items() if "relearned" not in k} for row in rows])
    assert list(inside.relearning(without, ["hidden"])) == [*inside.FORMS][1:]


def test_the_table_has_its_columns_under_three_questions(rows):
    setting = report.Tables()
    setting.scenarios = {"class 3": None}
    setting.rows = {(row["method"], "class 3", row["seed"]): row for row in rows}
    for row in rows:
        row["scenario"] = "class 3"
    table = inside.by_question(setting)
    shown = setting.table(["test_forget_accuracy", "knn_probe_accuracy"])
    assert list(table.columns.unique(0)) == [*inside.QUESTIONS]
    knn = table["what it knows", "kNN probe accuracy (%)"]
    assert knn.tolist() == shown["kNN probe accuracy (%)"].tolist()
    assert knn["class 3", "hidden"] == f"{100 * rows[0]['knn_probe_accuracy']:.1f} ± 0.0"
