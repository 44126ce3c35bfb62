"""An experiment: rows are keyed and replaced, made once, kept, compared with retraining."""

import copy
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset
from torchvision.models import resnet18

import unlearning.experiment
from unlearning import Diverged, load_or_train, measure, predict, prepare
from unlearning.methods import fine_tune, impair_repair, negative_gradient_plus
from unlearning.splitting import forget_classes
from unlearning.store import AGAIN
from unlearning.training import fresh_network

TRAINING = {"model": "mlp", "epochs": 2, "lr": 0.1, "batch_size": 16}


def setting_of(tiny, folder, **options):
    given = {"scenarios": ["class 2", "random 20"], "seeds": [0, 1], **TRAINING, **options}
    return prepare((tiny, tiny), folder=folder, **given)


@pytest.fixture
def setting(tiny, tmp_path):
    return setting_of(tiny, tmp_path)


def row_of(setting, name, scenario="class 2", seed=0):
    return setting.rows[name, scenario, seed]


def test_prepare_makes_the_original_the_yardstick_and_the_noise_floor(setting, tiny, tmp_path):
    assert {name for name, _, _ in setting.rows} == {"original", "retrained again", "retrained"}
    split = forget_classes(tiny, 2)
    for name, images, seed in [
        ("original", tiny, 1),
        ("retrained", split.retain, 1),
        ("retrained again", split.retain, 1 + AGAIN),
    ]:
        network, seconds = load_or_train(images, seed=seed, folder=tmp_path, **TRAINING)
        row = row_of(setting, name, seed=1)
        expected = measure(network, split, tiny).numbers
        assert {key: row[key] for key in expected} == pytest.approx(expected)
        assert row["seconds"] == seconds
        assert row["device"] and row["torch"] in torch.__version__
    assert row_of(setting, "retrained")["average_gap"] == 0
    assert row_of(setting, "retrained again")["js_to_retrained"] > 0


def test_a_method_starts_from_the_original_and_is_compared_with_the_retrained(setting, tiny):
    setting.run("NegGrad+", negative_gradient_plus, lr=0.05, alpha={"class": 0.9, "random": 0.8})
    for scenario, alpha in [("class 2", 0.9), ("random 20", 0.8)]:
        split = setting.split(scenario, 1)
        retain, forget = (part.batches(16, shuffle=True, seed=1) for part in split)
        by_hand = negative_gradient_plus(
            setting.original(1), retain, forget, lr=0.05, alpha=alpha, seed=1
        )
        goal = measure(setting.retrained(scenario, 1), split, tiny)
        expected = measure(by_hand, split, tiny).compare_to(goal)
        row = row_of(setting, "NegGrad+", scenario, 1)
        assert {key: row[key] for key in expected} == pytest.approx(expected, rel=1e-4)


def test_running_again_replaces_the_rows_and_nothing_else(setting):
    setting.run("fine-tuning", fine_tune, lr=0.01)
    setting.run("UNSIR", impair_repair)
    before = dict(setting.rows)
    setting.run("fine-tuning", fine_tune, lr=0.5)
    assert list(setting.rows) == list(before)
    assert {key[0] for key in before if setting.rows[key] != before[key]} == {"fine-tuning"}
    setting.run("fine-tuning", fine_tune, scenarios="class 2", lr=0.01)
    assert row_of(setting, "fine-tuning") == before["fine-tuning", "class 2", 0]
    assert row_of(setting, "fine-tuning", "random 20") != before["fine-tuning", "random 20", 0]
    assert setting.table().index.is_unique


def test_the_network_of_a_row_is_the_one_that_was_measured(setting):
    for scenario, lr in (("random 20", 0.01), ("class 2", 0.5)):
        setting.run("fine-tuning", fine_tune, scenarios=scenario, lr=lr)
    for key, measured in setting.measurements.items():
        forget = setting.split(*key[1:]).forget.sequential_batches()
        logits = predict(setting.network(*key), forget)[0].numpy()
        np.testing.assert_allclose(measured.forget_logits, logits, rtol=1e-3)  # kept as float16
    for missing in (("UNSIR", "class 2", 0), ("original", "class 2", 7), ("original", "cat", 0)):
        with pytest.raises(ValueError, match=r"there is no row .*: run it first"):
            setting.network(*missing)


def test_numbers_are_added_to_the_rows_that_there_are(setting):
    before = {key: dict(row) for key, row in setting.rows.items()}
    numbers = pd.DataFrame({"norm": [2.0, 3.0]}, ["retrained", "original"])
    setting.add(numbers, "class 2", 1)
    for name, norm in (("retrained", 2), ("original", 3)):
        before[name, "class 2", 1]["norm"] = norm
    assert setting.rows == before
    assert setting.numbers("class 2").loc["original", ("norm", "mean")] == 3
    with pytest.raises(ValueError, match="no row 'UNSIR' of 'class 2', seed 1: run it first"):
        setting.add(numbers.rename({"original": "UNSIR"}) + 1, "class 2", 1)
    assert setting.rows == before


def test_the_original_again_is_another_network_with_all_images(tiny, tmp_path):
    setting = setting_of(tiny, tmp_path, original_again=True, seeds=[1])
    names = ["original", "original again", "retrained again", "retrained"]
    assert list(setting.numbers("class 2").index) == names
    network, seconds = load_or_train(tiny, seed=1 + AGAIN, folder=tmp_path, **TRAINING)
    torch.testing.assert_close(
        setting.network("original again", "class 2", 1).state_dict(), network.state_dict()
    )
    assert row_of(setting, "original again", seed=1)["seconds"] == seconds
    assert len([*tmp_path.glob("*.pt")]) == 2 + 4


def test_a_method_that_needs_classes_is_left_out_for_single_images(setting):
    setting.run("UNSIR", impair_repair)
    assert {scenario for name, scenario, _ in setting.rows if name == "UNSIR"} == {"class 2"}


def test_what_was_measured_is_not_measured_again(setting, tiny, tmp_path, monkeypatch):
    setting.run("fine-tuning", fine_tune, lr=0.3)
    swept = setting.sweep(fine_tune, lr=[0.1, 0.3])

    def never(*arguments, **options):
        raise AssertionError("made or measured again")

    monkeypatch.setattr(unlearning.experiment.Experiment, "unlearn", never)
    monkeypatch.setattr("unlearning.measurement.measure", never)
    again = setting_of(tiny, tmp_path)
    again.run("the same under another name", fine_tune, lr=0.3)
    pd.testing.assert_frame_equal(again.sweep(fine_tune, lr=[0.1, 0.3]), swept)
    for (name, *rest), row in setting.rows.items():
        own = "the same under another name" if name == "fine-tuning" else name
        assert again.rows[(own, *rest)] == {**row, "method": own}
    with pytest.raises(AssertionError, match="again"):
        again.run("fine-tuning", fine_tune, lr=0.3, epochs=1)


def test_what_the_repo_ships_is_read_from_another_folder_of_results(tiny, tmp_path, monkeypatch):
    saved = tmp_path / "results"
    monkeypatch.setattr("unlearning.core.files.SAVED", saved)

    def run_in(results):
        monkeypatch.setattr("unlearning.core.files.RESULTS", results)
        own = setting_of(tiny, tmp_path / "own", artifacts=results / "08/networks", seeds=[0])
        own.run("fine-tuning", fine_tune, lr=0.3)
        return own

    shipped = run_in(saved)
    assert len([*saved.glob("08/networks/*.pt")]) == 1  # the original
    (tmp_path / "own").rename(tmp_path / "gone")
    monkeypatch.setattr("unlearning.training.train", None)
    monkeypatch.setattr("unlearning.measurement.measure", None)
    by_hand = run_in(saved / "mine")
    assert by_hand.rows == shipped.rows
    assert not [*saved.glob("mine/**/*.npz")] and not [*saved.glob("mine/**/*.pt")]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_all_methods_together_are_each_of_them_alone(setting, tiny, tmp_path, n_jobs):
    def diverges(model, retain, *, seed, lr=0.1):
        raise Diverged(f"at {lr}")

    methods = {"fine-tuning": fine_tune, "UNSIR": impair_repair, "own": diverges}
    values = {"fine-tuning": {"lr": {"class": 0.3, "random": 0.2}, "epochs": 1}, "own": {"lr": 9}}
    together = setting_of(tiny, tmp_path / "other", n_jobs=n_jobs)
    assert together.run_all(methods, values) == {
        "own, class 2": "at 9",
        "own, random 20": "at 9",
    }
    for name in ("fine-tuning", "UNSIR"):
        setting.run(name, methods[name], **values.get(name, {}))
    assert together.rows.keys() == setting.rows.keys()
    for key, row in setting.rows.items():
        times = dict.fromkeys(["seconds"])
        assert together.rows[key] | times == pytest.approx(row | times, nan_ok=True)


def test_without_a_noise_floor_nothing_is_retrained_twice(tiny, tmp_path):
    setting = setting_of(tiny, tmp_path, noise_floor=False, seeds=[0])
    assert {name for name, _, _ in setting.rows} == {"original", "retrained"}
    assert len([*tmp_path.glob("*.pt")]) == 1 + 2


class Calls(list):
    """Counts calls, and looks the same to an experiment however many there were."""

    about = "calls"


def test_an_edited_method_is_measured_again(setting):
    calls = Calls()

    def method_with(lr):
        def method(model, retain, *, seed):
            calls.append(lr)
            return fine_tune(model, retain, lr=lr, epochs=1, seed=seed)

        return method

    for lr in (0.1, 0.1, 0.2):
        setting.run("mine", method_with(lr), scenarios="class 2")
    assert calls == [0.1, 0.1, 0.2, 0.2]  # two seeds, and the same method once


def test_sweep_varies_one_hyperparameter_and_leaves_the_table_alone(setting):
    before = dict(setting.rows)
    found = setting.sweep(fine_tune, scenarios=["class 2"], seeds=[1], lr=[0.01, 0.5], epochs=1)
    assert setting.rows == before
    assert found["scenario"].unique().tolist() == ["class 2"]
    assert found[["seed", "lr"]].to_numpy().tolist() == [[1, 0.01], [1, 0.5]]
    setting.run("fine-tuning", fine_tune, lr=0.5, epochs=1)
    expected = row_of(setting, "fine-tuning", seed=1)
    assert found.iloc[1]["average_gap"] == expected["average_gap"]


def test_a_value_with_which_a_network_diverges_is_told_and_left_out_of_a_sweep(setting, capsys):
    found = setting.sweep(fine_tune, scenarios=["class 2"], seeds=[1], lr=[0.01, 1e30], epochs=1)
    assert found["lr"].tolist() == [0.01]
    assert "class 2, lr 1e+30: " in capsys.readouterr().out


def test_more_numbers_are_measured_for_every_row(tiny, tmp_path):
    def more(model, split, test):
        return {"weights_in_first_layer": float(model[1].weight.numel())}

    setting = setting_of(tiny, tmp_path, more=more)
    setting.run("fine-tuning", fine_tune)
    assert {row["weights_in_first_layer"] for row in setting.rows.values()} == {64.0 * 128}


def test_more_numbers_may_ask_for_the_networks_of_their_row(tiny, tmp_path):
    def distance(model, split, test, *, scale, original, retrained):
        def to(other):
            pairs = zip(model.parameters(), other.parameters(), strict=True)
            return scale * sum(float((a - b).detach().abs().sum()) for a, b in pairs)

        return {"to_original": to(original), "to_retrained": to(retrained)}

    setting = setting_of(tiny, tmp_path, more=partial(distance, scale=2.0))
    setting.run("nothing", lambda model: copy.deepcopy(model))
    for (name, of, seed), row in setting.rows.items():
        assert (row["to_original"] == 0) == (name in ("original", "nothing"))
        assert (row["to_retrained"] == 0) == (name == "retrained")
        expected = row_of(setting, "retrained", of, seed)["to_original"]
        assert name != "original" or row["to_retrained"] == pytest.approx(expected)
    alike = {row_of(setting, "original", seed=seed)["to_retrained"] for seed in (0, 1)}
    assert len(alike) == 2  # each seed has a retrained network of its own


def test_two_processes_give_the_same_rows_as_this_one(setting, tiny, tmp_path):
    setting.run("fine-tuning", fine_tune)
    apart = setting_of(tiny, tmp_path / "apart", n_jobs=2)
    apart.run("fine-tuning", fine_tune)
    for key, row in setting.rows.items():
        other = apart.rows[key]
        assert {**row, "seconds": 0} == {**other, "seconds": 0}


def narrow_sets():
    """Grey images of 8 x 6 pixels, as arrays and as a data set."""
    generator = np.random.default_rng(0)
    labels = np.arange(80) % 4
    images = generator.integers(0, 99, (80, 8, 6), dtype=np.uint8) + 40 * labels[:, None, None]
    images = images.astype(np.uint8)
    return (images, labels), TensorDataset(
        torch.tensor(images[:, None]) / 255, torch.tensor(labels)
    )


class Narrow(nn.Module):
    """A network that has a parameter which it cannot draw again."""

    def __init__(self, width=5):
        super().__init__()
        self.first, self.last = nn.Linear(48, width), nn.Linear(width, 4)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.last(self.first(x.flatten(1)).relu()) * self.scale


@pytest.mark.parametrize("jobs", [1, 2])
def test_own_images_and_an_own_network_are_compared_like_any_other(tmp_path, jobs):
    given = {"scenarios": ["class 2", "random 20"], "seeds": [0, 1], **TRAINING}
    given |= {"model": lambda: Narrow(6), "folder": tmp_path, "n_jobs": jobs, "augment": True}
    setting = prepare(narrow_sets(), **given, test_size=40)
    setting.run("NegGrad+", negative_gradient_plus, lr=0.05)
    assert setting.name == "own images, own network"
    assert len(setting.rows) == 2 * 2 * 4 and len(setting.test) == 40
    split = setting.split("class 2", 1)
    untrained = fresh_network(given["model"], setting.train, 0)
    found = measure(setting.original(1), split, setting.test, untrained=untrained).numbers
    row = row_of(setting, "original", seed=1)
    assert 0 < found["zrf"] < 1 and {key: row[key] for key in found} == pytest.approx(found)


def test_an_edited_network_is_measured_again(tmp_path):
    def prepared(model):
        given = {"scenarios": "class 2", "seeds": [0], **TRAINING, "model": model}
        return prepare(narrow_sets(), folder=tmp_path, **given).about

    assert prepared(Narrow) == prepared(Narrow) != prepared(partial(Narrow, 6))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"model": lambda: resnet18(num_classes=4)}, "cannot read images of 1 x 8 x 6 .*channels"),
        ({"model": "mlp"}, "cannot read images of 1 x 8 x 6"),
        ({"model": lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 3))}, "3 outputs, but there "),
        ({"model": Narrow()}, "a function without arguments"),
        ({"test_size": 100}, "test_size must be between 1 and 80, .* not 100"),
        ({"test_size": 0.5}, "test_size must be a whole number"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_before_anything_is_trained(
    tmp_path, options, sentence
):
    given = {"scenarios": "class 2", "seeds": [0], "epochs": 1, "lr": 0.1, "model": Narrow}
    with pytest.raises(ValueError, match=sentence):
        prepare(narrow_sets(), folder=tmp_path, **given | options)
    assert list(tmp_path.iterdir()) == []


def test_tables_and_files(setting, tmp_path):
    setting.run("fine-tuning", fine_tune)
    assert list(setting.table().loc["class 2"].index) == [
        "original",
        "fine-tuning",
        "retrained again",
        "retrained",
    ]
    assert list(setting.tables) == ["class 2", "random 20"]
    setting.save(tmp_path / "out")
    found = {path.name for path in (tmp_path / "out").iterdir()}
    scenarios, kinds = ("class-2", "random-20"), ("runs", "table")
    assert found == {f"{name}_{kind}.csv" for name in scenarios for kind in kinds}
    measured = setting.measurements["fine-tuning", "class 2", 0]  # what the histograms need
    assert len(measured.test_losses) == 72 and len(measured.forget_losses) == 24
    runs = pd.read_csv(tmp_path / "out" / "class-2_runs.csv")
    assert len(runs) == 8 and {"scenario", "device", "torch"} <= set(runs.columns)
    sizes = setting.sizes()
    assert sizes.loc["class 2"].tolist() == [72, 24, 96]


def test_a_loss_that_diverges_is_said_and_what_was_there_stays(setting):
    setting.run("fine-tuning", fine_tune, lr=0.1)
    before = dict(setting.rows)
    with pytest.raises(Diverged, match="lower lr"):
        setting.run("fine-tuning", fine_tune, lr=1e30)
    assert setting.rows == before


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"seeds": 3}, "seeds must be whole numbers"),
        ({"seeds": []}, "no seeds"),
        ({"seeds": [0, 0]}, "seed 0 is named twice"),
        ({"seeds": [0.5]}, "seeds must be whole numbers"),
        ({"scenarios": []}, "nothing to forget"),
        ({"scenarios": 100}, "a scenario reads"),
        ({"scenarios": ["class 2", "class 2"]}, "'class 2' is named twice"),
        ({"scenarios": ["class 4"]}, "class 4 does not exist"),
        ({"model": "nope"}, "there is no network 'nope'"),
        ({"train_size": 10_000}, "train_size must be between"),
    ],
)
def test_bad_parameters_are_refused_before_anything_is_trained(tiny, tmp_path, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        setting_of(tiny, tmp_path, **options)
    assert not list(tmp_path.glob("*.pt"))


def test_bad_calls_are_refused(setting):
    with pytest.raises(ValueError, match="'retrained' is a row that prepare makes"):
        setting.run("retrained", fine_tune)
    with pytest.raises(ValueError, match="no scenario 'class 3' here"):
        setting.run("fine-tuning", fine_tune, scenarios="class 3")
    with pytest.raises(TypeError, match="learning_rate"):
        setting.run("fine-tuning", fine_tune, learning_rate=0.1)
    with pytest.raises(ValueError, match=r"seed 7 was not prepared: there are \[0, 1\]"):
        setting.sweep(fine_tune, seeds=[0, 7], lr=[0.1])
    for knobs in ({}, {"lr": [0.1], "epochs": [1]}):
        with pytest.raises(ValueError, match="exactly one hyperparameter as a list"):
            setting.sweep(fine_tune, **knobs)


SCRIPT = """
import sys, time
from unlearning import prepare
from unlearning.methods import fine_tune

def slow(model, retain, *, seed):
    time.sleep(0.4)
    return fine_tune(model, retain, epochs=1, seed=seed)

setting = prepare("mnist", scenarios="class 5", seeds=range(4), train_size=100, model="mlp",
                  epochs=1, lr=0.1, folder=sys.argv[1])
print("prepared", flush=True)
setting.run("slow", slow)
print(setting.records("class 5")[-1]["retain_accuracy"])
"""


def test_a_run_killed_in_the_middle_goes_on_where_it_was(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(tmp_path / "kept")]
    options = {"stdout": subprocess.PIPE, "text": True, "cwd": unlearning.core.files.ROOT}
    options["env"] = {"PYTHONPATH": str(unlearning.core.files.ROOT), "PATH": ""}
    done = partial(_files, tmp_path / "kept" / "measured" / "class-5" / "slow")
    with subprocess.Popen(command, **options) as process:
        assert process.stdout.readline() == "prepared\n"
        while len(done()) < 2:
            time.sleep(0.02)
        process.kill()
    first = {path: path.stat().st_mtime_ns for path in done()}
    assert 2 <= len(first) < 4
    subprocess.run(command, check=True, **options)
    after = {path: path.stat().st_mtime_ns for path in done()}
    assert len(after) == 4 and first.items() <= after.items()


def _files(folder):
    return sorted(folder.glob("*/[!.]*.npz"))  # a killed process may leave a hidden one
