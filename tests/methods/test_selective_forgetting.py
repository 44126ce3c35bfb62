"""Selective forgetting: the distribution of the noise against the authors' code, by hand."""

import math

import pytest
import torch
from by_hand import assert_same, differ, network, weights
from scipy.stats import kstest
from torch import nn

from unlearning.curvature import fisher_diagonal
from unlearning.methods import selective_forgetting


def convolutional():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(576, 4)
    )


def variance_by_hand(fisher, *, alpha, rows=()):
    """The authors' get_mean_var, parameter by parameter, for ``convolutional``."""
    result = {}
    for name, f in fisher.items():
        last = name.startswith("4.")
        v = alpha * torch.clamp(1 / (f + 1e-8), max=1e2 if last else 1e3)
        if f.ndim > 1:
            v = v.mean(1, keepdim=True).expand(f.shape).clone()
        if last:
            v[list(rows)] = 1e-4
        result[name] = v * 10 if last or f.ndim == 1 else v
    return result


@pytest.mark.parametrize("rows", [(), (1, 3)])
def test_noise_has_the_variance_of_the_authors_code(rows, retain):
    model = convolutional()
    fisher = fisher_diagonal(model, retain)
    fisher["0.weight"][:8] *= 1e-6  # half of it is clamped
    wanted = variance_by_hand(fisher, alpha=1e-6, rows=rows)
    standard = {name: [] for name in wanted}
    for seed in range(20):
        options = {"alpha": 1e-6, "fisher": fisher, "forget_classes": rows, "seed": seed}
        found = selective_forgetting(model, retain, **options)
        for (name, new), old in zip(found.named_parameters(), model.parameters(), strict=True):
            mean = old.detach().clone()
            if name.startswith("4."):
                mean[list(rows)] = 0
            standard[name].append((new.detach() - mean) / wanted[name].sqrt())
    for name, values in standard.items():
        values = torch.stack(values).double().flatten()
        assert abs(float(values.mean())) < 5 / len(values) ** 0.5, name
        assert abs(float(values.std()) - 1) < 5 / (2 * len(values)) ** 0.5, name
        assert kstest(values[:2000].numpy(), "norm").pvalue > 1e-4, name


def test_bounds_of_the_variance_are_hyperparameters(retain):
    model = convolutional()
    fisher = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    bounds = {"max_variance": 4e-4, "max_variance_last": 1e-5}
    found = selective_forgetting(model, retain, fisher=fisher, alpha=1.0, **bounds)
    noise = {name: value - model.state_dict()[name] for name, value in found.state_dict().items()}
    assert float(noise["0.weight"].std()) == pytest.approx(0.02, rel=0.25)
    assert float(noise["4.weight"].std()) == pytest.approx(0.01, rel=0.1)  # ten times 1e-5


def test_variance_is_averaged_over_the_inputs_of_a_unit(retain):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4, bias=False), nn.Linear(4, 4, bias=False))
    fisher = {"1.weight": torch.ones(4, 64), "2.weight": torch.ones(4, 4)}
    fisher["1.weight"][0, :32] = 0.25  # variances 4 and 1 in the first unit
    scale = {}
    for by in ("std", "variance"):
        found = selective_forgetting(model, retain, alpha=1.0, fisher=fisher, scale_by=by)
        scale[by] = (found[1].weight - model[1].weight).detach()
    ratio = scale["variance"] / scale["std"]  # the same noise, times v and times its root
    torch.testing.assert_close(ratio[0], torch.full((64,), math.sqrt(2.5)), rtol=1e-3, atol=0)
    torch.testing.assert_close(ratio[1:], torch.ones(3, 64), rtol=1e-3, atol=0)


@pytest.mark.parametrize("estimator", ["exact", "sampled"])
def test_the_fisher_is_that_of_the_retain_set_unless_it_is_given(estimator, retain):
    model = network("cnn").requires_grad_(False)
    found = selective_forgetting(model, retain, estimator=estimator, seed=1)
    given = fisher_diagonal(model, retain, estimator=estimator, seed=1)
    assert_same(selective_forgetting(model, [], fisher=given, seed=1), found)
    assert differ(selective_forgetting(model, retain[:1], estimator=estimator, seed=1), found)
    for key, value in weights(model).items():  # frozen weights move, statistics do not
        left_alone = "running" in key or "num_batches" in key
        assert torch.equal(value, weights(found)[key]) == left_alone, key
