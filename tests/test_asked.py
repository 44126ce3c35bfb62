"""Methods across scenarios and along a value, against numbers worked out by hand."""

import math

import pandas as pd
import pytest

from unlearning import asked
from unlearning.report import Tables

JS = "js_to_retrained"
SEEDS = range(6)
NOISE = (0.0, 0.01, -0.01, 0.02, -0.02, 0.0)  # by seed; its mean is 0


def rows(scenario, values, number=JS, spread=NOISE):
    """One row per method and seed: its mean, and the noise of the seed."""
    return [
        {"method": name, "scenario": scenario, "seed": seed, number: mean + spread[seed] * scale}
        for name, (mean, scale) in values.items()
        for seed in SEEDS
    ]


class Found(Tables):
    def __init__(self, *runs):
        self.rows = {(row["method"], row["scenario"], row["seed"]): row for row in runs}
        self.scenarios = dict.fromkeys(row["scenario"] for row in runs)


OURS = {"retrained again": (0.1, 0), "retrained": (0, 0)}
FIRST = rows("one", {"near": (0.1, 1), "far": (0.4, 1), "wild": (0.3, 30)} | OURS)
SECOND = rows("two", {"near": (0.4, 1), "far": (0.4, 1)} | OURS)


def test_ratios_are_means_over_the_floor_and_verdicts_those_of_claims():
    ratios, verdicts = found = asked.against_floor(Found(*FIRST, *SECOND), JS)
    assert found.marks.to_dict("list") == {"one": ["=", "", "?"], "two": ["", "", ""]}
    assert ratios.loc[["near", "far", "wild"], "one"].tolist() == pytest.approx([1, 4, 3])
    assert ratios.loc[["near", "far"], "two"].tolist() == pytest.approx([4, 4])
    assert math.isnan(ratios.loc["wild", "two"]) and pd.isna(verdicts.loc["wild", "two"])
    assert verdicts["one"].to_dict() == {
        "near": asked.AT,
        "far": asked.FARTHER,
        "wild": asked.SPREAD,
    }
    chosen = asked.against_floor(Found(*FIRST, *SECOND), JS, ["two"])
    assert list(chosen.ratios) == ["two"] and {*chosen.ratios.index} == {"near", "far"}


def test_one_seed_is_never_at_the_floor_by_a_test():
    alone = [row for row in FIRST if row["seed"] == 0]
    _, verdicts = asked.against_floor(Found(*alone), JS)
    assert (verdicts["one"] == asked.UNTESTED).all()


def test_a_floor_of_0_gives_no_ratio():
    same = rows("one", {"a": (0.1, 1), "retrained again": (0, 0), "retrained": (0, 0)})
    assert asked.against_floor(Found(*same), JS).ratios.isna().all(axis=None)


def test_everywhere_is_the_geometric_mean_and_counts():
    table = asked.everywhere(asked.against_floor(Found(*FIRST, *SECOND), JS))
    assert list(table.index) == ["near", "wild", "far"]
    assert table["times the floor"].tolist() == pytest.approx([2, 3, 4])
    assert table.loc["near"].drop("times the floor").to_list() == [pytest.approx(4), "two", 1, 2]
    assert table.loc["wild", "of"] == 1
    assert asked.nearest(table) == "near 2.0, far 4.0"  # wild was measured in one


def sequence(**drifts):
    """Three requests: the floor grows by 0.01 at each, and a method by its own drift besides."""
    return pd.DataFrame(
        {"request": place, **row}
        for place in (1, 2, 3)
        for row in rows(
            f"request {place}",
            {name: (0.2 + drift * (place - 1), scale * (place - 1)) for name, (drift, scale) in
             drifts.items()}
            | {"retrained again": (0.1 + 0.01 * (place - 1), 0), "retrained": (0, 0)},
        )
    )  # fmt: skip


def test_changes_are_from_first_to_last_seed_by_seed_beyond_the_floor():
    runs = sequence(still=(0.01, 0.01), drifts=(0.11, 0.5), noisy=(0.015, 1), returns=(-0.08, 0.5))
    found = asked.changes(runs, "request", JS, beyond="retrained again")
    assert list(found.index) == ["drifts", "returns", "noisy", "still"]  # by p
    assert found["change"].tolist() == pytest.approx([0.2, -0.18, 0.01, 0], abs=1e-9)
    spread = pd.Series(NOISE).std()  # of two steps at half of it, and of two at all of it
    t = 2.5706  # 0.975 quantile of Student's t with 5 degrees of freedom
    wide = t * spread / math.sqrt(6)
    assert found["half95"].tolist() == pytest.approx([wide, wide, 2 * wide, wide / 50], rel=1e-3)
    words = found["verdict"].str.split(",").str[0].to_dict()
    assert asked.told(found).startswith(f"drifts +0.200 ± {wide:.3f} (rises, p = 0.0")
    assert asked.told(found, "still", 1).startswith("still")
    assert words["drifts"] == "rises" and words["returns"] == "falls"
    assert words["noisy"] == words["still"] == "not told from 0"
    assert found.loc["drifts", ["request 1", "request 3"]].tolist() == pytest.approx([0.2, 0.42])


def test_changes_of_an_accuracy_are_in_per_cent_and_keep_the_yardstick():
    parts = {0.1: {"a": (0.5, 0), "retrained": (0.6, 0)}, 1: {"a": (0.9, 1), "retrained": (0.8, 0)}}
    records = {at: rows(str(at), own, "clean_accuracy") for at, own in reversed(parts.items())}
    runs = asked.runs_along(records, "share")
    assert runs["share"].is_monotonic_increasing and next(iter(runs)) == "share"
    found = asked.changes(runs, "share", "clean_accuracy")
    assert found["change"].to_dict() == pytest.approx({"a": 40, "retrained": 20})
    shown = asked.curves(runs, "share", "clean_accuracy")
    assert shown.loc[0.1].to_dict() == pytest.approx({"a": 50, "retrained": 60})
    assert shown.loc[1].to_dict() == pytest.approx({"a": 90, "retrained": 80})


def test_changes_say_what_is_missing():
    runs = sequence(still=(0.01, 0))
    with pytest.raises(ValueError, match="'x' was not measured: there are retrained"):
        asked.changes(runs, "request", JS, beyond="x")
    with pytest.raises(ValueError, match="there is one request alone"):
        asked.changes(runs[runs["request"] == 2], "request", JS)
    alone = asked.changes(runs[runs["seed"] == 0], "request", JS, beyond="retrained again")
    assert asked.told(alone, digits=1) == "still -0.0 (not tested: one seed)"


def test_the_floor_is_the_mean_absolute_difference_of_both_retrained():
    runs = pd.DataFrame(
        {"method": name, "scenario": of, "seed": seed, "clean_accuracy": value}
        for name, values in {
            "retrained again": (0.5, 0.7, 0.9),
            "retrained": (0.6, 0.6, 0.6),
        }.items()
        for (of, seed), value in zip((("x", 0), ("x", 1), ("y", 0)), values, strict=True)
    )
    assert asked.floor_of(runs, "clean_accuracy") == pytest.approx(100 * (0.1 + 0.1 + 0.3) / 3)
