"""Networks: original 0 for the challenge, a block for every other, and nothing made twice."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from unlearning import challenge
from unlearning.challenge import networks as module


@pytest.fixture
def crowd(faces, tmp_path, monkeypatch):
    """``crowd()``: six networks of each kind, three starts."""
    sets = challenge.load_challenge(faces)
    monkeypatch.setattr(module, "load_or_run", one_process(tmp_path / "groups", module.load_or_run))
    sizes = {"count": 6, "starts": 3}
    return lambda: challenge.Networks(tmp_path / "kept", sets.split, sets.test, **sizes, about={})


def one_process(groups, load_or_run):
    return lambda *given, **options: load_or_run(
        *given, **{"n_jobs": 1, "groups": groups, **options}
    )


def test_the_first_original_is_unlearned_by_all_seeds_and_the_others_by_a_block(crowd, perturbed):
    made, originals = [], [perturbed(900 + start) for start in range(3)]

    def from_scratch(seed):
        made.append(("scratch", seed))
        return perturbed(seed)

    def unlearn(original, *, seed, lr):
        assert lr == 0.1
        made.append((originals.index(original), seed))
        return perturbed(seed)

    def fill(networks):
        networks.train("retrained", from_scratch)
        networks.train("retrained again", from_scratch)
        networks.unlearn("method", unlearn, originals.__getitem__, {"lr": 0.1}, batches=None)
        return networks

    networks, seeds = fill(crowd()), [*range(1000, 1006), *range(2000, 2006)]
    by_start = [(0, seed) for seed in range(6)] + [(1, 2), (1, 3), (2, 4), (2, 5)]
    assert Counter(made) == Counter([("scratch", seed) for seed in seeds] + by_start)
    first, all_starts = (
        of["method"]["confidences"] for of in (networks.measured, networks.of_starts)
    )
    np.testing.assert_array_equal(first, all_starts)  # here a network depends on its seed alone
    made.clear()
    networks.train("retrained", from_scratch)  # a cell that is run again
    rows, table = fill(crowd()).intervals()
    assert made == [] and len(rows) == 6 and set(table.index) == {"retrained again", "method"}

    numbers, found = networks.table()
    assert [seed for _, seed in made] == [seed for seed in (0, 0, 1) for _ in range(3)]
    assert list(found) == ["retrained again", "method"] == list(numbers.index)
    for name in ("replicates", "intervals", "forgetting_quality"):
        assert {"method", "device", "torch"} <= set(pd.read_csv(networks.folder / f"{name}.csv"))


def test_with_as_many_starts_as_networks_each_is_unlearned_from_an_original_of_its_own(
    faces, tmp_path, monkeypatch, perturbed
):
    sets, pairs = challenge.load_challenge(faces), []
    monkeypatch.setattr(module, "load_or_run", one_process(tmp_path / "groups", module.load_or_run))
    originals = [perturbed(900 + start) for start in range(16)]

    def unlearn(original, *, seed):
        pairs.append((originals.index(original), seed))
        return perturbed(seed)

    networks = challenge.Networks(tmp_path, sets.split, sets.test, count=16, starts=16, about={})
    networks.train("retrained", perturbed)
    networks.train("retrained again", perturbed)
    networks.unlearn("method", unlearn, originals.__getitem__, {}, batches=None)
    assert pairs == [(seed, seed) for seed in range(16)]
    assert networks.of_starts["method"] is networks.measured["method"]
    rows, _ = networks.intervals()
    assert rows["networks"].tolist() == [8, 8, 8, 8]  # two blocks of two kinds
