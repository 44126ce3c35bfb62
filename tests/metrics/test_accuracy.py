"""Accuracies and cross-entropies, on six examples worked out by hand."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from unlearning.metrics import accuracy, confusion_matrix, cross_entropies, per_class_accuracy

# Of class 0 one of two is right, of class 1 all three, of class 2 none; class 3 has no example.
ROWS = [2, 1, 0, 0], [0, 1, 3, 0], [0, 1, 0, 0], [0, 9, 1, 0], [0, 0.1, 0, 0], [1, 0, 0, 5]
TENSORS = torch.tensor(ROWS, dtype=torch.float64), torch.tensor([0, 0, 1, 1, 1, 2])


@pytest.mark.parametrize("given", [TENSORS, [side.numpy() for side in TENSORS]])
def test_metrics_have_the_values_worked_out_by_hand(given):
    assert accuracy(*given) == pytest.approx(4 / 6)
    assert accuracy(given[0], given[0].argmax(1)) == 1.0
    wanted = [[1, 0, 1, 0], [0, 3, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert confusion_matrix(*given).tolist() == wanted  # true classes in rows
    np.testing.assert_array_equal(per_class_accuracy(*given), [0.5, 1, 0, np.nan])
    wanted = F.cross_entropy(*TENSORS, reduction="none").numpy()
    np.testing.assert_allclose(cross_entropies(*given), wanted, rtol=1e-6)
    assert given[0].tolist() == [list(row) for row in ROWS]  # arrays are left alone


def test_cross_entropies_survive_saturation():
    """Through log_softmax in float64, a loss below 1e-16 would be 0."""
    f = np.array([-1000.0, -40, 0, 20, 36, 40, 300, 700])
    logits = np.stack([f, np.zeros(8)], axis=1)
    wanted = [1000, 40, math.log(2), *np.exp(-f[3:])]
    np.testing.assert_allclose(cross_entropies(logits, np.zeros(8, int)), wanted, rtol=1e-8)
