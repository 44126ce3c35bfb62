"""What may be claimed: which methods are closest to retraining, and which only seem to be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product

import numpy as np
import pandas as pd
from scipy import stats

from .report import LAST, RATIOS, differences, half_width, heading, in_per_cent

LEVEL = 0.05
FLOOR, YARDSTICK = LAST
KINDS = {  # of verdicts, by how they begin
    "farther": ("farther",),
    "too spread to tell": ("too spread",),
    "no farther": ("not told apart", "closer"),
}
DISTANCES = ("js_to_retrained", "activation_distance", "average_gap")  # 0 for the yardstick itself


def claims(rows: Sequence[Mapping], number: str) -> pd.DataFrame:
    """Compare every method's distance from retraining with the noise floor and with the closest.

    All networks of a seed start alike, so differences are taken seed by seed, and tested by
    Student's t. The p-values of each column are corrected for their number (Holm): against the
    floor there is one per method, against the closest one per pair of methods, since which one is
    closest was seen from the data.

    No difference that was found is not "no difference": where a method is farther on average, and
    the 95 % interval reaches beyond another noise floor, as of one that collapses for some seeds,
    the verdict is "too spread to tell", and nothing is claimed.

    Args:
        rows: of one scenario, as ``report.table`` takes them, with the rows "retrained again", the
            noise floor, and "retrained".
        number: which one. "js_to_retrained", "activation_distance" and "average_gap" are distances;
            of another, the distance is the absolute difference from "retrained".

    Returns:
        One row per method, the closest first, and the noise floor: the mean distance, and in words
        what it is against the noise floor and against the closest method.

    Raises:
        ValueError: if "retrained", "retrained again" or any other method was not measured.
    """
    distances = _distances(rows, number)
    floor, ours = distances[FLOOR], distances.drop(columns=[FLOOR, YARDSTICK])
    if ours.empty:
        raise ValueError("there is nothing to compare with retraining: run a method first")
    ours = ours[ours.mean().sort_values().index]
    above_floor = holm({name: p_value(ours[name] - floor) for name in ours})
    apart = holm({(a, b): p_value(ours[b] - ours[a]) for a, b in combinations(ours, 2)})
    closest, scale = ours.columns[0], 100 if in_per_cent(number) else 1
    found = {}
    for name, own in ours.items():
        against = "is the closest"
        if name != closest:
            against = _verdict(own - ours[closest], apart[closest, name], floor.mean())
        found[name] = {
            heading(number): _rounded(scale * own.mean(), number),
            "against the noise floor": _verdict(own - floor, above_floor[name], floor.mean()),
            "against the closest": against,
        }
    shown = pd.DataFrame.from_dict(found, "index")
    shown.loc[FLOOR] = [_rounded(scale * floor.mean(), number), "is the noise floor", "–"]
    return shown.rename_axis(columns="distance from retrained")


def claim(rows: Sequence[Mapping], number: str) -> str:
    """Say in a sentence which methods are closest to retraining by ``number``; see ``claims``.

    Example: "JS to retrained: random mask (0.013) is the closest, not told from fine-tuning
    (0.014); at the noise floor (0.013): random mask, fine-tuning".
    """
    found = claims(rows, number)
    level, found = found.loc[FLOOR].iloc[0], found.drop(FLOOR)
    distance, floor, against = (found[column] for column in found)
    shown = {name: f"{name} ({distance[name]})" for name in found.index}
    first = shown[found.index[0]]
    if floor.str.startswith("not tested").all():
        return f"{heading(number)}: {first} is the closest, which one seed cannot tell"
    tied = [shown[name] for name in found.index[against.str.startswith("not told")]]
    return (
        f"{heading(number)}: {first} is the closest"
        + (f", not told from {', '.join(tied)}" if tied else "")
        + f"; at the noise floor ({level}): {', '.join(at_the_floor(found)) or 'none'}"
    )


def at_the_floor(found: pd.DataFrame) -> list[str]:
    """The methods in a table of ``claims`` that are no farther from retraining than the floor."""
    verdicts = found["against the noise floor"].drop(FLOOR, errors="ignore")
    return list(verdicts.index[~verdicts.str.startswith(("farther", "too spread"))])


def against_original(rows: Sequence[Mapping], number: str) -> pd.Series:
    """Is a method nearer to retraining than the original, which forgot nothing?

    "Closer" and "farther" are said only of a mean difference of the two distances, seed by seed,
    that is larger than the noise floor and whose 95 % interval excludes 0.

    Args:
        rows, number: as ``claims``, with the row "original".

    Returns:
        For each method a verdict, the mean difference and half of its interval.

    Raises:
        ValueError: if one of these rows was not measured.
    """
    distances = _distances(rows, number)
    if "original" not in distances:
        raise ValueError("'original' was not measured: nothing can be compared with it")
    scale, floor = 100 if in_per_cent(number) else 1, distances[FLOOR].mean()
    ours = distances.drop(columns=["original", FLOOR, YARDSTICK])
    found = {}
    for name, change in ours.sub(distances["original"], axis=0).items():
        mean, half = change.mean(), half_width(change)
        is_told = abs(mean) > floor and abs(mean) > half  # not of one seed
        word = ("farther" if mean > 0 else "closer") if is_told else "not told"
        found[name] = f"{word}, {_rounded(scale * mean, number)} ± {_rounded(scale * half, number)}"
    return pd.Series(found, dtype=object)


def verdicts(rows: Sequence[Mapping], numbers: Iterable[str]) -> pd.DataFrame:
    """What several numbers tell: the verdict on the original, and counts of those on methods.

    If not even the original is farther from retraining than the noise floor by a number, that
    number tells nothing of methods, or there are too few seeds.

    Args:
        rows: as ``claims`` takes them, with the row "original".
        numbers: which ones; those that were not measured are left out.

    Returns:
        One row per number: the distance of the "noise floor", the "original" against it, and how
        many methods are "farther", "too spread to tell", and "no farther".
    """
    found = {}
    for number in numbers:
        if any(number in row for row in rows):
            compared = claims(rows, number)
            against = compared["against the noise floor"].drop(FLOOR)
            told = {"noise floor": compared.loc[FLOOR].iloc[0], "original": against.pop("original")}
            for name, words in KINDS.items():
                told[name] = int(against.str.startswith(words).sum())
            found[heading(number)] = told
    return pd.DataFrame.from_dict(found, "index")


def claimed_gains(
    rows: Sequence[Mapping], pairs: Mapping[str, tuple[str, str]], claimed: Mapping[str, float]
) -> pd.DataFrame:
    """Test whether one method gains as much over another as was claimed.

    Differences are taken seed by seed and compared with the claim by Student's t, two-sided; the
    p-values are corrected for the number of claims (Holm).

    Args:
        rows: as ``report.table`` takes them.
        pairs: name of a row -> (method, the one that it is compared with).
        claimed: number -> the difference that was claimed, with its sign.

    Returns:
        One row per pair and number: the mean difference, half of its 95 % interval, both in per
        cent where the number is, and what follows for the claim.

    Raises:
        ValueError: if a method was not measured.
    """
    gains, found, excess = differences(rows, pairs), {}, {}
    runs = pd.DataFrame(rows).set_index(["method", "seed"])
    for name, number in product(pairs, claimed):
        ours, theirs = (runs.loc[method, number] for method in pairs[name])
        excess[name, number] = (ours - theirs - claimed[number]) * np.sign(claimed[number])
        scale = 100 if in_per_cent(number) else 1
        found[name, heading(number)] = {
            "claimed": scale * claimed[number],
            "mean": scale * gains.loc[name, (number, "mean")],
            "half95": scale * gains.loc[name, (number, "half95")],
        }
    corrected = holm({key: p_value(more) for key, more in excess.items()})
    table = pd.DataFrame.from_dict(found, "index").round(2)
    words = {True: "more than claimed", False: "less than claimed"}
    table["verdict"] = [
        f"{words[more.mean() > 0] if corrected[key] < LEVEL else 'not told apart'}, "
        + _p_text(corrected[key])
        for key, more in excess.items()
    ]
    return table


def _distances(rows: Sequence[Mapping], number: str) -> pd.DataFrame:
    """Distance from retraining, one row per seed, one column per method."""
    runs = pd.DataFrame(rows)
    missing = [name for name in (YARDSTICK, FLOOR) if name not in set(runs["method"])]
    if missing:
        raise ValueError(f"{missing[0]!r} was not measured: nothing can be compared with it")
    if number not in runs:
        raise ValueError(f"{number} was not measured: there are {', '.join(runs)}")
    values = runs.pivot(index="seed", columns="method", values=number)
    values = values[list(dict.fromkeys(runs["method"]))]
    return values if number in DISTANCES else values.sub(values[YARDSTICK], axis=0).abs()


def p_value(differences: pd.Series) -> float:
    """Of the mean being 0, two-sided, by Student's t; NaN for fewer than two seeds."""
    known = differences.dropna()
    if len(known) < 2:
        return np.nan
    spread = known.std()
    if spread <= 1e-12 * abs(known.mean()) or spread == 0:  # the same for every seed
        return float(known.mean() == 0)
    return float(2 * stats.t.sf(abs(known.mean()) / spread * len(known) ** 0.5, len(known) - 1))


def holm(p_values: Mapping) -> dict:
    """Holm's correction: the k-th smallest of n is multiplied by n - k + 1, and none decreases.

    NaN stays, and is not counted.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    known = {name: p for name, p in p_values.items() if not np.isnan(p)}
    corrected, largest = {name: np.nan for name in p_values if name not in known}, 0.0
    for place, name in enumerate(sorted(known, key=known.get)):
        largest = max(largest, min(1.0, (len(known) - place) * known[name]))
        corrected[name] = largest
    return corrected


def _verdict(difference: pd.Series, p: float, margin: float) -> str:
    """What a difference over seeds is; if it is not told from 0, whether it can be a large one."""
    if np.isnan(p):
        return "not tested: one seed"
    known = difference.dropna()
    half = half_width(known)
    is_farther = known.mean() > 0
    word = "farther" if is_farther else "closer"
    if p >= LEVEL:
        too_spread = is_farther and known.mean() + half > margin
        word = "too spread to tell" if too_spread else "not told apart"
    return f"{word}, {_p_text(p)}"


def _p_text(p: float) -> str:
    return "not tested" if np.isnan(p) else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _rounded(value: float, number: str) -> str:
    return f"{value:.3f}" if number in RATIOS else f"{value:.2f}"
