"""Splits: disjoint, complete, and a function of their own arguments alone."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from unlearning import Images, Split, forget_classes, forget_indices, forget_random


def numbered(labels) -> Images:
    """Images whose one pixel is their own place in the set."""
    pixels = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    return Images(pixels, torch.tensor(labels))


@st.composite
def splits(draw):
    """A set and a call that splits it, of any of the three kinds."""
    labels = draw(st.lists(st.integers(0, 4), min_size=2, max_size=60))
    images = numbered(labels)
    kind = draw(st.sampled_from(["classes", "count", "fraction", "indices"]))
    if kind == "classes" and len(set(labels)) > 1:
        present = sorted(set(labels))
        some = st.lists(st.sampled_from(present), min_size=1, max_size=len(present) - 1)
        classes = draw(some)
        return images, lambda: forget_classes(images, classes)
    seed = draw(st.integers(0, 2**32))
    if kind == "fraction":
        fraction = draw(st.floats(0.5 / len(labels) + 1e-3, 1 - 0.5 / len(labels) - 1e-3))
        return images, lambda: forget_random(images, fraction=fraction, seed=seed)
    count = draw(st.integers(1, len(labels) - 1))
    if kind == "indices":
        chosen = draw(st.permutations(range(len(labels))))[:count]
        return images, lambda: forget_indices(images, chosen)
    return images, lambda: forget_random(images, count=count, seed=seed)


@given(splits())
def test_retain_and_forget_are_disjoint_and_complete(case):
    images, split = case
    retain, forget = split()
    assert len(retain) > 0
    assert len(forget) > 0
    both = torch.cat([retain.indices, forget.indices])
    assert sorted(both.tolist()) == list(range(len(images)))


@given(splits())
def test_each_part_holds_the_images_and_labels_that_its_indices_name(case):
    images, split = case
    for part in split():
        assert torch.equal(part.images, images.images[part.indices])
        assert torch.equal(part.labels, images.labels[part.indices])
        assert (part.classes, part.mean, part.std) == (images.classes, images.mean, images.std)


@given(splits(), st.integers(0, 2**31))
def test_split_is_reproducible_and_independent_of_the_global_seed(case, global_seed):
    _, split = case
    first = split()
    torch.manual_seed(global_seed)
    state = torch.get_rng_state()
    second = split()
    assert torch.equal(first.forget.indices, second.forget.indices)
    assert torch.equal(first.retain.indices, second.retain.indices)
    assert torch.equal(torch.get_rng_state(), state)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.sets(st.integers(0, 4)))
def test_forgotten_classes_are_forgotten_completely_and_nothing_else_is(labels, wanted):
    wanted &= set(labels)
    assume(wanted and wanted != set(labels))
    split = forget_classes(numbered(labels), wanted)
    assert set(split.forget.labels.tolist()) == wanted
    assert not wanted & set(split.retain.labels.tolist())
    assert split.forget_classes == tuple(sorted(wanted))


@pytest.mark.parametrize("one", [1, np.int64(1), [1], (1, 1), torch.tensor([1])])
def test_one_class_may_be_a_number_or_a_list(one):
    assert forget_classes(numbered([0, 1, 2, 1]), one).forget.indices.tolist() == [1, 3]


@given(st.integers(2, 80), st.integers(0, 10), st.data())
def test_random_forgets_the_asked_number_of_images_once_each(size, seed, data):
    images = numbered([0] * size)
    count = data.draw(st.integers(1, size - 1))
    forget = forget_random(images, count=count, seed=seed).forget
    assert len(set(forget.indices.tolist())) == len(forget) == count
    same = forget_random(images, fraction=count / size, seed=seed).forget
    assert torch.equal(same.indices, forget.indices)


def test_random_seeds_draw_different_images_evenly():
    images = numbered([0] * 40)
    times = torch.zeros(40)
    for seed in range(400):
        times[forget_random(images, count=10, seed=seed).forget.indices] += 1
    # Each image is drawn Binomial(400, 1/4) times: 100 on average, 8.7 standard deviation.
    assert times.min() > 100 - 5 * 8.7
    assert times.max() < 100 + 5 * 8.7


@pytest.mark.parametrize(
    "indices", [[4, 1], (4, 1), iter([4, 1]), torch.tensor([4, 1]), np.array([4, 1])]
)
def test_indices_may_be_any_iterable_or_tensor(indices):
    assert forget_indices(numbered([0] * 6), indices).forget.indices.tolist() == [1, 4]


def test_indices_of_a_mask_are_taken_as_the_refusal_says():
    images = numbered([0, 1, 2, 1])
    mask = images.labels == 1
    assert forget_indices(images, mask.nonzero()).forget.indices.tolist() == [1, 3]


def test_split_of_a_split_still_names_places_of_the_first_set():
    images = numbered([0, 1, 0, 1, 0, 1])
    inner = forget_indices(forget_classes(images, 1).retain, [1])
    assert inner.forget.images.flatten().tolist() == inner.forget.indices.tolist() == [2]
    assert inner.retain.indices.tolist() == [0, 4]


def test_split_unpacks_as_retain_then_forget():
    images = numbered([0, 0, 1])
    split = forget_classes(images, 1)
    retain, forget = split
    assert isinstance(split, Split)
    assert (retain.labels.tolist(), forget.labels.tolist()) == ([0, 0], [1])


def test_no_class_is_forgotten_when_single_examples_are():
    assert forget_indices(numbered([0, 1, 0, 1]), [0, 1]).forget_classes == ()
    assert forget_indices(numbered([0, 1, 0, 1]), [0, 1, 3]).forget_classes == (1,)


EMPTY = "the forget set is empty: name at least one image or class to forget"
EVERYTHING = "the forget set is the whole training set: nothing would be retained"
NOT_ONE = "give either count= or fraction=, and not both"


def of(count):
    return (
        f"{count} of 6 images cannot be forgotten: the forget set and the retain set must both "
        "hold at least one image"
    )


@pytest.mark.parametrize(
    ("split", "arguments", "sentence"),
    [
        (forget_classes, {"classes": []}, EMPTY),
        (forget_classes, {"classes": [2, 0, 3]}, EVERYTHING),
        (
            forget_classes,
            {"classes": [0, 1]},
            "class 1 does not exist: the images are of classes [0, 2, 3]",
        ),
        (
            forget_classes,
            {"classes": -1},
            "class -1 does not exist: the images are of classes [0, 2, 3]",
        ),
        (forget_random, {"seed": 0}, NOT_ONE),
        (forget_random, {"count": 1, "fraction": 0.5, "seed": 0}, NOT_ONE),
        (forget_random, {"count": 0, "seed": 0}, of(0)),
        (forget_random, {"count": 6, "seed": 0}, of(6)),
        (forget_random, {"count": -1, "seed": 0}, of(-1)),
        (forget_random, {"fraction": 0.01, "seed": 0}, of(0)),
        (forget_random, {"fraction": 0.99, "seed": 0}, of(6)),
        (
            forget_random,
            {"fraction": 1.0, "seed": 0},
            "fraction must be between 0 and 1, both excluded, not 1.0",
        ),
        (
            forget_random,
            {"fraction": 0.0, "seed": 0},
            "fraction must be between 0 and 1, both excluded, not 0.0",
        ),
        (
            forget_random,
            {"fraction": float("nan"), "seed": 0},
            "fraction must be between 0 and 1, both excluded, not nan",
        ),
        (forget_indices, {"indices": []}, EMPTY),
        (forget_indices, {"indices": range(6)}, EVERYTHING),
        (forget_indices, {"indices": [0, 6]}, "there is no image 6: positions go from 0 to 5"),
        (forget_indices, {"indices": [-1]}, "there is no image -1: positions go from 0 to 5"),
        (
            forget_indices,
            {"indices": [3, 3]},
            "an image is named twice among the indices to forget: name each once",
        ),
        (
            forget_indices,
            {"indices": torch.ones(6) > 0},
            "positions are whole numbers, not torch.bool: of a mask, give mask.nonzero()",
        ),
        (
            forget_indices,
            {"indices": [1.7]},
            "positions are whole numbers, not torch.float32: of a mask, give mask.nonzero()",
        ),
    ],
)
def test_impossible_split_is_refused_in_one_sentence(split, arguments, sentence):
    with pytest.raises(ValueError) as caught:
        split(numbered([0, 2, 3, 2, 0, 0]), **arguments)
    assert str(caught.value) == sentence


def test_random_split_needs_a_seed_of_its_own():
    with pytest.raises(TypeError, match="seed"):
        forget_random(numbered([0] * 6), count=1)
