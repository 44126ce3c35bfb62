"""Choose the hyperparameters of the methods: the same number of trials for every one.

examples:
  python notebooks/tune.py                    all methods: about 30 minutes on one core
  python notebooks/tune.py random_mask        those named
  python notebooks/tune.py --dataset fashion_mnist --model mlp

Each method has twelve trials of five epochs at most, each on two seeds that no notebook reports, in
the two settings of notebooks 01 to 04: 500 random images and a class. The images that stand for
unseen ones are training images outside the small training set: the test set is not read. The choice
is the trial with the smallest average gap to the retrained network.

Every run is a row of results/tuning/<dataset>-<model>.csv, written as soon as it is measured; a run
that is there already is not repeated.
"""

import argparse
import itertools
import sys
from pathlib import Path

import pandas as pd
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from unlearning import Diverged, Images, Split, evaluate, load, methods, timed
from unlearning.data import balanced_subset
from unlearning.report import results_folder, write_csv
from unlearning.splitting import forget_classes, forget_indices, forget_random
from unlearning.training import load_or_train

TRAIN_SIZE, FORGET_COUNT, FORGET_CLASS = 5_000, 500, 5  # as in the notebooks
TRAINING = {"epochs": 15, "lr": 0.1, "batch_size": 64}  # as in the notebooks
VALIDATION_SIZE = 5_000
SETTINGS, SEEDS = ("random", "class"), (100, 101)
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
CLASSES_ALONE = {"impair_repair"}  # forget no single images


def trials(method: str) -> list[dict]:
    """All combinations of a method's grid: twelve of them."""
    grid = GRIDS[method]
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def split_of(train: Images, setting: str, seed: int) -> Split:
    if setting == "class":
        return forget_classes(train, FORGET_CLASS)
    return forget_random(train, count=FORGET_COUNT, seed=seed)


def arguments(method: str, split: Split, seed: int) -> dict:
    """What a method is given beside its trial: the data that it reads, seed, and the class."""
    retain, forget = (part.batches(64, shuffle=True, seed=seed) for part in split)
    data = {
        "negative_gradient": {"forget": forget},
        "negative_gradient_plus": {"retain": retain, "forget": forget},
        "selective_forgetting": {"retain": retain, "forget_classes": split.forget_classes},
        "uniform_target": {"retain": retain, "forget": forget, "epochs": 5},
        "student_teacher": {"retain": retain, "forget": forget, "epochs": 5},
    }
    return {"seed": seed} | data.get(method, {"retain": retain})


def measure(
    method: str, trial: dict, setting: str, seed: int, train: Images, unseen: Images, model: str
) -> dict:
    """One run's numbers; one that diverged has a gap of 1, the largest there is."""
    split = split_of(train, setting, seed)
    original = load_or_train(train, model=model, seed=seed, **TRAINING).model
    retrained = load_or_train(split.retain, model=model, seed=seed, **TRAINING).model
    options = arguments(method, split, seed) | trial
    try:
        unlearned, seconds = timed(getattr(methods, method), original, **options)
    except Diverged:
        return {"average_gap": 1.0}
    return {"seconds": seconds} | evaluate(unlearned, split, unseen, retrained=retrained)


def tune(chosen: list[str], dataset: str, model: str) -> None:
    full, _ = load(dataset)
    train = balanced_subset(full, TRAIN_SIZE)
    others = forget_indices(full, train.indices).retain
    unseen = forget_random(others, count=VALIDATION_SIZE, seed=0).forget
    path = results_folder("tuning", dataset, model).with_suffix(".csv")
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    done = {tuple(row[name] for name in ("method", "trial", "setting", "seed")) for row in rows}
    for method in chosen:
        settings = ("class",) if method in CLASSES_ALONE else SETTINGS
        todo = list(itertools.product(trials(method), settings, SEEDS))
        for trial, setting, seed in tqdm(todo, desc=method, leave=False):
            text = ", ".join(f"{name}={value}" for name, value in trial.items())
            if (method, text, setting, seed) in done:
                continue
            row = {"method": method, "trial": text, "setting": setting, "seed": seed}
            rows.append(row | measure(method, trial, setting, seed, train, unseen, model))
            write_csv(pd.DataFrame(rows), path)
        print(best(pd.DataFrame(rows), method), flush=True)


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
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--model", default="cnn")
    options = parser.parse_args()
    unknown = [name for name in options.methods if name not in GRIDS]
    if unknown:
        parser.error(f"there is no method {unknown[0]!r}: choose among {', '.join(GRIDS)}")
    tune(options.methods or list(GRIDS), options.dataset, options.model)


if __name__ == "__main__":
    main()
