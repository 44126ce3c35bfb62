"""core.gradients: sums over batches against a loop, and what is left as it was."""

import pytest
import torch
from torch import nn

from unlearning.core.gradients import sum_gradients
from unlearning.core.losses import classification_loss


def network():
    torch.manual_seed(0)
    layers = nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4)
    return nn.Sequential(nn.Flatten(), *layers).double()


@pytest.mark.parametrize("change", [None, torch.square])
def test_they_are_sums_of_what_autograd_gives_in_eval_mode(tiny, change):
    model, pairs = network(), list(tiny.batches(40))
    model[2].running_mean += 0.3
    model[3].eval()
    modes, before = [m.training for m in model.modules()], model[2].running_mean.clone()
    weights = [model[1].weight, model[4].bias]
    with torch.no_grad():
        found = sum_gradients(model, weights, pairs, classification_loss, change=change)
    assert (found.batches, found.images) == (3, 96)
    assert modes == [m.training for m in model.modules()]
    assert torch.equal(model[2].running_mean, before) and weights[0].grad is None
    wanted = [torch.zeros_like(w) for w in weights]
    for images, labels in pairs:
        loss = nn.functional.cross_entropy(model.eval()(images.double()), labels)
        for total, g in zip(wanted, torch.autograd.grad(loss, weights), strict=True):
            total += change(g) if change else g
    torch.testing.assert_close(found.sums, wanted, rtol=1e-12, atol=0)


def test_a_weight_that_is_not_read_has_a_gradient_of_0_and_nan_is_refused(tiny):
    model, spare = network(), torch.ones(3, requires_grad=True)
    found = sum_gradients(model, [spare], tiny.batches(40), classification_loss)
    assert torch.equal(found.sums[0], torch.zeros(3))
    nan = [(images * torch.nan, labels) for images, labels in tiny.batches(40)]
    with pytest.raises(ValueError, match="a gradient is not finite: weights or images hold NaN"):
        sum_gradients(model, [model[1].weight], nan, classification_loss)
