"""The standard table: each number is the metric's own, means are means, files are whole."""

import copy
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from unlearning import (
    accuracy,
    activation_distance,
    average_gap,
    build,
    confidence_attack,
    cross_entropies,
    evaluate,
    forget_classes,
    forget_random,
    js_divergence,
    membership_attack,
    predict,
    readable,
    record,
    results_folder,
    save,
    table,
    timed,
    train,
    tug_of_war,
    zero_retrain_forgetting,
)
from unlearning.many import load_or_run
from unlearning.models import reinitialise
from unlearning.report import appraise, appraising, beside, differences, half_width, records_of
from unlearning.training import Timed

ALWAYS = {
    "retain_accuracy",
    "forget_accuracy",
    "test_accuracy",
    "membership_attack",
    "confidence_attack",
    "zrf",
}
AGAINST_RETRAINED = {"js_to_retrained", "activation_distance", "tug_of_war", "average_gap"}


@pytest.fixture(scope="module")
def test(tiny):
    """Other images of the same kind: each is the mean of two training images of its class."""
    shifted = tiny.images.roll(4, 0)
    mixed = (tiny.images.int() + shifted.int()) // 2
    return replace(tiny, images=mixed.to(torch.uint8))


def network(images, seed):
    torch.manual_seed(seed)
    batches = images.batches(16, shuffle=True, seed=seed)
    return train(build("cnn", 4, 1, 8), batches, epochs=3, lr=0.02)


@pytest.fixture(scope="module")
def examples(tiny):
    """Single examples are forgotten: (split, original, retrained)."""
    split = forget_random(tiny, count=20, seed=0)
    return split, network(tiny, 0), network(split.retain, 1)


@pytest.fixture(scope="module")
def whole_class(tiny):
    """Class 2 is forgotten: (split, original, retrained)."""
    split = forget_classes(tiny, 2)
    return split, network(tiny, 0), network(split.retain, 1)


# ------------------------------------------------------------------------------------------------
# One run's numbers


def test_evaluate_has_these_numbers_and_no_others(examples, whole_class, test):
    split, original, retrained = examples
    assert evaluate(original, split, test).keys() == ALWAYS
    both = evaluate(original, split, test, retrained=retrained)
    assert both.keys() == ALWAYS | AGAINST_RETRAINED
    split, original, retrained = whole_class
    of_class = ALWAYS | {"test_forget_accuracy"}
    assert evaluate(original, split, test).keys() == of_class
    both = evaluate(original, split, test, retrained=retrained)
    assert both.keys() == of_class | AGAINST_RETRAINED
    assert all(type(value) is float for value in both.values())


def by_hand(model, retain, forget, test, like_forget):
    """The same numbers, each by a call of its metric; test images of its own for each attack."""
    read = [predict(model, part.batches(32)) for part in (retain, forget, test, like_forget)]
    losses = [cross_entropies(*pair) for pair in read]
    generator = np.random.default_rng(0)
    sides = [generator.permutation(np.exp(-losses[place])) for place in (0, 2)]
    untrained = predict(reinitialise(copy.deepcopy(model), seed=0), forget.batches(32))
    return {
        "retain_accuracy": accuracy(*read[0]),
        "forget_accuracy": accuracy(*read[1]),
        "test_accuracy": accuracy(*read[2]),
        "membership_attack": membership_attack(losses[1], losses[3]),
        "confidence_attack": confidence_attack(*sides, np.exp(-losses[1])),
        "zrf": zero_retrain_forgetting(read[1][0], untrained[0]),
    }


def test_numbers_are_those_of_the_metrics_when_examples_are_forgotten(examples, test):
    split, original, _ = examples
    found = evaluate(original, split, test)
    assert found == pytest.approx(by_hand(original, split.retain, split.forget, test, test))


def test_forgotten_classes_have_test_images_of_their_own(whole_class, test):
    split, original, _ = whole_class
    others, same = test.of_classes([2], others=True), test.of_classes([2])
    found = evaluate(original, split, test)
    assert found.pop("test_forget_accuracy") == accuracy(*predict(original, same.batches(32)))
    assert found == pytest.approx(by_hand(original, split.retain, split.forget, others, same))


def test_a_network_without_the_class_scores_nothing_on_it_and_is_not_marked_down(whole_class, test):
    split, _, retrained = whole_class
    found = evaluate(retrained, split, test)
    assert found["forget_accuracy"] == found["test_forget_accuracy"] == 0
    assert found["test_accuracy"] > 0.9


def test_distances_to_the_retrained_network_are_taken_on_the_forget_set(examples, test):
    split, original, retrained = examples
    found = evaluate(original, split, test, retrained=retrained)
    theirs = evaluate(retrained, split, test)
    pair = [predict(model, split.forget.batches(32))[0] for model in (original, retrained)]
    assert found["js_to_retrained"] == pytest.approx(js_divergence(*pair))
    assert found["js_to_retrained"] > 0
    assert found["activation_distance"] == pytest.approx(activation_distance(*pair))
    assert found["tug_of_war"] == pytest.approx(tug_of_war(found, theirs))
    assert found["average_gap"] == pytest.approx(average_gap(found, theirs))


@pytest.mark.parametrize("kind", ["examples", "whole_class"])
def test_the_retrained_network_is_at_no_distance_from_itself(kind, test, request):
    split, _, retrained = request.getfixturevalue(kind)
    found = evaluate(retrained, split, test, retrained=retrained)
    assert found["js_to_retrained"] == found["activation_distance"] == found["average_gap"] == 0
    assert found["tug_of_war"] == 1


def test_evaluate_changes_neither_the_network_nor_the_global_generators(examples, test):
    split, original, retrained = examples
    model = copy.deepcopy(original).train()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    first = evaluate(model, split, test, retrained=retrained)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert evaluate(model, split, test, retrained=retrained) == first


def test_the_svm_learns_from_at_most_so_many_examples(examples, test, monkeypatch):
    sizes = []

    def spy(retain, test, forget, *, seed):
        sizes.append((len(retain), len(test), len(forget)))
        return 0.0

    monkeypatch.setattr("unlearning.report.confidence_attack", spy)
    evaluate(examples[1], examples[0], test, attacked=30)
    assert sizes == [(30, 30, 20)]


def test_what_was_said_of_the_retrained_network_stands_for_it(examples, test):
    split, original, retrained = examples
    goal = appraise(retrained, split, test)
    again = evaluate(original, split, test, retrained=goal)
    assert again == evaluate(original, split, test, retrained=retrained)
    assert beside(appraise(original, split, test), goal) == again
    assert goal.numbers == evaluate(retrained, split, test)


def test_networks_measured_once_give_the_rows_that_record_gives(examples, test, tmp_path):
    split, original, retrained = examples
    kinds, found = {"original": original, "retrained": retrained}, {}
    for name, model in kinds.items():
        measure = appraising(
            lambda seed, model=model: Timed(model, seed + 0.5), lambda _: split, test
        )
        kept = tmp_path / f"{name}.npz"
        options = {"configuration": {"kind": name}, "groups": tmp_path, "group": 1, "n_jobs": 1}
        first = load_or_run(kept, measure, [3, 4], **options)
        found[name] = load_or_run(kept, None, [3, 4], **options)  # read: measure is not called
        assert found[name].keys() == first.keys()
    rows = records_of("original", [3, 4], found["original"], retrained=found["retrained"])
    for row, seed in zip(rows, (3, 4), strict=True):
        run = Timed(original, seed + 0.5)
        expected = record("original", seed, run, split, test, retrained=retrained)
        assert row.keys() == expected.keys()
        texts = {"method", "device", "torch"}
        assert {row[name] == expected[name] for name in texts} == {True}
        for name in row.keys() - texts:  # kept in single precision
            assert row[name] == pytest.approx(expected[name], rel=1e-5), name


def test_losses_of_the_test_images_are_kept_for_the_histograms(whole_class, test):
    split, original, _ = whole_class
    measure = appraising(lambda seed: Timed(original, 1.0), lambda _: split, test)
    kept = measure([0])
    unseen = test.of_classes([2], others=True)
    losses = cross_entropies(*predict(original, unseen.in_order()))
    np.testing.assert_allclose(kept["test_losses"][0], losses, rtol=2e-3, atol=1e-6)
    logits, _ = predict(original, split.forget.in_order())
    np.testing.assert_array_equal(kept["forget_logits"][0], logits)


def test_record_is_a_row_for_the_table(examples, test):
    split, original, retrained = examples
    run = timed(copy.deepcopy, original)
    row = record("copy", 3, run, split, test, retrained=retrained)
    assert row["method"] == "copy" and row["seed"] == 3 and row["seconds"] == run.seconds > 0
    numbers = {key: row[key] for key in ALWAYS | AGAINST_RETRAINED}
    assert numbers == evaluate(original, split, test, retrained=retrained)
    assert row["torch"] in torch.__version__ and row["device"]
    assert len(row) == len(numbers) + 5


# ------------------------------------------------------------------------------------------------
# The table


def test_texts_such_as_the_device_are_left_out_of_means_and_differences(tmp_path):
    texts = {"device": "CPU, 2 cores", "torch": "2.8.0"}
    rows = [{**row, **texts} for row in RECORDS]
    pd.testing.assert_frame_equal(table(rows), table(RECORDS))
    pd.testing.assert_frame_equal(save(rows, tmp_path, "all"), table(RECORDS))
    assert set(pd.read_csv(tmp_path / "all_runs.csv")["device"]) == {"CPU, 2 cores"}
    assert "device_mean" not in pd.read_csv(tmp_path / "all_table.csv")
    pairs = {"gain": ("retrained", "original")}
    pd.testing.assert_frame_equal(differences(rows, pairs), differences(RECORDS, pairs))


RECORDS = [
    {"method": "retrained", "seed": 0, "retain_accuracy": 1.0, "seconds": 4.0},
    {"method": "original", "seed": 0, "retain_accuracy": 0.9, "seconds": 1.0},
    {"method": "fine-tuned", "seed": 1, "retain_accuracy": 0.5, "seconds": 10.0},
    {"method": "fine-tuned", "seed": 0, "retain_accuracy": 0.7, "seconds": 20.0},
    {"method": "fine-tuned", "seed": 2, "retain_accuracy": 0.9, "seconds": 60.0},
    {"method": "original", "seed": 1, "retain_accuracy": 0.8, "seconds": 3.0},
]


def test_table_has_mean_and_sample_deviation_over_seeds():
    found = table(RECORDS)
    assert found.loc["fine-tuned", ("retain_accuracy", "mean")] == pytest.approx(0.7)
    assert found.loc["fine-tuned", ("retain_accuracy", "std")] == pytest.approx(0.2)
    assert found.loc["fine-tuned", ("seconds", "mean")] == 30
    assert found.loc["fine-tuned", ("seconds", "std")] == pytest.approx(math.sqrt(700))
    assert found.loc["original", ("retain_accuracy", "std")] == pytest.approx(0.1 / math.sqrt(2))
    assert np.isnan(found.loc["retrained", ("retain_accuracy", "std")])


def test_table_keeps_the_order_of_methods_and_numbers_with_the_goal_last():
    found = table(RECORDS)
    assert list(found.index) == ["original", "fine-tuned", "retrained"]
    assert list(found.columns) == [
        (name, kind) for name in ("retain_accuracy", "seconds") for kind in ("mean", "std")
    ]


def test_table_takes_a_number_that_only_some_methods_have():
    found = table([{**RECORDS[0], "relearn_steps": 7.0}, *RECORDS[1:]])
    assert found.loc["retrained", ("relearn_steps", "mean")] == 7
    assert np.isnan(found.loc["original", ("relearn_steps", "mean")])


def test_table_does_not_change_its_records():
    before = copy.deepcopy(RECORDS)
    table(RECORDS)
    assert before == RECORDS


@pytest.mark.parametrize(
    "records, sentence",
    [
        ([], "there are no records"),
        ([*RECORDS, RECORDS[2]], "fine-tuned with seed 1 is recorded twice"),
    ],
)
def test_table_refuses_records_that_mean_nothing(records, sentence):
    with pytest.raises(ValueError, match=sentence):
        table(records)


def test_readable_has_per_cent_spread_and_a_dash():
    records = [
        {"method": "a", "seed": 0, "retain_accuracy": 0.9, "zrf": 0.5, "seconds": 1.234},
        {"method": "a", "seed": 1, "retain_accuracy": 0.8, "zrf": 0.25, "seconds": 1.234},
        {"method": "b", "seed": 0, "retain_accuracy": 0.12345, "zrf": math.nan, "seconds": 100.0},
    ]
    columns = ["zrf", "retain_accuracy", "seconds", "js_to_retrained"]
    found = readable(table(records), columns)
    assert list(found.columns) == ["ZRF", "retain accuracy (%)", "seconds", "JS to retrained"]
    assert found.loc["a"].tolist() == ["0.375 ± 0.177", "85.0 ± 7.1", "1.23 ± 0.00", "–"]
    assert found.loc["b"].tolist() == ["–", "12.3", "100.00", "–"]
    assert found.index.name is None


def test_readable_shows_what_was_never_reached():
    steps = [{"method": "a", "seed": seed, "relearn_steps": math.inf} for seed in (0, 1)]
    assert readable(table(steps), ["relearn_steps"]).loc["a"].tolist() == ["inf"]


def test_readable_shows_the_standard_numbers_by_default(examples, test):
    split, original, retrained = examples
    run = timed(copy.deepcopy, original)
    row = record("original", 0, run, split, test, retrained=retrained)
    found = readable(table([row]))
    assert {"retain accuracy (%)", "forget accuracy (%)", "test accuracy (%)"} <= set(found.columns)
    assert found.loc["original", "retain accuracy (%)"] == f"{100 * row['retain_accuracy']:.1f}"


# ------------------------------------------------------------------------------------------------
# Files


def test_save_writes_both_files_and_they_read_back(tmp_path):
    folder = tmp_path / "not" / "there" / "yet"
    numbers = save(RECORDS, folder, "main")
    assert sorted(path.name for path in folder.iterdir()) == ["main_runs.csv", "main_table.csv"]
    pd.testing.assert_frame_equal(numbers, table(RECORDS))
    runs = pd.read_csv(folder / "main_runs.csv")
    pd.testing.assert_frame_equal(runs, pd.DataFrame(RECORDS), check_dtype=False)
    back = pd.read_csv(folder / "main_table.csv", index_col="method")
    assert list(back.index) == list(numbers.index)
    for name, kind in numbers.columns:
        np.testing.assert_allclose(back[f"{name}_{kind}"], numbers[name, kind], rtol=1e-5)


def test_the_saved_table_has_the_95_percent_interval_of_each_mean(tmp_path):
    save(RECORDS, tmp_path, "main")
    back = pd.read_csv(tmp_path / "main_table.csv", index_col="method")
    half = back["retain_accuracy_half95"]
    assert half["fine-tuned"] == pytest.approx(4.302653 * 0.2 / 3**0.5, rel=1e-5)  # t(0.975, 2)
    assert half["original"] == pytest.approx(12.706205 * 0.1 / 2**0.5 / 2**0.5, rel=1e-5)
    assert np.isnan(half["retrained"])


def test_the_interval_holds_the_true_mean_in_95_percent_of_samples():
    samples = pd.DataFrame(np.random.default_rng(0).normal(3, 2, size=(5, 4000)))
    held = (samples.mean() - 3).abs() <= samples.agg(half_width)
    assert held.mean() == pytest.approx(0.95, abs=0.012)


def test_differences_are_taken_seed_by_seed():
    records = [
        {"method": method, "seed": seed, "test_accuracy": seed / 10 + gain}
        for seed in (0, 1, 2)
        for method, gain in [("plain", 0.0), ("new", 0.01 * (seed + 1))]
    ]
    found = differences(records[::-1], {"new against plain": ("new", "plain")})
    assert list(found.index) == ["new against plain"]
    assert found.loc["new against plain", ("test_accuracy", "mean")] == pytest.approx(0.02)
    half = 4.302653 * 0.01 / 3**0.5  # the spread between seeds is ten times that, and cancels
    assert found.loc["new against plain", ("test_accuracy", "half95")] == pytest.approx(half)


def test_differences_to_what_was_not_measured_are_refused():
    with pytest.raises(ValueError, match="masked was not measured: there are retrained, original"):
        differences(RECORDS, {"a": ("original", "masked")})


def test_save_replaces_what_was_there(tmp_path):
    save(RECORDS, tmp_path, "main")
    save(RECORDS[:1], tmp_path, "main")
    assert len(pd.read_csv(tmp_path / "main_runs.csv")) == 1


def test_a_failed_save_leaves_the_old_files_whole(tmp_path, monkeypatch):
    save(RECORDS, tmp_path, "main")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def half_written(self, path, **options):
        path.write_text("method,se")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", half_written)
    with pytest.raises(OSError, match="could not be written"):
        save(RECORDS[:1], tmp_path, "main")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_refused_save_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match="recorded twice"):
        save([RECORDS[0]] * 2, tmp_path / "new", "main")
    assert not (tmp_path / "new").exists()


def test_results_folder_is_one_level_for_the_network():
    folder = results_folder("01_fine_tuning", "mnist", "torchvision/resnet18")
    assert folder.parts[-2:] == ("01_fine_tuning", "mnist-torchvision-resnet18")
