"""What does the table say: the rows of all runs, their mean and spread over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.core.groupby import DataFrameGroupBy
from scipy import stats

from .core.files import MINE, RESULTS, ROOT, atomic_write, is_plain_name, slug
from .data import SOURCES
from .scenarios import Scenario

STANDARD = (
    "seconds",
    "retain_accuracy",
    "forget_accuracy",
    "test_accuracy",
    "test_forget_accuracy",
    "membership_attack",
    "confidence_attack",
    "js_to_retrained",
    "average_gap",
)
ATTACKS = (
    "membership_attack",
    "correctness_attack",
    "confidence_attack",
    "entropy_attack",
    "modified_entropy_attack",
    "probability_attack",
)
RATIOS = {"zrf", "js_to_retrained", "activation_distance", "tug_of_war"}
SOMETIMES = ("clean_accuracy",)  # shown where it was measured
LAST = ("retrained again", "retrained")  # the noise floor and the yardstick end every table


def table(rows: Sequence[Mapping]) -> pd.DataFrame:
    """Mean and spread over seeds: one row per method, in order of appearance, "retrained" last.

    Args:
        rows: one mapping per run, with "method", "seed" and that run's numbers; texts are left out.

    Returns:
        Columns (number, "mean") and (number, "std"): the sample standard deviation, NaN for one
        seed.

    Raises:
        ValueError: if there are no rows, one lacks its method or seed, they are of several
            scenarios, or a method was measured twice with one seed.
    """
    runs = pd.DataFrame(list(rows))
    if len(runs) == 0:
        raise ValueError("there are no rows to make a table of")
    if not {"method", "seed"} <= {*runs} or runs[["method", "seed"]].isna().any(axis=None):
        raise ValueError('every row needs a "method" and a "seed", by which runs are told apart')
    if "scenario" in runs and runs["scenario"].nunique() > 1:
        names = ", ".join(map(repr, runs["scenario"].unique()))
        raise ValueError(f"the rows are of several scenarios ({names}): make a table of each")
    twice = runs.duplicated(["method", "seed"])
    if twice.any():
        method, seed = runs.loc[twice, ["method", "seed"]].iloc[0]
        raise ValueError(
            f"{method} with seed {seed} was recorded twice; use a new name or replace the run"
        )
    numbers = _numbers_by_method(runs).agg(["mean", "std"])
    return numbers.loc[
        sorted(numbers.index, key=lambda name: LAST.index(name) + 1 if name in LAST else 0)
    ]


def _numbers_by_method(runs: pd.DataFrame) -> DataFrameGroupBy:
    """The runs' numbers, without seeds and texts, in groups that keep the order of appearance."""
    numbers = runs.select_dtypes("number").drop(columns="seed")
    return numbers.groupby(runs["method"], sort=False)


def readable(numbers: pd.DataFrame, columns: Sequence[str] = STANDARD) -> pd.DataFrame:
    """A table as people read it: per cent, mean ± spread; seconds and other counts as they are.

    Args:
        numbers: as ``table`` returns them.
        columns: which numbers, in this order. One that was not measured shows as a dash.
    """
    shown = {}
    for name in columns:
        scale, digits = (100, 1) if in_per_cent(name) else (1, 3 if name in RATIOS else 2)
        there = name in numbers.columns.get_level_values(0)
        pairs = numbers[name].to_numpy() * scale if there else [(np.nan, np.nan)] * len(numbers)
        shown[heading(name)] = [_with_spread(mean, std, digits) for mean, std in pairs]
    return pd.DataFrame(shown, index=numbers.index.rename(None))


def in_per_cent(name: str) -> bool:
    """Whether people read this number in per cent: accuracies, attacks, gaps, shares of time."""
    return name.endswith(("_accuracy", "_attack", "_gap", "_of_time"))


def heading(name: str) -> str:
    """Human-readable name of a number, with its unit."""
    words = name.replace("_", " ")
    for plain, usual in {"zrf": "ZRF", "js ": "JS ", "cka ": "CKA ", "knn ": "kNN "}.items():
        words = words.replace(plain, usual)
    return f"{words} (%)" if in_per_cent(name) else words


def _with_spread(mean: float, std: float, digits: int) -> str:
    if np.isnan(mean):
        return "–"
    return f"{mean:.{digits}f}" + ("" if np.isnan(std) else f" ± {std:.{digits}f}")


def setting_name(dataset: object, model: str) -> str:
    """Name of a data set and a network as titles have it; a set without a name is your own.

    >>> setting_name("fashion_mnist", "cnn"), setting_name("cifar10", "torchvision/resnet18")
    ('Fashion-MNIST, CNN', 'CIFAR-10, resnet18')
    """
    named = dataset if isinstance(dataset, str) else "own images"
    title = SOURCES[named].title if named in SOURCES else named
    name = str(model).rpartition("/")[2]
    return f"{title}, {name.upper() if name in ('mlp', 'cnn') else name}"


def results_folder(notebook: str, dataset: str, model: str) -> Path:
    """Where a notebook saves: results/<notebook>/<dataset>-<model>/, where run.py runs it.

    One that is run by hand saves in results/mine/ instead, and a line says so.
    """
    folder = RESULTS / notebook / f"{dataset}-{slug(model)}"
    if RESULTS == MINE:
        print(f"Your tables and figures go to {folder.relative_to(ROOT).as_posix()}/.")
    return folder


class Tables:
    """What can be made of rows keyed (name, scenario, seed): the part of an experiment that reads.

    Who inherits it has ``rows``, and ``scenarios`` by name.
    """

    rows: dict[tuple[str, str, int], dict]
    scenarios: Mapping[str, Scenario]

    def records(self, scenario: str) -> list[dict]:
        """One row per run in a scenario, as ``table`` takes them."""
        return [row for (_, of, _), row in self.rows.items() if of == scenario]

    def numbers(self, scenario: str) -> pd.DataFrame:
        """Mean and spread over seeds, as the function ``table`` gives them."""
        return table(self.records(scenario))

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """``numbers`` of every scenario, as the figures take them."""
        return {scenario: self.numbers(scenario) for scenario in self.scenarios}

    def table(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """All rows as people read them: per cent, mean ± standard deviation over seeds.

        Args:
            columns: which numbers; by default ``STANDARD``, and of ``SOMETIMES`` those measured.
        """
        if columns is None:
            there = {name for row in self.rows.values() for name in row}
            columns = [*STANDARD, *(name for name in SOMETIMES if name in there)]
        return pd.concat({of: readable(means, columns) for of, means in self.tables.items()})

    def by_request(self) -> pd.DataFrame:
        """How far each method has drifted from retraining after each request of a sequence.

        ``js_to_retrained`` and ``average_gap`` compare with a network retrained without all images
        forgotten so far, on those images.

        Returns:
            One row per run: request (1 for the first), method, scenario, seed and numbers.

        Raises:
            ValueError: if no scenario is a request.
        """
        places = {of: one.place for of, one in self.scenarios.items() if one.place is not None}
        if not places:
            raise ValueError('there are no requests: name some, as in "5 requests of 2%"')
        rows = [row for row in self.rows.values() if row["scenario"] in places]
        return pd.DataFrame([{"request": places[row["scenario"]], **row} for row in rows])

    def save(self, folder: Path | str) -> None:
        """Write ``<scenario>_runs.csv`` and ``<scenario>_table.csv`` for every scenario."""
        for scenario in self.scenarios:
            save(self.records(scenario), folder, slug(scenario))


def save(rows: Sequence[Mapping], folder: Path | str, name: str) -> pd.DataFrame:
    """Write ``<name>_runs.csv`` (every run) and ``<name>_table.csv`` (mean and spread over seeds).

    The second has for each number its mean, its standard deviation ``_std`` and ``_half95``, so
    that mean ± half95 is the 95 % interval of the mean by Student's t.

    Returns:
        The table of ``table(rows)``.
    """
    if not is_plain_name(name):
        raise ValueError(f"name must start the names of files, as 'class-5' does, not {name!r}")
    rows = list(rows)
    numbers, runs = table(rows), pd.DataFrame(rows)
    write_csv(runs, Path(folder) / f"{name}_runs.csv")
    groups = _numbers_by_method(runs).agg(half_width)
    flat = {}
    for column in numbers.columns.unique(0):
        flat[f"{column}_mean"] = numbers[column, "mean"]
        flat[f"{column}_std"] = numbers[column, "std"]
        flat[f"{column}_half95"] = groups[column]
    table_of_all = pd.DataFrame(flat, index=numbers.index)
    write_csv(table_of_all.reset_index(), Path(folder) / f"{name}_table.csv")
    return numbers


def half_width(values: pd.Series) -> float:
    """Half of the 95 % interval of a mean: t(0.975, n - 1) s / sqrt(n); NaN of a single value."""
    count = values.count()
    return stats.t.ppf(0.975, count - 1) * values.std() / count**0.5 if count > 1 else np.nan


def differences(rows: Sequence[Mapping], pairs: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """By how much one method exceeds another, seed by seed, since both start from one network.

    Args:
        rows: as ``table`` takes them.
        pairs: name of a row -> (method, the one that it is compared with).

    Returns:
        One row per pair, columns (number, "mean") and (number, "half95") of the differences.

    Raises:
        ValueError: if a method was not measured.
    """
    runs = pd.DataFrame(rows).set_index(["method", "seed"]).select_dtypes("number")
    measured, gains = runs.index.unique("method"), {}
    for name, pair in pairs.items():
        missing = [method for method in pair if method not in measured]
        if missing:
            raise ValueError(f"{missing[0]} was not measured: there are {', '.join(measured)}")
        ours, theirs = (runs.loc[method] for method in pair)
        gains[name] = (ours - theirs).agg(["mean", half_width]).unstack()
    return pd.DataFrame(gains).T.rename(columns={"half_width": "half95"})


def write_csv(rows: pd.DataFrame, path: Path | str) -> None:
    """Write rows with six digits, without their index; the file appears whole or not at all."""
    with atomic_write(path) as tmp_path:
        rows.to_csv(tmp_path, index=False, float_format="%.6g")
