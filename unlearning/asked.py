"""What do people ask to forget, and where is it hard: methods across scenarios, and along them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from .claims import DISTANCES, FLOOR, LEVEL, YARDSTICK, at_the_floor, claims, holm, p_value
from .report import LAST, Tables, half_width, in_per_cent

AT, SPREAD, FARTHER, UNTESTED = "at the floor", "too spread to tell", "farther", "not tested"
MARKS = {AT: "=", SPREAD: "?", FARTHER: "", UNTESTED: ""}


class AgainstFloor(NamedTuple):
    """Method x scenario: distance from retraining over the noise floor, and a verdict in words."""

    ratios: pd.DataFrame
    verdicts: pd.DataFrame

    @property
    def marks(self) -> pd.DataFrame:
        """A sign for each verdict: "=" at the floor, "?" too spread to tell, none if farther."""
        return self.verdicts.replace(MARKS).fillna("")


def against_floor(
    tables: Tables, number: str, scenarios: Iterable[str] | None = None
) -> AgainstFloor:
    """Every method's distance from retraining in every scenario, in units of its noise floor.

    ratio = mean over seeds of d(method, retrained) / mean over seeds of d(retrained again,
    retrained), above 0. At 1, a method is as far from retraining as a second retraining is. The
    verdict is that of ``claims``, in one of four words: "at the floor", which includes what is
    closer; "farther"; "too spread to tell"; and "not tested", of one seed.

    Args:
        tables: an experiment, with the rows "retrained" and "retrained again".
        number: "js_to_retrained", "activation_distance" or "average_gap".
        scenarios: only these, in this order; by default all.

    Returns:
        ``ratios`` and ``verdicts``, one row per method and one column per scenario; NaN where a
        method was not measured, or where both retrained networks are alike.

    Raises:
        ValueError: as ``claims``.
    """
    ratios, verdicts = {}, {}
    for of in tables.scenarios if scenarios is None else scenarios:
        found, means = claims(tables.records(of), number), tables.numbers(of)[number, "mean"]
        ratios[of] = means.drop([*LAST]) / (means[FLOOR] or np.nan)
        words = found["against the noise floor"].drop(FLOOR)
        verdicts[of] = words.str.extract(f"({FARTHER}|{SPREAD}|{UNTESTED})")[0]
        near = [name for name in at_the_floor(found) if verdicts[of][name] != UNTESTED]
        verdicts[of][near] = AT
    order = list(dict.fromkeys(name for own in ratios.values() for name in own.index))
    return AgainstFloor(*(pd.DataFrame(one).reindex(order) for one in (ratios, verdicts)))


def everywhere(found: AgainstFloor) -> pd.DataFrame:
    """How near a method comes over all scenarios, the nearest first.

    Returns:
        One row per method: the geometric mean of its ratios, the largest, the scenario of that, in
        how many scenarios it is at the floor, and of how many.
    """
    ratios = found.ratios
    table = pd.DataFrame(
        {
            "times the floor": np.exp(np.log(ratios).mean(axis=1)),
            "at worst": ratios.max(axis=1),
            "in": ratios.idxmax(axis=1),
            AT: (found.verdicts == AT).sum(axis=1),
            "of": ratios.notna().sum(axis=1),
        }
    )
    return table.sort_values("times the floor", kind="stable")


def nearest(table: pd.DataFrame, count: int = 3) -> str:
    """The first methods of a table of ``everywhere`` that were measured in most scenarios.

    Example: "random mask 1.1, l1-sparse 1.3".
    """
    shown = table.loc[table["of"] == table["of"].max(), "times the floor"].head(count)
    return ", ".join(f"{name} {times:.1f}" for name, times in shown.items())


def runs_along(records: Mapping[float, Sequence[Mapping]], along: str) -> pd.DataFrame:
    """Rows of several scenarios that differ in one value, such as the share that is known.

    Args:
        records: the value -> its rows.
        along: what the value is; the name of the first column.
    """
    return pd.DataFrame([{along: at, **row} for at in sorted(records) for row in records[at]])


def curves(runs: pd.DataFrame, along: str, number: str) -> pd.DataFrame:
    """Mean over seeds at each value, one column per method; per cent where the number is."""
    means = runs.pivot_table(number, along, "method", sort=False).sort_index()
    return means * _scale(number)


def changes(
    runs: pd.DataFrame, along: str, number: str, *, beyond: str | None = None
) -> pd.DataFrame:
    """By how much a number changes from the first value to the last, seed by seed.

    c(s) = x(last, s) - x(first, s), less the same of the row ``beyond``: "retrained again" takes
    away what a distance from retraining changes by itself, since the noise floor of a larger set
    is another. Means are tested by Student's t, corrected for the number of methods (Holm).

    Args:
        runs: one row per run, with the columns "method", "seed", ``along`` and ``number``, as
            ``report.by_request`` and ``runs_along`` give them.
        along: what is varied.
        number: which number.
        beyond: a method whose change is taken away from that of all others.

    Returns:
        One row per method, the smallest p first: the means at both ends, the change, half of its
        95 % interval, all in per cent where the number is, and a verdict in words.

    Raises:
        ValueError: if there is one value alone, or ``beyond`` was not measured.
    """
    values = sorted(runs[along].unique())
    if len(values) < 2:
        raise ValueError(f"there is one {along} alone, so nothing changes: give two or more")
    by_seed = runs.pivot(index=[along, "seed"], columns="method", values=number) * _scale(number)
    first, last = by_seed.loc[values[0]], by_seed.loc[values[-1]]
    change = (last - first).dropna(axis=1, how="all")
    if beyond is not None:
        if beyond not in change:
            raise ValueError(f"{beyond!r} was not measured: there are {', '.join(change)}")
        change = change.sub(change[beyond], axis=0).drop(columns=beyond)
    if number in DISTANCES:
        change = change.drop(columns=YARDSTICK, errors="ignore")  # 0 by definition
    p = pd.Series({name: p_value(change[name]) for name in change})
    corrected = holm(p.to_dict())
    ends = {f"{along} {at:g}": own.mean() for at, own in ((values[0], first), (values[-1], last))}
    found = pd.DataFrame({**ends, "change": change.mean(), "half95": change.agg(half_width)})
    found = found.loc[p.sort_values(kind="stable").index]
    found["verdict"] = [_word(found["change"][name], corrected[name]) for name in found.index]
    return found


def _word(change: float, p: float) -> str:
    if np.isnan(p):
        return "not tested: one seed"
    return f"{'not told from 0' if p >= LEVEL else 'rises' if change > 0 else 'falls'}, p = {p:.3f}"


def told(found: pd.DataFrame, name: str | None = None, digits: int = 3) -> str:
    """A method's row of ``changes``, as a title has it; by default that of the surest change.

    Example: "NegGrad+ +0.120 ± 0.034 (rises, p = 0.010)".
    """
    row = found.iloc[0] if name is None else found.loc[name]
    change, half, word = row["change"], row["half95"], row["verdict"]
    width = "" if np.isnan(half) else f" ± {half:.{digits}f}"
    return f"{row.name} {change:+.{digits}f}{width} ({word})"


def floor_of(runs: pd.DataFrame, number: str) -> float:
    """The noise floor: mean distance of "retrained again" from "retrained", all runs together.

    In per cent where the number is.
    """
    own = {name: runs[runs["method"] == name].set_index(["scenario", "seed"]) for name in LAST}
    again, goal = (own[name][number] for name in LAST)
    return float((again - goal).abs().mean()) * _scale(number)


def _scale(number: str) -> int:
    return 100 if in_per_cent(number) else 1
