"""Replicates: their intervals hold what they promise, and claims are corrected for their number."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from unlearning.challenge import blocks, conclusions, interval_table, replicates
from unlearning.challenge.replicates import differences, fieller, join_starts, student
from unlearning.metrics import example_attacks, forgetting_quality

NETWORKS, EXAMPLES, STARTS, TIMES = 16, 3, 8, 200


def rows_of(qualities):
    """What ``replicates`` returns, for values of F by name, one per start."""
    return pd.DataFrame(
        [
            {"method": name, "start": start, "F": value, "device": "cpu", "torch": "2"}
            for name, values in qualities.items()
            for start, value in enumerate(values)
        ]
    )


def bootstrap(unlearned, retrained, generator):
    """F ± 1.96 standard deviations over networks drawn again, from one original."""
    resampled = [
        forgetting_quality(*(side[generator.integers(len(side), size=len(side))] for side in pair))
        for pair in [(unlearned, retrained)] * 10
    ]
    half = 1.96 * np.std([found.quality for found in resampled], ddof=1)
    quality = forgetting_quality(unlearned, retrained).quality
    return quality - half, quality + half


def test_the_interval_over_originals_covers_and_one_of_resampled_networks_does_not(monkeypatch):
    """Originals differ, and unlearned networks stay near theirs; the mean of all F is the truth."""
    monkeypatch.setattr(example_attacks, "ENDS", 20)  # fewer intervals per attack: 400 times faster
    draw = np.random.default_rng(0)
    pairs = []
    for _ in range(TIMES * STARTS):
        original, noise = draw.normal(size=EXAMPLES), draw.normal(size=(2, NETWORKS, EXAMPLES))
        pairs.append((original + 0.7 * noise[0], noise[1]))
    qualities = np.array([forgetting_quality(*pair).quality for pair in pairs])

    def coverage(intervals):
        return np.mean([low <= qualities.mean() <= high for low, high in intervals])

    assert coverage(map(student, qualities.reshape(TIMES, STARTS))) == pytest.approx(0.95, abs=0.04)
    assert coverage(bootstrap(*pair, draw) for pair in pairs[:150]) < 0.87


def test_fiellers_interval_covers_a_ratio_and_is_a_t_test_inverted():
    draw, covered = np.random.default_rng(0), 0
    for _ in range(2000):
        b = draw.normal(1, 0.3, 5)
        low, high = fieller(0.4 * b + draw.normal(0, 0.2, 5), b)
        covered += low <= 0.4 <= high
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)
    a, b = np.array([0.1, 0.3, 0.2, 0.25]), np.array([1.0, 1.2, 0.8, 1.1])
    for ratio in fieller(a, b):
        assert stats.ttest_1samp(a - ratio * b, 0).pvalue == pytest.approx(0.05)
    assert fieller(np.zeros(3), [1.0, 1.1, 0.9]) == (0, 0)
    assert fieller([1.0, 2, 3], [-1.0, 0.1, 1]) == (-np.inf, np.inf)


def test_each_block_is_compared_with_its_own_retrained_networks():
    draw = np.random.default_rng(0).normal
    measured = {
        name: {"confidences": draw(size=(9, 3)), "device": np.full(9, "cpu")}
        for name in ("retrained", "a", "b")
    }
    rows = replicates(measured, blocks(9, 2))
    assert rows[["method", "start"]].values.tolist() == [["a", 0], ["a", 1], ["b", 0], ["b", 1]]
    for row in rows.itertuples():
        part = slice(4 * row.start, 4 * row.start + 4)
        sides = (measured[name]["confidences"][part] for name in (row.method, "retrained"))
        assert forgetting_quality(*sides).quality == row.F and row.networks == 4
    assert set(rows["device"]) == {"cpu"} and set(rows["torch"]) == {"not recorded"}
    for networks, starts in ((3, 2), (64, 1)):
        with pytest.raises(ValueError, match="at least 2 starts, and 2 networks for each"):
            blocks(networks, starts)


def test_starts_are_joined_in_order_and_what_was_not_recorded_is_said():
    first = {"confidences": np.arange(6.0)[:, None]}
    others = {"confidences": np.arange(60.0, 64)[:, None], "device": np.full(4, "cuda")}
    joined = join_starts(first, others, blocks(6, 3))
    assert joined["confidences"].ravel().tolist() == [0, 1, 60, 61, 62, 63]
    assert joined["device"].tolist() == ["not recorded"] * 2 + ["cuda"] * 4


def test_claims_say_what_is_told_apart_and_what_is_not():
    ceiling = np.array([0.20, 0.22, 0.18, 0.21, 0.19])
    qualities = {
        "retrained again": ceiling,
        "near": ceiling + np.array([0.01, -0.02, 0.02, 0.0, -0.01]),
        "low": ceiling / 10 + np.array([0, 1e-3, 0, 1e-3, 0]),
        "lower": np.array([1.0, 1, 1.1, 1, 1]) / 1000,
        "as low": np.array([1.0, 1.1, 1, 1, 1]) / 1000,
    }
    rows = rows_of(qualities)
    pairs = differences(rows)
    assert len(pairs) == 10
    found = stats.ttest_rel(ceiling, qualities["low"]).pvalue
    assert found < pairs.loc[("retrained again", "low"), "p"] <= 10 * found
    table = interval_table(rows)
    assert list(table.index[:3]) == ["retrained again", "near", "low"]
    assert table.loc["near", "not told from"] == "retrained again"
    assert table.loc["low", "not told from"] == "–"
    own = table.loc["low"]
    assert (own["from"], own["to"]) == pytest.approx(student(qualities["low"]))
    ratio = fieller(qualities["low"], ceiling)
    assert (own["ratio from"], own["ratio to"]) == pytest.approx(ratio)
    said = conclusions(rows, ["lower", "near", "low"])
    assert "Below it: lower, low. Not told from it: near." in said
    assert "Highest of the methods: near, F 0.2000, 100.0% of the ceiling" in said
    assert "Not told from it: as low" in conclusions(rows, ["lower", "as low"])
    same = rows_of({"retrained again": [0.5, 0.5], "equal": [0.25, 0.25]})
    assert "Not told from it: equal" in conclusions(same, ["equal"])  # no spread, nothing tested
