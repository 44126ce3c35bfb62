"""DELETE: the masked teacher, the optimum, and what BatchNorm keeps."""

import sys

import pytest
import torch
import torch.nn.functional as F
from by_hand import Counted, assert_close, assert_same, doubled, network, passes, sgd

from unlearning import predict, train
from unlearning.methods import delete
from unlearning.metrics import accuracy


def target_by_hand(logits, labels, classes):
    """Softmax over the classes that are left, image after image."""
    target = torch.zeros_like(logits)
    for row, (z, label) in enumerate(zip(logits, labels, strict=True)):
        left = [k for k in range(len(z)) if k not in {int(label), *classes}]
        for k in left:
            target[row, k] = z[k].exp() / sum(z[j].exp() for j in left)
    return target


def test_each_step_is_sgd_on_the_divergence_from_the_masked_teacher(forget):
    model, data = network("smooth").double(), doubled(forget)
    found = delete(model, data, 2, epochs=2, lr=0.1)
    teacher = [(x, target_by_hand(model(x).detach(), y, {2})) for x, y in data]

    def loss(model, images, target):
        return F.kl_div(model(images).log_softmax(-1), target, reduction="batchmean")

    sgd(model, teacher * 2, loss, lr=0.1)
    assert_close(found, model, rtol=1e-3, atol=1e-5)  # the package's loss is in float32


@pytest.mark.parametrize("forget_classes", [1, [0, 1], ()])
def test_the_target_is_0_at_the_label_and_keeps_the_ratios_of_the_others(
    forget_classes, tiny, monkeypatch
):
    module, noted = sys.modules["unlearning.methods.delete"], []
    original = module.kl_divergence

    def note(target, logits):
        noted.append(target)
        return original(target, logits)

    monkeypatch.setattr(module, "kl_divergence", note)
    model = train(network(), tiny.batches(16), epochs=2, lr=0.05)
    delete(model, tiny.batches(16), forget_classes, epochs=1)
    target, p = torch.cat(noted), model(tiny.normalise(tiny.images)).softmax(-1).detach()
    masked = F.one_hot(tiny.labels, 4).bool()
    masked[:, torch.as_tensor(forget_classes, dtype=torch.long)] = True
    assert (target[masked] == 0).all()
    torch.testing.assert_close(target.sum(-1), torch.ones(96))
    ratios = (target / p).masked_fill(masked, torch.nan)
    low, high = (ratios.nan_to_num(fill) for fill in (torch.inf, -torch.inf))
    torch.testing.assert_close(low.amin(-1), high.amax(-1), rtol=1e-4, atol=0)


def test_at_the_optimum_the_label_has_no_probability_and_the_rest_is_the_teachers(tiny):
    model = train(network(), tiny.batches(16), epochs=3, lr=0.05)
    forget = tiny.of_classes([2])
    found = delete(model, forget.batches(8), 2, epochs=300, lr=0.1)
    logits, labels = predict(found, forget.batches(8))
    target = target_by_hand(predict(model, forget.batches(8))[0], labels, {2})
    assert logits.softmax(-1)[:, 2].max() < 0.01
    assert F.kl_div(logits.log_softmax(-1), target, reduction="batchmean") < 0.01
    assert accuracy(logits, labels) == 0


def test_batchnorm_keeps_its_statistics_or_follows_the_forget_set(forget):
    model = network("cnn")
    kept = delete(model, forget, 2, freeze_bn=True, epochs=3)
    moved = delete(model, forget, 2, freeze_bn=False, epochs=3)
    for layer in (1, 4):
        for name, statistic in model[layer].named_buffers():
            assert torch.equal(getattr(kept[layer], name), statistic)
            assert not torch.equal(getattr(moved[layer], name), statistic)
        assert moved[layer].num_batches_tracked == 7 + 3 * len(forget)
        assert not torch.equal(kept[layer].weight, model[layer].weight)
    assert_same(delete(model, forget, 2, lr=0.0, freeze_bn=True), model)


def test_an_epoch_costs_four_thirds_of_a_pass_and_one_reading_of_the_forget_set(tiny):
    counted = Counted(tiny)
    for model in (network("mlp"), network("cnn")):
        given = (delete, model, counted.batches(), 2)
        assert passes(*given, count=96, epochs=3) == pytest.approx(3 * 4 / 3)
    assert (counted.reads == 6).all()
