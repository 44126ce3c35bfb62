"""Costs: rounds side by side, and shares of the same round's retraining."""

import numpy as np
import pytest
import torch

from unlearning.challenge import cost_table, costs
from unlearning.core.loop import Timed


def test_every_round_makes_one_network_of_each_kind_on_one_thread():
    made = []

    def make(name):
        def one(seed):
            made.append((name, seed, torch.get_num_threads()))
            return Timed(None, float(len(made)))

        return one

    threads = torch.get_num_threads()
    found = costs({name: make(name) for name in ("retrained", "fast")}, [5, 6])
    assert made == [(name, seed, 1) for seed in (5, 5, 6) for name in ("retrained", "fast")]
    assert torch.get_num_threads() == threads
    assert found["retrained"].tolist() == [3, 5] and found["fast"].tolist() == [4, 6]  # not 1 and 2
    assert found["device"].shape == found["torch"].shape == (2,)


def test_shares_are_of_the_same_round():
    """The second round is three times as slow for all, as on a machine that got busy."""
    seconds = {
        "retrained": np.array([1.0, 3, 1], np.float32),
        "retrained again": np.array([0.9, 3.3, 1.1], np.float32),
        "fast": np.array([0.1, 0.3, 0.1], np.float32),
        "device": np.full(3, "cpu"),
    }
    table = cost_table(seconds)
    assert table.loc["fast"].tolist() == pytest.approx([10, 10, 10])
    assert table.loc["retrained again"].tolist() == pytest.approx([110, 90, 110])
    assert list(table.index) == ["retrained", "retrained again", "fast"]
