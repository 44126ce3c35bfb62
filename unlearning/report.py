"""What does the standard table say: one run's numbers, and their mean and spread over seeds."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from pandas.core.groupby import DataFrameGroupBy
from scipy import stats
from torch import Tensor, nn

from .data import Images
from .files import RESULTS, whole
from .metrics import (
    accuracy,
    activation_distance,
    average_gap,
    confidence_attack,
    cross_entropies,
    js_divergence,
    membership_attack,
    tug_of_war,
    zero_retrain_forgetting,
)
from .metrics.membership import FEWEST_ATTACKED
from .models import reinitialise
from .splitting import Split
from .training import Timed, device_name, predict

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
RATIOS = {"zrf", "js_to_retrained", "activation_distance", "tug_of_war"}


class Appraisal(NamedTuple):
    """What can be said of one network alone, and what others are compared with it by."""

    numbers: dict[str, float]
    forget_logits: Tensor  # (F, K), of the forget set
    test_losses: np.ndarray  # (T,), cross-entropies of all that is called "test" in its numbers


def appraise(
    model: nn.Module, split: Split, test: Images, *, attacked: int = 1000, seed: int = 0
) -> Appraisal:
    """Read a network once, and take all numbers of ``evaluate`` that need no other network.

    Args:
        model, split, test, attacked, seed: as ``evaluate``.
    """
    unseen, same_kind = test, test
    if split.forget_classes:
        same_kind = test.of_classes(split.forget_classes)
        unseen = test.of_classes(split.forget_classes, others=True)
    parts = {"retain": split.retain, "forget": split.forget, "test": unseen}
    read = {part: predict(model, images.in_order()) for part, images in parts.items()}
    numbers = {f"{part}_accuracy": accuracy(*read[part]) for part in parts}
    like_forget = read["test"]
    if split.forget_classes:
        like_forget = predict(model, same_kind.in_order())
        numbers["test_forget_accuracy"] = accuracy(*like_forget)
    losses = {part: cross_entropies(*read[part]) for part in parts}
    sides = losses["forget"], cross_entropies(*like_forget)
    attackable = min(len(side) for side in sides) >= FEWEST_ATTACKED
    numbers["membership_attack"] = membership_attack(*sides, seed=seed) if attackable else np.nan
    generator = np.random.default_rng(seed)
    sides = [generator.permutation(np.exp(-losses[part]))[:attacked] for part in ("retain", "test")]
    confidence = np.exp(-losses["forget"])
    numbers["confidence_attack"] = confidence_attack(*sides, confidence, seed=seed)
    untrained = reinitialise(copy.deepcopy(model), seed=seed)
    untrained_logits, _ = predict(untrained, split.forget.in_order())
    forget_logits, _ = read["forget"]
    numbers["zrf"] = zero_retrain_forgetting(forget_logits, untrained_logits)
    return Appraisal(numbers, forget_logits, losses["test"])


def beside(ours: Appraisal, retrained: Appraisal) -> dict[str, float]:
    """A network's numbers, and those that compare it with the retrained one."""
    logits = ours.forget_logits, retrained.forget_logits
    return ours.numbers | {
        "js_to_retrained": js_divergence(*logits),
        "activation_distance": activation_distance(*logits),
        "tug_of_war": tug_of_war(ours.numbers, retrained.numbers),
        "average_gap": average_gap(ours.numbers, retrained.numbers),
    }


def evaluate(
    model: nn.Module,
    split: Split,
    test: Images,
    *,
    retrained: nn.Module | Appraisal | None = None,
    attacked: int = 1000,
    seed: int = 0,
) -> dict[str, float]:
    """All standard numbers of one network, as fractions unless named otherwise.

    - ``retain_accuracy``, ``forget_accuracy``: on the two parts of the training set.
    - ``test_accuracy``: on the test images of classes that are retained, and, when a class is
      forgotten, ``test_forget_accuracy`` on those of forgotten classes.
    - ``membership_attack``, ``confidence_attack``: against test images; when classes are forgotten,
      against those of the forgotten classes for the first, since other classes differ by more than
      membership. The first is NaN where fewer than ten images are to be told apart.
    - ``zrf``: against an untrained network of the same shape, on the forget set.
    - with ``retrained``: ``js_to_retrained`` and ``activation_distance`` on the forget set,
      ``tug_of_war`` and ``average_gap``.

    Args:
        model: the network.
        split: what it was to retain and to forget.
        test: test images, all classes.
        retrained: network trained on ``split.retain`` alone, or what ``appraise`` said of it, which
            saves reading it again.
        attacked: examples a side that the confidence attack learns from, at most: an SVM's time
            grows with their square.
        seed: of the attacks' draws and of the untrained network.
    """
    ours = appraise(model, split, test, attacked=attacked, seed=seed)
    if retrained is None:
        return ours.numbers
    if not isinstance(retrained, Appraisal):
        retrained = appraise(retrained, split, test, attacked=attacked, seed=seed)
    return beside(ours, retrained)


def record(
    method: str,
    seed: int,
    run: Timed,
    split: Split,
    test: Images,
    *,
    retrained: nn.Module | Appraisal,
) -> dict:
    """One run as a row for ``table``: method, seed, seconds, machine, numbers of ``evaluate``."""
    numbers = evaluate(run.model, split, test, retrained=retrained)
    return {"method": method, "seed": seed, "seconds": run.seconds, **numbers, **machine()}


def machine() -> dict[str, str]:
    """What a run was measured on: the device and the version of torch."""
    return {"device": device_name(), "torch": torch.__version__.partition("+")[0]}


def appraising(
    make: Callable[[int], Timed], split: Callable[[int], Split], test: Images
) -> Callable[[list[int]], dict[str, np.ndarray]]:
    """What ``load_or_run`` is to call: networks made, timed, and read once each.

    Args:
        make: ``make(seed)`` -> a network and the seconds that it took.
        split: ``split(seed)`` -> what that network was to retain and to forget, always as many.
        test: test images.

    Returns:
        ``measure(seeds)`` -> {name: array (N, ...)}: the numbers of ``appraise``, "forget_logits"
        (N, F, K), "test_losses" (N, T) in half precision, "seconds", "device" and "torch".
    """

    def row(seed: int) -> dict:
        run = make(seed)
        found = appraise(run.model, split(seed), test)
        losses = np.minimum(found.test_losses, np.finfo(np.float16).max).astype(np.float16)
        kept = {"forget_logits": found.forget_logits.numpy(), "test_losses": losses}
        texts = {name: np.array(text, "U64") for name, text in machine().items()}
        return {**found.numbers, **kept, "seconds": run.seconds, **texts}

    def measure(seeds: list[int]) -> dict[str, np.ndarray]:
        rows = [row(seed) for seed in seeds]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    return measure


def records_of(
    method: str,
    seeds: Sequence[int],
    measured: Mapping[str, np.ndarray],
    *,
    retrained: Mapping[str, np.ndarray],
) -> list[dict]:
    """Rows for ``table`` from what ``appraising`` measured of these seeds, each as ``record``."""

    def appraisal(arrays: Mapping[str, np.ndarray], place: int) -> Appraisal:
        single = [k for k, v in arrays.items() if v.ndim == 1 and v.dtype.kind == "f"]
        numbers = {name: float(arrays[name][place]) for name in single if name != "seconds"}
        logits = torch.from_numpy(arrays["forget_logits"][place])
        return Appraisal(numbers, logits, arrays["test_losses"][place])

    return [
        {
            "method": method,
            "seed": seed,
            "seconds": float(measured["seconds"][place]),
            **beside(appraisal(measured, place), appraisal(retrained, place)),
            **{name: str(measured[name][place]) for name in ("device", "torch")},
        }
        for place, seed in enumerate(seeds)
    ]


def table(records: Sequence[Mapping]) -> pd.DataFrame:
    """Mean and spread over seeds: a row a method, in order of appearance, "retrained" last.

    Args:
        records: one mapping a run, with "method", "seed" and that run's numbers; texts are left
            out.

    Returns:
        Columns (number, "mean") and (number, "std"): the sample standard deviation, NaN for one
        seed.

    Raises:
        ValueError: no records, or a method measured twice with one seed.
    """
    if not records:
        raise ValueError("there are no records to make a table of")
    runs = pd.DataFrame(records)
    twice = runs.duplicated(["method", "seed"])
    if twice.any():
        method, seed = runs.loc[twice, ["method", "seed"]].iloc[0]
        raise ValueError(f"{method} with seed {seed} is recorded twice, a mean would be of neither")
    numbers = numbers_by_method(runs).agg(["mean", "std"])
    return numbers.loc[sorted(numbers.index, key=lambda method: method == "retrained")]


def numbers_by_method(runs: pd.DataFrame) -> DataFrameGroupBy:
    """The runs' numbers, without seeds and texts, in groups that keep the order of appearance."""
    numbers = runs.select_dtypes("number").drop(columns="seed")
    return numbers.groupby(runs["method"], sort=False)


def readable(numbers: pd.DataFrame, columns: Sequence[str] = STANDARD) -> pd.DataFrame:
    """A table as people read it: per cent, mean ± spread; seconds and other counts as they are.

    Args:
        numbers: as ``table`` gives it.
        columns: which numbers, in this order. One that was not measured shows as a dash.
    """
    shown = {}
    for name in columns:
        scale, digits = (100, 1) if in_per_cent(name) else (1, 3 if name in RATIOS else 2)
        there = name in numbers.columns.get_level_values(0)
        pairs = numbers[name].to_numpy() * scale if there else [(np.nan, np.nan)] * len(numbers)
        shown[heading(name)] = [with_spread(mean, std, digits) for mean, std in pairs]
    return pd.DataFrame(shown, index=numbers.index.rename(None))


def in_per_cent(name: str) -> bool:
    """Whether people read this number in per cent: accuracies, attacks and the average gap."""
    return name.endswith(("_accuracy", "_attack", "_gap"))


def heading(name: str) -> str:
    """A number's name as people read it, with its unit."""
    words = name.replace("_", " ").replace("zrf", "ZRF").replace("js ", "JS ")
    return f"{words} (%)" if in_per_cent(name) else words


def with_spread(mean: float, std: float, digits: int) -> str:
    if np.isnan(mean):
        return "–"
    return f"{mean:.{digits}f}" + ("" if np.isnan(std) else f" ± {std:.{digits}f}")


def results_folder(notebook: str, dataset: str, model: str) -> Path:
    """Where a notebook saves: results/<notebook>/<dataset>-<model>/."""
    return RESULTS / notebook / f"{dataset}-{model.replace('/', '-')}"


def save(records: Sequence[Mapping], folder: Path | str, name: str) -> pd.DataFrame:
    """Write ``<name>_runs.csv`` (every run) and ``<name>_table.csv`` (mean and spread over seeds).

    The second has for each number its mean, its standard deviation ``_std`` and ``_half95``, so
    that mean ± half95 is the 95 % interval of the mean by Student's t.

    Returns:
        The table of ``table(records)``.
    """
    numbers, runs = table(records), pd.DataFrame(records)
    write_csv(runs, Path(folder) / f"{name}_runs.csv")
    groups = numbers_by_method(runs).agg(half_width)
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


def differences(records: Sequence[Mapping], pairs: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """What one method has more than another, seed by seed, where both start from the same network.

    Args:
        records: as ``table`` takes them.
        pairs: name of a row -> (method, the one that it is compared with).

    Returns:
        A row a pair, columns (number, "mean") and (number, "half95") of the differences over seeds.

    Raises:
        ValueError: a method that was not measured.
    """
    runs = pd.DataFrame(records).set_index(["method", "seed"]).select_dtypes("number")
    measured, rows = runs.index.unique("method"), {}
    for name, pair in pairs.items():
        missing = [method for method in pair if method not in measured]
        if missing:
            raise ValueError(f"{missing[0]} was not measured: there are {', '.join(measured)}")
        ours, theirs = (runs.loc[method] for method in pair)
        rows[name] = (ours - theirs).agg(["mean", half_width]).unstack()
    return pd.DataFrame(rows).T.rename(columns={"half_width": "half95"})


def write_csv(rows: pd.DataFrame, path: Path | str) -> None:
    """Write rows to six digits, without their index; the file appears whole or not at all."""
    with whole(path) as beside:
        rows.to_csv(beside, index=False, float_format="%.6g")
