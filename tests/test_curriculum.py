"""Curricula: the order by confidence, against a literal sort, and that it survives to the end."""

import copy

import pytest
import torch
from torch import nn

from unlearning import Images, build, curriculum, forget_classes, impair_repair, predict, train
from unlearning.curriculum import ORDERS


class Given(nn.Module):
    """A network whose logits are given: those of the image whose first pixel is its place."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.as_tensor(logits))

    def forward(self, images):
        return self.logits[images[:, 0, 0, 0].mul(255).round().long()]


def numbered(labels) -> Images:
    """Images whose one pixel is their own place in the set; no class but these."""
    pixels = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    return Images(pixels, torch.tensor(labels), classes=("a", "b", "c"))


@pytest.fixture
def trained(tiny):
    torch.manual_seed(0)
    return train(build("cnn", 4, 1, 8), tiny.batches(16), epochs=2, lr=0.02)


@pytest.fixture
def some():
    """40 images with logits of an untrained kind; labels that fit them or not."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (40,), generator=generator).tolist()
    return numbered(labels), Given(torch.randn(40, 3, generator=generator))


def confidences(images, model):
    """Softmax of the label, one image after the other."""
    result = []
    for image, label in zip(images.images, images.labels, strict=True):
        logits = model.eval()(images.normalise(image[None]))[0].double()
        result.append(float(logits.detach().softmax(0)[label]))
    return result


def test_easy_first_falls_and_hard_first_rises_in_confidence(some):
    images, model = some
    p = confidences(images, model)
    falling = sorted(range(40), key=lambda place: -p[place])
    assert len(set(p)) == 40
    assert curriculum(images, model, order="easy_first").indices.tolist() == falling
    assert curriculum(images, model, order="hard_first").indices.tolist() == falling[::-1]
    assert curriculum(images, model).indices.tolist() == falling  # the default


@pytest.mark.parametrize("order, sign", [("easy_first", -1), ("hard_first", 1)])
def test_confidence_is_that_of_the_network_in_eval_mode(order, sign, tiny, trained):
    trained.train()
    found = curriculum(tiny, trained, order=order)
    p = torch.tensor(confidences(found, trained))
    assert (p.diff() * sign >= -1e-6).all()
    assert (p.diff() * sign > 1e-6).sum() > 80


def test_difficulty_is_of_the_label_not_of_the_largest_output():
    images = numbered([0, 1, 2])
    model = Given([[2.0, 0, 0], [9.0, 0, 0], [0, 0, 1.0]])  # sure, surely wrong, hardly sure
    assert curriculum(images, model).indices.tolist() == [0, 2, 1]


@pytest.mark.parametrize("order", ["easy_first", "hard_first"])
def test_images_of_the_same_confidence_keep_their_order(order):
    strength = torch.tensor([1.0, 2.0])[torch.arange(60) // 3 % 2]
    logits = torch.tensor([1.0, 0.0, 0.0]) * strength[:, None]
    found = curriculum(numbered([0] * 60), Given(logits), order=order).indices.tolist()
    strong = [place for place in range(60) if strength[place] == 2]
    weak = [place for place in range(60) if strength[place] == 1]
    assert found == (strong + weak if order == "easy_first" else weak + strong)


@pytest.mark.parametrize("gaps", [[18.0, 22.0, 20.0], [45.0, 70.0, 60.0], [300.0, 900.0, 500.0]])
def test_confidences_that_round_to_one_keep_their_order(gaps):
    """Logits that far apart give p = 1 in float32, from 37 on in float64 too."""
    logits = torch.tensor([[gap, 0.0, 0.0] for gap in gaps])
    assert logits.softmax(1)[:, 0].tolist() == [1, 1, 1]
    images, model = numbered([0, 0, 0]), Given(logits)
    assert curriculum(images, model).indices.tolist() == [1, 2, 0]
    assert curriculum(images, model, order="hard_first").indices.tolist() == [0, 2, 1]


@pytest.mark.parametrize("gaps", [[45.0, 70.0, 60.0], [300.0, 900.0, 500.0]])
def test_confidences_that_round_to_zero_keep_their_order(gaps):
    images = numbered([1, 1, 1])
    model = Given([[gap, 0.0, 0.0] for gap in gaps])
    assert curriculum(images, model, order="hard_first").indices.tolist() == [1, 2, 0]


def test_random_is_a_permutation_by_its_seed_and_asks_no_network(tiny):
    class Silent(nn.Module):
        def forward(self, images):
            raise AssertionError("nobody should ask")

    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again, other = (
        curriculum(tiny, Silent(), order="random", seed=seed).indices.tolist() for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert first == again
    assert first != other
    assert sorted(first) == sorted(other) == list(range(96))
    moved = sum(place != number for place, number in enumerate(first))
    assert moved > 80


@pytest.mark.parametrize("order", ["easy_first", "hard_first"])
def test_no_other_order_reads_the_seed(order, tiny, trained):
    first, other = (curriculum(tiny, trained, order=order, seed=seed) for seed in (1, 2))
    assert torch.equal(first.indices, other.indices)


@pytest.mark.parametrize("order", ORDERS)
def test_images_labels_and_indices_travel_together(order, tiny, trained):
    part = forget_classes(tiny, 2).retain  # whose indices are not their places
    found = curriculum(part, trained, order=order)
    assert sorted(found.indices.tolist()) == sorted(part.indices.tolist())
    assert found.indices.tolist() != part.indices.tolist()
    assert torch.equal(found.images, tiny.images[found.indices])
    assert torch.equal(found.labels, tiny.labels[found.indices])
    assert (found.classes, found.mean, found.std) == (tiny.classes, tiny.mean, tiny.std)


@pytest.mark.parametrize("order", ORDERS)
def test_batches_come_in_the_order_in_every_epoch(order, tiny, trained):
    found = curriculum(tiny, trained, order=order)
    batches = found.batches(10)
    for _ in range(2):
        images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        assert torch.equal(labels, tiny.labels[found.indices])
        assert torch.equal(images, tiny.normalise(tiny.images[found.indices]))


def test_the_network_and_the_images_are_left_as_they_are(tiny, trained):
    trained.train()
    trained[1].eval()
    before, modes = copy.deepcopy(trained), [m.training for m in trained.modules()]
    pixels, indices = tiny.images.clone(), tiny.indices.clone()
    curriculum(tiny, trained, order="hard_first")
    assert [m.training for m in trained.modules()] == modes
    torch.testing.assert_close(trained.state_dict(), before.state_dict(), rtol=0, atol=0)
    assert all(p.grad is None for p in trained.parameters())
    assert torch.equal(tiny.images, pixels)
    assert torch.equal(tiny.indices, indices)


def test_another_order_is_refused_in_one_sentence(tiny, trained):
    with pytest.raises(ValueError) as caught:
        curriculum(tiny, trained, order="easy first")
    wanted = "order must be one of easy_first, hard_first, random, not 'easy first'"
    assert str(caught.value) == wanted


def test_a_network_with_too_few_outputs_is_refused(tiny):
    with pytest.raises(ValueError, match="labels go from 0 to 3, but the network has 2 outputs"):
        curriculum(tiny, build("mlp", 2, 1, 8))


def test_impair_and_repair_take_the_order(tiny, trained):
    """Of each order another network, the same as of a list of its batches written out."""
    retain = forget_classes(tiny, 3).retain
    results = {}
    for order in ORDERS:
        found = curriculum(retain, trained, order=order)
        by_hand = [
            (retain.normalise(tiny.images[places]), tiny.labels[places])
            for places in found.indices.split(16)
        ]
        options = {"noise_size": 8, "noise_steps": 3}
        result = impair_repair(trained, found.batches(16), **options)
        wanted = impair_repair(trained, by_hand, **options)
        torch.testing.assert_close(result.state_dict(), wanted.state_dict(), rtol=0, atol=0)
        results[order] = predict(result, retain.batches(100))[0]
    assert not torch.allclose(results["easy_first"], results["hard_first"], atol=1e-3)
    assert not torch.allclose(results["easy_first"], results["random"], atol=1e-3)
