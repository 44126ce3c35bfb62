"""Splits: disjoint, complete, and a function of their own arguments alone."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unlearning import Images, Split
from unlearning.labelling import CIFAR20, superclasses
from unlearning.splitting import (
    forget_classes,
    forget_groups,
    forget_indices,
    forget_random,
    forget_subclass,
    sequence,
)


def numbered(labels) -> Images:
    """Images whose one pixel is their own place in the set."""
    pixels = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    return Images(pixels, torch.tensor(labels))


@st.composite
def splits(draw):
    """A set, a call that splits it, and the places to forget, or how many."""
    labels = draw(st.lists(st.integers(0, 4), min_size=2, max_size=60))
    images, size = numbered(labels), len(labels)
    kind = draw(st.sampled_from(["classes", "count", "fraction", "indices"]))
    if kind == "classes" and len(present := sorted(set(labels))) > 1:
        classes = draw(st.lists(st.sampled_from(present), min_size=1, max_size=len(present) - 1))
        wanted = [place for place, label in enumerate(labels) if label in classes]
        return images, lambda: forget_classes(images, classes), wanted
    seed, count = draw(st.integers(0, 2**32)), draw(st.integers(1, size - 1))
    if kind == "indices":
        chosen = draw(st.permutations(range(size)))[:count]
        return images, lambda: forget_indices(images, chosen), sorted(chosen)
    how_many = {"fraction": count / size} if kind == "fraction" else {"count": count}
    return images, lambda: forget_random(images, **how_many, seed=seed), count


@given(splits(), st.integers(0, 2**31))
def test_a_split_is_disjoint_complete_and_independent_of_the_global_seed(case, global_seed):
    images, split, wanted = case
    retain, forget = first = split()
    both = torch.cat([retain.indices, forget.indices])
    assert sorted(both.tolist()) == list(range(len(images)))
    assert wanted in (forget.indices.tolist(), len(forget))
    for part in first:
        assert torch.equal(part.images, images.images[part.indices])
        assert torch.equal(part.labels, images.labels[part.indices])
        assert (part.classes, part.mean, part.std) == (images.classes, images.mean, images.std)
    assert set(first.forget_classes) == set(forget.labels.tolist()) - set(retain.labels.tolist())
    torch.manual_seed(global_seed)
    state = torch.get_rng_state()
    assert torch.equal(split().forget.indices, forget.indices)
    assert torch.equal(torch.get_rng_state(), state)


def test_classes_and_indices_may_be_any_collection():
    for one in (1, np.int64(1), (1, 1), torch.tensor([1])):
        split = forget_classes(numbered([0, 1, 2, 1]), one)
        assert (split.forget.indices.tolist(), split.forget_classes) == ([1, 3], (1,))
    for indices in (iter([4, 1]), np.array([4, 1]), torch.tensor([[1], [4]])):  # mask.nonzero()
        assert forget_indices(numbered([0] * 6), indices).forget.indices.tolist() == [1, 4]


def test_random_seeds_draw_different_images_evenly_and_must_be_given():
    with pytest.raises(TypeError, match="seed"):
        forget_random(numbered([0] * 6), count=1)
    times = torch.zeros(40)
    for seed in range(400):
        times[forget_random(numbered([0] * 40), count=10, seed=seed).forget.indices] += 1
    # Each image is drawn Binomial(400, 1/4) times: 100 on average, 8.7 standard deviation.
    assert times.sub(100).abs().max() < 5 * 8.7


COARSE = [next(k for k, own in enumerate(CIFAR20.values()) if c in own) for c in range(100)]


def hundred() -> Images:
    """200 images in disorder, two of each of 100 classes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randperm(200, generator=generator) % 100
    pixels = torch.randint(0, 256, (200, 3, 2, 2), generator=generator).to(torch.uint8)
    return Images(pixels, labels, mean=(0.5,), std=(0.25,), mirror=True)


@pytest.mark.parametrize("classes", [np.int64(69), [0, 51, 99]])
def test_a_forgotten_subclass_is_gone_and_its_superclass_stays(classes):
    images = hundred()
    split = forget_subclass(images, classes)
    gone = torch.isin(images.labels, torch.tensor(classes).flatten())
    assert split.forget.indices.tolist() == gone.nonzero().flatten().tolist()
    assert split.retain.indices.tolist() == (~gone).nonzero().flatten().tolist()
    assert (type(split), split.forget_classes) == (Split, ())
    for part in (*split, superclasses(images.select(torch.tensor([6, 3, 150])))):
        assert part.classes == tuple(CIFAR20)
        assert part.labels.tolist() == [COARSE[label] for label in images.labels[part.indices]]
        assert torch.equal(part.images, images.images[part.indices])
        assert (part.mean, part.std, part.mirror) == (images.mean, images.std, True)
    assert torch.equal(images.labels, hundred().labels)  # the given ones are not changed


def test_requests_are_disjoint_and_each_retains_what_none_has_named():
    images = numbered([0, 1] * 10)
    splits = sequence(images, requests=5, fraction=0.15, seed=3)
    gone = []
    for retain, forget in splits:
        assert len(forget) == 3 and not {*forget.indices.tolist()} & {*gone}
        gone += forget.indices.tolist()
        assert sorted(retain.indices.tolist() + gone) == list(range(20))
    shorter = sequence(images, requests=2, count=3, seed=3)
    plain = forget_random(images, count=3, seed=3)
    for one, other in [*zip(shorter, splits, strict=False), (plain, splits[0])]:
        for ours, theirs in zip(one, other, strict=True):
            assert torch.equal(ours.indices, theirs.indices)
    assert sequence(images, requests=1, count=3, seed=4)[0].forget.indices.tolist() != gone[:3]


def test_groups_go_whole():
    images = numbered([0, 1, 0, 1, 0])
    for groups in ([7, 7, 2, 2, 7], np.array([7, 7, 2, 2, 7])):
        split = forget_groups(images, 2, groups=groups)
        assert (split.forget.indices.tolist(), split.forget_classes) == ([2, 3], ())
    with pytest.raises(ValueError, match="have no groups: give one whole number per image"):
        forget_groups(images, 2)


LOW, TWO = {"low": (0, 3)}, {"low": (0, 3), "high": [1, 2, 4]}


def test_groups_of_ones_own_may_be_given():
    split = forget_subclass(numbered([0, 1, 2, 3, 4, 3, 1]), 3, groups=TWO)
    assert (split.forget.indices.tolist(), split.forget.labels.tolist()) == ([3, 5], [0, 0])
    assert split.retain.labels.tolist() == [0, 1, 1, 1, 1]
    assert (split.retain.classes, split.forget_classes) == (("low", "high"), ())
    assert forget_subclass(numbered([0, 1, 2, 3, 4]), [0, 3], groups=TWO).forget_classes == (0,)


@pytest.mark.parametrize(
    "split, options, words",
    [
        (forget_classes, {"classes": []}, "the forget set is empty"),
        (forget_classes, {"classes": range(5)}, "is the whole training set"),
        (
            forget_classes,
            {"classes": [0, 5]},
            r"5 does not exist: .* classes \[0, 1, 2, 3, 4",
        ),
        (forget_random, {"seed": 0}, "either count= or fraction="),
        (forget_random, {"seed": 0, "count": 0}, "0 of 6 images cannot be forgotten"),
        (forget_random, {"seed": 0, "fraction": math.nan}, "between 0 and 1.* not nan"),
        (forget_indices, {"indices": [0, 6]}, "no image 6: positions go from 0 to 5"),
        (forget_indices, {"indices": [3, 3]}, "named twice"),
        (forget_indices, {"indices": torch.ones(6) > 0}, r"not torch.bool: .* mask.nonzero\(\)"),
        (sequence, {"requests": 3, "count": 2, "seed": 0}, "3 requests of 2 ask for 6 of 6 images"),
        (sequence, {"requests": 0, "count": 2, "seed": 0}, "requests must be .* at least 1, not 0"),
        (sequence, {"seed": 0}, "either count= or fraction="),
        (forget_groups, {"chosen": 3, "groups": [0] * 6}, "no group 3: the groups are 0$"),
        (forget_groups, {"chosen": 0, "groups": [0] * 6}, "is the whole training set"),
        (forget_groups, {"chosen": 0, "groups": [0.5] * 6}, "groups must be integers"),
        (forget_subclass, {"classes": 3, "groups": LOW | {"high": (1, 2, 4, 3)}}, "3 is in two"),
        (forget_subclass, {"classes": 3, "groups": LOW}, "is in no superclass"),
        (forget_subclass, {"classes": 5, "groups": TWO}, "class 5 does not exist"),
    ],
)
def test_an_impossible_split_is_refused_in_one_sentence(split, options, words):
    with pytest.raises(ValueError, match=words):
        split(numbered([0, 2, 3, 1, 4, 0]), **options)
