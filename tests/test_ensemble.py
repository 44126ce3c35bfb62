"""N networks as one module: each member is, to the last step, the network that it is alone."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from unlearning import (
    Diverged,
    Images,
    build,
    fine_tune,
    fisher_diagonal,
    impair_repair,
    minimise,
    negative_gradient,
    negative_gradient_plus,
    predict,
    random_mask,
    selective_forgetting,
    student_teacher,
    train,
    uniform_target,
)
from unlearning.ensemble import Ensemble, each_member, member_by_member
from unlearning.models import normalisation_layers, seeded
from unlearning.training import bfloat16_pays, cross_entropy, is_wide

NETWORKS = ("mlp", "cnn", "resnet20")


def network(name="mlp", seed=0):
    """A network whose BatchNorm statistics are its own."""
    with seeded(seed, torch.device("cpu")):
        model = build(name, 4, 1, 8)
        for layer in normalisation_layers(model):
            layer.running_mean.uniform_(-0.1, 0.1)
            layer.running_var.uniform_(0.8, 1.2)
            layer.num_batches_tracked.fill_(seed)
    return model


def networks(name="mlp", count=3):
    return [network(name, seed) for seed in range(count)]


def doubled(batches):
    return [(images.double(), labels) for images, labels in batches]


def assert_same(found, wanted, rtol=0.0, atol=0.0):
    found, wanted = found.state_dict(), wanted.state_dict()
    torch.testing.assert_close(dict(found), dict(wanted), rtol=rtol, atol=atol)


def distance(found, wanted):
    """Largest |difference| / |wanted| of any parameter or buffer, as vectors."""
    pairs = [(a.double(), b.double()) for a, b in zip(states(found), states(wanted), strict=True)]
    return max(float((a - b).norm() / b.norm().clamp(min=1e-12)) for a, b in pairs)


def states(model):
    return list(model.state_dict().values())


@pytest.fixture(params=["stacked", "in turn"])
def way(request, monkeypatch):
    """Both ways of computing, whatever is faster for this network on this device."""
    in_turn = request.param == "in turn"
    monkeypatch.setattr("unlearning.ensemble.better_in_turn", lambda model: in_turn)
    return request.param


@pytest.fixture
def retain(tiny):
    return tiny.select(torch.arange(48))


@pytest.fixture
def forget(tiny):
    return tiny.select(torch.arange(48, 80))


# ------------------------------------------------------------------------------------------------
# One module


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("own", [False, True], ids=["shared images", "own images"])
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_and_statistics_are_those_of_each_member(name, own, training, way, tiny):
    models = [model.double().train(training) for model in networks(name)]
    ensemble = Ensemble(models)
    images = tiny.normalise(tiny.images[:48]).double()
    batch = images.unflatten(0, (3, 16)) if own else images
    logits = ensemble(batch)
    assert logits.shape == ((3, 16, 4) if own else (3, 48, 4))
    for i, (member, model) in enumerate(zip(ensemble.members(), models, strict=True)):
        wanted = model(batch[i] if own else batch)
        torch.testing.assert_close(logits[i], wanted, rtol=1e-9, atol=1e-12)
        assert_same(member, model, rtol=1e-9, atol=1e-12)  # the call moved its statistics
        if normalised := list(normalisation_layers(model)):
            assert int(normalised[0].num_batches_tracked) == i + training


def test_convolutions_on_a_cpu_are_computed_in_turn_and_nothing_else_is(monkeypatch):
    monkeypatch.setattr("unlearning.ensemble.vmap", lambda *_, **__: lambda *_: "stacked")
    images = torch.zeros(2, 1, 8, 8)
    assert Ensemble(networks("mlp"))(images) == "stacked"
    assert Ensemble(networks("cnn"))(images).shape == (3, 2, 4)


def test_there_are_as_many_members_as_models():
    assert [len(Ensemble(networks(count=count))) for count in (1, 5)] == [1, 5]
    assert len(Ensemble(networks(count=5)).members()) == 5


@pytest.mark.parametrize("name", NETWORKS)
def test_members_are_the_models_again_and_share_nothing(name):
    models = networks(name)
    before = copy.deepcopy(models)
    ensemble = Ensemble(iter(models))
    members = ensemble.members()
    for member, model in zip(members, models, strict=True):
        assert_same(member, model)
        assert str(member) == str(model)
        assert member.state_dict().keys() == model.state_dict().keys()
    pointers = [t.data_ptr() for m in (ensemble, *members, *models) for t in states(m)]
    assert len(set(pointers)) == len(pointers)
    with torch.no_grad():
        for member in members:
            for parameter in member.parameters():
                parameter.zero_()
    for member, model, old in zip(ensemble.members(), models, before, strict=True):
        assert_same(member, old)
        assert_same(model, old)


def test_members_have_the_mode_of_every_module_and_know_what_is_frozen():
    models = networks("cnn")
    for model in models:
        model.train()
        model[1].eval()
        model[0].requires_grad_(False)
    ensemble = Ensemble(models)
    frozen = {name for name, p in ensemble.named_parameters() if not p.requires_grad}
    assert frozen == {"network.0.weight"}
    for member in ensemble.members():
        wanted = [module.training for module in models[0].modules()]
        assert [module.training for module in member.modules()] == wanted
        assert {n for n, p in member.named_parameters() if not p.requires_grad} == {"0.weight"}
    assert not any(m.training for member in ensemble.eval().members() for m in member.modules())


def test_members_of_a_trained_ensemble_can_be_trained_and_copied(retain):
    ensemble = train(Ensemble(networks()), retain.batches(16), epochs=1, lr=0.1)
    member = copy.deepcopy(ensemble.members()[1])
    trained = train(member, retain.batches(16), epochs=1, lr=0.1)
    assert distance(trained, ensemble.members()[1]) > 0.01


class Tied(nn.Module):
    """Two layers with one weight, and a buffer that no state_dict holds."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)
        self.second.weight = self.first.weight
        self.register_buffer("scale", torch.rand(()), persistent=False)

    def forward(self, x):
        return self.second(self.first(x.flatten(1)).relu()) * self.scale


def test_shared_parameters_stay_shared_and_each_buffer_is_the_members_own(retain):
    torch.manual_seed(0)
    models = [Tied().double() for _ in range(3)]
    ensemble, batches = Ensemble(models), doubled(retain.batches(16))
    assert ensemble.network.first.weight is ensemble.network.second.weight
    train(ensemble, batches, epochs=1, lr=0.1)
    for member, model in zip(ensemble.members(), models, strict=True):
        assert member.first.weight is member.second.weight
        assert member.scale == model.scale
        assert_same(member, train(model, batches, epochs=1, lr=0.1), rtol=1e-9, atol=1e-12)


def test_an_ensemble_is_copied_kept_and_moved_like_any_module(tmp_path, retain):
    ensemble, images = Ensemble(networks("cnn")).eval(), retain.normalise(retain.images)
    wanted = ensemble(images)
    twin = copy.deepcopy(ensemble)
    with torch.no_grad():
        for tensor in states(twin):
            tensor.zero_()
    assert torch.equal(ensemble(images), wanted)
    torch.save(ensemble.state_dict(), tmp_path / "ensemble.pt")
    twin.load_state_dict(torch.load(tmp_path / "ensemble.pt", weights_only=True))
    assert torch.equal(twin(images), wanted)
    twin.to(torch.float64)
    assert {t.dtype for t in twin.members()[2].parameters()} == {torch.float64}
    torch.testing.assert_close(twin(images.double()), wanted.double(), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("name", NETWORKS)
def test_training_on_a_gpu_is_that_on_the_cpu(name, tiny):
    start = Ensemble(networks(name, 8))
    options = {"epochs": 1, "lr": 0.01, "mixed_precision": False}
    batches = tiny.batches(16, shuffle=True, seed=0, members=8)
    there = tiny.batches(16, shuffle=True, seed=0, members=8, device="cuda")
    wanted = train(copy.deepcopy(start), batches, **options)
    found = train(copy.deepcopy(start).to("cuda"), there, **options)
    assert distance(found.cpu(), wanted) < 1e-2


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop, self.out = nn.Dropout(0.5), nn.Linear(64, 4)

    def forward(self, x):
        return self.out(self.drop(x.flatten(1)))


def test_dropout_differs_between_members_and_follows_the_seed(way, retain):
    torch.manual_seed(0)
    ensemble, images = Ensemble([Dropping()] * 3), retain.normalise(retain.images)
    with seeded(1, torch.device("cpu")):
        a, b, c = ensemble(images)
    assert not torch.equal(a, b)
    assert not torch.equal(b, c)
    with seeded(1, torch.device("cpu")):
        assert torch.equal(ensemble(images)[2], c)
    a, b, c = ensemble.eval()(images)
    assert torch.equal(a, b)
    assert torch.equal(b, c)


def wider():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4))


def frozen():
    return network().requires_grad_(False)


ONE_ARCHITECTURE = (
    "the models of an ensemble must have one architecture, be on one device and be frozen alike, "
    "but model 1 is unlike model 0"
)


@pytest.mark.parametrize(
    ("models", "sentence"),
    [
        (lambda: [], "an ensemble needs at least one model"),
        (lambda: [network(), wider()], ONE_ARCHITECTURE),
        (lambda: [network("cnn"), network("mlp")], ONE_ARCHITECTURE),
        (lambda: [network(), network().double()], ONE_ARCHITECTURE),
        (lambda: [network(), network().to("meta")], ONE_ARCHITECTURE),
        (lambda: [network(), frozen()], ONE_ARCHITECTURE),
        (lambda: [nn.Dropout(0.1), nn.Dropout(0.2)], ONE_ARCHITECTURE),
        (
            lambda: [network(), Ensemble([network()])],
            "model 1 is itself an ensemble: give its members() instead",
        ),
    ],
)
def test_models_that_make_no_ensemble_are_refused_in_one_sentence(models, sentence):
    with pytest.raises(ValueError) as caught:
        Ensemble(models())
    assert str(caught.value) == sentence


def test_images_for_another_number_of_members_are_refused(way):
    with pytest.raises(ValueError) as caught:
        Ensemble(networks())(torch.zeros(2, 16, 1, 8, 8))
    assert str(caught.value) == (
        "a batch of shape (2, 16, 1, 8, 8) is for 2 members, but the ensemble has 3"
    )


# ------------------------------------------------------------------------------------------------
# Batches of its own for each member


@given(
    st.integers(1, 20),
    st.integers(1, 9),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(0, 100),
)
def test_batches_of_a_member_are_those_of_its_own_seed(
    count, batch_size, members, shuffle, augment, mirror, seed
):
    pixels = torch.arange(count * 2 * 5 * 4).remainder(251).to(torch.uint8)
    images = Images(pixels.view(count, 2, 5, 4), torch.arange(count), mirror=mirror)
    options = {"shuffle": shuffle, "augment": augment}
    together = images.batches(batch_size, seed=seed, members=members, **options)
    alone = [images.batches(batch_size, seed=seed + i, **options) for i in range(members)]
    for _ in range(2):  # epochs
        assert len(together) == len(alone[0])
        for (pixels, labels), *singles in zip(together, *alone, strict=True):
            assert torch.equal(pixels, torch.stack([pixels for pixels, _ in singles]))
            assert torch.equal(labels, torch.stack([labels for _, labels in singles]))
    for i in range(members):
        one, wanted = together.member(i), images.batches(batch_size, seed=seed + i, **options)
        for batch, other in zip(one, wanted, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(batch, other, strict=True))


def test_a_set_in_batches_without_members_is_as_it_was(tiny):
    for images, labels in tiny.batches(40):
        assert (images.ndim, labels.ndim) == (4, 1)


def test_members_of_batches_without_a_seed_follow_the_global_generator_and_differ(tiny):
    def drawn(global_seed):
        torch.manual_seed(global_seed)
        return next(iter(tiny.batches(96, shuffle=True, members=2)))[0]

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))
    assert not torch.equal(*drawn(0))


@pytest.mark.parametrize("members", [0, -1])
def test_batches_for_no_member_are_refused(tiny, members):
    with pytest.raises(ValueError, match=rf"^members must be at least 1, not {members}$"):
        tiny.batches(8, members=members)


# ------------------------------------------------------------------------------------------------
# Training

RECIPES = {
    "sgd": {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01},
    "adam": {"optimizer": "adam", "lr": 0.003, "weight_decay": 0.01},
}


def eight_trained(name, recipe, own, tiny, kind):
    """Eight networks trained for five steps together, and each alone; and as they were."""
    images = tiny.select(torch.arange(80))
    options = {"shuffle": True, "augment": True}
    batches = images.batches(16, seed=3, members=8 if own else None, **options)
    models = [model.to(kind) for model in networks(name, 8)]
    together = Ensemble(models)
    recipe = RECIPES[recipe] | {"epochs": 1, "seed": 5}
    trained = train(together, [(x.to(kind), y) for x, y in batches], **recipe)
    assert trained is together
    for i, member in enumerate(trained.members()):
        alone = copy.deepcopy(models[i])
        data = images.batches(16, seed=3 + i if own else 3, **options)
        train(alone, [(x.to(kind), y) for x, y in data], **recipe)
        yield member, alone, models[i]


@pytest.mark.parametrize("own", [False, True], ids=["shared batches", "own batches"])
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", NETWORKS)
def test_eight_networks_trained_as_one_are_eight_trained_alone(name, recipe, own, way, tiny):
    for member, alone, before in eight_trained(name, recipe, own, tiny, torch.float64):
        assert distance(member, alone) < 1e-9
        assert distance(member, before) > 1e-2  # that was no small change
        assert not any(module.training for module in member.modules())


# Not resnet20, where an activation that rounding takes across 0 moves weights by a tenth: one that
# is trained alone differs as much from itself in double precision.
@pytest.mark.parametrize("own", [False, True], ids=["shared batches", "own batches"])
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_in_single_precision_they_are_the_same_to_a_ten_thousandth(name, own, way, tiny):
    for member, alone, _ in eight_trained(name, "sgd", own, tiny, torch.float32):
        assert distance(member, alone) < 1e-4


def test_normalisations_that_are_frozen_keep_their_statistics(way, retain):
    models = [model.double() for model in networks("cnn")]
    for model in models:
        model[1].requires_grad_(False)
    ensemble, batches = Ensemble(models), doubled(retain.batches(16))
    train(ensemble, batches, epochs=1, lr=0.05)
    for member, model in zip(ensemble.members(), models, strict=True):
        assert torch.equal(member[1].running_mean, model[1].running_mean)
        assert not torch.equal(member[4].running_mean, model[4].running_mean)
        assert_same(member, train(model, batches, epochs=1, lr=0.05), rtol=1e-9, atol=1e-12)


def test_mixed_precision_computes_in_bfloat16_and_learns(way, tiny):
    ensemble, batches = Ensemble(networks("cnn")), tiny.batches(16, shuffle=True, seed=0, members=3)
    logits = {}

    def loss(model, images, labels):
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            logits.setdefault(False, copy.deepcopy(model)(images))
        found = model(images)
        logits.setdefault(True, found.detach().float())
        return cross_entropy(found, labels)

    minimise(ensemble, batches, loss, epochs=8, lr=0.2, mixed_precision=True)
    rounding = (logits[True] - logits[False]).norm() / logits[False].norm()
    assert 1e-4 < rounding < 2e-2  # float32 rounds to 1e-7, bfloat16 to 4e-3
    assert {p.dtype for p in ensemble.parameters()} == {torch.float32}
    logits, labels = predict(ensemble, tiny.batches(96))
    assert ((logits.argmax(-1) == labels).double().mean(-1) > 0.9).all()


@pytest.mark.parametrize("name", [*NETWORKS, "resnet18"])
def test_threads_and_precision_are_chosen_as_for_a_member(name):
    ensemble = Ensemble([network(name)])
    assert is_wide(ensemble) == is_wide(network(name)) == (name == "resnet18")
    assert bfloat16_pays(ensemble) == bfloat16_pays(network(name))


def test_resnet18_is_trained_too(way, tiny):
    models = [model.double() for model in networks("resnet18", 2)]
    batches, options = doubled(tiny.batches(8))[:2], {"lr": 0.01, "mixed_precision": False}
    ensemble = train(Ensemble(models), batches, epochs=1, **options)
    for member, model in zip(ensemble.members(), models, strict=True):
        assert distance(member, train(model, batches, epochs=1, **options)) < 1e-8


def test_predictions_are_those_of_each_member_on_shared_and_on_own_batches(way, tiny):
    models = networks("cnn")
    ensemble = Ensemble(models).train()
    logits, labels = predict(ensemble, tiny.batches(40))
    assert ensemble.training
    assert logits.shape == (3, 96, 4)
    assert torch.equal(labels, tiny.labels)
    own_logits, own_labels = predict(ensemble, tiny.batches(40, shuffle=True, seed=2, members=3))
    assert (own_logits.shape, own_labels.shape) == ((3, 96, 4), (3, 96))
    for i, model in enumerate(models):
        torch.testing.assert_close(logits[i], predict(model, tiny.batches(40))[0])
        wanted, answers = predict(model, tiny.batches(40, shuffle=True, seed=2 + i))
        torch.testing.assert_close(own_logits[i], wanted)
        assert torch.equal(own_labels[i], answers)


def test_one_member_that_diverges_ends_the_run_and_says_where(retain):
    models = networks()
    with torch.no_grad():
        models[1][5].bias.fill_(torch.inf)
    with pytest.raises(Diverged, match=r"the loss is nan at step 1 with learning rate 0\.1: lower"):
        train(Ensemble(models), retain.batches(16), epochs=1, lr=0.1)


# ------------------------------------------------------------------------------------------------
# Methods

METHODS = {
    "fine_tune": lambda m, r, f, **k: fine_tune(m, r, epochs=1, **k),
    "fine_tune, last layers": lambda m, r, f, **k: fine_tune(m, r, epochs=1, last_layers=2, **k),
    "fine_tune, last layers anew": lambda m, r, f, **k: fine_tune(
        m, r, epochs=1, last_layers=2, reinitialised=True, **k
    ),
    "fine_tune, all anew": lambda m, r, f, **k: fine_tune(m, r, epochs=1, reinitialised=True, **k),
    "negative_gradient": lambda m, r, f, **k: negative_gradient(m, f, epochs=3, lr=0.03, **k),
    "negative_gradient, no stop": lambda m, r, f, **k: negative_gradient(
        m, f, epochs=2, stop_at_chance=False, **k
    ),
    "negative_gradient_plus": lambda m, r, f, **k: negative_gradient_plus(m, r, f, epochs=1, **k),
    "selective_forgetting": lambda m, r, f, **k: selective_forgetting(m, r, alpha=1e-4, **k),
    "selective_forgetting, sampled": lambda m, r, f, **k: selective_forgetting(
        m, r, labels="sampled", forget_classes=[1], **k
    ),
    "random_mask": lambda m, r, f, **k: random_mask(m, r, epochs=1, **k),
    "uniform_target": lambda m, r, f, **k: uniform_target(m, f, **k),
    "uniform_target, mse": lambda m, r, f, **k: uniform_target(
        m, f, loss="mse", forget_classes=[2], **k
    ),
    "uniform_target, with retain": lambda m, r, f, **k: uniform_target(m, f, retain=r, **k),
}
SHARED, OWN = "shared", "own"
KINDS = [(SHARED, SHARED), (OWN, OWN), (OWN, SHARED), (SHARED, OWN)]


def batches_of(images, kind, seed):
    """Batches as three members get them, and a function of the member that gives its own."""
    options = {"shuffle": True, "augment": True}
    if kind == SHARED:
        shared = doubled(images.batches(16, seed=seed, **options))
        return shared, lambda i: shared
    own = [doubled(images.batches(16, seed=seed + i, **options)) for i in range(3)]
    return doubled(images.batches(16, seed=seed, members=3, **options)), lambda i: own[i]


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
@pytest.mark.parametrize("name", ["mlp", "cnn"])
@pytest.mark.parametrize("method", METHODS)
def test_a_method_on_an_ensemble_is_the_method_on_each_member(method, name, kinds, retain, forget):
    models = [model.double().train() for model in networks(name)]
    for model in models:
        list(model.modules())[1].eval()  # a mixture of modes, to be left as it is
    given = Ensemble(models)
    before, call = copy.deepcopy(given), METHODS[method]
    (kept, kept_by), (lost, lost_by) = (
        batches_of(retain, kinds[0], 1),
        batches_of(forget, kinds[1], 7),
    )
    found = call(given, kept, lost, seed=4)
    assert isinstance(found, Ensemble)
    assert not any(module.training for module in found.modules())
    assert all(p.requires_grad for p in found.parameters())
    for i, member in enumerate(found.members()):
        alone = call(models[i], kept_by(i), lost_by(i), seed=4 + i)
        assert distance(member, alone) < 1e-8
        assert distance(member, models[i]) > 1e-5
    assert_same(given, before)
    assert [m.training for m in given.modules()] == [m.training for m in before.modules()]
    assert all(p.grad is None and p.requires_grad for p in given.parameters())


def test_resnets_go_through_a_method_as_one(way, retain):
    models, batches = [m.double() for m in networks("resnet20", 2)], doubled(retain.batches(16))
    found = random_mask(Ensemble(models), batches, epochs=1, seed=4)
    for i, member in enumerate(found.members()):
        assert distance(member, random_mask(models[i], batches, epochs=1, seed=4 + i)) < 1e-8


def test_each_member_stops_climbing_at_its_own_step(retain, forget):
    fresh = network("cnn", 1)
    known = train(network("cnn", 1), forget.batches(16), epochs=5, lr=0.05)
    known[1].num_batches_tracked.fill_(1)
    batches = forget.batches(8)
    found = negative_gradient(Ensemble([known, fresh]), batches, epochs=20, lr=0.05)
    steps = [int(member[1].num_batches_tracked) - 1 for member in found.members()]
    assert 1 <= steps[1] < steps[0] < 80
    for member, model in zip(found.members(), (known, fresh), strict=True):
        assert distance(member, negative_gradient(model, batches, epochs=20, lr=0.05)) < 1e-5


@pytest.mark.parametrize("members", [None, 3])
def test_batches_of_images_are_taken_by_every_method_and_start_afresh(members, retain, forget):
    models, options = networks(), {"shuffle": True, "augment": True}
    for call in METHODS.values():
        kept, lost = (s.batches(16, seed=3, members=members, **options) for s in (retain, forget))
        found = call(Ensemble(models), kept, lost, seed=4)
        for i, member in enumerate(found.members()):
            seed = 3 + i if members else 3
            kept, lost = (s.batches(16, seed=seed, **options) for s in (retain, forget))
            assert distance(member, call(models[i], kept, lost, seed=4 + i)) < 1e-4


def test_a_state_of_adam_is_carried_on_for_all_members(retain, forget):
    models, batches = [m.double() for m in networks()], doubled(retain.batches(16))
    lost = doubled(forget.batches(16))

    def trained_then_unlearned(model):
        adam = torch.optim.Adam(model.parameters())
        train(model, batches, epochs=2, lr=0.01, optimizer=adam)
        return uniform_target(model, lost, optimizer_state=adam.state_dict())

    found = trained_then_unlearned(Ensemble(models))
    for member, model in zip(found.members(), models, strict=True):
        assert distance(member, trained_then_unlearned(model)) < 1e-9


def test_fisher_information_taken_before_is_a_list_of_each_members(retain):
    models, batches = networks(), retain.batches(16)
    fishers = [fisher_diagonal(model, batches) for model in models]
    found = selective_forgetting(Ensemble(models), [], fisher=fishers, seed=4)
    assert_same(found, selective_forgetting(Ensemble(models), batches, seed=4))
    with pytest.raises(ValueError) as caught:
        selective_forgetting(Ensemble(models), batches, fisher=fishers[:2])
    assert str(caught.value) == "fisher is for 2 members, but the ensemble has 3"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("as_list", [False, True])
def test_batches_for_another_number_of_members_are_refused(method, as_list, retain):
    batches = retain.batches(16, members=4)
    batches = list(batches) if as_list else batches
    with pytest.raises(ValueError) as caught:
        METHODS[method](Ensemble(networks()), batches, batches)
    assert str(caught.value).endswith("is for 4 members, but the ensemble has 3")


# ------------------------------------------------------------------------------------------------
# For the writer of a method


def test_each_member_changes_every_member_with_a_seed_of_its_own():
    def change(model, seed):
        with torch.no_grad():
            model[5].bias += seed
        return model

    models = networks()
    found = each_member(Ensemble(models), change, 10)
    for i, (member, model) in enumerate(zip(found.members(), models, strict=True)):
        torch.testing.assert_close(member[5].bias, model[5].bias + 10 + i)
    model = networks()[0]
    assert each_member(model, change, 10) is model


class Called:
    """A method that notes what it is given, and gives the network back."""

    def __init__(self, more=()):
        self.notes, self.more = [], more

    def method(self, model, retain, *, forget=None, teacher=None, classes=(), on=True, seed=0):
        self.notes.append((model, list(retain), forget, teacher, classes, seed))
        return (model, *self.more, seed) if self.more else model


def test_members_go_through_a_method_in_turn_with_what_is_their_own():
    called, models, teachers = Called(), networks(), networks("cnn")
    images, labels = torch.rand(3, 2, 1, 8, 8), torch.tensor([[0, 1], [2, 3], [1, 2]])
    batches = ((x, y) for x, y in [(images, labels), (images[0], labels), (images, labels[0])])
    method = member_by_member()(called.method)
    found = method(
        model=Ensemble(models), retain=batches, teacher=Ensemble(teachers), classes=[], seed=5
    )
    assert [seed for *_, seed in called.notes] == [5, 6, 7]
    for i, (model, retain, forget, teacher, classes, _) in enumerate(called.notes):
        assert_same(model, models[i])
        assert_same(teacher, teachers[i])
        assert (forget, classes) == (None, [])
        wanted = [(images[i], labels[i]), (images[0], labels[i]), (images[i], labels[0])]
        for part, other in zip(retain, wanted, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(part, other, strict=True))
    assert_same(found, Ensemble(models))


def test_a_network_and_a_call_that_needs_no_turns_go_to_the_method_as_they_are():
    called, model, ensemble = Called(), network(), Ensemble(networks())
    method = member_by_member(when="on")(called.method)
    assert method(model, []) is model
    assert method(ensemble, [], on=False) is ensemble
    assert method(ensemble, []) is not ensemble
    assert len(called.notes) == 5


def test_what_a_method_gives_beside_a_network_becomes_a_list():
    ensemble = Ensemble(networks())
    found, words, seeds = member_by_member()(Called(("more",)).method)(ensemble, [], seed=2)
    assert_same(found, ensemble)
    assert (words, seeds) == (["more"] * 3, [2, 3, 4])


def test_methods_with_noise_and_with_teachers_can_go_member_by_member(retain, forget):
    kept, lost = retain.of_classes([0], others=True), retain.of_classes([0])
    kept, lost = (s.batches(16, shuffle=True, seed=3, members=3) for s in (kept, lost))
    models, few = networks(), {"forget_classes": 0, "noise_size": 4, "noise_steps": 2}
    impaired = member_by_member()(impair_repair)(Ensemble(models), kept, **few, seed=4)
    taught = member_by_member()(student_teacher)(
        Ensemble(models), kept, lost, bad_teacher=impaired, seed=4
    )
    for i, (one, other) in enumerate(zip(impaired.members(), taught.members(), strict=True)):
        mine, theirs = kept.member(i), lost.member(i)
        assert_same(one, impair_repair(models[i], mine, **few, seed=4 + i))
        alone = student_teacher(models[i], mine, theirs, bad_teacher=one, seed=4 + i)
        assert_same(other, alone)
