"""Choose the hyperparameters of the methods, with the same number of trials for each of them.

examples:
  python notebooks/tune.py                        all methods: about an hour on two cores
  python notebooks/tune.py "random mask" UNSIR    only these
  python notebooks/tune.py -p DATASET fashion_mnist --trials 8    another set, fewer trials
  python notebooks/tune.py --preset cifar10-airbench --trials 8 --no-strip --seeds 100
                                                  the network of CIFAR-10: about five hours;
                                                  ten minutes on an H200 with --jobs 12

The recipe is that of notebook 08, with a preset or parameters of your own as run.py takes them.
Every method has one Optuna study (TPE) of as many trials for each of two scenarios: a tenth of the
images, at random, and a class. Nothing here is reported: class and seeds are others than those of
the notebooks, and so are the training images, unless the notebook takes all. Training images that
are held out stand for unseen ones: the test set is not read.

Where another network was tuned before, the first trial of each study has the values of MNIST.

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

from notebooks import run
from unlearning import METHODS, Diverged, Experiment, Images, Scenario, load, measure, prepare
from unlearning.core.devices import machine
from unlearning.core.files import ROOT, atomic_write, slug
from unlearning.core.passes import counting
from unlearning.core.progress import Progress
from unlearning.core.workers import imap_unordered
from unlearning.data import balanced_subset
from unlearning.hyperparameters import LARGEST_GAP, resolve, supports
from unlearning.report import write_csv
from unlearning.scenarios import choose as choose_scenario
from unlearning.splitting import Split, forget_indices, forget_random

TUNED = ROOT / "notebooks" / "tuned.json"
RESULTS = ROOT / "results" / "tuning"
SCENARIOS = ["random 10%", "class 3"]  # one of each kind; notebooks report other classes
UNSEEN = 5_000  # images that stand for the test set
SEEN = 5_000  # retained images, at most, that a trial is measured on
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
FEW, MANY = Range(1, 3), Range(1, 20)  # epochs, of all images (as ``BOUND`` allows) and of few
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


def space_of(method: str, epochs: int) -> dict[str, Any]:
    """What to try of a method, where retraining takes so many epochs."""
    few = Range(FEW.low, max(FEW.low, min(FEW.high, int(BOUND * epochs))))
    return {name: few if own == FEW else own for name, own in SPACES[method].items()}


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


def images_of(dataset: str, train_size: int | None) -> tuple[Images, Images]:
    """A training set that shares no image with the notebooks' one, and as unseen images others.

    Where the notebooks take all images, all but the unseen ones are the training set.

    Raises:
        ValueError: if the set is too small for that.
    """
    full, _ = load(dataset)
    if train_size is None:
        return tuple(forget_random(full, count=UNSEEN, seed=0))
    reported = balanced_subset(full, train_size)
    train = balanced_subset(forget_indices(full, reported.indices).retain, train_size)
    unseen = forget_indices(full, torch.cat([reported.indices, train.indices])).retain
    return train, some_of(unseen, UNSEEN)


def some_of(images: Images, most: int) -> Images:
    """So many of the images, always the same; all if there are no more."""
    return forget_random(images, count=most, seed=0).forget if len(images) > most else images


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
        some = Split(some_of(split.retain, SEEN), split.forget)
        measured = measure(network, some, setting.test)
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
    values = suggest(trial, space_of(method, setting.training["epochs"]))
    runs = run_seeds(setting, method, scenario, values)
    trial.set_user_attr("values", values)
    trial.set_user_attr("runs", runs)
    return sum(run["average_gap"] for run in runs) / len(runs)


def first_trial(method: str, scenario: str, space: dict, tuned: dict) -> dict[str, Any]:
    """What was chosen for MNIST, as far as it is in the space; nothing of a method new to it."""
    values = resolve(tuned.get("mnist-cnn", {}).get(method, {}), Scenario.parse(scenario))
    tried = {name: own for name, own in space.items() if isinstance(own, Range) and name in values}
    within = {name: min(max(values[name], own.low), own.high) for name, own in tried.items()}
    choices = {name for name, own in space.items() if isinstance(own, list)}
    return within | {name: values[name] for name in choices & values.keys()}


def run_study(
    setting: Experiment, folder: Path, trials: int, strip: bool, tuned: dict, key: tuple[str, str]
) -> list[dict]:
    """All trials of a method in a scenario, and its strip; a stopped study goes on.

    Args:
        setting: networks that were trained and retrained.
        folder: for the study's SQLite file.
        trials, strip: how many, and whether the best runs again with other rates.
        tuned: what was chosen for other networks, to begin with.
        key: method and scenario.
    """
    method, scenario = key
    (of,) = choose_scenario(scenario, setting.scenarios)  # "class cat" where classes have names
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{folder / slug(' '.join(key))}.db",
        study_name=str(setting.about),
        sampler=optuna.samplers.TPESampler(
            n_startup_trials=trials // 2, seed=zlib.crc32(" ".join(key).encode())
        ),
        load_if_exists=True,
    )
    if not study.get_trials(deepcopy=False):
        space = space_of(method, setting.training["epochs"])
        study.enqueue_trial(first_trial(method, scenario, space, tuned))
    left = trials - len(study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]))
    study.optimize(partial(run_trial, setting, method, of), n_trials=max(0, left))
    finished = study.get_trials(states=[TrialState.COMPLETE])[:trials]
    tried = [(str(n), one.user_attrs["values"]) for n, one in enumerate(finished)]
    runs = [one.user_attrs["runs"] for one in finished]
    best = min(finished, key=lambda one: one.value).user_attrs["values"]
    for name, factor in FACTORS.items() if strip else ():
        tried.append((name, scaled(best, factor)))
        runs.append(run_seeds(setting, method, of, tried[-1][1]))
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


def parameters_of(preset: str | None, given: list[tuple[str, str]]) -> dict[str, Any]:
    """The parameters of notebook 08, with those of a preset and of the command line."""
    (path,) = run.find(["08"])
    notebook = run.read(path)
    chosen = {**run.preset(preset, path), **{name: run.value(text) for name, text in given}}
    run.inject(notebook, run.overrides(path, notebook, chosen, smoke=False))
    return run.values(notebook)


def training_of(parameters: dict[str, Any]) -> dict[str, Any]:
    """Arguments of ``prepare`` for these parameters, as the notebook has them."""
    names = {"epochs": "TRAIN_EPOCHS", "lr": "TRAIN_LR"}
    names |= {name: name.upper() for name in ("model", "batch_size", "augment")}
    return {own: parameters[name] for own, name in names.items()} | parameters["RECIPE"]


def recipe_of(training: dict[str, Any], images: str, seeds: list[int]) -> str:
    """How the networks are made, in words."""
    told = {"model", "epochs", "lr", "batch_size", "augment"}
    more = [f"{name} {own}" for name, own in training.items() if name not in told]
    augmented = {False: [], True: ["augmented"]}.get(training["augment"], ["mirrored in turn"])
    parts = [
        images,
        f"{training['epochs']} epochs at {training['lr']:g}",
        f"batches of {training['batch_size']}",
        *augmented,
        *more,
        f"seeds {seeds}",
    ]
    return ", ".join(parts)


def tune(methods: list[str], parameters: dict[str, Any], options: argparse.Namespace) -> None:
    """Run the studies that are missing, and keep the best of each method."""
    training, name = training_of(parameters), f"{parameters['DATASET']}-{slug(parameters['MODEL'])}"
    images = images_of(parameters["DATASET"], parameters["TRAIN_SIZE"])
    which = "other images" if parameters["TRAIN_SIZE"] else "of all images"
    recipe = recipe_of(training, f"{len(images[0])} {which}", options.seeds)
    path = RESULTS / f"{name}.csv"
    rows = (
        pd.read_csv(path, dtype={"trial": str})
        if path.exists()
        else pd.DataFrame(columns=[*ORDER, "trial"])
    )
    own = rows[rows["recipe"] == recipe]
    last = own if options.no_strip else own[own["trial"].isin(FACTORS)]
    done = set(zip(last["method"], last["scenario"], strict=True))
    usable = [
        (method, scenario)
        for method, scenario in product(methods, SCENARIOS)
        if supports(METHODS[method], Scenario.parse(scenario))
    ]
    missing = [key for key in usable if key not in done]
    if missing:
        where = {"scenarios": SCENARIOS, "seeds": options.seeds, "n_jobs": options.jobs}
        setting = prepare(images, noise_floor=False, **where, **training)
        known = options.tuned.exists() and name != "mnist-cnn"
        tuned = json.loads(options.tuned.read_text(encoding="utf-8")) if known else {}
        how = RESULTS / "studies" / name, options.trials, not options.no_strip, tuned
        run_own = partial(run_study, setting, *how)
        bar = Progress("tuning", len(usable), done=len(usable) - len(missing), unit="studies")
        with bar, closing(imap_unordered(run_own, missing, n_jobs=options.jobs)) as finished:
            for _, found in finished:
                new = pd.DataFrame(found).assign(recipe=recipe)
                rows = pd.concat([rows, new]).drop_duplicates([*ORDER, "trial", "seed"])
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
    pair = {"nargs": 2, "action": "append", "default": [], "metavar": ("NAME", "VALUE")}
    add("-p", dest="given", help="override a parameter of notebook 08; repeatable", **pair)
    add("--preset", metavar="NAME", help="override the parameters that presets.json has for it")
    add("--trials", type=int, default=TRIALS, help="of each method in each scenario")
    add("--no-strip", action="store_true", help="leave out the runs with other rates")
    add("--seeds", type=int, nargs="+", default=[100, 101], help="that no notebook reports")
    add("--jobs", type=int, help="processes; default: one per core")
    add("--tuned", type=Path, default=TUNED, help="file to write the values into")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.methods if name not in SPACES]
    if unknown:
        parser.error(f"there is no method {unknown[0]!r}: there are {', '.join(SPACES)}")
    try:
        parameters = parameters_of(options.preset, options.given)
    except run.Refused as refusal:
        parser.error(str(refusal))
    tune(options.methods or list(SPACES), parameters, options)


if __name__ == "__main__":
    main()
