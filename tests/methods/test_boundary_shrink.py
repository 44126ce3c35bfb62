"""Boundary shrink: the attack in pixel space, the wrong classes, and what BatchNorm keeps."""

import copy
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from by_hand import Counted, assert_close, assert_same, doubled, network, passes, sgd, usual_loss
from torch import nn

from unlearning import predict, train
from unlearning.methods import boundary_shrink
from unlearning.metrics import accuracy

MEAN, STD = 0.4, 0.2  # of the images of tiny


def labels_by_hand(model, images, labels, *, eps, excluded):
    """Image after image, in pixels: a step of eps, and the best class that is not excluded."""
    found = []
    for image, label in zip(images, labels, strict=True):
        pixels = (image * STD + MEAN).requires_grad_()
        loss = F.cross_entropy(model((pixels[None] - MEAN) / STD), label[None])
        (gradient,) = torch.autograd.grad(loss, pixels)
        moved = [
            min(max(float(p.detach()) + eps * float(g.sign()), 0.0), 1.0)
            for p, g in zip(pixels.flatten(), gradient.flatten(), strict=True)
        ]
        attacked = torch.tensor(moved, dtype=image.dtype).view(1, *image.shape)
        logits = model((attacked - MEAN) / STD)[0]
        left = set(range(len(logits))) - excluded(int(label))
        found.append(max(left, key=lambda k: float(logits[k].detach())))
    return torch.tensor(found)


@pytest.fixture(name="targets")
def labels_that_the_student_is_trained_on(monkeypatch):
    module, noted = sys.modules["unlearning.methods.boundary_shrink"], []
    original = module.cross_entropy

    def note(logits, labels):
        noted.append(labels.clone())
        return original(logits, labels)

    monkeypatch.setattr(module, "cross_entropy", note)
    return lambda: torch.cat(noted[1::2])  # the attack comes first


@pytest.mark.parametrize(
    "options, excluded",
    [
        ({}, lambda label: {label, 2}),
        ({"eps": 0.5}, lambda label: {label, 2}),
        ({"exclude_true": False}, lambda label: set()),
    ],
)
def test_each_step_is_sgd_towards_the_best_class_after_the_attack(options, excluded, forget):
    model, data = network("smooth").double(), doubled(forget)
    found = boundary_shrink(model, data, 2, normalisation=(MEAN, STD), epochs=2, lr=0.1, **options)
    eps = options.get("eps", 0.1)
    relabelled = [(x, labels_by_hand(model, x, y, eps=eps, excluded=excluded)) for x, y in data]
    assert any((new != y).any() for (_, new), (_, y) in zip(relabelled, data, strict=True))
    sgd(model, relabelled * 2, usual_loss, lr=0.1)
    assert_close(found, model)


def test_without_an_attack_the_released_labels_are_what_the_original_says(forget):
    model, data = network("smooth").double(), doubled(forget)
    options = {"normalisation": (MEAN, STD), "eps": 0.0, "exclude_true": False}
    found = boundary_shrink(model, data, 2, epochs=2, lr=0.1, **options)
    own = [(images, model(images).argmax(-1)) for images, _ in data]
    sgd(model, own * 2, usual_loss, lr=0.1)
    assert_close(found, model)


@pytest.mark.parametrize("forget_classes", [1, [0, 1], ()])
def test_no_image_is_given_its_own_label_or_a_class_to_forget(forget_classes, tiny, targets):
    model = train(network(), tiny.batches(16), epochs=10, lr=0.05)  # too sure for the attack
    options = {"normalisation": (tiny.mean, tiny.std), "eps": 0.01, "epochs": 2}
    boundary_shrink(model, tiny.batches(16), forget_classes, **options)
    found, classes = targets().view(2, -1), torch.as_tensor(forget_classes)
    assert not (found == tiny.labels).any() and not torch.isin(found, classes).any()
    assert torch.equal(found[0], found[1])  # each epoch anew, from the same original
    boundary_shrink(model, tiny.batches(16), forget_classes, exclude_true=False, **options)
    assert (targets()[len(tiny) * 2 :] == tiny.labels.repeat(2)).float().mean() > 0.9


def test_the_attack_is_bounded_in_pixels_whatever_the_normalisation(tiny):
    """A network of plain pixels, and one that undoes a normalisation first, are one network."""

    class Undo(nn.Module):
        def forward(self, x):
            return x * 0.3 + 0.45

    model, images = network("smooth").double(), tiny.images.double() / 255
    data = list(zip(images.split(16), tiny.labels.split(16), strict=True))
    shifted = [((x - 0.45) / 0.3, y) for x, y in data]
    wanted = boundary_shrink(model, data, 2, eps=0.3, lr=0.1)
    for normalisation in ((0.45, 0.3), ((0.45,), [0.3]), (torch.tensor([0.45]), np.array(0.3))):
        undone = nn.Sequential(Undo(), copy.deepcopy(model))
        found = boundary_shrink(undone, shifted, 2, normalisation=normalisation, eps=0.3, lr=0.1)
        assert_close(found[1], wanted, rtol=1e-6)


def test_what_is_attacked_moves_by_eps_and_stays_a_pixel(forget):
    seen, model = [], network("smooth")

    def note(module, inputs):
        if not module.training:
            seen.append(inputs[0].detach() * STD + MEAN)

    model.register_forward_pre_hook(note)
    boundary_shrink(model, forget[:1], 2, normalisation=(MEAN, STD), eps=0.4, epochs=1)
    (pixels, attacked), ends = seen, torch.tensor([0.0, 1.0])
    moved = (attacked - pixels).abs()
    at_end = torch.isclose(attacked[..., None], ends, atol=1e-5).any(-1)
    assert ((moved - 0.4).abs()[~at_end] < 1e-5).all() and (moved <= 0.4 + 1e-5).all()
    assert at_end.any() and not at_end.all()
    assert attacked.min() > -1e-5 and attacked.max() < 1 + 1e-5


@pytest.mark.parametrize(
    "options, words",
    [
        ({}, "pixels go from -2 to .* between 0 and 1: give the normalisation"),
        ({"normalisation": (0.5, 0.9)}, "pixels go from -1.3 to"),
        ({"normalisation": 0.5}, r"normalisation must be \(mean, std\), not 0.5"),
        ({"normalisation": (0.5, 0.0)}, "std of normalisation must be one number in"),
        ({"normalisation": ((0.1, 0.2), 1)}, "is for 2 channels, but images have 1"),
        ({"normalisation": ((), 1)}, "mean of normalisation is empty"),
        ({"eps": -0.1, "normalisation": (MEAN, STD)}, "eps must be one number in"),
    ],
)
def test_a_normalisation_that_does_not_give_pixels_is_refused(options, words, forget):
    dark = [(torch.full_like(images, -2.0), labels) for images, labels in forget]
    with pytest.raises(ValueError, match=words):
        boundary_shrink(network("smooth"), dark, 2, **options)


def test_batchnorm_keeps_its_statistics_or_follows_the_forget_set(forget):
    model, options = network("cnn"), {"normalisation": (MEAN, STD), "epochs": 3, "lr": 0.01}
    kept = boundary_shrink(model, forget, 2, freeze_bn=True, **options)
    moved = boundary_shrink(model, forget, 2, freeze_bn=False, **options)
    for layer in (1, 4):
        for name, statistic in model[layer].named_buffers():
            assert torch.equal(getattr(kept[layer], name), statistic)
            assert not torch.equal(getattr(moved[layer], name), statistic)
        assert moved[layer].num_batches_tracked == 7 + 3 * len(forget)  # none by the attack
        assert not torch.equal(kept[layer].weight, model[layer].weight)


def test_an_epoch_costs_seven_thirds_of_a_pass_and_one_reading_of_the_forget_set(tiny):
    counted, options = Counted(tiny), {"normalisation": (tiny.mean, tiny.std)}
    for model in (network("mlp"), network("cnn")):
        given = (boundary_shrink, model, counted.batches(), 2)
        assert passes(*given, count=96, epochs=3, **options) == pytest.approx(3 * 7 / 3)
    assert (counted.reads == 6).all()


def test_a_class_is_forgotten_and_the_others_are_kept(tiny):
    model = train(network(), tiny.batches(16), epochs=10, lr=0.05)
    options = {"normalisation": (tiny.mean, tiny.std), "lr": 0.01}
    found = boundary_shrink(model, tiny.of_classes([2]).batches(16), 2, **options)
    assert accuracy(*predict(found, tiny.of_classes([2]).batches(16))) < 0.1
    assert accuracy(*predict(found, tiny.without_classes([2]).batches(16))) > 0.9
    assert_same(boundary_shrink(model, tiny.batches(16), 2, **options | {"lr": 0.0}), model)
