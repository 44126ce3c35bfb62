"""What may be claimed: known distances, Holm's correction, ties, and what was not measured."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from unlearning.claims import (
    against_original,
    at_the_floor,
    claim,
    claimed_gains,
    claims,
    holm,
    p_value,
    verdicts,
)

SEEDS = range(8)


def rows_of(**distances):
    """Runs of methods whose JS divergences are given, of a floor of 0.01, and of "retrained"."""
    noise = np.random.default_rng(0).normal(0, 1e-4, (len(SEEDS), len(distances) + 1))
    rows = []
    for seed in SEEDS:
        for place, (name, js) in enumerate([*distances.items(), ("retrained again", 0.01)]):
            js = {"js_to_retrained": js + noise[seed, place], "test_accuracy": 0.9 - js}
            rows.append({"method": name, "seed": seed, **js})
        rows.append(
            {"method": "retrained", "seed": seed, "js_to_retrained": 0.0, "test_accuracy": 0.9}
        )
    return rows


def test_verdicts_are_those_of_the_true_order():
    rows = rows_of(far=0.03, near=0.02, tied=0.02, floor=0.01, inside=0.005)
    found = claims(rows, "js_to_retrained")
    assert found.loc["retrained again"].tolist() == ["0.010", "is the noise floor", "–"]
    found = found.drop("retrained again")
    assert list(found.index)[:2] == ["inside", "floor"] and found.index[-1] == "far"
    floor = found["against the noise floor"].str.partition(",")[0].to_dict()
    farther = dict.fromkeys(["far", "near", "tied"], "farther")
    assert floor == {"inside": "closer", "floor": "not told apart", **farther}
    assert found["against the closest"].str.partition(",")[0].tolist() == [
        "is the closest",
        *["farther"] * 4,
    ]
    assert claim(rows_of(a=0.02, b=0.02, c=0.03), "js_to_retrained").endswith(
        "(0.020) is the closest, not told from b (0.020); at the noise floor (0.010): none"
    )


def test_better_than_doing_nothing_is_said_beyond_the_noise_floor_alone():
    rows = rows_of(original=0.03, near=0.01, little=0.025, far=0.05)
    wild = [row | {"method": "wild"} for row in rows if row["method"] == "original"]
    wild = [row | {"js_to_retrained": 0.4 * (row["seed"] == 0)} for row in wild]
    told = against_original([*rows, *wild], "js_to_retrained")
    words = told.str.partition(",")[0].to_dict()
    assert words == {"near": "closer", "little": "not told", "far": "farther", "wild": "not told"}
    assert told["near"] == "closer, -0.020 ± 0.000"
    one = [row for row in rows if row["seed"] == 0]
    assert set(against_original(one, "js_to_retrained").str.partition(",")[0]) == {"not told"}
    with pytest.raises(ValueError, match="'original' was not measured"):
        against_original(rows_of(near=0.01), "js_to_retrained")


def test_a_method_that_collapses_for_some_seeds_is_not_called_close():
    rows = rows_of(steady=0.0101, far=0.03)
    collapsing = [{"method": "wild", "seed": s, "js_to_retrained": 0.9 * (s < 2)} for s in SEEDS]
    found = claims([*rows, *collapsing], "js_to_retrained")
    for column in ("against the noise floor", "against the closest"):
        assert found.loc["wild", column].startswith("too spread to tell, p = ")
    assert at_the_floor(found) == ["steady"]
    assert "not told from" not in claim([*rows, *collapsing], "js_to_retrained")


def test_verdicts_of_several_numbers_are_counted_beside_that_on_the_original():
    rows = rows_of(original=0.5, far=0.03, near=0.02, floor=0.01, inside=0.005)
    rows += [{"method": "wild", "seed": s, "js_to_retrained": 0.9 * (s < 2)} for s in SEEDS]
    for row in rows:
        row["constant"] = 0.5
    table = verdicts(rows, ["js_to_retrained", "a number of another scenario", "constant"])
    assert table.index.tolist() == ["JS to retrained", "constant"]
    first, constant = (row.to_dict() for _, row in table.iterrows())
    assert first.pop("original").startswith("farther, p")
    counts = {"farther": 2, "too spread to tell": 1, "no farther": 2}
    assert first == {"noise floor": "0.010", **counts}
    assert constant.pop("original").startswith("not told apart")
    assert constant == {
        "noise floor": "0.00",
        **dict.fromkeys(counts, 0),
        "no farther": 5,
    }
    one = verdicts([row for row in rows if row["seed"] == 0], ["js_to_retrained"]).iloc[0]
    assert one["original"] == "not tested: one seed" and one[list(counts)].sum() == 0


def test_a_number_that_is_no_distance_is_compared_with_retrained():
    (column, *_) = claims(rows_of(a=0.02, b=0.03), "test_accuracy").items()
    assert column[0] == "test accuracy (%)" and column[1][:2].tolist() == ["2.00", "3.00"]


def test_p_values_are_students_and_corrected_by_holm():
    rng = np.random.default_rng(1)
    ours, theirs = rng.normal(size=(2, 9))
    expected = stats.ttest_rel(ours, theirs).pvalue
    assert np.isclose(p_value(pd.Series(ours - theirs)), expected)
    assert np.isnan(p_value(pd.Series([1.0, np.nan])))
    assert p_value(pd.Series([0.0, 0.0])) == 1 and p_value(pd.Series([0.2, 0.2])) == 0
    found = holm({"a": 0.01, "b": 0.02, "c": 0.5, "d": np.nan})
    assert found["a"] == 0.03 and found["b"] == 0.04 and found["c"] == 0.5
    assert np.isnan(found["d"])


def test_pure_noise_is_rarely_called_a_finding():
    """The chance of any claim among eight equal methods stays at 5 %, in 200 repetitions."""
    rng, false = np.random.default_rng(2), 0
    names = [*"abcdefgh", "retrained again", "retrained"]
    for _ in range(200):
        rows = [
            {"method": name, "seed": seed, "js_to_retrained": rng.normal()}
            for name in names
            for seed in range(5)
        ]
        column = claims(rows, "js_to_retrained").iloc[:, 1]
        false += column.str.startswith(("farther", "closer")).any()
    assert false <= 20


def test_one_seed_claims_nothing_and_what_is_missing_is_named():
    one = [row for row in rows_of(a=0.02, b=0.03) if row["seed"] == 0]
    assert claims(one, "js_to_retrained").iloc[0, 1] == "not tested: one seed"
    assert claim(one, "js_to_retrained").endswith("is the closest, which one seed cannot tell")
    without = [row for row in rows_of(a=0.02) if row["method"] != "retrained again"]
    with pytest.raises(ValueError, match="'retrained again' was not measured"):
        claims(without, "js_to_retrained")
    with pytest.raises(ValueError, match="zrf was not measured"):
        claims(rows_of(a=0.02), "zrf")
    with pytest.raises(ValueError, match="run a method first"):
        claims(rows_of(), "js_to_retrained")


def test_a_claimed_gain_is_compared_with_the_claim_and_not_with_zero():
    rows = rows_of(ours=0.03, theirs=0.01)
    pairs = {"ours": ("ours", "theirs")}
    for claimed, verdict in [(0.01, "more than claimed"), (0.05, "less than claimed")]:
        found = claimed_gains(rows, pairs, {"js_to_retrained": claimed}).iloc[0]
        assert found["verdict"].startswith(verdict) and found["mean"] == 0.02
    found = claimed_gains(rows, pairs, {"test_accuracy": -0.02}).iloc[0]
    assert found["claimed"] == -2 and found["mean"] == -2
    lost = claimed_gains(rows, pairs, {"test_accuracy": -0.03}).iloc[0]
    assert lost["verdict"].startswith("less than claimed")
