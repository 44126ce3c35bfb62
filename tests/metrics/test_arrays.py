"""Arrays: what a metric cannot be computed from is refused by every metric, with a reason."""

import numpy as np
import pytest
import torch

from unlearning import metrics
from unlearning.metrics.arrays import check_samples

LOGITS, LABELS, VALUES = np.zeros((6, 4)), np.array([0, 0, 1, 1, 1, 2]), np.zeros((4, 3))
LABELLED = "accuracy confusion_matrix per_class_accuracy cross_entropies logit_scaled_confidence"
PAIRS = "js_divergence activation_distance zero_retrain_forgetting"
SAMPLES = "forgetting_quality u_lira klom"
CASES = [
    (LABELLED, (LOGITS * np.nan, LABELS), "NaN or infinite"),
    (LABELLED, (LOGITS[:0], LABELS[:0]), r"S at least 1, not \(0, 4\)"),
    (LABELLED, (LOGITS, LABELS[:5]), r"6 (rows|examples) .* not \(5,\)"),
    (LABELLED, (LOGITS, LABELS + 2), "from 2 to 4, but there are 4 classes"),
    (LABELLED, (LOGITS, LABELS - 1), "from -1 to 1, but there are 4 classes"),
    ("accuracy cross_entropies", (LOGITS[None], LABELS), r"not \(1, 6, 4\)"),
    ("logit_scaled_confidence", (LOGITS[:, :1], LABELS * 0), r"K at least 2, not \(6, 1\)"),
    (PAIRS, (LOGITS, LOGITS * np.nan), "NaN or infinite"),
    (PAIRS, (LOGITS, LOGITS[:, :3]), "same examples"),
    (SAMPLES, (VALUES, VALUES[:, :2]), r"same examples .* \(4, 3\) and \(4, 2\)"),
    (SAMPLES, (VALUES[0], VALUES[0]), r"networks in rows .* not \(3,\) and \(3,\)"),
    (SAMPLES, (VALUES[:, :0], VALUES[:, :0]), r"no examples: .* \(4, 0\) and"),
    (SAMPLES, (VALUES, VALUES[:0]), r"at least [123] .* not \(4, 3\) and \(0, 3\)"),
    ("forgetting_quality", (VALUES, VALUES[:1]), "at least 2"),
    ("u_lira", (VALUES[:2], VALUES), "at least 3"),
    ("membership_attack", (np.ones(50), np.ones(9)), r"at least 10, not \(9,\)"),
    ("membership_attack", (np.ones(50), np.ones((20, 2))), r"not \(20, 2\)"),
    ("membership_attack", (np.ones(50), np.ones(50) + np.inf), "NaN or infinite"),
    (SAMPLES, (VALUES, VALUES + np.inf), "NaN or infinite"),
]


@pytest.mark.parametrize("names, arrays, words", CASES)
def test_bad_arrays_are_refused(names, arrays, words):
    for name in names.split():
        with pytest.raises(ValueError, match=words):
            getattr(metrics, name)(*arrays)


def test_tensors_become_float64_copies():
    tensors = torch.ones(4, 3, requires_grad=True), torch.ones(5, 3)
    for found, tensor in zip(check_samples(*tensors), tensors, strict=True):
        assert found.dtype == np.float64 and found.shape == tensor.shape
        found += 1
        assert (tensor == 1).all()
