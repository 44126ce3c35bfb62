"""Choose the hyperparameters of the methods, with the same number of trials for each of them.

examples:
  python notebooks/tune.py                        all methods: about an hour on two cores
  python notebooks/tune.py "random mask" UNSIR    only these
  python notebooks/tune.py --dataset fashion_mnist --seeds 100    another set, one seed per trial

Every method has one Optuna study (TPE) of twenty trials for each of two scenarios: a tenth of the
images, at random, and a class. Every trial runs on two seeds. Nothing here is reported: training
images, class and seeds are others than those of the notebooks. Further training images stand for
unseen ones: the test set is not read.

A trial that diverges, or takes more than a fifth of retraining's time, counts with the largest gap.
Time is counted in passes over the data, where a forward pass alone is a third of one, because that
is the same on every machine; what was measured in seconds stands beside it.

Every run is one row of results/tuning/<dataset>-<model>.csv. The trial with the smallest mean gap
is chosen, and its values go into tuned.json. It runs again with its learning rates, or without any
its strength, times 1/3 and times 3: the strip of notebook 08. Stopped studies continue from their
SQLite files, finished ones from the CSV file.
"""

import argparse
import json
import sys
import zlib
from contextlib import closing
from functools import partial, wraps
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import pandas as pd
import torch
from optuna.trial import Trial, TrialState

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from unlearning import METHODS, Diverged, Experiment, Images, Scenario, load, measure, prepare
from unlearning.core.devices import machine
from unlearning.core.files import ROOT, atomic_write, slug
from unlearning.core.passes import counting
from unlearning.core.progress import Progress
from unlearning.core.workers import imap_unordered
from unlearning.data import balanced_subset
from unlearning.hyperparameters import LARGEST_GAP, supports
from unlearning.report import write_csv
from unlearning.splitting import forget_indices, forget_random

TUNED = ROOT / "notebooks" / "tuned.json"
RESULTS = ROOT / "results" / "tuning"
SCENARIOS = ["random 10%", "class 3"]  # one of each kind; notebooks report other classes
UNSEEN = 5_000  # images that stand for the test set
TRIALS = 20  # of each method in each scenario
BOUND = 0.2  # of retraining's passes over the data, which a trial may take
FACTORS = {"x1/3": 1 / 3, "x3": 3}  # of the strip
ORDER = ["recipe", "method", "scenario"]  # of rows


class Range(NamedTuple):
    """Values between two ends, drawn evenly on a log scale; whole ones if the ends are."""

    low: float
    high: float


SGD, ADAM = Range(1e-4, 1.0), Range(1e-5, 0.1)  # learning rates
DECAY = Range(1e-5, 1e-2)
FEW, MANY = Range(1, 3), Range(1, 20)  # epochs, of all images and of the forgotten ones alone
RELABELLED = {"epochs": Range(1, 2), "lr": SGD, "exclude_true": [False, True]}
SPACES = {
    "fine-tuning": {"epochs": FEW, "lr": SGD, "weight_decay": DECAY},
    "negative gradient": {"epochs": MANY, "lr": SGD, "stop_at_chance": [True, False]},
    "NegGrad+": {
        "epochs": 1,
        "alpha": Range(0.5, 0.999),
        "lr": SGD,
        "stop_at_chance": [True, False],
    },
    "Fisher noise": {"alpha": Range(1e-10, 1e-2), "estimator": "sampled"},
    "random mask": {"epochs": FEW, "ratio": Range(0.1, 0.95), "lr": ADAM},
    "uniform target": {"epochs": 1, "alpha": Range(0.3, 0.99), "lr": ADAM},
    "UNSIR": {
        "noise_steps": Range(5, 20),
        "noise_ratio": Range(0.05, 0.64),
        "impair_lr": ADAM,
        "repair_lr": ADAM,
    },
    "bad teacher": {
        "epochs": FEW,
        "lr": ADAM,
        "retain_fraction": Range(0.1, 1.0),
        "temperature": Range(1.0, 5.0),
    },
    "random labels": {**RELABELLED, "redraw": ["once", "epoch"]},
    "SalUn": {**RELABELLED, "share": Range(0.1, 1.0)},
    "l1-sparse": {"epochs": FEW, "lr": SGD, "gamma": Range(1e-6, 1e-2)},
    "SCRUB": {
        "epochs": 2,
        "max_epochs": [1, 2],
        "lr": SGD,
        "alpha": Range(0.001, 1.0),
        "temperature": Range(1.0, 8.0),
    },
    "SSD": {
        "alpha": Range(0.1, 100.0),
        "dampening": Range(0.01, 1.0),
        "importance": ["batch", "sample", "logit_norm"],
    },
    "MSG": {
        "epochs": Range(1, 2),
        "lr": SGD,
        "ratio": Range(0.1, 0.9),
        "weight_decay": DECAY,
    },
    "CT": {"epochs": FEW, "lr": SGD, "weight_decay": DECAY},
    "FCS": {"rounds": Range(1, 2), "uniform_lr": SGD, "forget_lr": SGD, "retain_lr": SGD},
    "boundary shrink": {
        "epochs": Range(1, 10),
        "lr": SGD,
        "eps": Range(0.03, 0.3),
        "freeze_bn": [False, True],
    },
    "DELETE": {"epochs": MANY, "lr": SGD, "freeze_bn": [False, True]},
    "UAM": {"epochs": 1, "lr": SGD, "rho": Range(0.01, 10.0), "weight_decay": DECAY},
}


def suggest(trial: Trial, space: dict) -> dict[str, Any]:
    """Values of a trial: numbers with two digits, one of a list, or what is fixed."""
    values = {}
    for name, own in space.items():
        if isinstance(own, list):
            values[name] = trial.suggest_categorical(name, own)
        elif not isinstance(own, Range):
            values[name] = own
        elif isinstance(own.low, int):
            values[name] = trial.suggest_int(name, *own, log=True)
        else:
            values[name] = float(f"{trial.suggest_float(name, *own, log=True):.2g}")
    return values


def images_of(dataset: str, train_size: int) -> tuple[Images, Images]:
    """A training set that shares no image with the notebooks' one, and as unseen images others.

    Raises:
        ValueError: if the set is too small for that.
    """
    full, _ = load(dataset)
    reported = balanced_subset(full, train_size)
    train = balanced_subset(forget_indices(full, reported.indices).retain, train_size)
    unseen = forget_indices(full, torch.cat([reported.indices, train.indices])).retain
    enough = len(unseen) > UNSEEN
    return train, forget_random(unseen, count=UNSEEN, seed=0).forget if enough else unseen


def run_once(setting: Experiment, method: str, scenario: str, values: dict, seed: int) -> dict:
    """The numbers of one run; the largest gap if it diverged or took too long."""
    split, passes = setting.split(scenario, seed), 0.0

    @wraps(METHODS[method])
    def counted(model, *data, **options):
        nonlocal passes
        with counting(model) as images_read:
            try:
                return METHODS[method](model, *data, **options)
            except Diverged:
                return None
            finally:
                passes = images_read() / len(setting.train)

    network, seconds = setting.unlearn(counted, scenario, seed, values)
    bound = setting.training["epochs"] * len(split.retain) / len(setting.train)
    share = passes / bound
    numbers = {"average_gap": LARGEST_GAP}
    if network is not None and share <= BOUND + 1e-9:
        measured = measure(network, split, setting.test)
        numbers = measured.compare_to(setting.measurements["retrained", scenario, seed])
    of_time = seconds / setting.rows["retrained", scenario, seed]["seconds"]
    costs = {"share_of_passes": share, "share_of_time": of_time, "seconds": seconds}
    return {"seed": seed, **numbers, **costs, **machine()}


def run_seeds(setting: Experiment, method: str, scenario: str, values: dict) -> list[dict]:
    """A run for every seed, up to the first that fails."""
    runs = []
    for seed in setting.seeds:
        runs.append(run_once(setting, method, scenario, values, seed))
        if runs[-1]["average_gap"] == LARGEST_GAP:
            break
    return runs


def run_trial(setting: Experiment, method: str, scenario: str, trial: Trial) -> float:
    """Mean gap of one trial of a study, which keeps its values and its runs."""
    values = suggest(trial, SPACES[method])
    runs = run_seeds(setting, method, scenario, values)
    trial.set_user_attr("values", values)
    trial.set_user_attr("runs", runs)
    return sum(run["average_gap"] for run in runs) / len(runs)


def run_study(setting: Experiment, folder: Path, key: tuple[str, str]) -> list[dict]:
    """All trials of a method in a scenario, and its strip; a stopped study goes on.

    Args:
        setting: networks that were trained and retrained.
        folder: for the study's SQLite file.
        key: method and scenario.
    """
    method, scenario = key
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{folder / slug(' '.join(key))}.db",
        study_name=str(setting.about),
        sampler=optuna.samplers.TPESampler(seed=zlib.crc32(" ".join(key).encode())),
        load_if_exists=True,
    )
    left = TRIALS - len(study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]))
    study.optimize(partial(run_trial, setting, method, scenario), n_trials=max(0, left))
    finished = study.get_trials(states=[TrialState.COMPLETE])[:TRIALS]
    tried = [(str(n), one.user_attrs["values"]) for n, one in enumerate(finished)]
    runs = [one.user_attrs["runs"] for one in finished]
    best = min(finished, key=lambda one: one.value).user_attrs["values"]
    for name, factor in FACTORS.items():
        tried.append((name, scaled(best, factor)))
        runs.append(run_seeds(setting, method, scenario, tried[-1][1]))
    about = {"method": method, "scenario": scenario}
    return [
        {**about, "trial": name, "values": json.dumps(values), **run}
        for (name, values), own in zip(tried, runs, strict=True)
        for run in own
    ]


def scaled(values: dict, factor: float) -> dict:
    """The values with all learning rates times ``factor``; without any, the strength ``alpha``."""
    rates = [name for name in values if name.endswith("lr")] or ["alpha"]
    return values | {name: float(f"{factor * values[name]:.2g}") for name in rates}


def choose(rows: pd.DataFrame) -> dict:
    """The trial with the smallest mean gap; {kind of scenario: value} where the kinds differ."""
    trials = rows[~rows["trial"].isin([*FACTORS])]
    kinds = trials["scenario"].map(lambda name: Scenario.parse(name).kind)
    gaps = trials.groupby([kinds, "values"], sort=False)["average_gap"].mean()
    best = {kind: json.loads(gaps[kind].idxmin()) for kind in sorted(set(kinds), reverse=True)}
    chosen = {}
    for name in next(iter(best.values())):
        values = {kind: trial[name] for kind, trial in best.items()}
        one, *others = set(values.values())
        chosen[name] = values if others else one
    return chosen


def as_text(tuned: dict) -> str:
    """The content of tuned.json, one line per method."""
    parts = []
    for key, methods in tuned.items():
        lines = [f"    {json.dumps(name)}: {json.dumps(own)}" for name, own in methods.items()]
        parts.append(f"  {json.dumps(key)}: {{\n" + ",\n".join(lines) + "\n  }")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def keep(path: Path, key: str, chosen: dict[str, dict]) -> None:
    """Write these methods' values into tuned.json, in the order of METHODS; others stay."""
    tuned = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    own = tuned.get(key, {}) | chosen
    tuned[key] = {name: own[name] for name in sorted(own, key=[*METHODS, *own].index)}
    with atomic_write(path) as tmp_path:
        tmp_path.write_text(as_text(tuned), encoding="utf-8", newline="\n")


def tune(methods: list[str], options: argparse.Namespace) -> None:
    """Run the studies that are missing, and keep the best of each method."""
    recipe = (
        f"{options.train_size} other images, {options.epochs} epochs at {options.lr:g}, batches of "
        f"{options.batch_size}{', augmented' if options.augment else ''}, seeds {options.seeds}"
    )
    training = {name: getattr(options, name) for name in ("epochs", "lr", "batch_size", "augment")}
    where = {"model": options.model, "scenarios": SCENARIOS, "seeds": options.seeds}
    name = f"{options.dataset}-{slug(options.model)}"
    path = RESULTS / f"{name}.csv"
    rows = pd.read_csv(path, dtype={"trial": str}) if path.exists() else pd.DataFrame(columns=ORDER)
    own = rows[rows["recipe"] == recipe]
    done = set(zip(own["method"], own["scenario"], strict=True))
    usable = [
        (method, scenario)
        for method, scenario in product(methods, SCENARIOS)
        if supports(METHODS[method], Scenario.parse(scenario))
    ]
    missing = [key for key in usable if key not in done]
    if missing:
        images = images_of(options.dataset, options.train_size)
        setting = prepare(images, n_jobs=options.jobs, **where, **training)
        run = partial(run_study, setting, RESULTS / "studies" / name)
        bar = Progress("tuning", len(usable), done=len(usable) - len(missing), unit="studies")
        with bar, closing(imap_unordered(run, missing, n_jobs=options.jobs)) as finished:
            for _, found in finished:
                rows = pd.concat([rows, pd.DataFrame(found).assign(recipe=recipe)])
                write_csv(rows.sort_values(ORDER, kind="stable"), path)
                bar.update()
    own = rows[rows["recipe"] == recipe]
    chosen = {method: choose(own[own["method"] == method]) for method in methods}
    keep(options.tuned, name, chosen)
    for method, values in chosen.items():
        print(f"{method}: {json.dumps(values)}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    summary, _, rest = __doc__.partition("\n\n")
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=summary, epilog=rest, formatter_class=raw)
    add = parser.add_argument
    add("methods", nargs="*", help=f"of {', '.join(SPACES)}; default: all")
    add("--dataset", default="mnist")
    add("--model", default="cnn")
    add("--train-size", type=int, default=5_000, help="images, equally many of each class")
    add("--epochs", type=int, default=15, help="of the original and the retrained networks")
    add("--lr", type=float, default=0.1, help="first learning rate of training")
    add("--batch-size", type=int, default=64, help="of training and unlearning")
    add("--augment", action="store_true", help="crop and mirror at random, in both")
    add("--seeds", type=int, nargs="+", default=[100, 101], help="that no notebook reports")
    add("--jobs", type=int, help="processes; default: one per core")
    add("--tuned", type=Path, default=TUNED, help="file to write the values into")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.methods if name not in SPACES]
    if unknown:
        parser.error(f"there is no method {unknown[0]!r}: there are {', '.join(SPACES)}")
    tune(options.methods or list(SPACES), options)


if __name__ == "__main__":
    main()
