"""Curricula: the order by confidence, against a literal sort, and that it reaches the batches."""

import copy

import pytest
import torch
from torch import nn

from unlearning import Images, build, train
from unlearning.curriculum import ORDERS, curriculum
from unlearning.splitting import forget_classes


class Given(nn.Module):
    """A network whose logits are given: those of the image whose first pixel is its place."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.as_tensor(logits))

    def forward(self, images):
        return self.logits[images[:, 0, 0, 0].mul(255).round().long()]


def order_of(labels, logits, order="easy_first"):
    """The order of images of three classes whose one pixel is their own place in the set."""
    pixels = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    images = Images(pixels, torch.tensor(labels), classes=("a", "b", "c"))
    return curriculum(images, Given(logits), order=order).indices.tolist()


@pytest.fixture(scope="module")
def trained(tiny):
    torch.manual_seed(0)
    return train(build("cnn", 4, 1, 8), tiny.batches(16), epochs=2, lr=0.02)


def test_easy_first_falls_and_hard_first_rises_in_the_confidence_in_the_label():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (40,), generator=generator).tolist()
    logits = torch.randn(40, 3, generator=generator)
    p = logits.double().softmax(1)
    falling = sorted(range(40), key=lambda place: -p[place, labels[place]])
    assert order_of(labels, logits) == falling
    assert order_of(labels, logits, "hard_first") == falling[::-1]


def test_images_of_the_same_confidence_keep_their_order():
    strength = torch.tensor([1.0, 2.0])[torch.arange(60) // 3 % 2]
    logits = torch.tensor([1.0, 0.0, 0.0]) * strength[:, None]
    weak, strong = ((strength == s).nonzero().flatten().tolist() for s in (1, 2))
    assert order_of([0] * 60, logits) == strong + weak
    assert order_of([0] * 60, logits, "hard_first") == weak + strong


def test_confidences_that_round_to_one_or_zero_keep_their_order():
    logits = torch.tensor([[gap, 0.0, 0.0] for gap in (300.0, 900.0, 500.0)])
    assert logits.double().softmax(1)[:, 0].tolist() == [1, 1, 1]
    assert order_of([0] * 3, logits) == order_of([1] * 3, logits, "hard_first") == [1, 2, 0]


def test_random_is_a_permutation_by_its_seed_and_reads_no_network(tiny):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again, other = (
        curriculum(tiny, None, order="random", seed=seed).indices.tolist() for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert first == again != other
    assert sorted(first) == sorted(other) == list(range(96)) != first


@pytest.mark.parametrize("order", ORDERS)
def test_the_network_is_read_in_eval_mode_and_the_order_reaches_every_epoch(order, tiny, trained):
    model = copy.deepcopy(trained).train()
    model[1].eval()
    modes = [m.training for m in model.modules()]
    part = forget_classes(tiny, 2).retain  # whose indices are not their places
    found = curriculum(part, model, order=order)
    assert [m.training for m in model.modules()] == modes
    torch.testing.assert_close(model.state_dict(), trained.state_dict(), rtol=0, atol=0)
    assert found.indices.tolist() == curriculum(part, trained, order=order).indices.tolist()
    assert sorted(found.indices.tolist()) == part.indices.tolist() != found.indices.tolist()
    assert (found.classes, found.mean, found.std) == (tiny.classes, tiny.mean, tiny.std)
    batches = found.batches(10)
    for _ in range(2):
        images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        assert torch.equal(labels, tiny.labels[found.indices])
        assert torch.equal(images, tiny.normalise(tiny.images[found.indices]))


def test_an_unknown_order_or_too_few_outputs_are_refused(tiny, trained):
    with pytest.raises(ValueError, match="easy_first, hard_first, random, not 'easy first'"):
        curriculum(tiny, trained, order="easy first")
    with pytest.raises(ValueError, match="from 0 to 3, but the network has 2 outputs"):
        curriculum(tiny, build("mlp", 2, 1, 8))
