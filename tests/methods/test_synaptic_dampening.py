"""Synaptic dampening: importances against a loop, the rule by hand, and its identities."""

import importlib
import math

import pytest
import torch
import torch.nn.functional as F
from by_hand import Counted, assert_close, assert_same, differ, doubled, network, passes, weights

from unlearning.core.layers import normalisation_layers
from unlearning.methods import synaptic_dampening

module = importlib.import_module("unlearning.methods.synaptic_dampening")
KINDS = ["batch", "sample", "logit_norm"]


def by_hand(model, batches, kind):
    """Importances by a loop over batches, or over images."""
    if kind == "sample":
        batches = [pair for x, y in batches for pair in zip(x.split(1), y.split(1), strict=True)]
    model, found = model.eval(), {}
    for images, labels in batches:
        logits = model(images)
        if kind == "logit_norm":
            loss = (logits**2).sum() / len(images)
        else:
            loss = F.cross_entropy(logits, labels)
        for name, g in zip(
            dict(model.named_parameters()),
            torch.autograd.grad(loss, list(model.parameters())),
            strict=True,
        ):
            value = g.abs() if kind == "logit_norm" else g**2
            found[name] = found.get(name, 0) + value / len(batches)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_importances_are_means_over_batches_or_images(name, kind, retain):
    model, data = network(name).double(), doubled(retain)
    data[-1] = (data[-1][0][:5], data[-1][1][:5])  # a short batch counts as much as a long one
    found = module.importance(model.train().requires_grad_(False), data, kind)
    torch.testing.assert_close(found, by_hand(model.requires_grad_(), data, kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alpha, dampening", [(0.8, 1.0), (1.5, 0.3), (0.5, 2.0)])
def test_weights_are_dampened_by_the_rule_where_the_forget_set_matters_more(
    kind, alpha, dampening, retain, forget, capsys
):
    model, retain, forget = network("cnn").double(), doubled(retain), doubled(forget)
    options = {"alpha": alpha, "dampening": dampening, "importance": kind}
    found = weights(synaptic_dampening(model, retain, forget, **options))
    full, own = (by_hand(model, data, kind) for data in (retain + forget, forget))
    dampened = total = 0
    for name, w in model.named_parameters():
        wanted = w.detach().clone()
        chosen = own[name] > alpha * full[name]
        wanted[chosen] *= (dampening * full[name] / own[name]).clamp(max=1)[chosen]
        torch.testing.assert_close(found[name], wanted)
        assert torch.equal(found[name][~chosen], w[~chosen])
        dampened, total = dampened + int(chosen.sum()), total + w.numel()
    assert 0.05 < dampened / total < 0.95
    share = f"{100 * dampened / total:.1f}"
    assert capsys.readouterr().out == f"SSD: {share} % of {total:,} weights dampened\n"


def test_without_bound_in_alpha_or_dampening_nothing_changes(retain, forget):
    model = network("cnn")
    for options in ({"alpha": 1e30}, {"alpha": math.inf}, {"alpha": 1, "dampening": 1e30}):
        assert_same(synaptic_dampening(model, retain, forget, **options), model)


@pytest.mark.parametrize("kind", KINDS)
def test_a_forget_set_that_is_everything_changes_nothing(kind, retain):
    model, options = network("cnn"), {"importance": kind, "alpha": 1.0}
    stored = module.importance(model, retain, kind)
    assert_same(synaptic_dampening(model, [], retain, full_importance=stored, **options), model)


@pytest.mark.parametrize("alpha", ["auto", 1.2])
def test_four_times_the_loss_gives_the_same_weights(alpha, retain, forget, monkeypatch):
    model, data = network("cnn").double(), (doubled(retain), doubled(forget))
    wanted = synaptic_dampening(model, *data, alpha=alpha)
    loss, change = module._LOSSES["batch"]
    four = lambda *given: 4 * loss(*given)  # noqa: E731
    monkeypatch.setitem(module._LOSSES, "batch", (four, change))
    assert_same(synaptic_dampening(model, *data, alpha=alpha), wanted)
    assert differ(wanted, model)


def test_a_weight_that_only_the_forget_set_needs_becomes_0_and_one_it_does_not_stays(forget):
    model = network()
    full = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    full["5.bias"][:2] = 0  # of which the forget set needs all four
    found = synaptic_dampening(model, [], forget, alpha=1e9, full_importance=full)
    assert torch.equal(found[5].bias[:2], torch.zeros(2))
    assert torch.equal(found[5].bias[2:], model[5].bias[2:])
    images = [(torch.zeros_like(x), y) for x, y in forget]  # no pixel moves the first layer
    nothing = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    found = synaptic_dampening(model, [], images, alpha=1, full_importance=nothing)
    assert torch.equal(found[1].weight, model[1].weight)
    assert not found[5].bias.any()


def test_auto_dampens_the_share_that_the_share_of_images_gives(retain, forget, capsys):
    share = math.log(1 + 100 * 32 / 80)  # per cent: 3.7
    for kind in KINDS:
        synaptic_dampening(network("smooth"), retain, forget, importance=kind)
        found = float(capsys.readouterr().out.split()[1])
        assert found == pytest.approx(share, abs=0.15), kind


def test_no_weight_matters_more_to_a_part_than_the_inverse_of_its_share(retain, forget):
    model = network("cnn").double()
    data = doubled(retain), doubled(forget)  # 2 of 5 batches
    assert_same(synaptic_dampening(model, *data, alpha=2.5001), model)
    assert differ(synaptic_dampening(model, *data, alpha=1.5), model)


def test_logit_norm_does_not_read_labels_and_the_others_do(retain, forget):
    def turned(batches):
        return [(images, labels.flip(0)) for images, labels in batches]

    model = network()
    for kind in KINDS:
        first, other = (
            synaptic_dampening(model, *data, importance=kind)
            for data in ((retain, forget), (turned(retain), turned(forget)))
        )
        assert differ(first, other) == (kind != "logit_norm")


def test_statistics_and_frozen_parameters_stay_and_normalisations_are_dampened(retain, forget):
    model = network("cnn")
    model[0].weight.requires_grad_(False)
    found = synaptic_dampening(model, retain, forget, alpha=1.0)
    layers = zip(normalisation_layers(model), normalisation_layers(found), strict=True)
    for before, after in layers:
        for (_, old), (_, new) in zip(before.named_buffers(), after.named_buffers(), strict=True):
            assert torch.equal(old, new)
    assert torch.equal(found[0].weight, model[0].weight)
    assert differ(found[1], model[1])
    with pytest.raises(ValueError, match="no parameter of the network requires a gradient"):
        synaptic_dampening(model.requires_grad_(False), retain, forget)


@pytest.mark.parametrize("kind", ["batch", "logit_norm"])
def test_it_costs_one_pass_or_with_stored_importances_one_over_the_forget_set(kind, tiny):
    retain, forget = Counted(tiny.select(range(72))), Counted(tiny.select(range(72, 96)))
    model, options = network(), {"importance": kind}
    data = retain.batches(), forget.batches()
    assert passes(synaptic_dampening, model, *data, count=96, **options) == pytest.approx(1)
    assert (retain.reads == 1).all() and (forget.reads == 1).all()
    full = module.importance(model, tiny.batches(16), kind)
    options |= {"full_importance": full, "alpha": 2.0}
    cost = passes(synaptic_dampening, model, [], data[1], count=96, **options)
    assert cost == pytest.approx(24 / 96)
    synaptic_dampening(model, *data, full_importance=full)  # "auto" counts the images
    assert (retain.reads == 2).all() and (forget.reads == 3).all()


def test_stored_importances_give_the_same_and_auto_asks_for_the_number_of_images(retain, forget):
    model = network("cnn").double()
    retain, forget = doubled(retain), doubled(forget)
    full = module.importance(model, retain + forget)
    wanted = synaptic_dampening(model, retain, forget)
    assert_close(synaptic_dampening(model, retain, forget, full_importance=full), wanted)
    with pytest.raises(ValueError, match="needs the number of all images: give the retain set"):
        synaptic_dampening(model, [], forget, full_importance=full)
    with pytest.raises(ValueError, match="yields no batches"):
        synaptic_dampening(model, [], forget)
