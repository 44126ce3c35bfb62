"""core.heads: the minimum of what they say they minimise, and the certificate's arithmetic."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from unlearning.core.heads import fit_head


@pytest.fixture(name="data")
def make_data():
    """90 examples of three classes in 6 dimensions, no row longer than 1."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    means = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    x = means[labels] + torch.randn(90, 6, generator=generator, dtype=torch.float64)
    return F.normalize(x), labels


def minimised(head, weight, x, labels):
    """What a head minimises, written out example by example."""
    total = 0
    for label, (w, b) in enumerate(zip(weight, head.noise, strict=True)):
        for row, own in zip(x, labels, strict=True):
            y = 1.0 if own == label else -1.0
            z = w @ row
            total = total + (F.softplus(-y * z) if head.kind == "logistic" else (z - y) ** 2 / 2)
        total = total + head.lam * len(x) / 2 * w @ w + b @ w
    return total


@pytest.mark.parametrize("kind", ["ridge", "logistic"])
def test_gradient_and_hessian_are_those_of_autograd(data, kind):
    x, labels = data[0][:20], data[1][:20]
    head = fit_head(*data, kind=kind, lam=0.01, sigma=0.5)
    weight = head.weight.clone().requires_grad_()
    value = minimised(head, weight, x, labels)
    (wanted,) = torch.autograd.grad(value, weight)
    torch.testing.assert_close(head.gradient(x, labels), wanted)
    full = torch.autograd.functional.hessian(lambda w: minimised(head, w, x, labels), head.weight)
    for k in range(3):
        torch.testing.assert_close(head.hessian(x).expand(3, 6, 6)[k], full[k, :, k])


@pytest.mark.parametrize("kind", ["ridge", "logistic"])
@pytest.mark.parametrize("sigma", [0.0, 2.0])
def test_training_ends_at_the_minimum(data, kind, sigma):
    head = fit_head(*data, kind=kind, lam=0.001, sigma=sigma)
    assert float(head.gradient(*data).norm()) < 1e-9
    assert (head.noise.norm() > 0) == (sigma > 0)
    assert (head.scores(data[0]).argmax(1) == data[1]).float().mean() > (0.8 if not sigma else 0.3)
    other = fit_head(*data, kind=kind, lam=0.001, sigma=sigma, seed=1)
    assert torch.equal(other.weight, head.weight) == (sigma == 0)


def test_ridge_is_the_closed_form(data):
    x, labels = data
    head = fit_head(x, labels, kind="ridge", lam=0.02)
    y = 2.0 * F.one_hot(labels).double() - 1
    wanted = torch.linalg.inv(x.T @ x + 0.02 * 90 * torch.eye(6).double()) @ x.T @ y
    torch.testing.assert_close(head.weight, wanted.T)


def test_noise_has_the_standard_deviation_that_is_asked_for():
    x = torch.eye(2000, dtype=torch.float64)[:4]
    noise = fit_head(x, torch.arange(4), kind="ridge", lam=1.0, sigma=3.0).noise
    assert float(noise.std()) == pytest.approx(3, rel=0.03)


def test_the_certificate_is_the_gaussian_one(data):
    """With a shift of ``bound``, noise of sigma hides it: checked on the densities themselves."""
    head = replace(fit_head(*data, sigma=2.0), bound=torch.tensor([0.3, 0.4, 0.0]).double())
    assert head.epsilon(1e-3) == pytest.approx(math.sqrt(2 * math.log(1500)) * 0.5 / 2)
    normal = torch.distributions.Normal(0.0, 2.0)
    for norm in (0.1, 0.5, 0.9):
        for delta in (1e-2, 1e-4):
            epsilon = replace(head, bound=torch.tensor([norm])).epsilon(delta)
            assert epsilon <= 2
            grid = torch.linspace(-20, 20, 400_001, dtype=torch.float64)
            p, q = normal.log_prob(grid).exp(), normal.log_prob(grid - norm).exp()
            excess = (p - math.exp(epsilon) * q).clamp(min=0).sum() * (grid[1] - grid[0])
            assert float(excess) <= delta
    assert replace(head, sigma=0.0).epsilon() == math.inf
    assert fit_head(*data, kind="ridge").epsilon() == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "softmax"}, "there is no head 'softmax': choose ridge or logistic"),
        ({"lam": 0}, "lam must be"),
        ({"sigma": -1}, "sigma must be"),
        ({"num_classes": 2}, "labels go from 0 to 2, but the network has 2 outputs"),
    ],
)
def test_what_cannot_be_trained_is_refused(data, options, words):
    with pytest.raises(ValueError, match=words):
        fit_head(*data, **options)


def test_features_that_cannot_be_read_are_refused(data):
    x, labels = data
    with pytest.raises(ValueError, match=r"a row of features has norm 2, .* by its own norm"):
        fit_head(2 * x, labels)
    fit_head(2 * x, labels, kind="ridge")
    for wrong in (x[:0], x[0], x.long(), x / 0):
        with pytest.raises(ValueError, match="features must be finite floats"):
            fit_head(wrong, labels)
    with pytest.raises(ValueError, match="labels must be whole numbers"):
        fit_head(x, labels[:5])
