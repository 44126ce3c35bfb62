"""Perturb: what each kind changes, that it is an involution, and the repair as fine-tuning."""

import pytest
import torch
from by_hand import Counted, assert_close, assert_same, doubled, network, passes
from scipy.stats import kstest
from torch import nn

from unlearning.methods import fine_tune, perturb


def pooled(bias=True):
    """A network that knows height from width only by its kernels."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 3, padding=1, bias=bias), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Conv2d(6, 8, 5, stride=2, bias=bias), nn.ReLU(), nn.Conv2d(8, 8, 1)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
    ).double()


def changed(found, model):
    pairs = zip(model.named_parameters(), found.parameters(), strict=True)
    return {name: int((new != old).sum()) for (name, old), new in pairs}


def test_a_transposed_network_sees_transposed_images(retain):
    model, images = pooled().eval(), retain[0][0].double()
    found = perturb(model, retain, epochs=0)
    torch.testing.assert_close(found(images), model(images.mT), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(found(images), model(images))


def test_a_network_negated_in_front_sees_negated_images(retain):
    model, images = pooled(bias=False).eval(), retain[0][0].double()
    found = perturb(model, retain, kind="negate", epochs=0)
    assert torch.equal(found(images), model(-images))
    assert not torch.allclose(found(images), model(images))


@pytest.mark.parametrize("kind", ["transpose", "negate"])
@pytest.mark.parametrize("make", [pooled, lambda: network("resnet20")])
def test_the_same_twice_is_the_original(kind, make, retain):
    once = perturb(make(), retain, kind=kind, epochs=0)
    assert_same(perturb(once, retain, kind=kind, epochs=0), make())


def test_each_kind_changes_its_entries_and_no_others(retain):
    model = pooled()
    found = {
        kind: changed(perturb(model, retain, kind=kind, epochs=0), model)
        for kind in ("transpose", "negate", "noise")
    }
    for kind, counts in {
        "transpose": {"0.weight": 6 * 6, "3.weight": 8 * 6 * 20},  # all but the diagonals
        "negate": {"0.weight": 54},
        "noise": {"0.weight": 54, "3.weight": 1200, "5.weight": 64},
    }.items():
        assert found[kind] == dict.fromkeys(found[kind], 0) | counts, kind


def test_a_network_without_convolutions_has_its_first_layer_negated_or_noise_everywhere(retain):
    model = network()
    found = perturb(model, retain, kind="negate", epochs=0)
    assert torch.equal(found[1].weight, -model[1].weight)
    found[1].weight.data.neg_()
    assert_same(found, model)
    noisy = changed(perturb(model, retain, kind="noise", epochs=0), model)
    assert {name for name, count in noisy.items() if count} == {"1.weight", "3.weight", "5.weight"}


def test_noise_is_normal_with_the_strength_as_standard_deviation(retain):
    model = network("resnet20")
    found = perturb(model, retain, kind="noise", strength=0.3, epochs=0)
    pairs = zip(model.parameters(), found.parameters(), strict=True)
    noise = torch.cat([(b - a).detach().flatten() for a, b in pairs if a.ndim == 4])
    assert kstest((noise / 0.3).numpy(), "norm").pvalue > 1e-4
    other = perturb(model, retain, kind="noise", strength=0.3, epochs=0, seed=1)
    assert sum(changed(other, found).values()) == len(noise)


def test_noise_of_strength_0_is_fine_tuning(retain):
    model, options = network("cnn"), {"lr": 0.02, "weight_decay": 1e-3, "epochs": 2, "seed": 3}
    wanted = fine_tune(model, retain, **options)
    assert_same(perturb(model, retain, kind="noise", strength=0, **options), wanted)


@pytest.mark.parametrize("kind", ["transpose", "negate", "noise"])
def test_the_repair_is_fine_tuning_of_what_was_perturbed(kind, retain):
    options = {"lr": 0.02, "weight_decay": 1e-3, "momentum": 0.8, "seed": 3}
    model, data = pooled(), doubled(retain)
    damaged = perturb(model, data, kind=kind, epochs=0, seed=3)
    wanted = fine_tune(damaged, data, epochs=2, **options)
    assert_close(perturb(model, data, kind=kind, epochs=2, **options), wanted)


def test_frozen_kernels_stay(retain):
    model = pooled()
    model[0].weight.requires_grad_(False)
    assert changed(perturb(model, retain, epochs=0), model)["0.weight"] == 0
    assert changed(perturb(model, retain, kind="negate", epochs=0), model)["3.weight"] == 1200
    model[3].weight.requires_grad_(False)
    with pytest.raises(ValueError, match='1 x 1 to transpose, or it is frozen: set kind="negate"'):
        perturb(model, retain)
    with pytest.raises(ValueError, match='to negate, or all are frozen: set kind="noise"'):
        perturb(network().requires_grad_(False), retain, kind="negate")


def test_kernels_that_are_not_square_are_refused(retain):
    model = nn.Sequential(nn.Conv2d(1, 2, (1, 7)), nn.Flatten(), nn.Linear(32, 4))
    with pytest.raises(ValueError, match=r'not square, .* set kind="negate" or kind="noise"'):
        perturb(model, retain)
    found = perturb(model, retain, kind="negate", epochs=0)
    assert torch.equal(found[0].weight, -model[0].weight)


def test_it_costs_the_passes_over_the_retain_set_and_reads_no_more(tiny):
    retain = Counted(tiny.select(range(72)))
    cost = passes(perturb, network("cnn"), retain.batches(), count=96, epochs=3)
    assert cost == pytest.approx(3 * 72 / 96)
    assert (retain.reads == 3).all()
