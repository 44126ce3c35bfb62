"""core.losses: losses worked by hand, and labels and classes that do not exist."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from unlearning.core.checks import class_list
from unlearning.core.losses import (
    classification_loss,
    cross_entropy,
    kl_divergence,
    mean_squared_error,
    uniform,
)

LOGITS = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1])


def softmax(row):
    total = sum(math.exp(x) for x in row)
    return [math.exp(x) / total for x in row]


def test_cross_entropy_is_the_mean_of_minus_log_p():
    rows = zip(LOGITS.tolist(), LABELS.tolist(), strict=True)
    by_hand = [-math.log(softmax(row)[label]) for row, label in rows]
    assert cross_entropy(LOGITS, LABELS).item() == pytest.approx(sum(by_hand) / 5)
    model = nn.Identity()
    assert classification_loss(model, LOGITS, LABELS) == cross_entropy(LOGITS, LABELS)


def test_label_that_is_not_a_class_is_refused_and_never_ignored():
    for label, low, high in ((3, 0, 3), (-100, -100, 1)):
        labels = torch.tensor([0, 1, 1, 0, label])
        words = f"from {low} to {high}, but the network has 3 outputs"
        with pytest.raises(ValueError, match=words):
            cross_entropy(LOGITS, labels)


def test_kl_divergence_by_hand():
    target = torch.tensor([0.5, 0.5, 0.0])  # 0 log 0 is 0
    by_hand = [
        sum(p * math.log(p / q) for p, q in zip((0.5, 0.5), softmax(row)[:2], strict=True))
        for row in LOGITS.tolist()
    ]
    assert kl_divergence(target, LOGITS).item() == pytest.approx(sum(by_hand) / 5)
    assert kl_divergence(LOGITS.softmax(1), LOGITS).item() == pytest.approx(0, abs=1e-6)
    assert kl_divergence(target, LOGITS.bfloat16()).dtype == torch.float32


def test_mean_squared_error_by_hand():
    logits = torch.tensor([[1.0, 2.0], [3.0, 5.0]], dtype=torch.bfloat16)
    assert mean_squared_error(torch.tensor([0.0, 1.0]), logits).item() == (1 + 1 + 9 + 16) / 4


def test_uniform_spreads_over_the_classes_that_remain():
    assert uniform(4, without=[1, 3, 1]).tolist() == [0.5, 0, 0.5, 0]
    with pytest.raises(ValueError, match="class 4 does not exist: the network has 4 outputs"):
        uniform(4, without=[4])
    with pytest.raises(ValueError, match="names all 2 classes: leave at least one"):
        uniform(2, without=[0, 1])


def test_class_list_takes_one_class_or_several():
    assert class_list(3) == class_list(np.int64(3)) == class_list(torch.tensor([3, 3])) == [3]
