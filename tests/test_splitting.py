"""Splits: disjoint, complete, and a function of their own arguments alone."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from unlearning import (
    Images,
    Split,
    accuracy,
    build,
    evaluate,
    fine_tune,
    forget_classes,
    forget_indices,
    forget_random,
    forget_subclass,
    predict,
    split_off,
    student_teacher,
    superclasses,
    train,
)
from unlearning.data import SOURCES
from unlearning.splitting import CIFAR20


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


def test_one_value_says_what_is_forgotten():
    images = numbered([0, 1, 2, 3, 4] * 10)
    pairs = [
        (split_off(images, 0.1, seed=3), forget_random(images, count=5, seed=3)),
        (split_off(images, 2, seed=3), forget_classes(images, 2)),
        (split_off(images, [1, 4], seed=3), forget_classes(images, [1, 4])),
    ]
    for found, expected in pairs:
        for ours, theirs in zip(found, expected, strict=True):
            assert torch.equal(ours.indices, theirs.indices)
    for nothing in (0.0, 1.0, 7, []):
        with pytest.raises(ValueError):
            split_off(images, nothing, seed=3)


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


# ------------------------------------------------------------------------------------------------
# Superclasses

COARSE = [  # the coarse label of each class, 0 to 99, as the files of CIFAR-100 have them
    *(4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11),
    *(6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5),
    *(5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17),
    *(10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13),
    *(16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13),
]
TWO = {"low": (0, 3), "high": [1, 2, 4]}


def hundred(each=2, seed=0) -> Images:
    """Images (3, 8, 8) in disorder, in the layout of CIFAR-100: ``each`` of each of 100 classes.

    A superclass is a colour; its classes differ in which row is bright.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randperm(100 * each, generator=generator) % 100
    pixels = torch.randint(0, 40, (100 * each, 3, 8, 8), generator=generator)
    colours = torch.randint(0, 120, (20, 3, 1, 1), generator=torch.Generator().manual_seed(99))
    pixels += colours[torch.tensor(COARSE)[labels]]
    rows = torch.tensor([CIFAR20[name].index(label) for label, name in enumerate(names_of())])
    for row in range(5):
        pixels[rows[labels] == row, :, row, :4] += 90
    source = SOURCES["cifar100"]
    return Images(
        pixels.to(torch.uint8), labels, source.classes, source.mean, source.std, source.mirror
    )


def names_of() -> list[str]:
    """The name of each class's superclass, by a loop over them all."""
    return [next(name for name in CIFAR20 if label in CIFAR20[name]) for label in range(100)]


def test_cifar20_is_twenty_groups_of_five_that_hold_each_class_once():
    assert len(CIFAR20) == 20
    assert {len(classes) for classes in CIFAR20.values()} == {5}
    assert sorted(label for classes in CIFAR20.values() for label in classes) == list(range(100))


def test_cifar20_has_the_coarse_labels_of_the_files():
    assert [list(CIFAR20).index(name) for name in names_of()] == COARSE
    assert list(CIFAR20) == sorted(CIFAR20)  # coarse labels are in the order of the alphabet
    assert 69 in CIFAR20["vehicles 2"]  # the rocket


def test_superclasses_label_each_image_by_the_group_of_its_class():
    images = hundred()
    found = superclasses(images)
    for label, coarse in zip(images.labels.tolist(), found.labels.tolist(), strict=True):
        assert label in list(CIFAR20.values())[coarse]
    assert found.classes == tuple(CIFAR20)
    assert found.num_classes == 20
    assert torch.equal(found.images, images.images)
    assert torch.equal(found.indices, images.indices)
    assert (found.mean, found.std, found.mirror) == (images.mean, images.std, True)
    assert torch.equal(images.labels, hundred().labels)  # the given ones are left alone


def test_superclasses_of_a_part_keep_the_places_in_the_whole():
    images = numbered([0, 1, 2, 3, 4, 3, 1])
    part = images.select(torch.tensor([6, 3, 0]))
    found = superclasses(part, TWO)
    assert found.labels.tolist() == [1, 0, 0]
    assert found.indices.tolist() == found.images.flatten().tolist() == [6, 3, 0]
    assert found.classes == ("low", "high")


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.permutations(range(5)), st.data())
def test_any_groups_may_be_named(labels, order, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, 4))))
    groups = {
        f"group {start}": order[start:stop]
        for start, stop in zip([0, *cuts], [*cuts, 5], strict=True)
    }
    images = Images(numbered(labels).images, torch.tensor(labels), classes=tuple("abcde"))
    found = superclasses(images, groups)
    names = [found.classes[label] for label in found.labels.tolist()]
    assert all(label in groups[name] for label, name in zip(labels, names, strict=True))


@pytest.mark.parametrize("lost", [69, [69], (69,), np.int64(69), torch.tensor([69])])
def test_a_forgotten_subclass_is_gone_and_its_superclass_stays(lost):
    images = hundred()
    split = forget_subclass(images, lost)
    retain, forget = split
    assert isinstance(split, Split)
    assert images.labels[forget.indices].tolist() == [69, 69]
    assert 69 not in images.labels[retain.indices].tolist()
    rest = sorted(images.labels[retain.indices][retain.labels == 19].unique().tolist())
    assert rest == [41, 81, 85, 89]
    assert forget.labels.tolist() == [19, 19]
    assert split.forget_classes == ()


@pytest.mark.parametrize("lost", [[69], [0, 51, 99], [41, 69, 81, 85], range(0, 100, 7)])
def test_both_parts_are_disjoint_complete_and_labelled_by_superclass(lost):
    images = hundred()
    split = forget_subclass(images, lost)
    gone = [place for place, label in enumerate(images.labels.tolist()) if label in lost]
    assert split.forget.indices.tolist() == gone
    both = torch.cat([split.retain.indices, split.forget.indices])
    assert sorted(both.tolist()) == list(range(200))
    for part in split:
        assert part.classes == tuple(CIFAR20)
        assert torch.equal(part.images, images.images[part.indices])
        wanted = [COARSE[label] for label in images.labels[part.indices].tolist()]
        assert part.labels.tolist() == wanted
    assert split.forget_classes == ()


def test_a_superclass_all_of_whose_classes_are_forgotten_is_a_forgotten_class():
    split = forget_subclass(hundred(), [*CIFAR20["vehicles 2"], 0])
    assert split.forget_classes == (19,)


def test_groups_of_ones_own_may_be_given():
    split = forget_subclass(numbered([0, 1, 2, 3, 4, 3, 1]), 3, groups=TWO)
    assert (split.forget.indices.tolist(), split.forget.labels.tolist()) == ([3, 5], [0, 0])
    assert split.retain.labels.tolist() == [0, 1, 1, 1, 1]


OUTSIDE = "class 5 of 'high' does not exist: classes are numbered from 0 to 4"
NEGATIVE = "class -1 of 'low' does not exist: classes are numbered from 0 to 4"
TWICE = "class 3 is in two superclasses: each has its own"
ALONE = "class 2 is in no superclass: name it in one of the groups"


@pytest.mark.parametrize(
    "groups, sentence",
    [
        ({"low": (0, 3), "high": (1, 2, 4, 5)}, OUTSIDE),
        ({"low": (0, 3, -1), "high": (1, 2, 4)}, NEGATIVE),
        ({"low": (0, 3), "high": (1, 2, 4, 3)}, TWICE),
        ({"low": (0, 3), "high": (1,)}, ALONE),
        ({}, "class 0 is in no superclass: name it in one of the groups"),
    ],
)
def test_groups_that_do_not_fit_are_refused_in_one_sentence(groups, sentence):
    images = numbered([0, 1, 2, 3, 4])
    for call in (superclasses, lambda *a: forget_subclass(a[0], 3, groups=a[1])):
        with pytest.raises(ValueError) as caught:
            call(images, groups)
        assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "classes, sentence",
    [
        (5, "class 5 does not exist: the images are of classes [0, 1, 2, 3, 4]"),
        ([3, -1], "class -1 does not exist: the images are of classes [0, 1, 2, 3, 4]"),
        ([], EMPTY),
        (range(5), EVERYTHING),
    ],
)
def test_impossible_subclasses_are_refused_in_one_sentence(classes, sentence):
    with pytest.raises(ValueError) as caught:
        forget_subclass(numbered([0, 1, 2, 3, 4]), classes, groups=TWO)
    assert str(caught.value) == sentence


def test_images_of_ten_classes_have_no_superclasses_of_cifar100():
    images = numbered(list(range(10)))
    with pytest.raises(ValueError, match="does not exist: classes are numbered from 0 to 9"):
        superclasses(images)


def test_a_subclass_is_forgotten_from_end_to_end():
    """Train on superclasses, forget one class of one of them, and measure it all."""
    images, test = hundred(each=12), hundred(each=3, seed=1)
    whole, seen = superclasses(images), superclasses(test)
    torch.manual_seed(0)
    model = train(build("cnn", 20, 3, 8), whole.batches(50, shuffle=True, seed=0), epochs=4, lr=0.1)
    split = forget_subclass(images, 69)
    assert accuracy(*predict(model, split.forget.batches(100))) > 0.7
    retain, forget = split.retain.batches(50, shuffle=True, seed=0), split.forget.batches(50)
    tuned = fine_tune(model, retain, epochs=1)
    taught = student_teacher(model, retain, forget, epochs=3, lr=3e-3)
    assert accuracy(*predict(taught, split.retain.batches(100))) > 0.7
    assert accuracy(*predict(taught, split.forget.batches(100))) < 0.4
    before = copy.deepcopy(taught.state_dict())
    for network in (model, tuned, taught):
        numbers = evaluate(network, split, seen, retrained=tuned)
        assert all(np.isfinite(value) for value in numbers.values()), numbers
        assert 0 <= numbers["zrf"] <= 1
        assert "test_forget_accuracy" not in numbers  # no label is forgotten
    torch.testing.assert_close(taught.state_dict(), before, rtol=0, atol=0)
