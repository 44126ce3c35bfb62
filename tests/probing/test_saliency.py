"""Saliency of linear networks by hand; integrated gradients add up; nothing is left behind."""

import copy
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from unlearning import Images, build, predict
from unlearning.probing import mean_agreement, saliency, saliency_agreement

METHODS = ("input x gradient", "integrated gradients")


@pytest.fixture(name="colour")
def make_colour():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (12, 3, 4, 5), generator=generator).to(torch.uint8)
    return Images(pixels, torch.arange(12) % 3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))


@pytest.mark.parametrize("method", METHODS)
def test_of_a_linear_network_it_is_the_image_times_the_weights_of_the_label(method, colour):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(60, 3))
    images = colour.normalise(colour.images)
    shares = (images * model[1].weight.view(3, 3, 4, 5)[colour.labels]).sum(1).detach().numpy()
    found = saliency(model, colour, method=method)
    assert found.shape == (12, 4, 5) and found.dtype == np.float64
    np.testing.assert_allclose(found, shares, atol=1e-5)
    of_one = (images * model[1].weight[2].view(3, 4, 5)).sum(1).detach().numpy()
    np.testing.assert_allclose(saliency(model, colour, method=method, label=2), of_one, atol=1e-5)


def test_integrated_gradients_add_up_to_the_logit_where_the_other_does_not(tiny):
    torch.manual_seed(0)
    model = build("mlp", 4, 1, 8)
    nn.init.normal_(model[1].bias)
    logits, labels = predict(model, tiny.batches(50))
    at_zero = model(torch.zeros(1, 1, 8, 8)).detach()[0]
    gained = (logits[torch.arange(96), labels] - at_zero[labels]).numpy()
    totals = {m: saliency(model, tiny, method=m, steps=300).sum((1, 2)) for m in METHODS}
    np.testing.assert_allclose(totals["integrated gradients"], gained, atol=0.01)
    assert np.abs(totals["input x gradient"] - gained).max() > 0.05


@pytest.mark.parametrize("name", ["cnn", "resnet20"])
@pytest.mark.parametrize("method", METHODS)
def test_the_network_is_left_as_it_was_and_each_image_has_its_own(name, method, tiny):
    torch.manual_seed(0)
    model, few = build(name, 4, 1, 8).train(), tiny.select(range(0, 96, 16))
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    with torch.no_grad():
        found = saliency(model, few, method=method, steps=5)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert all(module.training for module in model.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    one = saliency(model, few.select([4]), method=method, steps=5)
    np.testing.assert_allclose(one[0], found[4], atol=1e-6)
    frozen = model.requires_grad_(False)
    np.testing.assert_allclose(saliency(frozen, few, method=method, steps=5), found, atol=1e-6)


def test_a_network_that_changes_its_input_in_place_is_read(tiny):
    torch.manual_seed(0)
    last = nn.Linear(64, 4)
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), last)
    x = tiny.normalise(tiny.images)
    wanted = (x.relu() * last.weight[tiny.labels].view(-1, 1, 8, 8)).sum(1).detach().numpy()
    np.testing.assert_allclose(saliency(model, tiny), wanted, atol=1e-5)


def test_agreement_by_hand():
    a = np.array([[[1.0, 2], [3, 4]], [[1, 0], [0, 0]], [[1, 2], [3, 4]], [[0, 0], [0, 0]]])
    b = np.array([[[2.0, 4], [6, 8]], [[0, 5], [0, 0]], [[1, 4], [9, 99]], [[1, 2], [3, 4]]])
    cosines = [1, 0, (1 + 8 + 27 + 396) / np.sqrt(30 * (1 + 16 + 81 + 99**2)), np.nan]
    np.testing.assert_allclose(saliency_agreement(a, b), cosines)
    np.testing.assert_allclose(saliency_agreement(a, b, by="rank"), [1, -1 / 3, 1, np.nan])
    np.testing.assert_allclose(saliency_agreement(a[:3], -b[:3], by="rank"), [-1, 1 / 3, -1])


def test_mean_agreement_of_every_network_with_the_goals_leaves_out_empty_maps():
    right, down = np.array([[1.0, 0]]), np.array([[0, 1.0]])
    maps = {"a": np.stack([right, down, 0 * down]), "b": np.stack([right, -down, down])}
    maps["none"] = np.zeros((3, 1, 2))
    found = mean_agreement(maps, ["b", "a"])
    assert list(found.columns) == ["b", "a"] and list(found.index) == ["a", "b", "none"]
    np.testing.assert_allclose(found, [[0, 1], [1, 0], [np.nan, np.nan]])
    by_rank = mean_agreement(maps, ["a"], by="rank")
    np.testing.assert_allclose(by_rank["a"], [1, 0, np.nan])
    with pytest.raises(ValueError, match="no maps of 'c', only of a, b, none"):
        mean_agreement(maps, ["a", "c"])


def test_what_has_no_saliency_is_refused(colour):
    model = nn.Sequential(nn.Flatten(), nn.Linear(60, 3))
    for options, words in (
        ({"method": "grad-cam"}, "choose input x gradient or integrated gradients"),
        ({"label": 3}, "labels go from 3 to 3, but the network has 3 outputs"),
        ({"label": 0.5}, "label must be a whole number"),
    ):
        with pytest.raises(ValueError, match=words):
            saliency(model, colour, **options)
    with pytest.raises(ValueError, match="to have pixels"):
        saliency(nn.Linear(60, 3), [(torch.ones(2, 60), torch.tensor([0, 1]))])
    with pytest.raises(ValueError, match="returns logits"):
        saliency(nn.Flatten(2), replace(colour))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ImportError, match="pip install c"):
        patch.setitem(sys.modules, "captum.attr", None)
        saliency(model, colour)
    maps = np.ones((2, 3, 3))
    for other, options, words in (
        (np.ones((3, 3, 3)), {}, "of the same images"),
        (np.ones((2, 9)), {}, r"of shape \(N, H, W\)"),
        (maps, {"by": "kendall"}, "choose cosine or rank"),
    ):
        with pytest.raises(ValueError, match=words):
            saliency_agreement(maps, other, **options)
