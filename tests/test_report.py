"""The table: means are means, spreads are spreads, and files appear whole."""

import math

import numpy as np
import pandas as pd
import pytest

from unlearning.report import differences, half_width, readable, results_folder, save, table

ROWS = [
    {"method": "retrained", "seed": 0, "retain_accuracy": 1.0, "seconds": 4.0},
    {"method": "original", "seed": 0, "retain_accuracy": 0.9, "seconds": 1.0},
    {"method": "fine-tuned", "seed": 1, "retain_accuracy": 0.5, "seconds": 10.0},
    {"method": "fine-tuned", "seed": 0, "retain_accuracy": 0.7, "seconds": 20.0},
    {"method": "fine-tuned", "seed": 2, "retain_accuracy": 0.9, "seconds": 60.0},
    {"method": "original", "seed": 1, "retain_accuracy": 0.8, "seconds": 3.0},
]


def test_texts_such_as_the_device_are_left_out_of_means_and_differences(tmp_path):
    texts = {"device": "CPU, 2 cores", "torch": "2.8.0"}
    rows = [{**row, **texts} for row in ROWS]
    pd.testing.assert_frame_equal(table(rows), table(ROWS))
    pd.testing.assert_frame_equal(save(rows, tmp_path, "all"), table(ROWS))
    assert set(pd.read_csv(tmp_path / "all_runs.csv")["device"]) == {"CPU, 2 cores"}
    assert "device_mean" not in pd.read_csv(tmp_path / "all_table.csv")
    pairs = {"gain": ("retrained", "original")}
    pd.testing.assert_frame_equal(differences(rows, pairs), differences(ROWS, pairs))


def test_table_has_mean_and_sample_deviation_over_seeds():
    found = table([{**ROWS[0], "steps": 7.0}, *ROWS[1:]])  # which only some methods have
    assert list(found.loc["fine-tuned"][:4]) == pytest.approx([0.7, 0.2, 30, math.sqrt(700)])
    assert found.loc["original", ("retain_accuracy", "std")] == pytest.approx(0.1 / math.sqrt(2))
    assert np.isnan(found.loc["retrained", ("retain_accuracy", "std")])
    assert found.loc["retrained", ("steps", "mean")] == 7 and np.isnan(
        found["steps", "mean"].iloc[0]
    )


def test_table_keeps_the_order_of_methods_and_numbers_with_the_goal_last():
    floor = table([{**ROWS[0], "method": "retrained again"}, *ROWS])
    assert list(floor.index) == ["original", "fine-tuned", "retrained again", "retrained"]
    assert list(floor.columns.unique(0)) == ["retain_accuracy", "seconds"]


def test_rows_that_mean_nothing_are_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match="there are no rows"):
        table([])
    with pytest.raises(ValueError, match="fine-tuned with seed 1 was recorded twice"):
        save([*ROWS, ROWS[2]], tmp_path / "new", "main")
    assert not (tmp_path / "new").exists()


def test_readable_has_per_cent_spread_and_a_dash():
    rows = [
        {"method": "a", "seed": 0, "retain_accuracy": 0.9, "zrf": 0.5, "seconds": 1.234},
        {"method": "a", "seed": 1, "retain_accuracy": 0.8, "zrf": 0.25, "seconds": 1.234},
        {"method": "b", "seed": 0, "retain_accuracy": 0.12345, "zrf": math.nan, "seconds": 100.0},
    ]
    columns = ["zrf", "retain_accuracy", "seconds", "js_to_retrained"]
    found = readable(table(rows), columns)
    assert list(found.columns) == ["ZRF", "retain accuracy (%)", "seconds", "JS to retrained"]
    assert found.loc["a"].tolist() == ["0.375 ± 0.177", "85.0 ± 7.1", "1.23 ± 0.00", "–"]
    assert found.loc["b"].tolist() == ["–", "12.3", "100.00", "–"]
    never = [{"method": "a", "seed": seed, "steps": math.inf} for seed in (0, 1)]
    assert readable(table(never), ["steps"]).loc["a"].tolist() == ["inf"]


def test_save_writes_both_files_with_95_percent_intervals_and_they_read_back(tmp_path):
    folder = tmp_path / "not" / "there" / "yet"
    save(ROWS[:1], folder, "main")  # is replaced
    numbers = save(ROWS, folder, "main")
    runs = pd.read_csv(folder / "main_runs.csv")
    pd.testing.assert_frame_equal(runs, pd.DataFrame(ROWS), check_dtype=False)
    back = pd.read_csv(folder / "main_table.csv", index_col="method")
    assert list(back.index) == list(numbers.index)
    for name, kind in numbers.columns:
        np.testing.assert_allclose(back[f"{name}_{kind}"], numbers[name, kind], rtol=1e-5)
    half = back["retain_accuracy_half95"]
    assert half["fine-tuned"] == pytest.approx(4.302653 * 0.2 / 3**0.5, rel=1e-5)  # t(0.975, 2)
    assert np.isnan(half["retrained"])


def test_the_interval_holds_the_true_mean_in_95_percent_of_samples():
    samples = pd.DataFrame(np.random.default_rng(0).normal(3, 2, size=(5, 4000)))
    held = (samples.mean() - 3).abs() <= samples.agg(half_width)
    assert held.mean() == pytest.approx(0.95, abs=0.012)


def test_differences_are_taken_seed_by_seed():
    rows = [
        {"method": method, "seed": seed, "test_accuracy": seed / 10 + gain}
        for seed in (0, 1, 2)
        for method, gain in [("plain", 0.0), ("new", 0.01 * (seed + 1))]
    ]
    found = differences(rows[::-1], {"new against plain": ("new", "plain")})
    assert found.loc["new against plain", ("test_accuracy", "mean")] == pytest.approx(0.02)
    half = 4.302653 * 0.01 / 3**0.5  # the spread between seeds is ten times that, and cancels
    assert found.loc["new against plain", ("test_accuracy", "half95")] == pytest.approx(half)
    with pytest.raises(ValueError, match="masked was not measured: there are retrained, original"):
        differences(ROWS, {"a": ("original", "masked")})


def test_a_failed_save_leaves_the_old_files_whole(tmp_path, monkeypatch):
    save(ROWS, tmp_path, "main")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def half_written(self, path, **options):
        path.write_text("method,se")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", half_written)
    with pytest.raises(OSError, match="could not be written"):
        save(ROWS[:1], tmp_path, "main")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_results_folder_is_one_level_for_the_network():
    folder = results_folder("01_fine_tuning", "mnist", "torchvision/resnet18")
    assert folder.parts[-2:] == ("01_fine_tuning", "mnist-torchvision-resnet18")


def test_rows_that_do_not_belong_together_are_refused():
    row = {"method": "a", "seed": 0, "x": 1.0}
    for rows, words in [
        ([row | {"scenario": "one"}, row | {"scenario": "two", "seed": 1}], "several scenarios"),
        ([{"seed": 0, "x": 1.0}], 'every row needs a "method" and a "seed"'),
        ([row, row | {"method": None}], 'every row needs a "method" and a "seed"'),
    ]:
        with pytest.raises(ValueError, match=words):
            table(rows)
    with pytest.raises(ValueError, match="name must start the names of files"):
        save([row], ".", "../outside")
