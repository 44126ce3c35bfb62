"""One contract for every registered method: a new entry in METHODS is tested here by itself."""

import copy
import inspect

import pytest
import torch
from by_hand import assert_same, differ, network, weights
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unlearning import Diverged, predict
from unlearning.hyperparameters import bind
from unlearning.methods import METHODS, fine_tune, selective_forgetting
from unlearning.splitting import Split, forget_classes

NETWORKS = ("mlp", "cnn")
DATA = ("retain", "forget", "forget_classes")


def cases():
    """Every registered method on every network, by name."""
    return {f"{name}, {kind}": (METHODS[name], kind) for name in METHODS for kind in NETWORKS}


def pytest_generate_tests(metafunc):
    if "method" in metafunc.fixturenames and "kind" in metafunc.fixturenames:
        metafunc.parametrize("method, kind", list(cases().values()), ids=list(cases()))
    elif "method" in metafunc.fixturenames:
        metafunc.parametrize("method", list(METHODS.values()), ids=list(METHODS))


@pytest.fixture(scope="module")
def split(tiny):
    return forget_classes(tiny, 3)


def in_order(images, seed):
    return images.batches(16)


def shuffled(images, seed):
    return images.batches(16, shuffle=True, seed=seed)


def call(method, model, split, batches=shuffled, seed=3, **hyperparameters):
    """The method as ``prepare`` calls it, with data bound by the names of its parameters."""
    light = dict.fromkeys(knobs(method, "noise_size"), 16)
    return method(model, **bind(method, split, seed, batches) | light | hyperparameters)


def parameters_of(method):
    return inspect.signature(method).parameters


def knobs(method, *endings):
    return [name for name in parameters_of(method) if name.endswith(endings)]


def test_the_given_model_is_not_changed(method, kind, split):
    model = network(kind).train()
    list(model.modules())[2].eval()  # a mixture of modes, to be left as it is
    next(model.parameters()).requires_grad_(False)
    model.register_forward_hook(lambda *_: None)
    hooks = [list(module._forward_hooks) for module in model.modules()]
    before = copy.deepcopy(model)
    call(method, model, split)
    assert_same(model, before)
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    assert [list(module._forward_hooks) for module in model.modules()] == hooks
    for now, old in zip(model.parameters(), before.parameters(), strict=True):
        assert now.grad is None
        assert (now.requires_grad, now.stride()) == (old.requires_grad, old.stride())


def test_the_result_is_a_copy_in_eval_mode_on_the_same_device(method, kind, split):
    model = network(kind).train()
    next(model.parameters()).requires_grad_(False)
    result = call(method, model, split)
    assert weights(result).keys() == weights(model).keys()
    assert differ(result, model)
    given = {value.data_ptr() for value in model.state_dict().values()}
    assert not any(value.data_ptr() in given for value in result.state_dict().values())
    assert not any(module.training for module in result.modules())
    for new, old in zip(result.parameters(), model.parameters(), strict=True):
        assert (new.requires_grad, new.device, new.grad) == (old.requires_grad, old.device, None)


def test_the_same_seed_gives_the_same_weights_and_the_global_one_is_left_alone(method, kind, split):
    model, results = network(kind), []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        results.append(call(method, model, split))
        assert torch.equal(torch.get_rng_state(), state)
    assert_same(*results)


CHECKS = (
    test_the_given_model_is_not_changed,
    test_the_result_is_a_copy_in_eval_mode_on_the_same_device,
    test_the_same_seed_gives_the_same_weights_and_the_global_one_is_left_alone,
)


@pytest.mark.parametrize("knob", ["epochs", "lr"])
def test_without_strength_nothing_changes(knob, method, kind, split):
    """No epochs, or a rate of 0; for a method that has neither, next to no noise."""
    off = dict.fromkeys(knobs(method, knob), 0) or dict.fromkeys(knobs(method, "alpha"), 1e-30)
    if not off:
        pytest.skip("the method has neither epochs, lr nor alpha")
    optional = parameters_of(method).get("forget_classes")
    if optional is not None and optional.default is not optional.empty:
        off["forget_classes"] = ()  # whose rows would be reset at any strength
    if "ratio" in parameters_of(method):
        off["ratio"] = 0.0
    model = network(kind)
    result = call(method, model, split, **off)
    compared = dict(model.named_parameters()) if knob == "lr" else weights(model)
    for name, value in compared.items():  # BatchNorm's statistics move at any rate
        torch.testing.assert_close(weights(result)[name], value.detach(), rtol=0, atol=1e-12)


def test_any_network_works_and_everything_random_follows_the_seed(method, split):
    body = nn.Sequential(nn.Conv2d(1, 6, 3), nn.GroupNorm(2, 6), nn.ReLU(), nn.Dropout(0.5))
    model = nn.Sequential(body, nn.Flatten(), nn.Linear(216, 8), nn.ReLU(), nn.Linear(8, 4))
    first, again, other = (call(method, model, split, in_order, seed=seed) for seed in (1, 1, 2))
    assert_same(first, again)
    assert differ(first, other)
    assert predict(call(method, first, split), split.forget.batches(16))[0].shape == (24, 4)


@pytest.mark.parametrize("chosen", [fine_tune, selective_forgetting])
def test_a_resnet_keeps_the_contract(chosen, split):
    few = Split(split.retain.select(torch.arange(16)), split.forget.select(torch.arange(4)))
    for check in CHECKS:
        check(chosen, "resnet20", few)


def test_a_method_reads_exactly_the_data_in_its_signature(method, split):
    wanted = call(method, network(), split, in_order)
    for part in ("retain", "forget"):
        images = getattr(split, part)
        other = split._replace(**{part: images.select(torch.arange(len(images)).flip(0))})
        reads = part in parameters_of(method)
        assert differ(call(method, network(), other, in_order), wanted) == reads, part


def loader(images, seed):
    return DataLoader(TensorDataset(images.normalise(images.images), images.labels), batch_size=16)


ITERABLES = (
    loader,
    lambda images, seed: list(images.batches(16)),
    lambda images, seed: (batch for batch in images.batches(16)),
)


def test_any_iterable_of_batches_gives_the_same(method, kind, split):
    model = network(kind)
    wanted = call(method, model, split, in_order)
    for batches in ITERABLES:
        assert_same(call(method, model, split, batches), wanted)


def global_order(images, seed):
    return DataLoader(loader(images, seed).dataset, batch_size=16, shuffle=True)


@pytest.mark.parametrize("batches", [shuffled, global_order])
def test_the_same_shuffled_batches_give_the_same_at_each_call(batches, method, split):
    data = bind(method, split, 3, batches)
    assert_same(method(network(), **data), method(network(), **data))


def no_batches(images, seed):
    return []


def nan_batches(images, seed):
    return [(batch.clone().fill_(torch.nan), labels) for batch, labels in images.batches(16)]


@pytest.mark.parametrize("batches, sentence", [(no_batches, "no batches"), (nan_batches, "NaN")])
def test_batches_that_cannot_be_read_are_refused(batches, sentence, method, split):
    with pytest.raises(ValueError, match=sentence):
        call(method, network(), split, batches)


def test_an_absurd_learning_rate_is_reported_with_step_and_rate(method, split):
    steady = {name: False for name in knobs(method, "stop_at_chance")}
    long = {name: 5 for name in knobs(method, "epochs")}
    for rate in knobs(method, "lr"):
        with pytest.raises(Diverged, match=r"at step \d+ with learning rate \d.*: lower lr"):
            call(method, network(), split, **long, **steady, **{rate: 1e30})


def test_the_signature_shows_the_data_and_spells_out_each_hyperparameter(method):
    first, *others = parameters_of(method).values()
    data = [p for p in others if p.kind is p.POSITIONAL_OR_KEYWORD]
    options = [p for p in others if p.kind is p.KEYWORD_ONLY]
    assert first.name == "model"
    assert [p.name for p in data] == [name for name in DATA if name in {p.name for p in data}]
    assert len(data) + len(options) == len(others)  # no *args, no **kwargs
    assert all(p.default is p.empty for p in data)
    assert not any(p.default is p.empty for p in options)
    assert "seed" in {p.name for p in options}


def test_a_misspelt_or_positional_hyperparameter_is_a_type_error(method, split):
    with pytest.raises(TypeError, match="learning_rat"):
        call(method, network(), split, learning_rat=0.1)
    data = [p for p in parameters_of(method).values() if p.default is p.empty]
    with pytest.raises(TypeError, match="positional"):
        method(network(), *[[]] * (len(data) - 1), 5)


def test_the_docstring_names_its_source_and_every_argument(method):
    documented = inspect.getdoc(method)
    assert "\nSource: " in documented
    assert "\nRaises:\n" in documented
    arguments = documented.partition("\nArgs:\n")[2]
    assert all(f"\n    {name}: " in "\n" + arguments for name in parameters_of(method))


def in_place(model, retain, *, epochs=1, seed=0):
    model[1].weight.data.add_(1.0)
    return model


def in_train_mode(model, retain, *, epochs=1, seed=0):
    return in_place(copy.deepcopy(model), retain).train()


def unseeded(model, retain, *, epochs=1, seed=0):
    model = copy.deepcopy(model).eval()
    model[1].weight.data.normal_()
    return model


BROKEN = list(zip((in_place, in_train_mode, unseeded), CHECKS, strict=True))


@pytest.mark.parametrize("broken, check", BROKEN)
def test_a_method_that_is_added_is_tested_and_a_broken_one_fails(broken, check, split, monkeypatch):
    monkeypatch.setitem(METHODS, "toy", broken)
    assert [cases()[f"toy, {kind}"] for kind in NETWORKS] == [(broken, kind) for kind in NETWORKS]
    with pytest.raises(AssertionError):
        check(*cases()["toy, mlp"], split)
