"""Arrays: what no metric can be computed from is refused with a reason."""

import numpy as np
import pytest
import torch

from unlearning.metrics.arrays import check_labelled, check_logits, check_samples

LOGITS, LABELS, VALUES = np.zeros((6, 4)), np.array([0, 0, 1, 1, 1, 2]), np.zeros((4, 3))


@pytest.mark.parametrize(
    "check, arrays, sentence",
    [
        (check_labelled, (LOGITS * np.nan, LABELS), "NaN or infinite"),
        (check_labelled, (LOGITS + np.inf, LABELS), "NaN or infinite"),
        (check_labelled, (LOGITS[:0], LABELS[:0]), r"S at least 1, not \(0, 4\)"),
        (check_labelled, (LOGITS[None], LABELS), r"not \(1, 6, 4\)"),
        (check_labelled, (LOGITS, LABELS[:5]), r"6 rows .* not \(5,\)"),
        (check_labelled, (LOGITS, LABELS[:, None]), r"6 rows .* not \(6, 1\)"),
        (check_labelled, (LOGITS, LABELS + 2), "from 2 to 4, but there are 4 classes"),
        (check_labelled, (LOGITS, LABELS - 1), "from -1 to 1, but there are 4 classes"),
        (check_samples, (VALUES, VALUES[:, :2]), r"same examples .* \(4, 3\) and \(4, 2\)"),
        (check_samples, (VALUES[0], VALUES[0]), r"networks in rows .* not \(3,\) and \(3,\)"),
        (check_samples, (VALUES[:, :0], VALUES[:, :0]), r"no examples: .* \(4, 0\) and"),
        (check_samples, (VALUES, VALUES[:1]), r"at least 2 .* not \(4, 3\) and \(1, 3\)"),
        (check_samples, (VALUES * np.nan, VALUES), "NaN or infinite"),
        (check_samples, (VALUES, VALUES + np.inf), "NaN or infinite"),
        (lambda a, b: check_logits(a, like=b), (LOGITS[:5], LOGITS), "same examples"),
        (lambda a, b: check_logits(a, like=b), (LOGITS[:, :3], LOGITS), "same examples"),
    ],
)
def test_bad_arrays_are_refused(check, arrays, sentence):
    with pytest.raises(ValueError, match=sentence):
        check(*arrays)


def test_tensors_become_float64_copies():
    tensors = torch.ones(4, 3, requires_grad=True), torch.ones(5, 3)
    for found, tensor in zip(check_samples(*tensors), tensors, strict=True):
        assert found.dtype == np.float64 and found.shape == tensor.shape
        found += 1
        assert (tensor == 1).all()
