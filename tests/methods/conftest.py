"""Batches for the tests of methods."""

import pytest
import torch


@pytest.fixture(scope="session")
def retain(tiny):
    """Three batches of 16, of all classes."""
    return list(tiny.select(torch.arange(48)).batches(16))


@pytest.fixture(scope="session")
def forget(tiny):
    """Two batches of 16, of all classes."""
    return list(tiny.select(torch.arange(48, 80)).batches(16))
