"""core.loop: the one loop against loops written by hand; what it accepts, refuses and leaves."""

import copy
import itertools
import math
import random
import time
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from unlearning import Diverged, build, predict
from unlearning.core.devices import seeded
from unlearning.core.layers import normalisation_layers
from unlearning.core.loop import _LossWatch, minimise, timed

CPU = torch.device("cpu")


def small() -> nn.Module:
    """A network of two layers in float64, so that a loop by hand may differ by rounding only."""
    with seeded(0, CPU):
        return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def some_batches(sizes=(4, 4, 3)):
    draws = torch.Generator().manual_seed(0)
    images = [torch.randn(size, 6, generator=draws, dtype=torch.float64) for size in sizes]
    return [(pixels, torch.randint(3, (len(pixels),), generator=draws)) for pixels in images]


def weights(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def assert_same(model, other, **tolerances):
    torch.testing.assert_close(weights(model), weights(other), **tolerances)


def classify(model, images, labels):
    return F.cross_entropy(model(images), labels)


def fit(model, batches, **options):
    return minimise(model, batches, classify, **{"epochs": 1, "lr": 0.1, **options})


# ------------------------------------------------------------------------------------------------
# The loop, by hand


def cosine(step, steps, lr, final_lr=0.0):
    low = final_lr * lr
    return low + (lr - low) * (1 + math.cos(math.pi * step / steps)) / 2


def one_cycle(step, steps, lr):
    """Smith 2018 as torch documents it: from lr / 25 up in the first 30 %, then to lr / 250,000."""
    top = 0.3 * (steps + 1) - 1
    if step <= top:
        return cosine(top - step, top, lr, 1 / 25)
    return cosine(step - top, steps - top, lr, 1 / 25 / 1e4)


def by_torch(model, batches, optimizer, epochs, lr):
    """The loop as every tutorial has it, with the cosine written out."""
    steps = epochs * len(batches)
    for step, batch in enumerate(batches * epochs):
        for group in optimizer.param_groups:
            group["lr"] = cosine(step, steps, lr)
        optimizer.zero_grad()
        classify(model, *batch).backward()
        optimizer.step()


def sgd_by_hand(model, batches, epochs, lr, momentum, weight_decay, after_step):
    """Momentum and weight decay by their formulas, against torch's own SGD."""
    velocities = [torch.zeros_like(p) for p in model.parameters()]
    for step, batch in enumerate(batches * epochs):
        gradients = torch.autograd.grad(classify(model, *batch), list(model.parameters()))
        for p, v, g in zip(model.parameters(), velocities, gradients, strict=True):
            v.mul_(momentum).add_(g + weight_decay * p.detach())
            p.data -= cosine(step, epochs * len(batches), lr) * v
        after_step(model)


def shrink(model):
    with torch.no_grad():
        for p in model.parameters():
            p.sub_(0.05 * p.sign())


@pytest.mark.parametrize("after_step", [None, shrink])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_the_loop_written_by_hand(momentum, after_step):
    ours, other, batches = small(), small(), some_batches()
    options = {"epochs": 4, "lr": 0.3, "momentum": momentum, "weight_decay": 0.1}
    assert fit(ours, batches, **options, after_step=after_step) is ours
    sgd_by_hand(other, batches, **options, after_step=after_step or (lambda model: None))
    assert (weights(ours) - weights(small())).abs().max() > 0.1
    assert_same(ours, other)


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_adam_is_the_loop_written_by_hand(name, kind):
    ours, other, batches = small(), small(), some_batches()
    fit(ours, batches, epochs=4, optimizer=name, weight_decay=0.1)
    by_torch(other, batches, kind(other.parameters(), weight_decay=0.1), 4, 0.1)
    assert_same(ours, other)


def test_given_optimizer_keeps_its_state_and_options_from_one_training_to_the_next():
    ours, other, batches = small(), small(), some_batches()
    mine, theirs = (
        torch.optim.Adam(model.parameters(), lr=7.0, weight_decay=0.1) for model in (ours, other)
    )
    for epochs, lr in ((2, 0.1), (3, 0.02)):
        fit(ours, batches, epochs=epochs, lr=lr, optimizer=mine, momentum=0.1, weight_decay=0.5)
        by_torch(other, batches, theirs, epochs, lr)
    assert_same(ours, other)


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@pytest.mark.parametrize(
    ("formula", "options"),
    [
        (cosine, {"schedule": "cosine"}),
        (partial(cosine, final_lr=0.1), {"final_lr": 0.1}),
        (one_cycle, {"schedule": "onecycle"}),
        (lambda step, steps, lr: lr, {"schedule": "constant"}),
    ],
)
def test_learning_rate_follows_its_formula_step_by_step(formula, options, steps):
    model, seen = small(), []
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    sgd.register_step_pre_hook(lambda *_: seen.append(sgd.param_groups[0]["lr"]))
    fit(model, some_batches((2,)), epochs=steps, lr=0.3, optimizer=sgd, **options)
    assert seen == pytest.approx([formula(step, steps, 0.3) for step in range(steps)])


# ------------------------------------------------------------------------------------------------
# after_step and stop


def test_after_step_is_called_once_per_step_after_the_optimizer_without_gradients():
    model, batches, seen = small(), some_batches(), []
    sgd = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    sgd.register_step_post_hook(lambda *_: seen.append("optimizer"))

    def after_step(changed):
        assert changed is model and not torch.is_grad_enabled()
        seen.append("after_step")
        model[0].weight[0, 0] += 1.0  # in place, which needs no_grad

    fit(model, batches, epochs=2, optimizer=sgd, after_step=after_step)
    assert seen == ["optimizer", "after_step"] * 6


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_hard_mask_holds_through_momentum_and_weight_decay(optimizer):
    model, before = small(), small()
    draws = torch.Generator().manual_seed(1)
    masks = [torch.rand(p.shape, generator=draws) < 0.5 for p in model.parameters()]

    def restore(model):
        for p, old, mask in zip(model.parameters(), before.parameters(), masks, strict=True):
            p.copy_(torch.where(mask, old, p))

    options = {"epochs": 3, "optimizer": optimizer, "momentum": 0.9, "weight_decay": 0.5}
    fit(model, some_batches(), **options, after_step=restore)
    for p, old, mask in zip(model.parameters(), before.parameters(), masks, strict=True):
        assert torch.equal(p[mask], old[mask])
        assert (p[~mask] != old[~mask]).all()


def test_stop_ends_the_loop_at_the_step_whose_loss_says_so():
    losses = []

    def stop(loss):
        losses.append(loss)
        return len(losses) == 4

    stopped, batches = small(), some_batches((4,))
    fit(stopped, batches, epochs=10, schedule="constant", stop=stop)
    assert_same(stopped, fit(small(), batches, epochs=4, schedule="constant"))
    assert losses[0] == pytest.approx(classify(small(), *batches[0]).item())
    assert losses == sorted(losses, reverse=True)
    assert not stopped.training


# ------------------------------------------------------------------------------------------------
# What the loop accepts


def test_list_dataloader_generator_and_images_give_the_same_network(tiny, loader):
    in_order = tiny.batches(16)
    given = [in_order, in_order, list(in_order), (batch for batch in in_order), loader(tiny, 16)]
    with seeded(0, CPU):
        fresh = build("mlp", 4, 1, 8)
    first, *others = (fit(copy.deepcopy(fresh), batches, epochs=3) for batches in given)
    for other in others:
        assert_same(first, other, rtol=0, atol=0)


def test_loss_may_take_batches_of_any_number_of_tensors():
    def loss(model, images, labels, targets):
        return (model(images) - targets).square().mean() + 0 * labels.sum()

    batches = [(*batch, torch.ones(4, 3, dtype=torch.float64)) for batch in some_batches((4, 4))]
    model = minimise(small(), batches, loss, epochs=50, lr=0.1)
    assert (model(batches[0][0]) - 1).abs().max() < 0.3


def test_only_parameters_that_require_a_gradient_move():
    model = small()
    model[0].requires_grad_(False)
    fit(model, some_batches(), epochs=2, weight_decay=0.5)
    assert torch.equal(weights(model[0]), weights(small()[0]))
    assert (weights(model[2]) != weights(small()[2])).all()


def test_zero_epochs_change_nothing_and_no_training_leaves_gradients():
    model = fit(small(), some_batches(), epochs=0)
    assert_same(model, small(), rtol=0, atol=0)
    assert not model.training
    assert all(p.grad is None for p in fit(model, some_batches()).parameters())


# ------------------------------------------------------------------------------------------------
# What the loop refuses


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_divergence_names_step_and_learning_rate(value):
    model, steps = small(), itertools.count(1)

    def loss(model, images, labels):
        return classify(model, images, labels) * (value if next(steps) == 3 else 1)

    words = f"{value} at step 3 with learning rate {cosine(2, 10, 0.1):g}: lower lr"
    with pytest.raises(Diverged, match=words):
        minimise(model, some_batches((4, 4)), loss, epochs=5, lr=0.1)
    assert not model.training


def test_weights_that_the_last_step_broke_are_a_divergence():
    batches = [(images.float(), labels) for images, labels in some_batches((4,))]
    with pytest.raises(Diverged, match=r"weights are not finite after 1 steps: lower lr \(1e\+39"):
        fit(small().float(), batches, lr=1e39)


def test_losses_checked_late_still_name_the_step_at_which_they_broke():
    watch = _LossWatch(every=4)
    losses = ((1.0, 0.1), (2.0, 0.2), (3.0, 0.3), (4.0, 0.4), (5.0, 0.5))
    checked = [watch.add(torch.tensor(value), lr, []) for value, lr in losses]
    assert checked == [False, False, False, True, False]
    assert watch.last == 4.0
    watch.add(torch.tensor(math.nan), 0.6, [])
    watch.add(torch.tensor(math.nan), 0.7, [])
    with pytest.raises(Diverged, match=r"the loss is nan at step 6 with learning rate 0\.6"):
        watch.check([])


@pytest.mark.parametrize("pixel", [math.nan, math.inf])
def test_nan_images_are_named_as_such_and_not_as_a_divergence(pixel):
    batches = some_batches()
    batches[1][0][2, 3] = pixel
    with pytest.raises(ValueError, match="images of batch 1 hold NaN or infinite pixels"):
        fit(small(), batches)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": "lbfgs"}, "no optimizer 'lbfgs': choose sgd, adam or adamw"),
        ({"schedule": "step"}, "no schedule 'step': choose cosine, onecycle or constant"),
        ({"epochs": -1}, "must not be negative, but are -1 and 0.1"),
        ({"lr": -0.1}, "must not be negative, but are 1 and -0.1"),
        ({"lr": math.nan}, "must not be negative, but are 1 and nan"),
    ],
)
def test_option_that_does_not_exist_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        fit(small(), some_batches(), **options)


def test_nothing_to_train_on_and_nothing_to_train_are_refused():
    with pytest.raises(ValueError, match="the loader yields no batches"):
        fit(small(), iter([]))
    with pytest.raises(ValueError, match="no parameter of the network requires a gradient"):
        fit(small().requires_grad_(False), some_batches())


# ------------------------------------------------------------------------------------------------
# Seeds, modes, precision


def dropping():
    with seeded(0, CPU):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Dropout(0.5), nn.Linear(32, 4))


def global_state():
    generator = np.random.get_state()[1].tolist()  # noqa: NPY002
    return torch.get_rng_state().tolist(), random.getstate(), generator


def test_dropout_and_order_depend_on_the_seed_only_and_leave_no_trace(tiny, loader):
    examples = loader(tiny).dataset

    def trained(seed, global_seed):
        torch.manual_seed(global_seed)
        before, batches = global_state(), DataLoader(examples, batch_size=16, shuffle=True)
        model = fit(dropping(), batches, epochs=2, seed=seed)
        assert global_state() == before
        return weights(model)

    assert torch.equal(trained(0, global_seed=0), trained(0, global_seed=1))
    assert not torch.equal(trained(0, global_seed=0), trained(1, global_seed=0))


def test_frozen_batchnorm_keeps_its_statistics_and_a_free_one_does_not(tiny):
    model = build("cnn", 4, 1, 8)
    frozen, *free = normalisation_layers(model)
    frozen.requires_grad_(False)
    fit(model, tiny.batches(16))
    assert frozen.running_mean.eq(0).all() and frozen.num_batches_tracked == 0
    assert all(layer.running_mean.ne(0).any() for layer in free)


def test_mixed_precision_computes_in_bfloat16_and_learns_as_well(tiny):
    losses, kinds = {}, {}
    for mixed in (False, True):
        with seeded(0, CPU):
            model = build("cnn", 4, 1, 8)
        model[-1].register_forward_hook(lambda *a, mixed=mixed: kinds.update({mixed: a[2].dtype}))
        batches = tiny.batches(16, shuffle=True, seed=0)
        fit(model, batches, epochs=8, lr=0.05, mixed_precision=mixed)
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert kinds[mixed] == (torch.bfloat16 if mixed else torch.float32)
        losses[mixed] = F.cross_entropy(*predict(model, tiny.batches(96))).item()
    assert losses[False] < math.log(4) / 2
    assert losses[True] == pytest.approx(losses[False], rel=0.2, abs=0.05)


def test_timed_passes_the_arguments_on_and_gives_result_and_seconds():
    found = timed(lambda what, *, pause: time.sleep(pause) or what, "model", pause=0.02)
    assert found.result == "model" and 0.02 <= found.seconds < 1
