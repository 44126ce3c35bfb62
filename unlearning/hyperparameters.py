"""What is a method given: the data it asks for, and its hyperparameters for a scenario."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from .core.batches import Batches
from .core.files import slug
from .core.images import Images
from .models import name_of
from .scenarios import Scenario
from .splitting import Split

Method = Callable[..., nn.Module]

LARGEST_GAP = 1.0  # of a trial that diverged or took too long


def bind(
    method: Method, split: Split, seed: int, batches: Callable[[Images, int], Batches]
) -> dict[str, Any]:
    """The data that a method asks for by the names of its parameters.

    ``retain`` and ``forget`` are batches, ``split`` is both as images; ``forget_classes``, the
    ``normalisation`` of the images, (mean, std), and ``seed`` are what they say.

    Args:
        method: a function of a network, data and hyperparameters.
        split: what is retained and what is forgotten.
        seed: random seed of the run.
        batches: ``batches(images, seed)`` -> batches of a set.
    """
    available = {
        "retain": lambda: batches(split.retain, seed),
        "forget": lambda: batches(split.forget, seed),
        "forget_classes": lambda: split.forget_classes,
        "normalisation": lambda: (split.retain.mean, split.retain.std),
        "split": lambda: split,
        "seed": lambda: seed,
    }
    wanted = inspect.signature(method).parameters
    return {name: make() for name, make in available.items() if name in wanted}


def supports(method: Method, scenario: Scenario) -> bool:
    """Whether a method can be used: one that needs whole classes cannot forget single images."""
    needed = inspect.signature(method).parameters.get("forget_classes")
    optional = needed is None or needed.default is not inspect.Parameter.empty
    return optional or scenario.forgets_classes


def resolve(hyperparameters: Mapping[str, Any], scenario: Scenario) -> dict[str, Any]:
    """The values for one scenario, where some are given by scenario or by kind of scenario."""
    own = {}
    for name, value in hyperparameters.items():
        if isinstance(value, dict):
            known = (scenario.name, scenario.by_number, scenario.kind)
            keys = [key for key in known if key in value]
            if not keys:
                raise ValueError(
                    f"{name} has no value for {scenario.name!r}: give one for it, or for its kind, "
                    f"{scenario.kind!r}"
                )
            value = value[keys[0]]
        own[name] = value
    return own


def swept(hyperparameters: Mapping[str, Any]) -> str:
    """The name of the one hyperparameter that is given as a list.

    Raises:
        ValueError: if there is not exactly one.
    """
    lists = [name for name, value in hyperparameters.items() if isinstance(value, list)]
    if len(lists) != 1:
        raise ValueError(f"give exactly one hyperparameter as a list, not {len(lists)}")
    return lists[0]


def load_tuned(
    path: Path | str, dataset: str, model: str | Callable[[], nn.Module]
) -> dict[str, dict]:
    """The hyperparameters that ``tune.py`` chose: name of a method -> its values.

    Where none were chosen for this data set and network, those of a network of its family are
    returned ("airbench" for "airbench-small"), or those of MNIST and the CNN, and a line says so.

    Raises:
        ValueError: if the file cannot be read.
    """
    try:
        known = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): restore it, or run tune.py") from error
    key = f"{dataset}-{slug(name_of(model))}"
    found = next(name for name in (key, key.rpartition("-")[0], "mnist-cnn") if name in known)
    if found != key:
        print(f"nothing was tuned for {key}: the values of {found} are used")
    return known[found]


def tuning(folder: Path | str, dataset: str, model: str | Callable[[], nn.Module]) -> pd.DataFrame:
    """What ``tune.py`` tried for this data set and network, or else for MNIST and the CNN.

    Args:
        folder: of its CSV files.
        dataset, model: as ``load_tuned``.

    Returns:
        One row per scenario and method. ``trials``; how many of them ``failed``, because they
        diverged or took too long; the ``cost`` of all trials together, and that of the ``chosen``
        one, in passes over the data, in units of retraining's; the mean gap of the chosen one, and
        with its learning rates (without any, its strength) times 1/3 and times 3, where tried.

    Raises:
        ValueError: if the file cannot be read.
    """
    path = Path(folder) / f"{dataset}-{slug(name_of(model))}.csv"
    known = path if path.exists() else Path(folder) / "mnist-cnn.csv"
    try:
        rows = pd.read_csv(known, dtype={"trial": str})
    except (OSError, ValueError) as error:
        raise ValueError(f"{known} cannot be read ({error}): restore it, or run tune.py") from error
    found = {key: _told(own) for key, own in rows.groupby(["scenario", "method"], sort=False)}
    table = pd.DataFrame.from_dict(found, "index").rename_axis(["scenario", "method"])
    table = table.dropna(axis=1, how="all")
    return table.sort_index(level="scenario", ascending=False, sort_remaining=False)


def _told(rows: pd.DataFrame) -> dict[str, float]:
    """One row of ``tuning``, from all runs of a method in a scenario."""
    gaps = rows.groupby("trial", sort=False)["average_gap"].mean()
    tried = gaps[gaps.index.str.isdecimal()]
    best, runs = tried.idxmin(), rows[rows["trial"].isin(tried.index)]
    return {
        "trials": len(tried),
        "failed": int((tried == LARGEST_GAP).sum()),
        "cost": runs["share_of_passes"].sum(),
        "chosen": rows.loc[rows["trial"] == best, "share_of_passes"].mean(),
        "gap, x1/3": gaps.get("x1/3"),
        "gap": tried[best],
        "gap, x3": gaps.get("x3"),
    }
