"""core.checks: what is refused says in one sentence what it was and what to do."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from unlearning import predict
from unlearning.core.checks import (
    check_logits,
    check_module,
    check_number,
    check_pair,
    check_positions,
    check_precision,
    check_seed,
    check_whole,
    class_list,
    kind_of,
    warn_of_probabilities,
)
from unlearning.core.layers import copy_of

IMAGES, LABELS = torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 2])


def test_a_pair_is_images_and_one_whole_number_for_each():
    images, labels = check_pair([IMAGES, LABELS.to(torch.int16)])
    assert images is IMAGES and labels.dtype == torch.int64
    assert check_pair((IMAGES, LABELS))[1] is LABELS  # nothing is copied without need
    for wrong, words in [
        ((IMAGES, LABELS, LABELS), r"a batch must be \(images .* not a tuple of 3 \(Tensor\)"),
        ({"x": IMAGES}, "a batch must be .* not a dict"),
        (IMAGES, r"a batch must be .* not a tensor of shape \(3, 1, 2, 2\)"),
        ((IMAGES.int(), LABELS), "images must be normalised floats .* not torch.int32"),
        ((IMAGES, LABELS.bool()), r"labels must be whole numbers of shape \(3,\).* torch.bool"),
        ((IMAGES, LABELS[:2]), r"of shape \(3,\), one class per image, not .* \(2,\)"),
        ((IMAGES[0], LABELS[0]), "not one image and its label: give the loader a batch_size"),
        ((IMAGES[:0], LABELS[:0]), "but one holds nothing: leave empty batches out"),
    ]:
        with pytest.raises(ValueError, match=words):
            check_pair(wrong)


def test_what_something_is_in_words():
    found = [kind_of(value) for value in (np.zeros((2, 3)), [1, "a"], OSError(), {}, None)]
    assert found[0] == "an array of shape (2, 3)" and found[1] == "a list of 2 (int, str)"
    assert found[2:] == ["an OSError", "a dict", "a NoneType"]


def test_logits_have_a_row_per_image_and_two_classes_or_more():
    logits = torch.zeros(3, 2)
    assert check_logits(logits) is logits
    for wrong in (logits[..., None], logits[:, :1], (logits,), {"logits": logits}, None):
        with pytest.raises(
            ValueError, match=r"the network returned .*: wrap it so that it returns"
        ):
            check_logits(wrong)


def test_only_probabilities_are_warned_of(recwarn):
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    for outputs in (logits, logits.abs(), logits.log_softmax(-1), logits.sigmoid()):
        warn_of_probabilities(outputs)
    assert not recwarn.list
    for outputs in (logits.softmax(-1), (50 * logits).softmax(-1).half()):
        with pytest.warns(UserWarning, match=r"outputs are probabilities, .*: remove its softmax"):
            warn_of_probabilities(outputs)


def test_classes_come_in_any_form_without_repetition():
    forms = 5, np.int64(5), torch.tensor(5), [5, 5], (5,), {5}, np.array([5]), iter([5])
    assert all(class_list(form) == [5] for form in forms)
    assert class_list([]) == class_list(torch.tensor([], dtype=torch.long)) == []
    for wrong in (5.0, "5", ["5"], None, True, [True], np.array([1.5]), np.array([True])):
        with pytest.raises(ValueError, match="classes must be whole numbers, one or several"):
            class_list(wrong)


def test_numbers_are_of_the_right_kind_and_in_their_interval():
    assert check_whole("epochs", np.int64(3)) == check_whole("epochs", torch.tensor(3)) == 3
    assert check_number("lr", np.float32(0.5), "[0, 1)") == 0.5
    assert check_seed(2**32 - 1) == 2**32 - 1
    for call, words in [
        (lambda: check_whole("epochs", 1.5), "epochs must be a whole number, at least 0, not 1.5"),
        (lambda: check_whole("seed", "3", least=None), "seed must be a whole number, not '3'"),
        (lambda: check_whole("bins", 0, least=1), "bins must be a whole number, at least 1, not 0"),
        (lambda: check_seed(2**32), r"seed must be below 2\^32, not 4294967296"),
        *[
            (
                lambda wrong=wrong: check_number("lr", wrong, "[0, 1)"),
                r"lr must be one number in \[0",
            )
            for wrong in (1, -0.1, math.nan, "0.1", None, True, [0.5], np.array([0.5]), 1j)
        ],
    ]:
        with pytest.raises(ValueError, match=words):
            call()


def test_half_precision_is_named_with_its_parameter():
    check_precision(nn.Linear(2, 2).double())
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).bfloat16())
    with pytest.raises(
        ValueError, match=r"1\.weight is in bfloat16, .* call model\.float\(\) first"
    ):
        check_precision(model)


def test_what_is_no_network_or_has_no_shapes_yet_is_refused():
    for wrong, words in [
        (None, "must be an nn.Module, not a NoneType"),
        (lambda x: x, "must be an nn.Module, not a function"),
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(2)), "has lazy layers, .*: call it on a batch"),
    ]:
        for function in (check_module, copy_of, lambda model: predict(model, [])):
            with pytest.raises(ValueError, match=words):
                function(wrong)


def test_positions_are_whole_numbers_of_images_that_exist():
    for given in ([4, 1], torch.tensor([[4], [1]]), np.array([4, 1]), iter([4, 1])):
        assert check_positions(given, 5).tolist() == [4, 1]
    for wrong, words in [
        ([5], "there is no image 5: positions go from 0 to 4"),
        ([-1], "there is no image -1"),
        ([True, False], "for a mask, give mask.nonzero"),
        ([0.5], "whole numbers, not torch.float32"),
        (5, "whole numbers, such as .0, 5., not 5"),
        (None, "not None"),
        (["a"], "not .'a'."),
    ]:
        with pytest.raises(ValueError, match=words):
            check_positions(wrong, 5)
