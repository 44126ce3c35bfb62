"""core.loop: the one loop against loops written by hand; what it accepts, refuses and leaves."""

import copy
import itertools
import math
import random
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unlearning import Diverged, build, predict
from unlearning.core.layers import normalisation_layers
from unlearning.core.loop import _LossWatch, minimise
from unlearning.core.losses import classification_loss
from unlearning.core.randomness import seeded

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


def cosine(step, steps, lr, final_lr=0.0):
    low = final_lr * lr
    return low + (lr - low) * (1 + math.cos(math.pi * step / steps)) / 2


def one_cycle(step, steps, lr):
    """Smith 2018 as torch documents it: from lr / 25 up in the first 30 %, then to lr / 250,000."""
    top = 0.3 * (steps + 1) - 1
    if step <= top:
        return cosine(top - step, top, lr, 1 / 25)
    return cosine(step - top, steps - top, lr, 1 / 25 / 1e4)


def triangle(step, steps, lr):
    """The formula of airbench94: two straight lines through 0.2, 1 and 0."""
    return lr * float(np.interp(step, [0, 0.23 * steps, steps], [0.2, 1, 0]))


def by_torch(model, batches, optimizer, epochs, lr):
    steps = epochs * len(batches)
    for step, batch in enumerate(batches * epochs):
        for group in optimizer.param_groups:
            group["lr"] = cosine(step, steps, lr)
        optimizer.zero_grad()
        classify(model, *batch).backward()
        optimizer.step()


def sgd_by_hand(model, batches, epochs, lr, momentum, weight_decay, after_step):
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


@pytest.mark.parametrize(("momentum", "after_step"), [(0.0, shrink), (0.9, shrink), (0.9, id)])
def test_sgd_is_the_loop_written_by_hand(momentum, after_step):
    ours, other, batches = small(), small(), some_batches()
    options = {"epochs": 4, "lr": 0.3, "momentum": momentum, "weight_decay": 0.1}
    assert fit(ours, batches, **options, after_step=after_step) is ours
    sgd_by_hand(other, batches, **options, after_step=after_step)
    assert (weights(ours) - weights(small())).abs().max() > 0.1
    assert_same(ours, other)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_nesterov_is_that_of_torch(momentum):
    ours, other, batches = small(), small(), some_batches()
    fit(ours, batches, epochs=4, optimizer="nesterov", momentum=momentum, weight_decay=0.1)
    options = {"momentum": momentum, "weight_decay": 0.1, "nesterov": momentum > 0}
    by_torch(other, batches, torch.optim.SGD(other.parameters(), **options), 4, 0.1)
    assert_same(ours, other)


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_adam_is_the_loop_by_hand_and_a_given_optimizer_keeps_its_state_and_options(name, kind):
    ours, given, other, batches = small(), small(), small(), some_batches()
    fit(ours, batches, epochs=4, optimizer=name, weight_decay=0.1)
    theirs = kind(other.parameters(), weight_decay=0.1)
    by_torch(other, batches, theirs, 4, 0.1)
    assert_same(ours, other)
    mine = kind(given.parameters(), lr=7.0, weight_decay=0.1)
    fit(given, batches, epochs=4, optimizer=mine)
    fit(given, batches, epochs=3, lr=0.02, optimizer=mine, momentum=0.1, weight_decay=0.5)
    by_torch(other, batches, theirs, 3, 0.02)
    assert_same(given, other)


@pytest.mark.parametrize("steps", [1, 2, 10])
@pytest.mark.parametrize(
    ("formula", "options"),
    [
        (cosine, {"schedule": "cosine"}),
        (partial(cosine, final_lr=0.1), {"final_lr": 0.1}),
        (one_cycle, {"schedule": "onecycle"}),
        (triangle, {"schedule": "triangular"}),
        (lambda step, steps, lr: lr, {"schedule": "constant"}),
        (lambda step, steps, lr: lr / (1 + step), {"schedule": lambda step: 1 / (1 + step)}),
    ],
)
def test_learning_rate_follows_its_formula_step_by_step(formula, options, steps):
    model, seen = small(), []
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    sgd.register_step_pre_hook(lambda *_: seen.append(sgd.param_groups[0]["lr"]))
    for lr in (0.3, 0.2):  # the second time as well, whatever the first left
        seen.clear()
        fit(model, some_batches((2,)), epochs=steps, lr=lr, optimizer=sgd, **options)
        assert seen == pytest.approx([formula(step, steps, lr) for step in range(steps)])


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_hard_mask_holds_through_momentum_and_weight_decay(optimizer):
    model, before = small(), weights(small())
    mask = torch.rand(before.shape, generator=torch.Generator().manual_seed(1)) < 0.5

    def restore(changed):
        assert changed is model and not torch.is_grad_enabled()
        kept = torch.where(mask, before, weights(model))
        nn.utils.vector_to_parameters(kept, model.parameters())

    options = {"epochs": 3, "optimizer": optimizer, "momentum": 0.9, "weight_decay": 0.5}
    fit(model, some_batches(), **options, after_step=restore)
    assert torch.equal(weights(model)[mask], before[mask])
    assert (weights(model)[~mask] != before[~mask]).all()


def test_stop_ends_the_loop_at_the_step_whose_loss_says_so():
    batches, losses = some_batches((4,)), []
    options = {"schedule": "constant", "stop": lambda loss: losses.append(loss) or len(losses) == 4}
    stopped = fit(small(), batches, epochs=10, **options)
    assert_same(stopped, fit(small(), batches, epochs=4, schedule="constant"))
    assert losses[0] == pytest.approx(classify(small(), *batches[0]).item())
    assert losses == sorted(losses, reverse=True) and not stopped.training


def test_list_dataloader_and_images_give_the_same_network(tiny, loader):
    in_order = tiny.batches(16)
    given = [in_order, in_order, list(in_order), loader(tiny, 16)]
    with seeded(0, CPU):
        fresh = build("mlp", 4, 1, 8)
    first, *others = (fit(copy.deepcopy(fresh), batches, epochs=3) for batches in given)
    for other in others:
        assert_same(first, other, rtol=0, atol=0)


def test_only_parameters_that_require_a_gradient_move_and_no_gradients_are_left():
    model = small()
    model[0].requires_grad_(False)
    fit(model, some_batches(), epochs=2, weight_decay=0.5)
    assert torch.equal(weights(model[0]), weights(small()[0]))
    assert (weights(model[2]) != weights(small()[2])).all()
    assert all(p.grad is None for p in model.parameters())


def test_divergence_names_step_and_learning_rate():
    model, steps = small(), itertools.count(1)

    def loss(model, images, labels):
        return classify(model, images, labels) * (math.nan if next(steps) == 3 else 1)

    words = f"nan at step 3 with learning rate {cosine(2, 10, 0.1):g}: lower lr"
    with pytest.raises(Diverged, match=words):
        minimise(model, some_batches((4, 4)), loss, epochs=5, lr=0.1)
    assert not model.training
    batches = [(images.float(), labels) for images, labels in some_batches((4,))]
    with pytest.raises(Diverged, match=r"weights are not finite after 1 steps: lower lr \(1e\+39"):
        fit(small().float(), batches, lr=1e39)


def test_losses_checked_late_still_name_the_step_at_which_they_broke():
    watch = _LossWatch(every=4)
    losses = (1.0, 2.0, 3.0, 4.0, 5.0, math.nan, math.nan)
    for step, loss in enumerate(losses, 1):
        watch.add(torch.tensor(loss), step / 10, [])
    assert watch.last == 4.0
    with pytest.raises(Diverged, match=r"the loss is nan at step 6 with learning rate 0\.6"):
        watch.check([])


def test_nan_images_are_named_as_such_and_not_as_a_divergence():
    batches = some_batches()
    batches[1][0][2, 3] = math.nan
    with pytest.raises(ValueError, match="images of batch 1 hold NaN or infinite pixels"):
        fit(small(), batches)
    with pytest.raises(ValueError, match="no parameter of the network requires a gradient"):
        fit(small().requires_grad_(False), some_batches())


def test_option_that_does_not_exist_is_refused():
    for options, words in [
        ({"optimizer": "lbfgs"}, "no optimizer 'lbfgs': choose sgd, nesterov, adam or adamw"),
        (
            {"schedule": "step"},
            "no schedule 'step': choose cosine, onecycle, triangular or constant",
        ),
        ({"epochs": -1}, "epochs must be a whole number, at least 0, not -1"),
        ({"epochs": 1.5}, "epochs must be a whole number, at least 0, not 1.5"),
        ({"momentum": 2}, r"momentum must be one number in \[0, 1\), not 2"),
        ({"weight_decay": math.nan}, r"weight_decay must be one number in \[0, inf\), not nan"),
        ({"weight_decay": -1}, r"weight_decay must be one number in \[0, inf\), not -1"),
        ({"lr": math.inf}, r"lr must be one number in \[0, inf\), not inf"),
        ({"lr": "0.1"}, r"lr must be one number in \[0, inf\), not '0.1'"),
        ({"final_lr": 2}, r"final_lr must be one number in \[0, 1\], not 2"),
        ({"seed": 1.5}, "seed must be a whole number, not 1.5"),
        ({"lr": math.nan}, r"lr must be one number in \[0, inf\), not nan"),
    ]:
        with pytest.raises(ValueError, match=words):
            fit(small(), some_batches(), **options)


def global_state():
    generator = np.random.get_state()[1].tolist()  # noqa: NPY002
    return torch.get_rng_state().tolist(), random.getstate(), generator


def test_dropout_and_order_depend_on_the_seed_only_and_leave_no_trace(tiny, loader):
    with seeded(0, CPU):
        dropping = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 4))

    def trained(seed, global_seed):
        torch.manual_seed(global_seed)
        before, batches = global_state(), DataLoader(loader(tiny).dataset, 16, shuffle=True)
        model = fit(copy.deepcopy(dropping), batches, epochs=2, seed=seed)
        assert global_state() == before
        return weights(model)

    assert torch.equal(trained(0, global_seed=0), trained(0, global_seed=1))
    assert not torch.equal(trained(0, global_seed=0), trained(1, global_seed=0))


def test_mixed_precision_computes_in_bfloat16_and_learns(tiny):
    with seeded(0, CPU):
        model = build("cnn", 4, 1, 8)
    kinds = set()
    model[-1].register_forward_hook(lambda *given: kinds.add(given[2].dtype))
    batches = tiny.batches(16, shuffle=True, seed=0)
    fit(model, batches, epochs=8, lr=0.05, mixed_precision=True)
    assert kinds == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert F.cross_entropy(*predict(model, batches)) < math.log(4) / 2


def test_statistics_that_are_not_finite_are_a_divergence(tiny):
    model = build("cnn", 4, 1, 8)
    next(normalisation_layers(model)).running_var[0] = math.nan
    with pytest.raises(Diverged, match="statistics are not finite after 6 steps: lower lr"):
        minimise(model, tiny.batches(16), classification_loss, epochs=1, lr=0.1)


def test_an_optimizer_of_another_network_is_refused():
    other = torch.optim.SGD(small().parameters(), 0.1)
    with pytest.raises(ValueError, match="the optimizer is of another network's parameters"):
        fit(small(), some_batches(), optimizer=other)


def test_a_softmax_at_the_end_is_warned_of_once():
    model = nn.Sequential(small(), nn.Softmax(-1))
    with pytest.warns(
        UserWarning, match="outputs are probabilities, but logits are expec"
    ) as found:
        fit(model, some_batches(), epochs=2)
    assert len(found) == 1


def test_an_error_of_a_loss_of_ones_own_is_shown_as_it_is():
    def wrong(model, images, labels):
        model(images)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        minimise(small(), some_batches(), wrong, epochs=1, lr=0.1)


def test_reading_a_network_within_training_leaves_no_trace(tiny):
    """A stop that reads, as relearn_time has it, must not change what dropout draws."""

    def trained(reads):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Dropout(), nn.Linear(16, 4))
        shuffled = DataLoader(
            TensorDataset(tiny.normalise(tiny.images), tiny.labels), 16, shuffle=True
        )

        def stop(_):
            return reads and predict(model, shuffled) is None

        minimise(model, shuffled, classification_loss, epochs=2, lr=0.1, stop=stop)
        return nn.utils.parameters_to_vector(model.parameters())

    assert torch.equal(trained(True), trained(False))
