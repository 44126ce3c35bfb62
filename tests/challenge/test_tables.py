"""The tables of hundreds of networks are what direct computations give."""

import numpy as np
import pandas as pd
import pytest

from unlearning import challenge
from unlearning.challenge.tables import beside_prizes, most_exposed, rule_undecided
from unlearning.metrics import forgetting_quality, klom, u_lira


@pytest.fixture(scope="module")
def kinds():
    """Kinds of networks: "unmoved" still knows what it was to forget, "fast" is a copy."""
    draw = np.random.default_rng(0).normal
    made = {
        name: {
            "confidences": draw(shift, size=(40, 12)),
            "unseen_confidences": draw(size=(40, 20)).astype(np.float16),
            "retain_accuracy": np.full(40, 0.9),
            "test_accuracy": np.full(40, 0.8 - shift / 100),
        }
        for name, shift in (("retrained", 0.0), ("retrained again", 0.0), ("unmoved", 6.0))
    }
    machine = {"device": np.array(["cpu"] * 20 + ["cuda"] * 20), "torch": np.full(40, "2.9")}
    return {**made, "fast": {**made["retrained again"], **machine}}


def test_the_quality_table_has_f_ceiling_score_time_and_machine(kinds):
    times = {
        "time (% of retraining)": {"retrained again": 100, "unmoved": 200, "fast": 19},
        "time, highest": {"retrained again": 120, "unmoved": 210, "fast": 22},
    }
    table, found = challenge.quality_table(kinds, pd.DataFrame(times))
    assert list(table.index) == ["retrained again", "unmoved", "fast"] == list(found)
    for name, row in table.iterrows():
        pair = kinds[name]["confidences"], kinds["retrained"]["confidences"]
        assert row["F"] == forgetting_quality(*pair).quality == found[name].quality
    score = table.loc["fast", "F"]  # its accuracies are those of retraining
    for column, wanted in (
        ("F / ceiling", [1, 0, 1]),
        ("score", [score, 0, score]),
        ("score, 20 % rule", [0, 0, score]),  # the median decides
        ("time, highest", [120, 210, 22]),
        ("test accuracy (%)", [80, 74, 80]),
    ):
        assert table[column].tolist() == pytest.approx(wanted)
    assert table["device"].tolist() == ["not recorded", "not recorded", "cpu; cuda"]


def test_the_attack_table_is_that_of_direct_calls(kinds):
    table = challenge.attack_table(kinds, references=3)
    pair = [kinds[name]["confidences"] for name in ("unmoved", "retrained")]
    row, (lira, distances) = table.loc["unmoved"], [f(*pair) for f in (u_lira, klom)]
    assert row["U-LiRA AUC"] == lira.auc
    assert row["KLOM, 95th percentile"] == pytest.approx(np.percentile(distances, 95))
    assert table.loc["retrained again", "U-LiRA AUC"] == pytest.approx(0.5, abs=0.1)
    assert row[["U-LiRA AUC", "RMIA AUC"]].min() > 0.9


def test_the_most_exposed_tenth_is_what_originals_know_and_retrained_networks_do_not(kinds):
    moved = kinds["unmoved"]["confidences"].copy()
    retrained = kinds["retrained"]["confidences"]
    moved[:, 2:] = retrained[:, 2:]  # only two of twelve images were memorised
    made = {**kinds, "original": {**kinds["unmoved"], "confidences": moved}}
    exposed = most_exposed(made["original"], made["retrained"])
    assert sorted(exposed) == [0, 1]
    table, column = challenge.attack_table(made, references=3), "TPR at 1 % FPR, most exposed"
    lira = u_lira(*(kinds[name]["confidences"][:, exposed] for name in ("unmoved", "retrained")))
    assert table.loc["unmoved", column] == lira.tpr_at_1_percent_fpr > 0.8
    assert table.loc["original", column] > 3 * table.loc["original", "U-LiRA TPR at 1 % FPR"]
    assert column not in challenge.attack_table(kinds, references=3)


def test_f_against_the_number_of_networks_is_that_of_the_first_ones(kinds):
    curves = challenge.quality_curves(kinds, [1, 10, 100])
    assert curves.index.tolist() == [10, 40] and "retrained" not in curves
    pair = [kinds[name]["confidences"][:10] for name in ("unmoved", "retrained")]
    assert curves.loc[10, "unmoved"] == forgetting_quality(*pair).quality


def test_prizes_and_other_measures_are_compared_in_a_sentence(kinds):
    said = beside_prizes(pd.DataFrame({"F": {"retrained again": 0.177}}))
    assert "50% to 44% of this ceiling" in said and "0.0937 (private), 53% of it" in said
    assert "is 0" in beside_prizes(pd.DataFrame({"F": {"retrained again": 0.0}}))
    copied = {**kinds, "original": kinds["retrained"]}
    assert challenge.copies_of_one(copied).startswith("40 copies of one original: F 0.000, ")
    columns = [
        "F",
        "U-LiRA AUC",
        "KLOM (unlearned || retrained), mean",
        "time, lowest",
        "time, highest",
    ]
    rows = {
        "retrained again": [3, 0.5, 1, 95, 105],
        "near": [2, 0.6, 1, 19, 22],
        "fast": [1, 0.7, 0, 10, 20],
    }
    numbers = pd.DataFrame.from_dict(rows, "index", columns=columns)
    said = challenge.remarks(numbers)
    assert "over 3 kinds: -1.00 with U-LiRA AUC, 0.87 with KLOM" in said
    assert "depending on the round: near." in said and rule_undecided(numbers) in said
