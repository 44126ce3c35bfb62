"""F of several originals: independent replicates, and the intervals and claims that they allow.

However often one original is unlearned, F holds for that one. So each of several originals is
unlearned many times, and compared with retrained networks that no other original is compared with.
All share one data set and one split: the intervals say nothing about other forget sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product

import numpy as np
import pandas as pd
from scipy import stats

from ..claims import holm
from ..metrics.forgetting_quality import forgetting_quality
from ..report import half_width
from .scoring import Arrays
from .tables import recorded

LEVEL = 0.05  # of the intervals and tests
FEWEST = 2  # starts, and networks in a block
TINY = 1e-12  # a standard error below it is one of rounding, and nothing can be tested


def blocks(networks: int, starts: int) -> list[range]:
    """Disjoint, equally large blocks of networks, one per original.

    >>> blocks(7, 3)
    [range(0, 2), range(2, 4), range(4, 6)]

    Raises:
        ValueError: if there are fewer than two blocks, or fewer than two networks in each.
    """
    if starts < FEWEST or networks < FEWEST * starts:
        raise ValueError(
            f"{networks} networks and {starts} starts are too few: an interval needs at least "
            f"{FEWEST} starts, and {FEWEST} networks for each"
        )
    size = networks // starts
    return [range(start * size, (start + 1) * size) for start in range(starts)]


def join_starts(first: Arrays, others: Arrays, parts: Sequence[range]) -> dict[str, np.ndarray]:
    """The networks of all originals, in the order of ``parts``.

    Args:
        first: what was measured of the first original's networks, of which block 0 is taken.
        others: the same of the other originals' networks, block by block.
        parts: as ``blocks`` gives them.
    """
    size = len(parts[0])
    sides = [{name: array[:size] for name, array in first.items()}, others]
    sides = [{**_machine(side), **side} for side in sides]
    return {name: np.concatenate([side[name] for side in sides]) for name in sides[0]}


def _machine(arrays: Arrays) -> Arrays:
    """Device and version of torch of each network; those of older files were not recorded."""
    count = len(arrays["confidences"])
    return {name: np.full(count, text) for name, text in recorded(arrays).items()}


def replicates(
    measured: Mapping[str, Arrays], parts: Sequence[range], *, retrained: str = "retrained"
) -> pd.DataFrame:
    """F of every kind of network, block by block against the same retrained networks.

    Args:
        measured: name -> what ``score_arrays`` keeps of N networks; those of block s were unlearned
            from original s, or have an original of their own.
        parts: the rows of each block, as ``blocks`` gives them.
        retrained: name of the yardstick, which has no rows.

    Returns:
        One row per name and start: F, number of networks per side, device and version of torch.
    """
    theirs, rows = measured[retrained]["confidences"], []
    others = {name: arrays for name, arrays in measured.items() if name != retrained}
    for (name, arrays), (start, part) in product(others.items(), enumerate(parts)):
        own = {key: array[list(part)] for key, array in arrays.items()}
        quality = forgetting_quality(own["confidences"], theirs[list(part)]).quality
        row = {"method": name, "start": start, "networks": len(part), "F": quality}
        rows.append(row | recorded(own))
    return pd.DataFrame(rows)


def interval_table(rows: pd.DataFrame, *, ceiling: str = "retrained again") -> pd.DataFrame:
    """Mean F over starts and its part of the ceiling, each with a 95 % interval.

    F has Student's t interval. F / ceiling is a ratio of two means over the same starts, with
    ``fieller``'s interval. Both are cut off at 0.

    Args:
        rows: as ``replicates`` returns them.
        ceiling: name of a second set of retrained networks.

    Returns:
        One row per name, the highest F first. "not told from" names what differs from it by less
        than can be told (see ``differences``). Device and version of torch come last.
    """
    qualities, pairs, found = _by_start(rows), differences(rows), {}
    for name in qualities.mean().sort_values(ascending=False, kind="stable").index:
        ours, theirs = qualities[name], qualities[ceiling]
        low, high = student(ours)
        least, most = (1.0, 1.0) if name == ceiling else fieller(ours, theirs)
        found[name] = {
            "F": ours.mean(),
            "from": max(low, 0.0),
            "to": high,
            "F / ceiling": ours.mean() / theirs.mean() if theirs.any() else np.nan,
            "ratio from": max(least, 0.0),
            "ratio to": most,
            "not told from": ", ".join(_not_told(pairs, name)) or "–",
            **recorded({text: rows.loc[rows.method == name, text] for text in ("device", "torch")}),
        }
    return pd.DataFrame.from_dict(found, "index")


def differences(rows: pd.DataFrame) -> pd.DataFrame:
    """Differences of F between every two names, start by start.

    All kinds of one start are compared with the same retrained networks, which makes them pairs.

    Returns:
        One row per pair: mean, 95 % interval (of each alone), and the p-value by Student's t,
        corrected for the number of pairs (Holm).
    """
    qualities, found = _by_start(rows), {}
    for pair in combinations(qualities, 2):
        apart = qualities[pair[0]] - qualities[pair[1]]
        error, (low, high) = apart.sem(), student(apart)
        p = 2 * stats.t.sf(abs(apart.mean()) / error, len(apart) - 1) if error > TINY else 1.0
        found[pair] = {"difference": apart.mean(), "from": low, "to": high, "p": p}
    table = pd.DataFrame.from_dict(found, "index")
    return table.assign(p=pd.Series(holm(table["p"])))


def conclusions(
    rows: pd.DataFrame, methods: Sequence[str], *, ceiling: str = "retrained again"
) -> str:
    """Say which methods are below the ceiling, and which is best, as far as it can be told.

    Args:
        rows: as ``replicates`` returns them.
        methods: names of the methods among them.
        ceiling: as ``interval_table``.
    """
    table, pairs = interval_table(rows, ceiling=ceiling), differences(rows)
    top, near = table.loc[ceiling], _not_told(pairs, ceiling)
    best = next(name for name in table.index if name in methods)
    names = {
        "below": [name for name in methods if name not in near and table.F[name] < top.F],
        "near": [name for name in methods if name in near],
        "tied": [name for name in methods if name in _not_told(pairs, best)],
    }
    said = {what: ", ".join(found) or "none" for what, found in names.items()}
    own = table.loc[best]
    return (
        f"Ceiling: F {top.F:.3f} ({top['from']:.3f} to {top.to:.3f}). Below it: {said['below']}. "
        f"Not told from it: {said['near']}.\n"
        f"Highest of the methods: {best}, F {own.F:.4f}, {own['F / ceiling']:.1%} of the ceiling "
        f"({own['ratio from']:.1%} to {own['ratio to']:.1%}). Not told from it: {said['tied']}.\n"
        f"95 % intervals over {rows['start'].nunique()} blocks of networks; tested by Student's "
        f"t at {LEVEL:.0%}, with Holm's correction for {len(pairs)} pairs."
    )


def student(values: Sequence[float]) -> tuple[float, float]:
    """Student's t interval of a mean, 95 %: mean ± t(0.975, n - 1) s / sqrt(n)."""
    values = pd.Series(values, dtype=float)
    half = half_width(values)
    return values.mean() - half, values.mean() + half


def fieller(numerators: Sequence[float], denominators: Sequence[float]) -> tuple[float, float]:
    """Fieller's interval of mean(a) / mean(b) for pairs (a, b), 95 %.

    It holds every ratio r for which a - r b, pair by pair, has a mean that Student's t test does
    not tell from 0. That is exact for normal pairs, correlated or not, and allows an a of 0, which
    a t interval of log(a / b) does not. If the mean of b is not told from 0, no ratio can be
    excluded: (-inf, inf).

    Source: Fieller, Some Problems in Interval Estimation, JRSS B 16, 1954.
    """
    a, b = (np.asarray(values, float) for values in (numerators, denominators))
    (aa, ab), (_, bb) = stats.t.ppf(1 - LEVEL / 2, len(a) - 1) ** 2 * np.cov(a, b) / len(a)
    squared, half_linear = b.mean() ** 2 - bb, a.mean() * b.mean() - ab
    if squared <= 0:
        return -np.inf, np.inf
    root = max(0.0, half_linear**2 - squared * (a.mean() ** 2 - aa)) ** 0.5
    return (half_linear - root) / squared, (half_linear + root) / squared


def _by_start(rows: pd.DataFrame) -> pd.DataFrame:
    """F with one row per start and one column per method, in order of appearance."""
    return rows.pivot(index="start", columns="method", values="F")[rows["method"].unique()]


def _not_told(pairs: pd.DataFrame, name: str) -> list[str]:
    """The others of the pairs with this name whose difference is not told from 0."""
    equal = [pair for pair, p in pairs["p"].items() if name in pair and not p < LEVEL]
    return [one if other == name else other for one, other in equal]
