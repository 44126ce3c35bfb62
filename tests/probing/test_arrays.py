"""Features and labels that have no meaning are refused in one sentence."""

import numpy as np
import pytest
import torch

from unlearning.probing.arrays import check_features, check_labels, check_same


def test_tensors_and_lists_become_float64_and_anything_else_is_refused():
    found = check_features(torch.ones(2, 3, dtype=torch.bfloat16))
    assert found.dtype == np.float64 and found.shape == (2, 3)
    assert check_labels(torch.tensor([1, 0]), 2).tolist() == [1, 0]
    for features in (np.ones(3), np.ones((0, 3)), np.ones((3, 0)), np.ones((1, 2, 3))):
        with pytest.raises(ValueError, match="must have shape"):
            check_features(features)
    with pytest.raises(ValueError, match="x hold NaN or infinite values"):
        check_features([[1.0, np.nan]], "x")
    for labels in ([0.0, 1.0], [0], [[0], [1]]):
        with pytest.raises(ValueError, match="must be 2 whole numbers"):
            check_labels(labels, 2)
    with pytest.raises(ValueError, match=r"one layer, but the features have shapes \(2, 3\) and"):
        check_same(found, np.ones((2, 4)), 1, "one layer")
