"""core.airbench: its first weights, whitening by training images alone, and every method on it."""

import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unlearning import METHODS, Images, build, curvature, predict, train
from unlearning.core.airbench import AirBench, Whitening
from unlearning.core.layers import copy_of, reinitialise
from unlearning.curvature import fisher_diagonal
from unlearning.hyperparameters import bind
from unlearning.methods import train_shards
from unlearning.splitting import forget_classes
from unlearning.training import fresh_network


@pytest.fixture(scope="module")
def pictures():
    """48 images (2, 16, 16) of 3 classes, smooth as photographs are: neighbours are correlated."""
    draws = torch.Generator().manual_seed(0)
    coarse = F.interpolate(torch.randn(48, 2, 4, 4, generator=draws), size=16, mode="bicubic")
    noisy = 128 + 40 * coarse + 10 * torch.randn(48, 2, 16, 16, generator=draws)
    labels = torch.arange(3).repeat(16)
    noisy[labels == 2, :, :8] += 60
    return Images(noisy.clamp(0, 255).to(torch.uint8), labels, mean=(0.5,), std=(0.2,))


def moments(patches):
    return patches @ patches.T / patches.shape[1]


@pytest.mark.parametrize("kind", ["noise", "pictures"])
def test_whitened_patches_have_the_identity_as_their_second_moments(kind, pictures):
    images = pictures.normalise(pictures.images)
    if kind == "noise":
        images = 3 * torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    layer = Whitening(2, eps=0.0)
    layer.whiten(images.split(20))
    out = layer(images).transpose(0, 1).flatten(1).detach()
    assert torch.equal(out[:8], -out[8:]) and not layer.bias.any()
    torch.testing.assert_close(moments(out[:8]), torch.eye(8), rtol=0, atol=2e-3)
    raw = F.unfold(images, 2).transpose(0, 1).flatten(1)
    assert (moments(raw) - torch.eye(8)).abs().max() > 0.3
    damped = Whitening(2)
    damped.whiten([images])
    values = torch.linalg.eigvalsh(moments(raw)).flip(0)
    norms = damped.weight[:8].flatten(1).square().sum(1)
    torch.testing.assert_close(norms, 1 / (values + 5e-4), rtol=1e-3, atol=0)


def test_a_direction_without_variance_is_not_amplified_without_bound():
    layer = Whitening(1)
    layer.whiten([torch.ones(4, 1, 16, 16)])
    assert layer.weight.abs().max() <= 5e-4**-0.5


def test_frozen_are_the_filters_and_the_scales():
    model = build("airbench", 10, 3, 32)
    widths = [layer.out_channels for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    assert widths == [24, 32, 32, 128, 128, 128, 128]
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    scales = {f"blocks.{block}.{place}.weight" for block in range(3) for place in (2, 5)}
    assert frozen == {"first.weight"} | scales


def test_logits_are_a_ninth_of_the_last_layer_and_the_maximum_is_that_of_3_by_3_pixels():
    model, inputs = build("airbench", 10, 3, 32).eval(), []
    model.last.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(x), F.linear(inputs[0], model.last.weight) / 9)
    before = model.blocks(F.gelu(model.first(x)))
    assert before.shape == (4, 128, 3, 3)
    assert torch.equal(inputs[0], F.max_pool2d(before, 3).flatten(1))


@pytest.mark.parametrize("size", [16, 28, 33, 64])
def test_any_size_from_16_on_and_smaller_ones_are_refused(size):
    with torch.device("meta"):
        assert build("airbench", 3, 5, size)(torch.empty(2, 5, size, size)).shape == (2, 3)
    with pytest.raises(ValueError, match="must be at least 16 pixels wide, not 15"):
        build("airbench", 3, 5, 15)


def test_all_weights_can_be_drawn_again(known):
    found, again = (reinitialise(copy_of(known), seed=1) for _ in range(2))
    half = found.first.weight[:8].flatten(1)  # a rotation, which reads no image
    torch.testing.assert_close(half @ half.T, torch.eye(8))
    assert torch.equal(found.first.weight[8:], -found.first.weight[:8])
    for (name, p), q, old in zip(
        found.named_parameters(), again.parameters(), known.parameters(), strict=True
    ):
        is_scale = name.startswith("blocks") and name.endswith("weight") and p.ndim == 1
        assert torch.equal(p, q) and torch.equal(p, old) == is_scale, name
        assert p.requires_grad == old.requires_grad


def test_a_retrained_network_is_whitened_by_what_is_left_alone(pictures):
    split = forget_classes(pictures, 2)
    others = pictures.images.clone()
    others[split.forget.indices] = 255 - others[split.forget.indices]
    changed = Images(others, pictures.labels, mean=(0.5,), std=(0.2,))
    filters = [
        fresh_network("airbench", images, 0).first.weight
        for images in (pictures, split.retain, changed, forget_classes(changed, 2).retain)
    ]
    assert torch.equal(filters[1], filters[3])
    assert not torch.equal(filters[0], filters[1]) and not torch.equal(filters[0], filters[2])
    other_seed = fresh_network("airbench", split.retain, 1)
    assert torch.equal(filters[1], other_seed.first.weight)


@pytest.mark.parametrize("part", [0, 1])
def test_shards_forget_their_whitening_too(part, pictures):
    recipe = {"model": "airbench", "epochs": 1, "lr": 0.01, "shards": 2, "slices": 2, "seed": 3}
    trained = train_shards(pictures, **recipe)
    at, of, parts = trained.places.T
    gone = at[(of == 0) & (parts == part)]
    found = trained.forget(gone)
    wanted = train_shards(pictures, **recipe, without=gone)
    for one, other in zip(found.shards, wanted.shards, strict=True):
        torch.testing.assert_close(one.checkpoints, other.checkpoints, rtol=0, atol=0)
        states = one.network.state_dict(), other.network.state_dict()
        torch.testing.assert_close(*states, rtol=0, atol=0)


def test_a_shard_whose_first_slice_is_gone_is_whitened_by_the_next(pictures):
    recipe = {"model": "airbench", "epochs": 1, "lr": 0.01, "shards": 2, "slices": 2, "seed": 3}
    at, of, parts = train_shards(pictures, **recipe).places.T
    first, second = (at[(of == 0) & (parts == part)] for part in (0, 1))
    gone = torch.cat([first, second[:2]])
    found = train_shards(pictures, **recipe, without=first).forget(second[:2])
    wanted = train_shards(pictures, **recipe, without=gone)
    for one, other in zip(found.shards, wanted.shards, strict=True):
        torch.testing.assert_close(one.checkpoints, other.checkpoints, rtol=0, atol=0)


def test_fisher_information_has_a_closed_form(pictures, monkeypatch):
    model = AirBench(3, 2, (4, 6, 6)).double()
    model.whiten([pictures.normalise(pictures.images).double()])
    train(model, pictures.batches(16), epochs=1, lr=0.01)
    batches = [(pictures.normalise(pictures.images[:5]).double(), pictures.labels[:5])]
    with monkeypatch.context() as patch:
        patch.setattr(curvature, "_in_closed_form", lambda *_: False)
        slow = fisher_diagonal(model, batches)
    monkeypatch.setattr(curvature, "_add_by_func", None)  # would fail if it were called
    torch.testing.assert_close(fisher_diagonal(model, batches), slow, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_runs_on_it_and_leaves_the_frozen_filters(name, pictures, known):
    method, split = METHODS[name], forget_classes(pictures, 2)
    options = inspect.signature(method).parameters
    light = {one: 1 for one in options if one.endswith("epochs")}
    light |= {one: 16 for one in options if one.endswith("noise_size")}
    data = bind(method, split, 0, lambda images, seed: images.batches(16, shuffle=True, seed=seed))
    found = method(known, **data | light)
    logits, _ = predict(found, pictures.batches(16))
    assert logits.shape == (48, 3)
    assert torch.equal(found.first.weight, known.first.weight)


@pytest.fixture(scope="module")
def known(pictures):
    model = fresh_network("airbench", pictures, 0)
    return train(model, pictures.batches(16), epochs=8, lr=0.02)


def test_it_learns(known, pictures):
    logits, labels = predict(known, pictures.batches(16))
    assert (logits.argmax(1) == labels).float().mean() > 0.9
