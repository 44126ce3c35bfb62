"""The loop against loops written by hand; predictions, checkpoints, seeds and devices."""

import copy
import io
import itertools
import math
import os
import pickle
import random
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unlearning import (
    Diverged,
    Images,
    build,
    load_or_train,
    minimise,
    pick_device,
    predict,
    set_seed,
    train,
    training,
)
from unlearning.models import normalisation_layers, seeded
from unlearning.training import (
    LossWatch,
    cross_entropy,
    digest_of,
    load_checkpoint,
    save_checkpoint,
    timed,
)


def small(seed=0, inputs=6, outputs=3) -> nn.Module:
    """A network of two layers in float64, so that a loop by hand may differ by rounding only."""
    with seeded(seed, torch.device("cpu")):
        return nn.Sequential(nn.Linear(inputs, 5), nn.Tanh(), nn.Linear(5, outputs)).double()


def some_batches(sizes=(4, 4, 3), inputs=6, outputs=3):
    draws = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(size, inputs, generator=draws, dtype=torch.float64),
            torch.randint(outputs, (size,), generator=draws),
        )
        for size in sizes
    ]


def weights(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def assert_same(model, other, **tolerances):
    torch.testing.assert_close(weights(model), weights(other), **tolerances)


def classify(model, images, labels):
    return F.cross_entropy(model(images), labels)


# ------------------------------------------------------------------------------------------------
# The loop, by hand


def cosine(step, steps, lr, final_lr=0.0):
    low = final_lr * lr
    return low + (lr - low) * (1 + math.cos(math.pi * step / steps)) / 2


def one_cycle(step, steps, lr):
    """Smith 2018 as torch documents it: from lr / 25 up in the first 30 %, then to lr / 250,000."""
    first, last = lr / 25, lr / 25 / 1e4
    top, end = 0.3 * (steps + 1) - 1, steps

    def between(a, b, part):
        return b + (a - b) * (1 + math.cos(math.pi * part)) / 2

    if step <= top:
        return between(first, lr, step / top)
    return between(lr, last, (step - top) / (end - top))


def constant(step, steps, lr):
    return lr


def gradients(model, batch):
    return torch.autograd.grad(classify(model, *batch), list(model.parameters()))


def sgd_by_hand(model, batches, epochs, lr, momentum, weight_decay):
    steps = epochs * len(batches)
    velocities = [torch.zeros_like(p) for p in model.parameters()]
    for step, batch in enumerate(batches * epochs):
        for p, v, g in zip(model.parameters(), velocities, gradients(model, batch), strict=True):
            v.mul_(momentum).add_(g + weight_decay * p.detach())
            p.data -= cosine(step, steps, lr) * v


class AdamByHand:
    """Kingma and Ba 2015, algorithm 1, with the penalty in the gradient or beside it (AdamW)."""

    def __init__(self, model, weight_decay, decoupled=False):
        self.model, self.weight_decay, self.decoupled = model, weight_decay, decoupled
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in model.parameters()]
        self.time = 0

    def run(self, batches, epochs, lr):
        steps = epochs * len(batches)
        for step, batch in enumerate(batches * epochs):
            self.step(cosine(step, steps, lr), gradients(self.model, batch))

    def step(self, lr, grads):
        self.time += 1
        for p, (m, v), g in zip(self.model.parameters(), self.moments, grads, strict=True):
            if self.decoupled:
                p.data *= 1 - lr * self.weight_decay
            else:
                g = g + self.weight_decay * p.detach()
            m.mul_(0.9).add_(0.1 * g)
            v.mul_(0.999).add_(0.001 * g * g)
            mean, square = m / (1 - 0.9**self.time), v / (1 - 0.999**self.time)
            p.data -= lr * mean / (square.sqrt() + 1e-8)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_the_loop_written_by_hand(momentum):
    ours, by_hand, batches = small(), small(), some_batches()
    options = {"epochs": 4, "lr": 0.3, "momentum": momentum, "weight_decay": 0.1}
    assert minimise(ours, batches, classify, **options) is ours
    sgd_by_hand(by_hand, batches, **options)
    assert (weights(ours) - weights(small())).abs().max() > 0.1
    assert_same(ours, by_hand)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_adam_is_the_loop_written_by_hand(optimizer):
    ours, by_hand, batches = small(), small(), some_batches()
    minimise(ours, batches, classify, epochs=4, lr=0.1, optimizer=optimizer, weight_decay=0.1)
    AdamByHand(by_hand, 0.1, decoupled=optimizer == "adamw").run(batches, epochs=4, lr=0.1)
    assert_same(ours, by_hand)


def test_train_minimises_cross_entropy():
    ours, other, batches = small(), small(), some_batches()
    options = {"epochs": 3, "lr": 0.1, "momentum": 0.8, "weight_decay": 0.01, "seed": 5}
    assert train(ours, batches, **options) is ours
    minimise(other, batches, classify, **options)
    assert_same(ours, other)


def test_optimizer_carries_its_state_on_from_one_training_to_the_next():
    ours, by_hand, batches = small(), small(), some_batches()
    adam = torch.optim.Adam(ours.parameters(), lr=7.0, weight_decay=0.1)
    reference = AdamByHand(by_hand, 0.1)
    for epochs, lr in ((2, 0.1), (3, 0.02)):
        # momentum and weight_decay are the optimiser's own
        options = {"optimizer": adam, "momentum": 0.1, "weight_decay": 0.5}
        minimise(ours, batches, classify, epochs=epochs, lr=lr, **options)
        reference.run(batches, epochs, lr)
        assert_same(ours, by_hand)


def rates(steps, lr=0.3, **options):
    """The learning rate at each step, as the loss sees it."""
    model, seen = small(), []
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)

    def loss(model, images, labels):
        seen.append(sgd.param_groups[0]["lr"])
        return classify(model, images, labels)

    minimise(model, some_batches((2,)), loss, epochs=steps, lr=lr, optimizer=sgd, **options)
    return seen


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@pytest.mark.parametrize(
    ("schedule", "formula"),
    [("cosine", cosine), ("onecycle", one_cycle), ("constant", constant)],
)
def test_learning_rate_follows_its_formula_step_by_step(schedule, formula, steps):
    by_hand = [formula(step, steps, 0.3) for step in range(steps)]
    assert rates(steps, schedule=schedule) == pytest.approx(by_hand)


def test_cosine_ends_at_final_lr():
    seen = rates(50, final_lr=0.1)
    assert seen == pytest.approx([cosine(step, 50, 0.3, 0.1) for step in range(50)])
    assert seen[0] == pytest.approx(0.3)
    assert 0.03 < seen[-1] < 0.031


def test_loss_is_the_mean_over_the_batch_and_the_sum_over_members():
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 3, generator=draws)
    labels = torch.randint(3, (5,), generator=draws)
    by_hand = torch.tensor(
        [
            [-math.log(math.exp(row[label]) / sum(math.exp(x) for x in row))
             for row, label in zip(member.tolist(), labels.tolist(), strict=True)]
            for member in logits
        ]
    )  # fmt: skip
    torch.testing.assert_close(cross_entropy(logits, labels), by_hand.mean(1).sum())
    torch.testing.assert_close(cross_entropy(logits[1], labels), by_hand[1].mean())


def test_each_member_may_have_labels_of_its_own():
    logits = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0, 1, 2, 0, 1], [2, 2, 0, 1, 0]])
    both = cross_entropy(logits[0], labels[0]) + cross_entropy(logits[1], labels[1])
    torch.testing.assert_close(cross_entropy(logits, labels), both)


# ------------------------------------------------------------------------------------------------
# What the loop accepts


def test_list_dataloader_generator_and_images_give_the_same_network(tiny, loader):
    in_order = tiny.batches(16)
    given = {
        "batches": in_order,
        "list": list(in_order),
        "tuple": tuple(in_order),
        "generator": (batch for batch in in_order),
        "DataLoader": loader(tiny, 16),
    }
    with seeded(0, torch.device("cpu")):
        fresh = build("mlp", 4, 1, 8)
    models = {
        kind: train(copy.deepcopy(fresh), batches, epochs=3, lr=0.1)
        for kind, batches in given.items()
    }
    assert (weights(models["list"]) - weights(fresh)).abs().max() > 0.01
    for model in models.values():
        assert_same(model, models["list"], rtol=0, atol=0)


def test_stream_without_a_length_is_read_once_and_trained_on_for_several_epochs():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            reads.append(1)
            return iter([(x, y) for xs, ys in batches for x, y in zip(xs, ys, strict=True)])

    reads, batches = [], some_batches((4, 4))
    streamed = train(small(), DataLoader(Stream(), batch_size=4), epochs=3, lr=0.1)
    assert_same(streamed, train(small(), batches, epochs=3, lr=0.1))
    assert len(reads) == 1


@pytest.mark.parametrize(
    "empty",
    [
        [],
        iter([]),
        DataLoader(TensorDataset(torch.zeros(3, 6), torch.zeros(3)), batch_size=4, drop_last=True),
    ],
    ids=["list", "iterator", "DataLoader"],
)
def test_loader_without_batches_is_refused_in_one_sentence(empty):
    with pytest.raises(ValueError) as caught:
        train(small(), empty, epochs=1, lr=0.1)
    assert str(caught.value) == (
        "the loader yields no batches: is the data set empty, or drop_last set?"
    )


def test_a_network_learns_and_comes_back_in_eval_mode(tiny):
    model = train(build("cnn", 4, 1, 8), tiny.batches(16, shuffle=True), epochs=20, lr=0.1)
    logits, labels = predict(model, tiny.batches(96))
    assert (logits.argmax(1) == labels).float().mean() > 0.9
    assert not any(module.training for module in model.modules())


def test_training_leaves_no_gradients_behind():
    model = train(small(), some_batches(), epochs=1, lr=0.1)
    assert all(p.grad is None for p in model.parameters())


def test_zero_epochs_change_nothing():
    model = train(small(), some_batches(), epochs=0, lr=0.1)
    assert_same(model, small(), rtol=0, atol=0)
    assert not model.training


def test_loss_may_take_batches_of_any_number_of_tensors():
    seen = []

    def loss(model, images, labels, targets):
        seen.append((images.shape, labels.shape, targets.shape))
        return (model(images) - targets).square().mean()

    batches = [(*batch, torch.zeros(4, 3, dtype=torch.float64)) for batch in some_batches((4, 4))]
    minimise(small(), batches, loss, epochs=1, lr=0.1)
    assert seen == [((4, 6), (4,), (4, 3))] * 2


def test_only_parameters_that_require_a_gradient_move():
    model = small()
    model[0].requires_grad_(False)
    train(model, some_batches(), epochs=2, lr=0.1, weight_decay=0.5)
    assert torch.equal(weights(model[0]), weights(small()[0]))
    assert (weights(model[2]) != weights(small()[2])).all()


def test_stop_ends_the_loop_at_the_step_whose_loss_says_so():
    losses = []

    def stop(loss):
        losses.append(loss)
        return len(losses) == 4

    stopped, batches = small(), some_batches((4,))
    minimise(stopped, batches, classify, epochs=10, lr=0.1, schedule="constant", stop=stop)
    four = minimise(small(), batches, classify, epochs=4, lr=0.1, schedule="constant")
    assert_same(stopped, four)
    assert losses[0] == pytest.approx(classify(small(), *batches[0]).item())
    assert losses == sorted(losses, reverse=True)
    assert not stopped.training


# ------------------------------------------------------------------------------------------------
# What the loop refuses


def loss_that_breaks_at(broken_step, value):
    steps = itertools.count(1)

    def loss(model, images, labels):
        return classify(model, images, labels) * (value if next(steps) == broken_step else 1)

    return loss


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_divergence_names_step_and_learning_rate(value):
    model, batches = small(), some_batches((4, 4))
    with pytest.raises(Diverged) as caught:
        minimise(model, batches, loss_that_breaks_at(3, value), epochs=5, lr=0.1)
    assert str(caught.value) == (
        f"the loss is {value} at step 3 with learning rate {cosine(2, 10, 0.1):g}: "
        "lower lr, or take fewer epochs"
    )
    assert not model.training


def test_too_large_a_learning_rate_is_a_divergence(tiny):
    with pytest.raises(Diverged, match=r"at step \d+ with learning rate .*: lower lr"):
        train(build("mlp", 4, 1, 8), tiny.batches(16), epochs=3, lr=1e10)


def test_weights_that_the_last_step_broke_are_a_divergence():
    with pytest.raises(
        Diverged, match=r"^weights are not finite after 1 steps: lower lr \(1e\+39\)"
    ):
        train(small().float(), as_float(some_batches((4,))), epochs=1, lr=1e39)


def as_float(batches):
    return [(images.float(), labels) for images, labels in batches]


def test_losses_looked_at_late_still_name_the_step_at_which_they_broke():
    watch = LossWatch(every=4)
    losses = ((1.0, 0.1), (2.0, 0.2), (3.0, 0.3), (4.0, 0.4), (5.0, 0.5))
    looked = [watch.add(torch.tensor(value), lr, []) for value, lr in losses]
    assert looked == [False, False, False, True, False]
    assert watch.last == 4.0
    watch.add(torch.tensor(math.nan), 0.6, [])
    watch.add(torch.tensor(math.nan), 0.7, [])
    with pytest.raises(Diverged, match=r"the loss is nan at step 6 with learning rate 0\.6"):
        watch.check([])


@pytest.mark.parametrize("pixel", [math.nan, math.inf])
def test_nan_images_are_named_as_such_and_not_as_a_divergence(pixel):
    batches = some_batches()
    batches[1][0][2, 3] = pixel
    model = small()
    with pytest.raises(ValueError, match=r"^images of batch 1 hold NaN or infinite pixels$"):
        train(model, batches, epochs=1, lr=0.1)


@pytest.mark.parametrize(("label", "low", "high"), [(3, 0, 3), (-1, -1, 2), (-100, -100, 2)])
def test_labels_out_of_range_are_refused_in_one_sentence(label, low, high):
    images = torch.zeros(4, 6, dtype=torch.float64)
    batches = [(images, torch.tensor([0, 1, 2, label]))]
    sentence = (
        f"^labels go from {low} to {high}, but the network has 3 outputs: "
        "labels must lie between 0 and 2$"
    )
    with pytest.raises(ValueError, match=sentence):
        train(small(), batches, epochs=1, lr=0.1)
    with pytest.raises(ValueError, match=sentence):
        predict(small(), batches)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"optimizer": "lbfgs"}, "there is no optimizer 'lbfgs': choose sgd, adam or adamw"),
        ({"schedule": "step"}, "there is no schedule 'step': choose cosine, onecycle or constant"),
        ({"epochs": -1}, "epochs and lr must not be negative, but are -1 and 0.1"),
        ({"lr": -0.1}, "epochs and lr must not be negative, but are 1 and -0.1"),
        ({"lr": math.nan}, "epochs and lr must not be negative, but are 1 and nan"),
    ],
)
def test_option_that_does_not_exist_is_refused_in_one_sentence(options, sentence):
    with pytest.raises(ValueError) as caught:
        train(small(), some_batches(), **{"epochs": 1, "lr": 0.1, **options})
    assert str(caught.value) == sentence


def test_network_that_is_all_frozen_is_refused():
    with pytest.raises(ValueError, match=r"^no parameter of the network requires a gradient"):
        train(small().requires_grad_(False), some_batches(), epochs=1, lr=0.1)


# ------------------------------------------------------------------------------------------------
# Seeds, modes, threads, precision


def dropping(seed=0):
    with seeded(seed, torch.device("cpu")):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Dropout(0.5), nn.Linear(32, 4))


def test_dropout_and_order_are_a_function_of_the_seed_alone(tiny, loader):
    examples = loader(tiny).dataset

    def trained(seed, global_seed):
        set_seed(global_seed)
        batches = DataLoader(examples, batch_size=16, shuffle=True)
        return weights(train(dropping(), batches, epochs=2, lr=0.1, seed=seed))

    assert torch.equal(trained(0, global_seed=0), trained(0, global_seed=1))
    assert not torch.equal(trained(0, global_seed=0), trained(1, global_seed=0))


def test_same_batches_given_to_two_networks_come_in_the_same_order(tiny):
    batches = tiny.batches(16, shuffle=True, augment=True, seed=0)
    first = train(dropping(), batches, epochs=2, lr=0.1)
    list(batches)
    assert_same(first, train(dropping(), batches, epochs=2, lr=0.1), rtol=0, atol=0)


def test_training_leaves_the_global_generators_alone(tiny):
    set_seed(0)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    train(dropping(), tiny.batches(16, shuffle=True, seed=0), epochs=1, lr=0.1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # noqa: NPY002


def test_frozen_batchnorm_keeps_its_statistics_and_a_free_one_does_not(tiny):
    model = build("cnn", 4, 1, 8)
    frozen, *free = normalisation_layers(model)
    frozen.requires_grad_(False)
    buffers = [copy.deepcopy(layer.state_dict()) for layer in (frozen, *free)]
    train(model, tiny.batches(16), epochs=1, lr=0.1)
    for layer, before in zip((frozen, *free), buffers, strict=True):
        same = torch.equal(layer.running_mean, before["running_mean"])
        assert same is (layer is frozen)
        assert (layer.num_batches_tracked == before["num_batches_tracked"]) == (layer is frozen)


@pytest.mark.parametrize("deterministic", [False, True])
def test_cudnn_looks_for_fast_convolutions_unless_it_is_to_be_deterministic(
    monkeypatch, tiny, deterministic
):
    cudnn, seen = torch.backends.cudnn, []
    monkeypatch.setattr(cudnn, "deterministic", deterministic)

    def loss(model, images, labels):
        seen.append(cudnn.benchmark)
        return classify(model, images, labels)

    minimise(build("cnn", 4, 1, 8), tiny.batches(96), loss, epochs=1, lr=0.1)
    assert seen == [not deterministic]
    assert cudnn.benchmark is False


def test_threads_are_one_for_a_small_network_all_for_a_wide_one_and_restored():
    wide = nn.Sequential(nn.Conv2d(1, 128, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    narrow = nn.Sequential(nn.Conv2d(1, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    batches = [(torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.long))]

    def loss(model, images, labels):
        seen.append(torch.get_num_threads())
        return classify(model, images, labels)

    seen = []
    torch.set_num_threads(2)
    try:
        for model in (narrow, wide):
            minimise(model, batches, loss, epochs=1, lr=0.1)
            assert torch.get_num_threads() == 2
        with pytest.raises(ValueError, match="hold NaN"):
            minimise(narrow, [(batches[0][0] * math.nan, batches[0][1])], loss, epochs=1, lr=0.1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert seen == [1, 2, 1]


def test_mixed_precision_computes_in_bfloat16_and_learns_as_well(tiny):
    losses, kinds = {}, {}
    for mixed in (False, True):
        with seeded(0, torch.device("cpu")):
            model = build("cnn", 4, 1, 8)

        def loss(model, images, labels, mixed=mixed):
            logits = model(images)
            kinds[mixed] = logits.dtype
            return F.cross_entropy(logits, labels)

        batches = tiny.batches(16, shuffle=True, seed=0)
        minimise(model, batches, loss, epochs=8, lr=0.05, mixed_precision=mixed)
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        losses[mixed] = cross_entropy(*predict(model, tiny.batches(96))).item()
    assert kinds == {False: torch.float32, True: torch.bfloat16}
    assert losses[False] < math.log(4) / 2
    assert losses[True] == pytest.approx(losses[False], rel=0.2, abs=0.05)


def test_small_networks_are_trained_in_full_precision_by_default():
    assert not any(training.bfloat16_pays(build(name)) for name in ("mlp", "cnn"))


def test_deep_networks_are_trained_in_bfloat16_where_the_processor_has_it(monkeypatch):
    for has_it in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has_it=has_it: has_it)
        for name in ("resnet20", "resnet18"):
            assert training.bfloat16_pays(build(name)) == has_it
            assert not training.bfloat16_pays(build(name).double())


def test_timed_hands_the_arguments_on_and_gives_model_and_seconds():
    def method(model, *, pause):
        time.sleep(pause)
        return model

    model = small()
    result, seconds = timed(method, model, pause=0.02)
    assert result is model
    assert 0.02 <= seconds < 1


def test_set_seed_seeds_python_numpy_and_torch():
    def drawn(seed):
        set_seed(seed)
        return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002

    first = drawn(0)
    assert drawn(0) == first
    assert all(a != b for a, b in zip(drawn(1), first, strict=True))


@pytest.mark.parametrize(
    ("cuda", "mps", "device"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_device_is_cuda_if_there_else_mps_else_the_cpu(monkeypatch, cuda, mps, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device() == torch.device(device)


# ------------------------------------------------------------------------------------------------
# Predictions


def test_predictions_are_those_of_each_image_alone_in_order(tiny):
    model = build("cnn", 4, 1, 8)
    logits, labels = predict(model, tiny.batches(40))
    assert logits.dtype == torch.float32
    assert torch.equal(labels, tiny.labels)
    model.eval()
    with torch.inference_mode():
        alone = torch.cat([model(tiny.normalise(image[None])) for image in tiny.images])
    torch.testing.assert_close(logits, alone)


def test_predictions_of_an_ensemble_keep_its_members_apart():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.members = nn.ModuleList([small(0), small(1)])

        def forward(self, x):
            return torch.stack([member(x) for member in self.members])

    batches = some_batches()
    logits, labels = predict(Two(), batches)
    assert logits.shape == (2, 11, 3)
    assert torch.equal(labels, torch.cat([labels for _, labels in batches]))
    for seed in (0, 1):
        torch.testing.assert_close(logits[seed], predict(small(seed), batches)[0])


@pytest.mark.parametrize("pixel", [0.0, math.nan])
def test_predict_leaves_every_module_in_its_own_mode(tiny, pixel):
    model = build("cnn", 4, 1, 8).train()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    state = copy.deepcopy(model.state_dict())
    batches = [(torch.full((2, 1, 8, 8), pixel), torch.zeros(2, dtype=torch.long))]
    if math.isnan(pixel):
        with pytest.raises(ValueError):
            predict(model, batches)
    else:
        predict(model, batches)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(model.state_dict()[key], state[key]) for key in state)


def test_predictions_may_be_trained_on():
    logits, labels = predict(small(), some_batches())
    layer = nn.Linear(3, 3)
    cross_entropy(layer(logits), labels).backward()  # an inference tensor would refuse
    assert layer.weight.grad.isfinite().all()


def test_predict_reads_a_network_without_parameters():
    logits, _ = predict(nn.Flatten(), [(torch.ones(2, 1, 2, 2), torch.zeros(2, dtype=torch.long))])
    assert torch.equal(logits, torch.ones(2, 4))


def test_nothing_to_predict_is_refused():
    with pytest.raises(ValueError, match=r"^the loader yielded no batches: there is nothing"):
        predict(small(), [])


@pytest.mark.parametrize("where", ["images", "weights"])
def test_outputs_that_are_not_finite_are_refused(where):
    model, batches = small(), some_batches()
    if where == "images":
        batches[2][0][0, 0] = math.nan
    else:
        nn.init.constant_(model[2].bias, math.inf)
    with pytest.raises(ValueError) as caught:
        predict(model, batches)
    assert str(caught.value) == (
        "the network's outputs are not finite: its weights or the images hold NaN"
    )


# ------------------------------------------------------------------------------------------------
# Checkpoints

RECIPE = {"model": "mlp", "epochs": 1, "lr": 0.1, "device": "cpu"}


def untouchable(monkeypatch):
    monkeypatch.setattr(training, "train", lambda *_, **__: pytest.fail("trained again"))


def test_second_call_loads_the_same_network_and_its_seconds(tiny, tmp_path, monkeypatch):
    first = load_or_train(tiny, **RECIPE, folder=tmp_path)
    untouchable(monkeypatch)
    torch.manual_seed(1)
    model, seconds = load_or_train(tiny, **RECIPE, folder=tmp_path)
    assert_same(model, first.model, rtol=0, atol=0)
    assert seconds == first.seconds > 0
    assert not model.training
    assert not first.model.training


def test_statistics_of_batchnorm_are_kept_too(tiny, tmp_path, monkeypatch):
    recipe = RECIPE | {"model": "cnn", "folder": tmp_path}
    first, _ = load_or_train(tiny, **recipe)
    untouchable(monkeypatch)
    second, _ = load_or_train(tiny, **recipe)
    batches = tiny.batches(32)
    assert torch.equal(predict(first, batches)[0], predict(second, batches)[0])


def test_network_is_a_function_of_its_seed_and_leaves_the_global_generator_alone(tiny, tmp_path):
    def trained(seed, global_seed, folder):
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        model, _ = load_or_train(tiny, **RECIPE, seed=seed, folder=tmp_path / folder)
        assert torch.equal(torch.get_rng_state(), state)
        return weights(model)

    assert torch.equal(trained(0, 0, "a"), trained(0, 1, "b"))
    assert not torch.equal(trained(0, 0, "a"), trained(1, 0, "a"))


def test_every_other_configuration_is_another_file(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "train", lambda *_, **__: None)
    changes = [
        {},
        {"model": "cnn"},
        {"epochs": 2},
        {"lr": 0.2},
        {"batch_size": 32},
        {"optimizer": "adam"},
        {"momentum": 0.8},
        {"weight_decay": 0.0},
        {"schedule": "constant"},
        {"augment": True},
        {"seed": 1},
    ]
    for number, change in enumerate(changes):
        load_or_train(tiny, **RECIPE | change, folder=tmp_path)
        assert len(list(tmp_path.iterdir())) == number + 1
    names = [path.name for path in tmp_path.iterdir()]
    assert sum(name.startswith("cnn-") for name in names) == 1
    assert all(name.endswith(".pt") for name in names)


def test_other_images_are_another_file(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "train", lambda *_, **__: None)
    pixels, labels = tiny.images.clone(), tiny.labels.clone()
    pixels[5, 0, 3, 3] ^= 1
    labels[5] = (labels[5] + 1) % 4
    options = {"classes": tiny.classes, "mean": tiny.mean, "std": tiny.std}
    others = [
        tiny,
        Images(pixels, tiny.labels, **options),
        Images(tiny.images, labels, **options),
        Images(tiny.images, tiny.labels, **options | {"mean": (0.3,)}),
        Images(tiny.images, tiny.labels, **options | {"std": (0.3,)}),
        Images(tiny.images, tiny.labels, **options | {"classes": tuple("abcde")}),
        tiny.select(torch.arange(95)),
        tiny.select(torch.arange(96).flip(0)),
    ]
    for number, images in enumerate(others):
        load_or_train(images, **RECIPE, folder=tmp_path)
        assert len(list(tmp_path.iterdir())) == number + 1
    same = Images(tiny.images.clone(), tiny.labels.clone(), **options)
    assert digest_of(same) == digest_of(tiny)


def test_whether_augmentation_mirrors_is_part_of_the_configuration(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "train", lambda *_, **__: None)
    for mirror in (False, True):
        images = Images(tiny.images, tiny.labels, mirror=mirror)
        load_or_train(images, **RECIPE, augment=True, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_torchvision_network_has_a_file_name_without_a_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "train", lambda *_, **__: None)
    recipe = RECIPE | {"model": "torchvision/squeezenet1_1"}
    load_or_train(tiny, **recipe, folder=tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("torchvision-squeezenet1_1-")


def test_file_of_another_configuration_is_refused_and_names_the_difference(tiny, tmp_path):
    load_or_train(tiny, **RECIPE, folder=tmp_path / "one")
    load_or_train(tiny, **RECIPE, seed=3, folder=tmp_path / "two")
    (one,), (two,) = (tmp_path / "one").iterdir(), (tmp_path / "two").iterdir()
    one.replace(two)
    with pytest.raises(ValueError) as caught:
        load_or_train(tiny, **RECIPE, seed=3, folder=tmp_path / "two")
    assert str(caught.value) == (
        f"{two} was trained with seed=0, not 3: delete it to train again, or ask for the "
        "configuration that it has"
    )


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def half_a_checkpoint(good, path):
    return good[: len(good) // 2]


def plain_pickle(good, path):
    return pickle.dumps(Malicious(path))


def pickle_within(good, path):
    content = io.BytesIO()
    torch.save({"configuration": "{}", "seconds": 0.0, "state": Malicious(path)}, content)
    return content.getvalue()


def tensor_alone(good, path):
    content = io.BytesIO()
    torch.save(torch.zeros(3), content)
    return content.getvalue()


def text(good, path):
    return b"<html>not found</html>"


def nothing(good, path):
    return b""


@pytest.mark.parametrize(
    "garbage", [half_a_checkpoint, plain_pickle, pickle_within, tensor_alone, text, nothing]
)
def test_file_that_is_no_checkpoint_is_refused_and_its_code_never_runs(tiny, tmp_path, garbage):
    load_or_train(tiny, **RECIPE, folder=tmp_path / "folder")
    (path,) = (tmp_path / "folder").iterdir()
    path.write_bytes(garbage(path.read_bytes(), tmp_path / "owned"))
    with pytest.raises(ValueError) as caught:
        load_or_train(tiny, **RECIPE, folder=tmp_path / "folder")
    sentence = str(caught.value)
    assert sentence.startswith(f"{path} cannot be read as a checkpoint (")
    assert sentence.endswith("): delete it, and it is trained again")
    assert not (tmp_path / "owned").exists()


def test_malicious_pickle_would_run_if_it_were_unpickled(tmp_path):
    pickle.loads(plain_pickle(b"", tmp_path / "owned"))
    assert (tmp_path / "owned").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, Diverged])
def test_training_that_is_stopped_leaves_no_file(tiny, tmp_path, monkeypatch, error):
    def stopped(*_, **__):
        raise error

    monkeypatch.setattr(training, "train", stopped)
    with pytest.raises(error):
        load_or_train(tiny, **RECIPE, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_one_clear_sentence_and_leaves_the_old_checkpoint(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "network.pt"
    save_checkpoint(path, small(0), {"seed": 0})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match=r"network\.pt could not be written \("):
            save_checkpoint(path, small(1), {"seed": 0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    model = small(2)
    load_checkpoint(path, model, {"seed": 0})
    assert_same(model, small(0), rtol=0, atol=0)
    assert list(tmp_path.iterdir()) == [path]


def test_checkpoint_that_is_not_there_says_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "network.pt", small(), {})


def test_checkpoint_keeps_configuration_seconds_and_weights(tmp_path):
    path = tmp_path / "network.pt"
    configuration = {"lr": 0.1, "layers": (1, 2), "nothing": None}
    save_checkpoint(path, small(0), configuration, seconds=12.5)
    model = small(1)
    assert load_checkpoint(path, model, configuration) == 12.5
    assert_same(model, small(0), rtol=0, atol=0)
