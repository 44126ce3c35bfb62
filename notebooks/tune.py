"""Choose the hyperparameters of the methods: the same number of trials for every one.

examples:
  python notebooks/tune.py                    all methods: about 30 minutes on one core
  python notebooks/tune.py random_mask        those named
  python notebooks/tune.py --dataset cifar10 --model resnet20 --train-size 3000 --epochs 20 \\
      --seeds 100 --fisher sampled    CIFAR-10: about an hour on one core

Each method has twelve trials of five epochs at most, each on two seeds that no notebook reports, in
two settings of the notebooks: a tenth of the images, at random, and a class. The images that stand
for unseen ones are training images outside the small training set: the test set is not read. The
choice is the trial with the smallest average gap to the retrained network.

Every run is a row of results/tuning/<dataset>-<model>.csv, written as soon as it is measured; one
of the same recipe that is there already is not repeated.
"""

import argparse
import itertools
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from torch import nn
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from unlearning import Diverged, Images, Split, evaluate, fisher_diagonal, load, methods, timed
from unlearning.data import balanced_subset
from unlearning.report import Appraisal, appraise, results_folder, write_csv
from unlearning.splitting import forget_indices, forget_random, split_off
from unlearning.training import load_or_train, pick_device

FORGET = {"random": 0.1, "class": 5}  # a tenth of the images and a class, as in the notebooks
VALIDATION_SIZE = 5_000
GRIDS = {
    "fine_tune": {"lr": [0.003, 0.01, 0.03, 0.1, 0.2, 0.4], "weight_decay": [5e-4, 5e-3]},
    "negative_gradient": {
        "lr": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2],
        "stop_at_chance": [True, False],
    },
    "negative_gradient_plus": {"alpha": [0.8, 0.9, 0.95, 0.99], "lr": [0.003, 0.01, 0.03]},
    "selective_forgetting": {
        "alpha": [1e-9, 1e-8, 3e-8, 1e-7, 3e-7, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 1e-3, 1e-2]
    },
    "random_mask": {"ratio": [0.3, 0.5, 0.7, 0.9], "lr": [3e-4, 1e-3, 3e-3]},
    "uniform_target": {"alpha": [0.5, 0.8, 0.9, 0.95], "lr": [3e-4, 1e-3, 3e-3]},
    "impair_repair": {"impair_lr": [0.005, 0.01, 0.02, 0.05], "repair_lr": [1e-3, 3e-3, 1e-2]},
    "student_teacher": {
        "lr": [3e-4, 1e-3, 3e-3],
        "retain_fraction": [0.3, 1.0],
        "temperature": [1.0, 3.0],
    },
}
KEY = ("recipe", "method", "trial", "setting", "seed")  # of a run
CLASSES_ALONE = {"impair_repair"}  # forget no single images


def trials(method: str) -> list[dict]:
    """All combinations of a method's grid: twelve of them."""
    grid = GRIDS[method]
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


@dataclass
class Case:
    """One setting and seed: what is forgotten, by which network, and what that is compared with."""

    split: Split
    seed: int
    original: nn.Module
    retrained: Appraisal
    unseen: Images
    labels: str
    loader: dict

    @cached_property
    def fisher(self) -> tuple[dict, float]:
        """The Fisher information of the original network, and its seconds."""
        retain = self.split.retain.batches(self.loader["batch_size"])
        return timed(fisher_diagonal, self.original, retain, labels=self.labels)

    def measure(self, method: str, trial: dict) -> dict:
        """One run's numbers; one that diverged has a gap of 1, the largest there is."""
        options, before = arguments(method, self.split, self.seed, self.loader) | trial, 0.0
        if method == "selective_forgetting":
            options["fisher"], before = self.fisher
        try:
            unlearned, seconds = timed(getattr(methods, method), self.original, **options)
        except Diverged:
            return {"average_gap": 1.0}
        numbers = evaluate(unlearned, self.split, self.unseen, retrained=self.retrained)
        return {"seconds": before + seconds} | numbers


def prepare(options: argparse.Namespace) -> dict[tuple[str, int], Case]:
    """The networks of every setting and seed, trained or from their checkpoints."""
    full, _ = load(options.dataset)
    train = balanced_subset(full, options.train_size)
    others = forget_indices(full, train.indices).retain
    unseen = forget_random(others, count=VALIDATION_SIZE, seed=0).forget
    train, unseen = (images.to(pick_device()) for images in (train, unseen))
    loader, cases = {"batch_size": options.batch_size, "augment": options.augment}, {}
    recipe = {"model": options.model, "epochs": options.epochs, "lr": options.lr, **loader}
    for setting, seed in itertools.product(FORGET, options.seeds):
        split = split_off(train, FORGET[setting], seed=seed)
        original = load_or_train(train, seed=seed, **recipe).model
        retrained = load_or_train(split.retain, seed=seed, **recipe).model
        goal = appraise(retrained, split, unseen)
        cases[setting, seed] = Case(split, seed, original, goal, unseen, options.fisher, loader)
    return cases


def arguments(method: str, split: Split, seed: int, loader: dict) -> dict:
    """What a method is given beside its trial: the data that it reads, seed, and the class."""
    retain, forget = (part.batches(shuffle=True, seed=seed, **loader) for part in split)
    classes = {"forget_classes": split.forget_classes}
    data = {
        "negative_gradient": {"forget": forget},
        "negative_gradient_plus": {"retain": retain, "forget": forget},
        "selective_forgetting": {"retain": retain, **classes},
        "uniform_target": {"retain": retain, "forget": forget, "epochs": 5, **classes},
        "student_teacher": {"retain": retain, "forget": forget, "epochs": 5},
    }
    return {"seed": seed} | data.get(method, {"retain": retain})


def tune(chosen: list[str], options: argparse.Namespace) -> None:
    cases = prepare(options)
    path = results_folder("tuning", options.dataset, options.model).with_suffix(".csv")
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    done = {tuple(row[name] for name in KEY) for row in rows}
    recipe = (
        f"{options.train_size} images, {options.epochs} epochs at {options.lr:g}, batches of "
        f"{options.batch_size}{', augmented' if options.augment else ''}"
    )
    for method in chosen:
        settings = ("class",) if method in CLASSES_ALONE else FORGET
        todo = list(itertools.product(trials(method), settings, options.seeds))
        for trial, setting, seed in tqdm(todo, desc=method, leave=False):
            text = ", ".join(f"{name}={value}" for name, value in trial.items())
            row = dict(zip(KEY, (recipe, method, text, setting, seed), strict=True))
            if tuple(row.values()) in done:
                continue
            rows.append(row | cases[setting, seed].measure(method, trial))
            write_csv(pd.DataFrame(rows), path)
        found = pd.DataFrame(rows).query("recipe == @recipe")
        print(best(found, method), flush=True)


def best(rows: pd.DataFrame, method: str) -> str:
    """The trial with the smallest mean gap in each setting, and the gap."""
    gaps = rows[rows["method"] == method].groupby(["setting", "trial"])["average_gap"].mean()
    chosen = gaps.loc[gaps.groupby("setting").idxmin()]
    lines = [f"  {setting}: {trial} (gap {gap:.2%})" for (setting, trial), gap in chosen.items()]
    return "\n".join([method, *lines])


def main() -> None:
    summary, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("methods", nargs="*", help=f"of {', '.join(GRIDS)}; default: all")
    add = parser.add_argument
    add("--dataset", default="mnist")
    add("--model", default="cnn")
    add("--train-size", type=int, default=5_000, help="images, equally many of each class")
    add("--epochs", type=int, default=15, help="of the original and the retrained networks")
    add("--lr", type=float, default=0.1, help="of training: SGD, cosine")
    add("--batch-size", type=int, default=64, help="of training and unlearning")
    add("--augment", action="store_true", help="crop and mirror at random, in both")
    add("--seeds", type=int, nargs="+", default=[100, 101], help="that no notebook reports")
    add("--fisher", choices=["exact", "sampled"], default="exact", help="labels of the Fisher")
    options = parser.parse_args()
    unknown = [name for name in options.methods if name not in GRIDS]
    if unknown:
        parser.error(f"there is no method {unknown[0]!r}: choose among {', '.join(GRIDS)}")
    tune(options.methods or list(GRIDS), options)


if __name__ == "__main__":
    main()
