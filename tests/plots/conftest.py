"""Tables of 20 methods and of one; and no figure stays open or changes the reader's style."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from unlearning import METHODS

matplotlib.use("Agg")
TWENTY = [*METHODS, *(f"a method with a longer name, variant {n}" for n in range(20))][:20]


def make_table(methods):
    names = ["original", *methods, "retrained again", "retrained"]
    numbers = ["test_accuracy", "zrf", "seconds", "average_gap"], ["mean", "std"]
    values = np.random.default_rng(0).uniform(0.01, 1, size=(len(names), 8))
    return pd.DataFrame(values, names, pd.MultiIndex.from_product(numbers))


@pytest.fixture
def tables():
    return {"random 10%": make_table(TWENTY), "class 5": make_table(TWENTY)}


@pytest.fixture
def small():
    return make_table(["UNSIR"])


@pytest.fixture(autouse=True)
def nothing_leaks():
    before = dict(plt.rcParams)
    yield
    assert plt.get_fignums() == [] and dict(plt.rcParams) == before
