"""Every method: its contract with every network, and its algorithm against the paper's by hand."""

import copy
import inspect
import math

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import kstest
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import unlearning.methods
from unlearning import (
    Diverged,
    accuracy,
    build,
    fine_tune,
    fisher_diagonal,
    forget_classes,
    impair_repair,
    negative_gradient,
    negative_gradient_plus,
    predict,
    random_mask,
    selective_forgetting,
    student_teacher,
    train,
    uniform_target,
)
from unlearning.methods.fine_tune import modules_of_last_layers
from unlearning.methods.negative_gradient import Paired
from unlearning.methods.uniform_target import kl_to, mse_to, uniform_without
from unlearning.models import NORMALISATIONS, normalisation_layers
from unlearning.training import cross_entropy, sized

NETWORKS = ("mlp", "cnn", "resnet20", "resnet18", "torchvision/resnet18")


class WithoutClass3:
    """Batches as they come, with the length and the ``set_epoch`` that they have; no class 3."""

    def __init__(self, batches):
        self.batches = batches

    def __getattr__(self, name):
        return getattr(self.batches, name)

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return ((images[labels != 3], labels[labels != 3]) for images, labels in self.batches)


def impair_and_repair(model, retain, forget, *, lr=0.02, **options):
    few = {"noise_size": 8, "noise_steps": 3, "impair_lr": lr}
    return impair_repair(model, WithoutClass3(retain), **few, **options)


def student_of_an_impaired_teacher(model, retain, forget, **options):
    retain = sized(retain)  # to be read twice
    teacher = impair_and_repair(model, retain, forget, repair_epochs=0)
    return student_teacher(model, retain, forget, bad_teacher=teacher, **options)


METHODS = {
    "fine_tune": lambda m, r, f, **k: fine_tune(m, r, epochs=1, **k),
    "fine_tune, last layers": lambda m, r, f, **k: fine_tune(m, r, epochs=1, last_layers=2, **k),
    "fine_tune, last layers anew": lambda m, r, f, **k: fine_tune(
        m, r, epochs=1, last_layers=2, reinitialised=True, **k
    ),
    "negative_gradient": lambda m, r, f, **k: negative_gradient(m, f, epochs=1, **k),
    "negative_gradient_plus": lambda m, r, f, **k: negative_gradient_plus(m, r, f, epochs=1, **k),
    "selective_forgetting": lambda m, r, f, **k: selective_forgetting(m, r, **k),
    "selective_forgetting, sampled": lambda m, r, f, **k: selective_forgetting(
        m, r, labels="sampled", forget_classes=[1], **k
    ),
    "random_mask": lambda m, r, f, **k: random_mask(m, r, epochs=1, **k),
    "uniform_target": lambda m, r, f, **k: uniform_target(m, f, **k),
    "uniform_target, with retain": lambda m, r, f, **k: uniform_target(m, f, retain=r, **k),
    "impair_repair": impair_and_repair,
    "student_teacher": student_teacher,
    "student_teacher, impaired teacher": student_of_an_impaired_teacher,
}
TRAINING = [name for name in METHODS if not name.startswith("selective_forgetting")]
OF_ONE_NETWORK = ("impair_repair", "student_teacher")  # not of the naive Members below


@pytest.fixture
def retain(tiny, loader):
    return list(loader(tiny.select(torch.arange(48))))


@pytest.fixture
def forget(tiny, loader):
    return list(loader(tiny.select(torch.arange(48, 80))))


def doubled(batches):
    return [(images.double(), labels) for images, labels in batches]


def mlp(seed=0):
    torch.manual_seed(seed)
    return build("mlp", 4, 1, 8)


def lived_in(name):
    """A network whose BatchNorm statistics are not those of a fresh one."""
    torch.manual_seed(0)
    model = build(name, 4, 1, 8)
    for layer in normalisation_layers(model):
        layer.running_mean.uniform_(-0.1, 0.1)
        layer.running_var.uniform_(0.8, 1.2)
        layer.num_batches_tracked.fill_(7)
    return model


def weights(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def assert_same_weights(found, wanted):
    found, wanted = weights(found), weights(wanted)
    assert found.keys() == wanted.keys()
    different = [name for name in wanted if not torch.equal(found[name], wanted[name])]
    assert not different


def differ(a, b):
    a, b = weights(a), weights(b)
    return any(not torch.equal(a[name], b[name]) for name in a)


# ------------------------------------------------------------------------------------------------
# The contract, for every method and network


def enlarged(images, zoom):
    return images.repeat_interleave(zoom, -1).repeat_interleave(zoom, -2)


class Run:
    """One method on one network, twice with the same seed, and what was before and after."""

    def __init__(self, method, network, retain, forget):
        few, zoom = 16, 1
        if "resnet18" in network:
            few, retain = 4, retain[:1]
            zoom = 3 if network.startswith("torchvision") else 1  # it halves images five times
        retain, forget = (
            [(enlarged(images[:few], zoom), labels[:few]) for images, labels in batches]
            for batches in (retain, forget)
        )
        self.model = lived_in(network).train()
        list(self.model.modules())[2].eval()  # a mixture of modes, to be left as it is
        self.before = copy.deepcopy(self.model)
        torch.manual_seed(1)
        generator = torch.get_rng_state()
        self.result = METHODS[method](self.model, retain, forget, seed=3)
        self.generator_untouched = torch.equal(torch.get_rng_state(), generator)
        torch.manual_seed(2)
        self.again = METHODS[method](self.model, retain, forget, seed=3)


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    return request.param


@pytest.fixture(scope="module", params=METHODS)
def run(request, network, tiny):
    images, labels = tiny.normalise(tiny.images), tiny.labels
    batches = [(images[i : i + 16], labels[i : i + 16]) for i in (0, 16, 32)]
    return Run(request.param, network, batches[:2], batches[2:])


def test_the_given_network_is_not_changed(run):
    assert_same_weights(run.model, run.before)
    modes = [module.training for module in run.model.modules()]
    assert modes == [module.training for module in run.before.modules()]
    for now, before in zip(run.model.parameters(), run.before.parameters(), strict=True):
        assert now.requires_grad == before.requires_grad
        assert now.grad is None
        assert now.stride() == before.stride()


def test_the_result_is_another_network_with_other_weights(run):
    assert differ(run.result, run.model)
    theirs = {value.data_ptr() for value in run.model.state_dict().values()}
    assert not any(value.data_ptr() in theirs for value in run.result.state_dict().values())


def test_the_same_seed_gives_the_same_weights(run):
    assert_same_weights(run.result, run.again)


def test_the_result_is_in_eval_mode_and_as_trainable_as_the_given_network(run):
    assert not any(module.training for module in run.result.modules())
    wanted = [p.requires_grad for p in run.model.parameters()]
    assert [p.requires_grad for p in run.result.parameters()] == wanted


def test_the_global_generator_is_left_alone(run):
    assert run.generator_untouched


class Custom(nn.Module):
    """What a reader may bring: dropout, a Sequential inside, a name of its own for everything."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 6, 3), nn.GroupNorm(2, 6), nn.ReLU())
        self.drop = nn.Dropout(0.5)
        self.out = nn.Sequential(nn.Flatten(), nn.Linear(216, 8), nn.ReLU(), nn.Linear(8, 4))

    def forward(self, x):
        return self.out(self.drop(self.body(x)))


@pytest.mark.parametrize("method", METHODS)
def test_any_network_works_and_everything_random_follows_the_seed(method, retain, forget):
    torch.manual_seed(0)
    model = Custom()
    first, again, other = (METHODS[method](model, retain, forget, seed=seed) for seed in (1, 1, 2))
    assert_same_weights(first, again)
    assert differ(first, other)
    logits, _ = predict(first, retain)
    assert logits.shape == (48, 4)


@pytest.mark.parametrize("method", METHODS)
def test_images_batches_a_dataloader_a_list_and_a_generator_give_the_same(
    method, tiny, loader, retain, forget
):
    parts = tiny.select(torch.arange(48)), tiny.select(torch.arange(48, 80))
    model, call = mlp(), METHODS[method]
    wanted = call(model, retain, forget)
    assert_same_weights(call(model, *(part.batches(16) for part in parts)), wanted)
    assert_same_weights(call(model, *(loader(part) for part in parts)), wanted)
    assert_same_weights(call(model, (b for b in retain), (b for b in forget)), wanted)


@pytest.mark.parametrize("method", METHODS)
def test_a_dataloader_that_shuffles_by_the_global_generator_follows_the_seed(method, tiny):
    data = TensorDataset(tiny.normalise(tiny.images[:40]), tiny.labels[:40])
    shuffled, model, results = DataLoader(data, batch_size=16, shuffle=True), mlp(), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        results.append(METHODS[method](model, shuffled, shuffled, seed=5))
    assert_same_weights(*results)


@pytest.mark.parametrize("method", METHODS)
def test_shuffled_batches_start_afresh_at_each_call(method, tiny):
    model, batches = mlp(), tiny.batches(16, shuffle=True, seed=0)
    first = METHODS[method](model, batches, batches)
    assert_same_weights(first, METHODS[method](model, batches, batches))


@pytest.mark.parametrize("method", METHODS)
def test_the_result_can_be_given_to_the_next_method(method, retain, forget):
    result = METHODS[method](mlp(), retain, forget)
    for following in METHODS.values():
        following(result, retain, forget)


PUBLIC = [getattr(unlearning.methods, name) for name in unlearning.methods.__all__]


@pytest.mark.parametrize("method", PUBLIC, ids=lambda method: method.__name__)
def test_signatures_show_the_data_and_spell_out_each_hyperparameter(method):
    first, *others = inspect.signature(method).parameters.values()
    data = [p for p in others if p.kind is p.POSITIONAL_OR_KEYWORD]
    options = [p for p in others if p.kind is p.KEYWORD_ONLY]
    assert first.name == "model"
    assert [p.name for p in data] in (["retain"], ["forget"], ["retain", "forget"])
    assert len(data) + len(options) == len(others)  # no *args, no **kwargs
    assert all(p.default is p.empty for p in data)
    assert not any(p.default is p.empty for p in options)
    assert "seed" in {p.name for p in options}


@pytest.mark.parametrize("method", PUBLIC, ids=lambda method: method.__name__)
def test_a_misspelt_hyperparameter_is_a_type_error(method, retain):
    count = sum(p.default is p.empty for p in inspect.signature(method).parameters.values())
    with pytest.raises(TypeError, match="learning_rate"):
        method(mlp(), *[retain] * (count - 1), learning_rate=0.1)
    with pytest.raises(TypeError, match="positional"):
        method(mlp(), *[retain] * (count - 1), 5)


# ------------------------------------------------------------------------------------------------
# What no method does in silence


@pytest.mark.parametrize("method", TRAINING)
def test_an_absurd_learning_rate_is_reported_with_step_and_rate(method, retain, forget):
    with pytest.raises(Diverged, match=r"at step \d+ with learning rate \d.*: lower lr"):
        more = {"stop_at_chance": False} if method == "negative_gradient" else {}
        METHODS[method](mlp(), retain * 4, forget * 4, lr=1e30, **more)


@pytest.mark.parametrize("method", METHODS)
def test_empty_batches_are_refused(method):
    with pytest.raises(ValueError, match=r"the loader yield(s|ed) no batches"):
        METHODS[method](mlp(), [], [])


@pytest.mark.parametrize("method", METHODS)
def test_nan_images_are_refused(method, retain, forget):
    broken = [(images.clone().fill_(torch.nan), labels) for images, labels in retain]
    with pytest.raises(ValueError, match="hold NaN"):
        METHODS[method](mlp(), broken, broken)


@pytest.mark.parametrize(
    "method",
    [
        m
        for m in METHODS
        if not m.startswith(("selective_forgetting", "student_teacher")) and m != "uniform_target"
    ],
)
def test_labels_that_are_no_class_are_refused(method, retain, forget):
    broken = [(images, labels + 1) for images, labels in retain]
    with pytest.raises(ValueError, match="labels go from 1 to 4, but the network has 4 outputs"):
        METHODS[method](mlp(), broken, broken)


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda r, f: fine_tune(mlp(), r, last_layers=4), "last_layers must be between 1 and 3"),
        (lambda r, f: fine_tune(mlp(), r, last_layers=0), "last_layers must be between 1 and 3"),
        (lambda r, f: fine_tune(mlp(), r, epochs=-1), "must not be negative"),
        (lambda r, f: fine_tune(mlp(), r, lr=-1.0), "must not be negative"),
        (lambda r, f: negative_gradient_plus(mlp(), r, f, alpha=1.1), "alpha must be between"),
        (lambda r, f: selective_forgetting(mlp(), r, alpha=0), "alpha must be positive, not 0"),
        (lambda r, f: selective_forgetting(mlp(), r, forget_classes=[4]), "class 4 does not exist"),
        (lambda r, f: selective_forgetting(mlp(), r, forget_classes=[-1]), "class -1 does not"),
        (lambda r, f: selective_forgetting(mlp(), r, labels="all"), '"exact" or "sampled"'),
        (lambda r, f: random_mask(mlp(), r, ratio=-0.1), "ratio must be between 0 and 1, not -0"),
        (lambda r, f: uniform_target(mlp(), f, loss="l1"), 'loss must be "kl" or "mse", not'),
        (lambda r, f: uniform_target(mlp(), f, alpha=2.0), "alpha must be between 0 and 1, not 2"),
        (lambda r, f: uniform_target(mlp(), f, schedule="step"), "there is no schedule 'step'"),
        (lambda r, f: fine_tune(mlp().requires_grad_(False), r, last_layers=9), "last_layers"),
    ],
)
def test_a_bad_argument_is_refused_in_a_sentence(call, sentence, retain, forget):
    with pytest.raises(ValueError, match=sentence):
        call(retain, forget)


# ------------------------------------------------------------------------------------------------
# Fine-tuning


def cosine(lr, step, steps, final=0.0):
    return lr * (final + (1 - final) * (1 + math.cos(math.pi * step / steps)) / 2)


def sgd_by_hand(model, batches, loss, *, lr, momentum=0.9, weight_decay=0.0, steps=None):
    """SGD with momentum and a cosine, as in the books; in place. Returns each step's loss."""
    parameters = list(model.parameters())
    velocity = [torch.zeros_like(w) for w in parameters]
    losses, steps = [], steps or len(batches)
    for step, batch in enumerate(batches):
        value = loss(model, *batch)
        losses.append(float(value.detach()))
        gradients = torch.autograd.grad(value, parameters)
        for w, v, g in zip(parameters, velocity, gradients, strict=True):
            v.mul_(momentum).add_(g + weight_decay * w.detach())
            w.data -= cosine(lr, step, steps) * v
    return losses


def assert_close_weights(found, wanted, rtol=1e-9):
    torch.testing.assert_close(weights(found), weights(wanted), rtol=rtol, atol=1e-12)


def usual_loss(model, images, labels):
    return F.cross_entropy(model(images), labels)


def test_one_step_of_fine_tuning_is_w_minus_lr_times_gradient_and_decay(retain):
    model, (images, labels) = mlp().double(), doubled(retain)[0]
    gradients = torch.autograd.grad(usual_loss(model, images, labels), list(model.parameters()))
    found = fine_tune(model, [(images, labels)], epochs=1, lr=0.1, weight_decay=0.01)
    for new, w, g in zip(found.parameters(), model.parameters(), gradients, strict=True):
        torch.testing.assert_close(new, w - 0.1 * (g + 0.01 * w))


def test_fine_tuning_is_sgd_with_momentum_decay_and_a_cosine(retain):
    model, data = mlp().double(), doubled(retain)
    found = fine_tune(model, data, epochs=2, lr=0.05, momentum=0.8, weight_decay=0.01)
    sgd_by_hand(model, data * 2, usual_loss, lr=0.05, momentum=0.8, weight_decay=0.01)
    assert_close_weights(found, model)


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet20", "torchvision/resnet18"])
@pytest.mark.parametrize("count", [1, 2])
def test_only_the_last_layers_change_and_no_statistics_before_them(name, count, retain):
    model = lived_in(name)
    found = fine_tune(model, [(x[:8], y[:8]) for x, y in retain], epochs=1, last_layers=count)
    layers = [
        (key, module)
        for key, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    ]
    weighty = [key for key, module in layers if not isinstance(module, NORMALISATIONS)]
    names = [key for key, _ in layers]
    trained = set(names[names.index(weighty[-count]) :])
    before, after = weights(model), weights(found)
    for key in before:
        changed = not torch.equal(before[key], after[key])
        assert changed == (key.rpartition(".")[0] in trained), key


def test_parameters_frozen_for_the_last_layers_are_trainable_again(retain):
    model = build("cnn", 4, 1, 8)
    model[0].requires_grad_(False)
    found = fine_tune(model, retain, epochs=1, last_layers=1)
    assert not found[0].weight.requires_grad
    assert all(p.requires_grad for name, p in found.named_parameters() if name != "0.weight")


def test_a_normalisation_goes_with_the_layer_before_it():
    model = build("cnn", 4, 1, 8)
    wanted = [model[6], model[7], model[11]]  # convolution, its BatchNorm, linear
    assert modules_of_last_layers(model, 2) == wanted
    model[7] = nn.BatchNorm2d(64, affine=False)  # no weights, but statistics to forget
    assert modules_of_last_layers(model, 2) == [model[6], model[7], model[11]]


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet20"])
def test_all_layers_anew_and_no_epoch_is_a_network_freshly_built(name, retain):
    model = lived_in(name)
    torch.manual_seed(5)
    fresh = build(name, 4, 1, 8)
    layers = sum(p.ndim > 1 for p in model.parameters())
    for last_layers in (None, layers):
        found = fine_tune(
            model, retain, epochs=0, last_layers=last_layers, reinitialised=True, seed=5
        )
        assert_same_weights(found, fresh)


def test_layers_of_one_shape_are_drawn_independently(retain):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    found = fine_tune(model, retain, epochs=0, last_layers=2, reinitialised=True)
    assert not torch.equal(found[1].weight, found[3].weight)


def test_last_layers_anew_leaves_those_before_as_they_are(retain):
    model = lived_in("cnn")
    found = fine_tune(model, retain, epochs=0, last_layers=1, reinitialised=True, seed=5)
    assert differ(found[11], model[11])
    assert_same_weights(found[:11], model[:11])


# ------------------------------------------------------------------------------------------------
# Negative gradient


def climb(model, images, labels):
    return -usual_loss(model, images, labels)


def test_one_step_of_ascent_is_w_plus_lr_times_gradient(forget):
    model, (images, labels) = mlp().double(), doubled(forget)[0]
    gradients = torch.autograd.grad(usual_loss(model, images, labels), list(model.parameters()))
    found = negative_gradient(
        model, [(images, labels)], epochs=1, lr=0.1, weight_decay=0.0, stop_at_chance=False
    )
    for new, w, g in zip(found.parameters(), model.parameters(), gradients, strict=True):
        torch.testing.assert_close(new, w + 0.1 * g)


class Counted(list):
    """A list of batches that counts how many were taken."""

    taken = 0

    def __iter__(self):
        for batch in super().__iter__():
            self.taken += 1
            yield batch


def trained_mlp(retain, forget):
    data = doubled(retain) + doubled(forget)
    return train(mlp().double(), data, epochs=5, lr=0.02), doubled(forget)


def test_ascent_stops_at_the_first_batch_whose_loss_reaches_log_k(retain, forget):
    model, data = trained_mlp(retain, forget)
    counted, whole = Counted(data), Counted(data)
    stopped = negative_gradient(model, counted, epochs=20, lr=0.02)
    negative_gradient(model, whole, epochs=20, lr=0.02, stop_at_chance=False)
    by_hand = copy.deepcopy(model)
    losses = sgd_by_hand(copy.deepcopy(model), data * 20, climb, lr=0.02)
    first = next(place for place, loss in enumerate(losses, 1) if -loss >= math.log(4))
    assert 2 < first < 40
    assert counted.taken == first
    assert whole.taken == 40
    sgd_by_hand(by_hand, (data * 20)[:first], climb, lr=0.02, steps=40)
    assert_close_weights(stopped, by_hand)


def test_ascent_from_chance_takes_one_step(forget):
    model = mlp()
    nn.init.zeros_(model[5].weight)
    nn.init.zeros_(model[5].bias)
    counted = Counted(forget)
    negative_gradient(model, counted, epochs=3)
    assert counted.taken == 1


class Members(nn.Module):
    """Logits (N, B, K) of several networks, as an ensemble gives them."""

    def __init__(self, *members):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x):
        return torch.stack([member(x) for member in self.members])


def test_members_of_an_ensemble_climb_and_stop_like_the_network_alone(retain, forget):
    model, data = trained_mlp(retain, forget)
    alone, together = Counted(data), Counted(data)
    wanted = negative_gradient(model, alone, epochs=20, lr=0.02)
    pair = Members(copy.deepcopy(model), copy.deepcopy(model))
    found = negative_gradient(pair, together, epochs=20, lr=0.02)
    assert together.taken == alone.taken < 40
    for member in found.members:
        assert_close_weights(member, wanted)


@pytest.mark.parametrize(
    "method",
    [m for m in TRAINING if "last layers" not in m and m.split(",")[0] not in OF_ONE_NETWORK],
)
def test_an_ensemble_is_each_member_by_itself(method, retain, forget):
    members, seed = [mlp(1).double(), mlp(2).double()], 4
    data = doubled(retain), doubled(forget)
    if method == "random_mask":  # its masks are drawn one after the other
        call = lambda m: random_mask(m, data[0], ratio=0.0, epochs=1)  # noqa: E731
    else:
        call = lambda m: METHODS[method](m, *data, seed=seed)  # noqa: E731
    together = call(Members(*members))
    for member, alone in zip(together.members, members, strict=True):
        assert_close_weights(member, call(alone), rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_negative_gradient_plus_weighs_the_two_gradients_by_alpha(alpha, retain, forget):
    model, kept, lost = mlp().double(), doubled(retain)[0], doubled(forget)[0]
    lost = (lost[0][:10], lost[1][:10])  # a smaller batch weighs no less
    found = negative_gradient_plus(
        model, [kept], [lost], alpha=alpha, epochs=1, lr=0.1, weight_decay=0.0
    )
    parameters = list(model.parameters())
    g_kept = torch.autograd.grad(usual_loss(model, *kept), parameters)
    g_lost = torch.autograd.grad(usual_loss(model, *lost), parameters)
    for new, w, g, h in zip(found.parameters(), parameters, g_kept, g_lost, strict=True):
        torch.testing.assert_close(new, w - 0.1 * (alpha * g - (1 - alpha) * h))


def test_negative_gradient_plus_at_alpha_one_is_fine_tuning(retain, forget):
    model, kept, lost = mlp().double(), doubled(retain), doubled(forget)
    found = negative_gradient_plus(model, kept, lost, alpha=1.0, epochs=3, lr=0.05)
    assert_close_weights(found, fine_tune(model, kept, epochs=3, lr=0.05))


def test_negative_gradient_plus_raises_the_forget_loss_and_keeps_the_rest(tiny, loader):
    kept, lost = tiny.of_classes([0], others=True), tiny.of_classes([0])
    model = train(mlp(), loader(tiny), epochs=6, lr=0.02)
    found = negative_gradient_plus(model, loader(kept), loader(lost), alpha=0.8, epochs=10)
    assert accuracy(*predict(model, loader(lost))) > 0.9
    assert accuracy(*predict(found, loader(lost))) < 0.1
    assert accuracy(*predict(found, loader(kept))) > 0.9


@pytest.mark.parametrize("length, rounds", [(5, "ababa"), (2, "ab"), (1, "a"), (4, "abab")])
def test_the_forget_set_comes_round_as_often_as_needed(length, rounds):
    kept = [(torch.tensor([number]), torch.tensor([0])) for number in range(length)]
    lost = [(torch.tensor([ord(letter)]), torch.tensor([1])) for letter in "ab"]
    steps = list(Paired(kept, lost))
    assert [int(step[0]) for step in steps] == list(range(length))
    assert "".join(chr(int(step[2])) for step in steps) == rounds


def test_a_shuffled_forget_set_comes_round_in_a_new_order_each_time(tiny):
    kept, lost = tiny.batches(8), tiny.select(torch.arange(24)).batches(24, shuffle=True, seed=0)
    pairs = Paired(kept, lost)
    orders = []
    for epoch in (0, 1):
        pairs.set_epoch(epoch)
        orders += [tuple(step[2].flatten().tolist()) for step in pairs]
    assert len(orders) == len(set(orders)) == 24


# ------------------------------------------------------------------------------------------------
# Selective forgetting


def small_convolutional():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(576, 4)
    )


def variance_by_hand(model, fisher, *, alpha, rows=()):
    """The authors' get_mean_var, parameter by parameter, for ``small_convolutional``."""
    result = {}
    for name, f in fisher.items():
        last = name.startswith("4.")
        v = torch.clamp(1 / (f + 1e-8), max=1e3)
        if last:
            v = torch.clamp(v, max=1e2)
        v = alpha * v
        if f.ndim > 1:
            v = v.mean(1, keepdim=True).expand(f.shape).clone()
        if last:
            for row in rows:
                v[row] = 1e-4
        result[name] = v * 10 if last or f.ndim == 1 else v
    return result


@pytest.mark.parametrize("rows", [(), (1, 3)])
def test_noise_has_the_variance_of_the_authors_code(rows, retain):
    model = small_convolutional()
    fisher = fisher_diagonal(model, retain)
    fisher["0.weight"][:8] *= 1e-6  # half of it is clamped
    wanted = variance_by_hand(model, fisher, alpha=1e-6, rows=rows)
    standard = {name: [] for name in wanted}
    for seed in range(20):
        found = selective_forgetting(
            model, retain, alpha=1e-6, fisher=fisher, forget_classes=rows, seed=seed
        )
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
    model = small_convolutional()
    fisher = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    found = selective_forgetting(
        model, retain, fisher=fisher, alpha=1.0, largest_variance=4e-4, largest_variance_last=1e-5
    )
    noise = {name: value - model.state_dict()[name] for name, value in found.state_dict().items()}
    assert float(noise["0.weight"].std()) == pytest.approx(0.02, rel=0.25)
    assert float(noise["4.weight"].std()) == pytest.approx(0.01, rel=0.1)  # ten times 1e-5


def test_variance_is_averaged_over_the_inputs_of_a_unit(retain):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4, bias=False), nn.Linear(4, 4, bias=False))
    fisher = {"1.weight": torch.ones(4, 64), "2.weight": torch.ones(4, 4)}
    fisher["1.weight"][0, :32] = 0.25  # variances 4 and 1 in the first unit
    scale = {}
    for root in (True, False):
        found = selective_forgetting(model, retain, alpha=1.0, fisher=fisher, by_root=root)
        scale[root] = (found[1].weight - model[1].weight).detach()
    ratio = scale[False] / scale[True]  # the same noise, times v and times its root
    torch.testing.assert_close(ratio[0], torch.full((64,), math.sqrt(2.5)), rtol=1e-3, atol=0)
    torch.testing.assert_close(ratio[1:], torch.ones(3, 64), rtol=1e-3, atol=0)


def test_rows_of_forgotten_classes_are_reset_whatever_alpha_is(retain):
    model = small_convolutional()
    found = selective_forgetting(model, retain, alpha=1e-30, forget_classes=[2])
    kept = [0, 1, 3]
    torch.testing.assert_close(found[4].weight[kept], model[4].weight[kept])
    torch.testing.assert_close(found[4].bias[kept], model[4].bias[kept])
    torch.testing.assert_close(weights(found[:4]), weights(model[:4]))
    row = found[4].weight[2].detach()
    assert abs(float(row.mean())) < 5 * math.sqrt(1e-3 / 576)
    assert float(row.std()) == pytest.approx(math.sqrt(1e-3), rel=0.15)


def test_the_fisher_is_that_of_the_retain_set_unless_it_is_given(retain, forget):
    model = mlp()
    wanted = selective_forgetting(model, retain, seed=1)
    given = fisher_diagonal(model, retain)
    assert_same_weights(selective_forgetting(model, [], fisher=given, seed=1), wanted)
    assert differ(selective_forgetting(model, forget, seed=1), wanted)


def test_noise_leaves_batchnorm_statistics_and_adds_to_frozen_weights(retain):
    model = lived_in("cnn").requires_grad_(False)
    found = selective_forgetting(model, retain)
    for key, value in weights(model).items():
        same = torch.equal(value, weights(found)[key])
        assert same == ("running" in key or "num_batches" in key), key


# ------------------------------------------------------------------------------------------------
# Random mask


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("ratio", [0.3, 0.9])
def test_the_mask_zeroes_its_fraction_of_each_parameter_outside_batchnorm(name, ratio, retain):
    model = lived_in(name)
    found = random_mask(model, retain, ratio=ratio, epochs=0)
    norms = {
        key for key, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)
    }  # of torchvision's ResNet, layer2.0.downsample.1 is one
    for key, value in found.state_dict().items():
        before = model.state_dict()[key]
        if key.rpartition(".")[0] in norms:
            assert torch.equal(value, before), key
            continue
        zeroed, count = value == 0, value.numel()
        assert torch.equal(value[~zeroed], before[~zeroed]), key
        share, error = float(zeroed.double().mean()), math.sqrt(ratio * (1 - ratio) / count)
        assert abs(share - ratio) < 5 * error, key


def test_ratio_zero_masks_nothing_and_ratio_one_everything(retain):
    model = lived_in("cnn")
    assert_same_weights(random_mask(model, retain, ratio=0, epochs=0), model)
    found = random_mask(model, retain, ratio=1, epochs=0)
    for layer in (found[0], found[3], found[6], found[11]):
        assert not any(p.any() for p in layer.parameters())


def adam_by_hand(model, batches, loss, *, rates, weight_decay=0.0, state=None):
    """torch's own Adam, with the learning rate of each step written down; in place."""
    adam = torch.optim.Adam(model.parameters(), weight_decay=weight_decay)
    if state is not None:
        adam.load_state_dict(copy.deepcopy(state))
    for batch, rate in zip(batches, rates, strict=True):
        adam.param_groups[0]["lr"] = rate
        adam.zero_grad()
        loss(model, *batch).backward()
        adam.step()
    return adam


def test_the_repair_is_adam_with_a_cosine_to_a_tenth_and_no_mask(retain):
    model, data = mlp().double(), doubled(retain)
    found = random_mask(model, data, ratio=0.5, epochs=2, lr=0.01, weight_decay=0.1)
    by_hand = random_mask(model, data, ratio=0.5, epochs=0)
    rates = [cosine(0.01, step, 6, final=0.1) for step in range(6)]
    adam_by_hand(by_hand, data * 2, usual_loss, rates=rates, weight_decay=0.1)
    assert_close_weights(found, by_hand, rtol=1e-7)
    assert float((found[3].weight == 0).double().mean()) < 0.1  # zeroed weights have grown


# ------------------------------------------------------------------------------------------------
# Uniform target


def kl_to_uniform(logits):
    return kl_to(logits, uniform_without((), logits))


def mse_to_uniform(logits):
    return mse_to(logits, uniform_without((), logits))


def test_forgotten_classes_have_no_share_of_the_uniform_target():
    logits = torch.zeros(2, 4)
    torch.testing.assert_close(uniform_without([1, 3], logits), torch.tensor([0.5, 0.0, 0.5, 0.0]))
    undecided = torch.tensor([[5.0, -60.0, 5.0, -60.0]])  # between 0 and 2
    assert float(kl_to(undecided, uniform_without([1, 3], logits))) == pytest.approx(0, abs=1e-6)
    assert float(kl_to(logits, uniform_without([1, 3], logits))) == pytest.approx(math.log(2))


def test_a_forgotten_class_does_not_win_by_chance(tiny, loader):
    split = forget_classes(tiny, 2)
    kept, lost = (loader(part) for part in split)
    torch.manual_seed(0)
    model = train(build("mlp", 4, 1, 8), loader(tiny), epochs=10, lr=0.1)
    assert accuracy(*predict(model, lost)) > 0.9
    options = {"retain": kept, "forget_classes": split.forget_classes, "epochs": 30}
    found = uniform_target(model, lost, **options)
    logits, labels = predict(found, lost)
    assert accuracy(logits, labels) == 0
    assert float(logits.softmax(-1)[:, 2].max()) < 0.05
    assert accuracy(*predict(found, kept)) > 0.9


@pytest.mark.parametrize("classes", [[4], [-1], [0, 1, 2, 3]])
def test_classes_left_out_of_the_uniform_target_must_be_some_of_the_networks(classes):
    with pytest.raises(ValueError, match="must be some, not all, of the classes 0 to 3"):
        uniform_without(classes, torch.zeros(1, 4))


def test_kl_to_uniform_has_the_value_worked_out_by_hand():
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])  # p = (3/4, 1/4) and (1/2, 1/2)
    first = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert float(kl_to_uniform(logits)) == pytest.approx(first / 2, rel=1e-5)


def test_kl_to_uniform_is_torchs_kl_divergence_with_the_uniform_as_target():
    logits = torch.randn(9, 7, generator=torch.Generator().manual_seed(0)) * 5
    uniform = torch.full((9, 7), 1 / 7)
    wanted = F.kl_div(logits.log_softmax(-1), uniform, reduction="batchmean")
    torch.testing.assert_close(kl_to_uniform(logits), wanted)


def test_mse_to_uniform_has_the_value_worked_out_by_hand():
    logits = torch.tensor([[0.5, 2.5, 0.5, 0.5]] * 2)  # u = 1/4
    wanted = (3 * 0.25**2 + 2.25**2) / 4
    assert float(mse_to_uniform(logits)) == pytest.approx(wanted)
    assert float(mse_to_uniform(torch.full((3, 4), 0.25))) == 0


@pytest.mark.parametrize("loss", [kl_to_uniform, mse_to_uniform])
def test_losses_are_the_mean_over_the_batch_and_the_sum_over_members(loss):
    logits = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss(logits), sum(loss(member) for member in logits))
    torch.testing.assert_close(loss(logits[0]), sum(loss(row[None]) for row in logits[0]) / 5)


def test_cross_entropy_is_the_mean_over_the_batch_and_the_sum_over_members():
    logits = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 0])
    wanted = sum(F.cross_entropy(member, labels) for member in logits)
    torch.testing.assert_close(cross_entropy(logits, labels), wanted)


@pytest.mark.parametrize("loss", ["kl", "mse"])
def test_predictions_become_uniform_on_what_is_forgotten(loss, retain, forget):
    model, _ = trained_mlp(retain, forget)
    found = uniform_target(model.float(), forget, loss=loss, epochs=100, lr=3e-3)
    before, after = (predict(m, forget)[0].softmax(-1) for m in (model, found))
    assert float(before.max(-1).values.mean()) > 0.4
    assert float((after - 0.25).abs().max()) < 0.02


def test_a_retain_term_keeps_the_rest(tiny, loader):
    kept, lost = tiny.of_classes([0], others=True), tiny.of_classes([0])
    model = train(mlp(), loader(tiny), epochs=10, lr=0.05)
    found = uniform_target(model, loader(lost), retain=loader(kept), epochs=30)
    unsure = predict(found, loader(lost))[0].softmax(-1)
    assert float(unsure.max(-1).values.mean()) < 0.4
    assert accuracy(*predict(found, loader(kept))) > 0.95


@pytest.mark.parametrize("alpha", [0.0, 0.7, 1.0])
def test_the_retain_term_has_weight_alpha(alpha, retain, forget):
    model, kept, lost = mlp().double(), doubled(retain), doubled(forget)

    def by_hand(model, images, labels, forgotten):
        to_uniform = F.kl_div(
            model(forgotten).log_softmax(-1), torch.full((16, 4), 0.25), reduction="batchmean"
        )
        return alpha * usual_loss(model, images, labels) + (1 - alpha) * to_uniform

    found = uniform_target(model, lost, retain=kept, alpha=alpha, epochs=1, lr=0.01)
    pairs = [(*batch, lost[place % 2][0]) for place, batch in enumerate(kept)]
    adam_by_hand(model, pairs, by_hand, rates=[cosine(0.01, step, 3) for step in range(3)])
    assert_close_weights(found, model, rtol=1e-3)  # the package takes this loss in float32


def mse_by_hand(model, images, labels):
    return (model(images) - 0.25).square().mean()


def test_adam_is_carried_on_from_the_state_of_training(retain, forget):
    model = mlp()
    rates = [0.01] * 6
    adam = adam_by_hand(model, retain * 2, usual_loss, rates=rates)
    state = copy.deepcopy(adam.state_dict())
    state["param_groups"][0]["initial_lr"] = 5.0  # left by a schedule of the training
    before = copy.deepcopy(state)
    options = {"loss": "mse", "epochs": 2, "lr": 2e-3, "schedule": "constant"}
    found = uniform_target(model, forget, optimizer_state=state, **options)
    fresh = uniform_target(model, forget, **options)
    assert_same_weights(uniform_target(model, forget, optimizer_state=state, **options), found)
    torch.testing.assert_close(state["state"], before["state"], rtol=0, atol=0)
    adam_by_hand(model, forget * 2, mse_by_hand, rates=[2e-3] * 4, state=adam.state_dict())
    torch.testing.assert_close(weights(found), weights(model), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found[5].weight, fresh[5].weight, atol=1e-4)


def test_a_cosine_starts_at_lr_whatever_schedule_the_carried_adam_had(retain, forget):
    model = mlp()
    state = adam_by_hand(model, retain, usual_loss, rates=[0.01] * 3).state_dict()
    wanted = uniform_target(model, forget, optimizer_state=state, epochs=4)
    state["param_groups"][0]["initial_lr"] = 5.0
    assert_same_weights(uniform_target(model, forget, optimizer_state=state, epochs=4), wanted)
