"""One contract for every registered method: a new entry in METHODS is tested here by itself."""

import copy
import inspect
import math
from functools import partial

import pytest
import torch
from by_hand import assert_same, differ, network, weights
from strangers import NEEDS
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unlearning import Diverged, methods, predict, train
from unlearning.hyperparameters import bind
from unlearning.methods import METHODS
from unlearning.metrics import accuracy
from unlearning.splitting import forget_classes

NETWORKS = ("mlp", "cnn")
DATA = ("retain", "forget", "forget_classes")
OFF = {"SSD": {"alpha": 1e30}, "CT": {"kind": "noise", "strength": 0}}  # no strength
DETERMINISTIC = {"SSD"}  # draws nothing


def suited(method):
    """The name of the smallest network that a method can use."""
    return "cnn" if method in {METHODS[name] for name in NEEDS} else "mlp"


def cases():
    """Every registered method on every network, by name."""
    return {
        f"{name}, {kind}": (METHODS[name], kind)
        for name in METHODS
        for kind in NETWORKS
        if kind == "cnn" or name not in NEEDS
    }


def pytest_generate_tests(metafunc):
    if "method" in metafunc.fixturenames and "kind" in metafunc.fixturenames:
        metafunc.parametrize("method, kind", list(cases().values()), ids=list(cases()))
    elif "method" in metafunc.fixturenames:
        metafunc.parametrize("method", list(METHODS.values()), ids=list(METHODS))


@pytest.fixture(scope="module")
def split(tiny):
    return forget_classes(tiny, 3)


def shuffled(images, seed):
    return images.batches(16, shuffle=True, seed=seed)


def in_order(images, seed):
    return images.batches(16)


def loader(images, seed, shuffle=False):
    dataset = TensorDataset(images.normalise(images.images), images.labels)
    return DataLoader(dataset, batch_size=16, shuffle=shuffle)


class Unsized:
    """Batches without a length."""

    def __init__(self, images, seed):
        self.batches = in_order(images, seed)

    def __iter__(self):
        return iter(self.batches)


def call(method, model, split, batches=shuffled, seed=3, **hyperparameters):
    """The method as ``prepare`` calls it, with data bound by the names of its parameters."""
    light = dict.fromkeys(knobs(method, "noise_size"), 16)
    return method(model, **bind(method, split, seed, batches) | light | hyperparameters)


def parameters_of(method):
    return inspect.signature(method).parameters


def knobs(method, ending):
    return [name for name in parameters_of(method) if name.endswith(ending)]


def test_the_model_is_not_changed_and_the_result_is_a_copy_in_eval_mode(method, kind, split):
    model = network(kind).train()
    list(model.modules())[2].eval()  # a mixture of modes, to be left as it is
    next(model.parameters()).requires_grad_(False)
    model.register_forward_hook(lambda *_: None)
    before = copy.deepcopy(model)
    result = call(method, model, split)
    assert_same(model, before)
    for now, old in zip(model.modules(), before.modules(), strict=True):
        assert now.training == old.training and len(now._forward_hooks) == len(old._forward_hooks)
    assert differ(result, model)
    assert weights(result).keys() == weights(model).keys()
    assert not any(module.training for module in result.modules())
    given = {value.data_ptr() for value in model.state_dict().values()}
    assert not any(value.data_ptr() in given for value in result.state_dict().values())
    for each in (model, result):
        for now, old in zip(each.parameters(), before.parameters(), strict=True):
            assert now.grad is None and now.device == old.device
            assert now.requires_grad == old.requires_grad
            assert each is result or now.stride() == old.stride()


def test_the_same_seed_gives_the_same_weights_and_the_global_one_is_left_alone(method, kind, split):
    model, results = network(kind), []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        results.append(call(method, model, split))
        assert torch.equal(torch.get_rng_state(), state)
    assert_same(*results)


@pytest.mark.parametrize("knob", ["epochs", "lr"])
def test_without_strength_nothing_changes(knob, method, kind, split):
    """No epochs, or a rate of 0; for a method that has neither, next to no noise."""
    off = dict.fromkeys(knobs(method, knob), 0) or dict.fromkeys(knobs(method, "alpha"), 1e-30)
    off |= next((OFF[name] for name in OFF if METHODS[name] is method), {})
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
    assert differ(first, other) != (method in {METHODS[name] for name in DETERMINISTIC})
    assert predict(call(method, first, split), split.forget.batches(16))[0].shape == (24, 4)


def test_a_method_reads_exactly_the_data_in_its_signature(method, split):
    wanted = call(method, network(suited(method)), split, in_order)
    for part in ("retain", "forget"):
        images = getattr(split, part)
        other = split._replace(**{part: images.select(torch.arange(len(images)).flip(0))})
        reads = part in parameters_of(method)
        assert differ(call(method, network(suited(method)), other, in_order), wanted) == reads, part


def test_any_iterable_gives_the_same_and_so_does_a_second_reading(method, kind, split):
    model = network(kind)
    wanted = call(method, model, split, in_order)
    kinds = loader, lambda *given: list(in_order(*given)), Unsized
    for batches in kinds:
        assert_same(call(method, model, split, batches), wanted)
    for batches in (shuffled, partial(loader, shuffle=True)):
        data = bind(method, split, 3, batches)
        assert_same(method(model, **data), method(model, **data))


def test_batches_that_cannot_be_read_are_refused(method, split):
    def nan(images, seed):
        return [(batch * torch.nan, labels) for batch, labels in images.batches(16)]

    for batches, words in ((lambda images, seed: [], "no batches"), (nan, "NaN")):
        with pytest.raises(ValueError, match=words):
            call(method, network(suited(method)), split, batches)


def test_an_absurd_learning_rate_is_reported_with_step_and_rate(method, split):
    steady = dict.fromkeys(knobs(method, "stop_at_chance"), False)
    long = dict.fromkeys(knobs(method, "epochs"), 5)
    for rate in knobs(method, "lr"):
        with pytest.raises(Diverged, match=r"at step \d+ with learning rate \d.*: lower lr"):
            call(method, network(suited(method)), split, **long, **steady, **{rate: 1e30})


def test_the_signature_shows_the_data_and_the_docstring_names_every_argument(method, split):
    first, *others = parameters_of(method).values()
    data = [p for p in others if p.kind is p.POSITIONAL_OR_KEYWORD]
    options = [p for p in others if p.kind is p.KEYWORD_ONLY]
    assert (first.name, len(data) + len(options)) == ("model", len(others))  # no *args, **kwargs
    assert [p.name for p in data] == [name for name in DATA if name in {p.name for p in data}]
    assert all(p.default is p.empty for p in data)
    assert not any(p.default is p.empty for p in options)
    assert "seed" in {p.name for p in options}
    documented = inspect.getdoc(method)
    assert "\nSource: " in documented and "\nRaises:\n" in documented
    arguments = "\n" + documented.partition("\nArgs:\n")[2]
    assert all(f"\n    {name}: " in arguments for name in parameters_of(method))
    with pytest.raises(TypeError, match="learning_rat"):
        call(method, network(suited(method)), split, learning_rat=0.1)


WRONG = [
    ("fine_tune", {"last_layers": 4}, "last_layers .* between 1 and 3, not 4"),
    ("negative_gradient_plus", {"alpha": math.nan}, "alpha .* between 0 and 1"),
    ("random_mask", {"ratio": math.nan}, "ratio .* between 0 and 1"),
    ("selective_forgetting", {"alpha": 0}, "alpha .* positive, not 0"),
    ("selective_forgetting", {"scale_by": "root"}, '"std" or "variance"'),
    ("uniform_target", {"objective": "l1"}, '"kl" or "mse"'),
    ("uniform_target", {"alpha": 2.0}, "alpha .* between 0 and 1, not 2"),
    ("uniform_target", {"schedule": "step"}, "no schedule 'step'"),
    ("uniform_target", {"forget_classes": [0, 1, 2, 3]}, "names all 4 classes"),
    ("impair_repair", {"forget_classes": [3, -1]}, "class -1 does not exist"),
    ("impair_repair", {"forget_classes": []}, "forget_classes is empty"),
    ("impair_repair", {"noise_ratio": math.nan}, "noise_ratio must be positive, not nan"),
    ("student_teacher", {"temperature": 0}, "temperature .* positive, not 0"),
    ("student_teacher", {"temperature": math.inf}, "temperature .* positive, not inf"),
    ("impair_repair", {"noise_penalty": math.nan}, "noise_penalty must be one number in"),
    ("selective_forgetting", {"max_variance": math.nan}, "max_variance must be one number in"),
    ("student_teacher", {"retain_fraction": 1.1}, "above 0 and at most 1, not 1.1"),
    ("student_teacher", {"bad_teacher": network(outputs=1)}, "1 outputs, the network 4"),
    ("random_labels", {"redraw": "step"}, '"once", "epoch" or "batch", not \'step\''),
    ("random_labels", {"order": "both"}, '"mixed" or "forget_first", not \'both\''),
    ("saliency_unlearning", {"share": 1.5}, "share must be between 0 and 1, not 1.5"),
    ("saliency_unlearning", {"momentum": 1}, "momentum must be one number in"),
    ("saliency_unlearning", {"weight_decay": -1}, "weight_decay must be one number in"),
    ("l1_sparse", {"gamma": -1}, "gamma must be at least 0, not -1"),
    ("scrub", {"temperature": 0}, "temperature must be positive, not 0"),
    ("scrub", {"alpha": math.nan}, "alpha must be at least 0, not nan"),
    ("scrub", {"max_epochs": 0.5}, "max_epochs must be a whole number"),
    ("scrub", {"decay_after": [1, 2.5]}, "an epoch of decay_after must be a whole number"),
    ("scrub", {"validation": 5}, "an int cannot be read as batches"),
    ("boundary_shrink", {"normalisation": None}, "pixels go from .* give the normalisation"),
    ("boundary_shrink", {"eps": math.inf}, "eps must be one number in"),
    ("boundary_shrink", {"forget_classes": [0, 1, 2, 3]}, "names all 4 classes"),
    ("delete", {"forget_classes": 4}, "class 4 does not exist"),
    ("synaptic_dampening", {"alpha": 0}, 'alpha must be positive, or "auto", not 0'),
    ("synaptic_dampening", {"alpha": "automatic"}, 'alpha must be positive, or "auto"'),
    ("synaptic_dampening", {"dampening": -1}, "dampening must be one number in"),
    ("synaptic_dampening", {"importance": "exact"}, '"batch", "sample" or "logit_norm"'),
    ("synaptic_dampening", {"full_importance": {}}, "give what importance returns for this"),
    ("small_gradient_reset", {"ratio": math.nan}, "ratio .* between 0 and 1"),
    ("small_gradient_reset", {"kept_lr": -1}, "kept_lr must be one number in"),
    ("perturb", {"kind": "mirror"}, '"transpose", "negate" or "noise"'),
    ("perturb", {"strength": math.inf}, "strength must be one number in"),
    ("perturb", {}, 'to transpose, or it is frozen: set kind="negate" or kind="noise"'),
    ("contrastive", {"temperature": 0}, "temperature .* positive, not 0"),
    ("contrastive", {"rounds": 1.5}, "rounds must be a whole number"),
    ("contrastive", {"forget_lr": "fast"}, "forget_lr must be one number in"),
    ("contrastive", {"momentum": 1.0}, "momentum must be one number in"),
    ("sharpness_aware", {"rho": -1}, "rho must be one number in"),
]


@pytest.mark.parametrize("name, wrong, words", WRONG)
def test_a_bad_argument_is_refused_in_one_sentence(name, wrong, words, split):
    with pytest.raises(ValueError, match=words):
        call(getattr(methods, name), network(), split, **wrong)


STRONG = {
    "NegGrad+": {"alpha": 0.8, "epochs": 10},
    "uniform target": {"epochs": 30, "forget_classes": [3]},
    "UNSIR": {"noise_size": 64, "impair_lr": 0.05, "repair_lr": 0.02, "repair_epochs": 5},
}


@pytest.mark.parametrize("name", STRONG)
def test_a_class_is_forgotten_and_the_rest_is_kept(name, tiny, split):
    model = train(network(), tiny.batches(16), epochs=6, lr=0.02)
    assert accuracy(*predict(model, split.forget.batches(16))) > 0.9
    found = call(METHODS[name], model, split, **STRONG[name])
    assert accuracy(*predict(found, split.forget.batches(16))) < 0.1
    assert accuracy(*predict(found, split.retain.batches(16))) > 0.9


def in_place(model, retain, *, epochs=1, seed=0):
    model[1].weight.data.normal_()
    return model.eval()


def unseeded(model, retain, *, epochs=1, seed=0):
    return in_place(copy.deepcopy(model), retain)


def in_train_mode(model, retain, *, epochs=1, seed=0):
    return unseeded(model, retain).train()


@pytest.mark.parametrize("broken", [in_place, in_train_mode, unseeded])
def test_a_method_that_is_added_is_tested_and_a_broken_one_fails(broken, split, monkeypatch):
    monkeypatch.setitem(METHODS, "toy", broken)
    assert [cases()[f"toy, {kind}"] for kind in NETWORKS] == [(broken, kind) for kind in NETWORKS]
    check = test_the_model_is_not_changed_and_the_result_is_a_copy_in_eval_mode
    if broken is unseeded:
        check = test_the_same_seed_gives_the_same_weights_and_the_global_one_is_left_alone
    with pytest.raises(AssertionError):
        check(*cases()["toy, mlp"], split)
