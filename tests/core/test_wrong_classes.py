"""The wrong classes of an image: its label and the classes to forget are left out."""

import pytest
import torch

from unlearning.core.wrong_classes import wrong_logits

LOGITS = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]])


@pytest.mark.parametrize("classes, best", [((), [2, 0]), (2, [1, 0]), ([0], [2, 2])])
def test_the_best_wrong_class_is_neither_the_label_nor_one_to_forget(classes, best):
    before = LOGITS.clone()
    found = wrong_logits(LOGITS, torch.tensor([0, 1]), classes)
    assert found.argmax(-1).tolist() == best
    assert torch.equal(found[found.isfinite()], LOGITS[found.isfinite()])
    assert torch.equal(LOGITS, before)


@pytest.mark.parametrize(
    "labels, classes, words",
    [
        ([0, 1], [0, 1, 2], "names all 3 classes"),
        ([0, 2], [0, 1], "no other one is left for it"),
        ([0, 1], 3, "class 3 does not exist"),
        ([0, 3], 1, "labels go from 0 to 3"),
        ([0.0, 1.0], 1, "labels must be whole numbers"),
    ],
)
def test_what_leaves_no_class_is_refused(labels, classes, words):
    with pytest.raises(ValueError, match=words):
        wrong_logits(LOGITS, torch.tensor(labels), classes)


def test_images_of_the_forgotten_classes_alone_may_leave_one_class():
    found = wrong_logits(LOGITS, torch.tensor([0, 1]), [0, 1])
    assert found.argmax(-1).tolist() == [2, 2]
