"""Tables of 20 methods; and no figure stays open or changes the reader's style."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from unlearning import METHODS


@pytest.fixture
def tables():
    twenty = [*METHODS, *(f"a method with a longer name, variant {n}" for n in range(20))][:20]
    names = ["original", *twenty, "retrained again", "retrained"]
    numbers = ["test_accuracy", "zrf", "seconds", "average_gap"], ["mean", "std"]
    values = np.random.default_rng(0).uniform(0.01, 1, size=(len(names), 8))
    numbers = pd.DataFrame(values, names, pd.MultiIndex.from_product(numbers))
    return {"random 10%": numbers, "class 5": numbers.copy()}


@pytest.fixture(autouse=True)
def nothing_leaks():
    before = dict(plt.rcParams)
    yield
    assert plt.get_fignums() == [] and dict(plt.rcParams) == before
