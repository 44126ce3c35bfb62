"""Choose the hyperparameters of the methods, with the same number of trials for each of them.

examples:
  python notebooks/tune.py                        all methods: about 30 minutes on two cores
  python notebooks/tune.py "random mask" UNSIR    only these
  python notebooks/tune.py --dataset cifar10 --model resnet20 --train-size 3000 --epochs 20 \\
      --seeds 100 --fisher sampled    CIFAR-10: about an hour on one core

Every method has twelve trials, each on two seeds, in two scenarios: a tenth of the images, at
random, and a class. Nothing here is reported: the training images are others than those of the
notebooks, and so are class and seeds. Further training images stand for unseen ones: the test set
is not read. Every run is one row of results/tuning/<dataset>-<model>.csv; a row of the same recipe
is not measured again. The trial with the smallest average gap is chosen, and its values go into
tuned.json.
"""

import argparse
import inspect
import itertools
import json
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from unlearning import METHODS, Diverged, Experiment, Images, Scenario, load, measure, prepare
from unlearning.core.devices import machine
from unlearning.core.files import ROOT, atomic_write, slug
from unlearning.core.progress import Progress
from unlearning.core.workers import imap_unordered
from unlearning.data import balanced_subset
from unlearning.hyperparameters import supports
from unlearning.report import write_csv
from unlearning.splitting import forget_indices, forget_random

TUNED = ROOT / "notebooks" / "tuned.json"
TRIALS = ROOT / "results" / "tuning"
SCENARIOS = ["random 10%", "class 3"]  # one of each kind; notebooks report other classes
UNSEEN = 5_000  # images that stand for the test set
EPOCHS = 5  # of unlearning, for every method that has epochs
LARGEST_GAP = 1.0  # of a run that diverged
KEY = ("recipe", "method", "trial", "scenario", "seed")  # of a row
LR = [3e-4, 1e-3, 3e-3]
GRIDS = {
    "fine-tuning": {"lr": [0.003, 0.01, 0.03, 0.1, 0.2, 0.4], "weight_decay": [5e-4, 5e-3]},
    "negative gradient": {"lr": [1e-4, *LR, 1e-2, 3e-2], "stop_at_chance": [True, False]},
    "NegGrad+": {"alpha": [0.8, 0.9, 0.95, 0.99], "lr": [0.003, 0.01, 0.03]},
    "Fisher noise": {
        "alpha": [1e-9, 1e-8, 3e-8, 1e-7, 3e-7, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 1e-3, 1e-2]
    },
    "random mask": {"ratio": [0.3, 0.5, 0.7, 0.9], "lr": LR},
    "uniform target": {"alpha": [0.5, 0.8, 0.9, 0.95], "lr": LR},
    "UNSIR": {"impair_lr": [0.005, 0.01, 0.02, 0.05], "repair_lr": [1e-3, 3e-3, 1e-2]},
    "bad teacher": {"lr": LR, "retain_fraction": [0.3, 1.0], "temperature": [1.0, 3.0]},
    "boundary shrink": {"lr": [1e-4, *LR, 1e-2, 3e-2], "freeze_bn": [True, False]},
    "DELETE": {"lr": [1e-4, *LR, 1e-2, 3e-2], "freeze_bn": [True, False]},
    "UAM": {"rho": [0.1, 0.3, 0.6], "lr": [0.05, 0.1], "weight_decay": [5e-4, 5e-3]},
}


def trials(method: str, estimator: str | None = None) -> dict[str, dict]:
    """All combinations of a method's grid, by the text that names each in the CSV file."""
    taken = inspect.signature(METHODS[method]).parameters
    fixed = {"epochs": EPOCHS, "estimator": estimator}
    given = {name: [value] for name, value in fixed.items() if name in taken and value}
    grid = given | GRIDS[method]
    found = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    return {", ".join(f"{name}={value}" for name, value in trial.items()): trial for trial in found}


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


def run_trial(setting: Experiment, method: str, trial: dict, scenario: str, seed: int) -> dict:
    """The numbers of one run; the largest gap if it diverged."""
    try:
        network, seconds = setting.unlearn(METHODS[method], scenario, seed, trial)
    except Diverged:
        return {"average_gap": LARGEST_GAP, **machine()}
    measured = measure(network, setting.split(scenario, seed), setting.test)
    retrained = setting.measurements["retrained", scenario, seed]
    return {"seconds": seconds, **measured.compare_to(retrained), **machine()}


def run_key(setting: Experiment, found: dict[str, dict], key: tuple) -> dict:
    """The numbers of the run that a key names; ``found`` has the trials of its method by name."""
    _, method, trial, scenario, seed = key
    return run_trial(setting, method, found[trial], scenario, seed)


def choose(rows: pd.DataFrame, found: dict[str, dict]) -> dict:
    """The trial with the smallest mean gap; {kind of scenario: value} where the kinds differ."""
    kinds = rows["scenario"].map(lambda name: Scenario.parse(name).kind)
    gaps = rows.groupby([kinds, "trial"])["average_gap"].mean()
    best = {kind: found[gaps[kind].idxmin()] for kind in sorted(set(kinds), reverse=True)}
    chosen = {}
    for name in next(iter(best.values())):
        values = {kind: trial[name] for kind, trial in best.items()}
        value, *others = set(values.values())
        chosen[name] = values if others else value
    return chosen


def as_text(tuned: dict) -> str:
    """The content of tuned.json, one line per method."""
    parts = []
    for key, methods in tuned.items():
        lines = [f"    {json.dumps(name)}: {json.dumps(own)}" for name, own in methods.items()]
        parts.append(f"  {json.dumps(key)}: {{\n" + ",\n".join(lines) + "\n  }")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def keep(path: Path, key: str, method: str, chosen: dict) -> None:
    """Write one method's values into tuned.json; all others stay as they are."""
    tuned = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    tuned.setdefault(key, {})[method] = chosen
    with atomic_write(path) as tmp_path:
        tmp_path.write_text(as_text(tuned), encoding="utf-8", newline="\n")


def tune(methods: list[str], options: argparse.Namespace) -> None:
    """Run the trials that are missing, and keep the best of each method."""
    recipe = (
        f"{options.train_size} other images, {options.epochs} epochs at {options.lr:g}, batches of "
        f"{options.batch_size}{', augmented' if options.augment else ''}"
    )
    training = {name: getattr(options, name) for name in ("epochs", "lr", "batch_size", "augment")}
    where = {"model": options.model, "scenarios": SCENARIOS, "seeds": options.seeds}
    images = images_of(options.dataset, options.train_size)
    setting = prepare(images, n_jobs=options.jobs, **where, **training)
    path = TRIALS / f"{options.dataset}-{slug(options.model)}.csv"
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    done = {tuple(row[name] for name in KEY): row for row in rows}
    for method in methods:
        found = trials(method, options.fisher)
        usable = [s for s, own in setting.scenarios.items() if supports(METHODS[method], own)]
        keys = list(itertools.product([recipe], [method], found, usable, options.seeds))
        missing = [key for key in keys if key not in done]
        run = partial(run_key, setting, found)
        bar = Progress(method, len(keys), done=len(keys) - len(missing), unit="runs")
        with bar, closing(imap_unordered(run, missing, n_jobs=options.jobs)) as finished:
            for key, numbers in finished:
                done[key] = dict(zip(KEY, key, strict=True)) | numbers
                write_csv(pd.DataFrame(done.values()).sort_values(list(KEY)), path)
                bar.update()
        chosen = choose(pd.DataFrame([done[key] for key in keys]), found)
        keep(options.tuned, f"{options.dataset}-{slug(options.model)}", method, chosen)
        print(f"{method}: {json.dumps(chosen)}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    summary, _, rest = __doc__.partition("\n\n")
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=summary, epilog=rest, formatter_class=raw)
    add = parser.add_argument
    add("methods", nargs="*", help=f"of {', '.join(GRIDS)}; default: all")
    add("--dataset", default="mnist")
    add("--model", default="cnn")
    add("--train-size", type=int, default=5_000, help="images, equally many of each class")
    add("--epochs", type=int, default=15, help="of the original and the retrained networks")
    add("--lr", type=float, default=0.1, help="first learning rate of training")
    add("--batch-size", type=int, default=64, help="of training and unlearning")
    add("--augment", action="store_true", help="crop and mirror at random, in both")
    add("--seeds", type=int, nargs="+", default=[100, 101], help="that no notebook reports")
    add("--fisher", choices=["exact", "sampled"], help="estimator of the Fisher information")
    add("--jobs", type=int, help="processes; default: one per core")
    add("--tuned", type=Path, default=TUNED, help="file to write the values into")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.methods if name not in GRIDS]
    if unknown:
        parser.error(f"there is no method {unknown[0]!r}: there are {', '.join(GRIDS)}")
    tune(options.methods or list(GRIDS), options)


if __name__ == "__main__":
    main()
