"""What strangers bring: every method on real loaders, labels and networks, or one sentence."""

import copy
import inspect
import random
import threading
import warnings

import numpy as np
import pytest
import torch
from by_hand import assert_same, differ, weights
from strangers import (
    IMAGES,
    LABELS,
    NEEDS,
    NETWORKS,
    OUTPUTS,
    READ_ONCE,
    WRONG_BATCHES,
    Announced,
    Once,
    RandomOrder,
    Returns,
    known,
    loader,
    mlp,
    pairs,
    pruned,
    relabelled,
    suited,
    tied,
    trained,
)
from torch import nn
from torch.utils.data import DataLoader

from unlearning import Diverged, Images, predict, train
from unlearning.curvature import fisher_diagonal
from unlearning.methods import (
    METHODS,
    fine_tune,
    impair_repair,
    negative_gradient_plus,
    random_mask,
    selective_forgetting,
    student_teacher,
    uniform_target,
)
from unlearning.metrics import accuracy, per_class_accuracy, relearn_time

KEPT = LABELS != 9
SMALL = {"noise_size": 8, "noise_steps": 2, "epochs": 1, "rounds": 2}
FUNCTIONS = {
    **METHODS,
    "train": lambda model, retain: train(copy.deepcopy(model), retain, epochs=2, lr=0.1),
    "predict": lambda model, retain: predict(model, retain),
    "Fisher": lambda model, retain: fisher_diagonal(model, retain),
    "relearn time": lambda model, retain: relearn_time(model, retain, pairs(), target=0.99),
}


def call(function, model, retain, forget=None, **options):
    """The function on the data and the light hyperparameters that it knows."""
    forget = pairs(~KEPT) if forget is None else forget
    known = {"retain": retain, "forget": forget, "forget_classes": [9], **SMALL, **options}
    known["normalisation"] = (0.5, 0.05)  # so that pixels lie between 0 and 1
    wanted = inspect.signature(function).parameters
    return function(model, **{name: known[name] for name in wanted if name in known})


def reading(function):
    """Which data a function reads."""
    return [name for name in ("retain", "forget") if name in inspect.signature(function).parameters]


def pytest_generate_tests(metafunc):
    tables = {"name": FUNCTIONS, "wrong": WRONG_BATCHES, "once": READ_ONCE, "output": OUTPUTS}
    tables |= {"network": NETWORKS, "method": METHODS}
    for argument, table in tables.items():
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, list(table))


def test_batches_of_another_form_are_refused_in_one_sentence(name, wrong, monkeypatch):
    monkeypatch.setattr("unlearning.core.batches.ENDLESS", 300)  # to save time
    batches, words = WRONG_BATCHES[wrong]
    for part in reading(FUNCTIONS[name]):
        with pytest.raises(ValueError, match=words):
            call(FUNCTIONS[name], suited(name), **{"retain": pairs(KEPT), part: batches})


def test_what_can_be_read_only_once_is_refused_at_once(name, once, monkeypatch):
    monkeypatch.setattr("unlearning.core.batches.ENDLESS", 300)  # to save time
    for part in reading(FUNCTIONS[name]):
        given = {"retain": pairs(KEPT), part: READ_ONCE[once]()}
        if name in ("predict", "Fisher") and "end" not in once:  # which read once
            call(FUNCTIONS[name], suited(name), **given)
            continue
        with pytest.raises(ValueError, match=r"can be read only once|did not end after 300 batch"):
            call(FUNCTIONS[name], suited(name), **given)


@pytest.mark.parametrize("integer", [torch.uint8, torch.int16, torch.int32])
def test_labels_of_any_integer_type_give_the_same(name, integer):
    def labelled(batches):
        return [(images, labels.to(integer)) for images, labels in batches]

    found = call(FUNCTIONS[name], known(name), labelled(pairs(KEPT)), labelled(pairs(~KEPT)))
    wanted = call(FUNCTIONS[name], known(name), pairs(KEPT), pairs(~KEPT))
    if isinstance(wanted, nn.Module):
        return assert_same(found, wanted)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_an_epoch_without_batches_and_a_length_that_is_too_small_are_refused():
    with pytest.raises(ValueError, match="yields no batches in this epoch, though it did before"):
        train(mlp(), Once(), epochs=2, lr=0.1)
    for read in (
        lambda batches: train(mlp(), batches, epochs=2, lr=0.1),
        lambda b: predict(mlp(), b),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, about the same
            with pytest.raises(ValueError, match="has a length of 3 batches, but yields more"):
                read(DataLoader(Announced(), 16))


def test_the_same_call_gives_the_same_weights_whatever_a_loader_draws_from(method):
    own = torch.Generator().manual_seed(3)
    for batches in (
        loader(KEPT, shuffle=True),
        loader(KEPT, shuffle=True, generator=own),
        DataLoader(RandomOrder(), 16),
    ):
        if METHODS[method] is impair_repair and isinstance(batches.dataset, RandomOrder):
            continue  # it has images of the class to forget
        before, state = torch.get_rng_state(), own.get_state()
        first, again = (call(METHODS[method], known(method), batches, batches) for _ in range(2))
        assert_same(first, again)
        assert torch.equal(torch.get_rng_state(), before) and torch.equal(own.get_state(), state)


def test_a_loader_and_images_of_the_same_data_give_the_same_weights_with_dropout(method):
    pixels = (255 * (IMAGES - IMAGES.min()) / (IMAGES.max() - IMAGES.min())).to(torch.uint8)
    images = Images(pixels, LABELS)
    model = nn.Sequential(nn.Dropout(0.5), suited(method))

    def in_order(part):
        data = torch.utils.data.TensorDataset(part.normalise(part.images), part.labels)
        return DataLoader(data, 16)

    retain, forget = images.without_classes([9]), images.of_classes([9])
    wanted = call(METHODS[method], model, retain.batches(16), forget.batches(16))
    assert_same(call(METHODS[method], model, in_order(retain), in_order(forget)), wanted)


def test_networks_of_all_kinds_hold_the_contract(method, network):
    torch.manual_seed(0)
    model = NETWORKS[network]()
    if method in NEEDS and not any(isinstance(m, nn.Conv2d) for m in model.modules()):
        with pytest.raises(ValueError, match=NEEDS[method]):
            call(METHODS[method], model, pairs(KEPT))
        return
    before = copy.deepcopy(weights(model))
    modes = [module.training for module in model.modules()]
    strides = [parameter.stride() for parameter in model.parameters()]
    untrained = NETWORKS[network]() if METHODS[method] is student_teacher else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "enable_nested_tensor")
        first, again = (
            call(METHODS[method], model, pairs(KEPT), bad_teacher=untrained) for _ in range(2)
        )
    assert_same(first, again)
    torch.testing.assert_close(weights(model), before, rtol=0, atol=0)
    assert differ(first, model) and type(first) is type(model)
    assert modes == [module.training for module in model.modules()]
    assert not any(module.training for module in first.modules())
    for each in (model, first):
        assert strides == [parameter.stride() for parameter in each.parameters()]
        nn.utils.parameters_to_vector(each.parameters())
    for now, old in zip(first.parameters(), model.parameters(), strict=True):
        assert now.requires_grad == old.requires_grad
        assert old.requires_grad or torch.equal(now, old), "a frozen parameter moved"
    assert predict(first, pairs())[0].shape == (96, 10)


def test_half_precision_is_refused_where_small_steps_count_and_can_be_read(method):
    for half in (suited(method).half(), suited(method).bfloat16()):
        assert predict(half, pairs())[0].dtype == torch.float32
        with pytest.raises(ValueError, match=r"is in b?float16, which rounds .* model.float\(\)"):
            call(METHODS[method], half, pairs(KEPT), bad_teacher=mlp())


def test_outputs_of_another_form_are_refused_in_one_sentence(name, output):
    change, words = OUTPUTS[output]
    with pytest.raises(ValueError, match=f"{words}.*: wrap it so that it returns logits"):
        call(FUNCTIONS[name], Returns(suited(name), change), pairs(KEPT), pairs(~KEPT))


@pytest.mark.parametrize("forget_classes", [9, [9], (9,), {9}, torch.tensor([9]), torch.tensor(9)])
def test_a_class_may_be_given_in_any_form(forget_classes):
    for method in (selective_forgetting, uniform_target, impair_repair):
        options = {"retain": pairs(KEPT), "forget_classes": forget_classes}
        wanted = call(method, known(), **options | {"forget_classes": [9]})
        assert_same(call(method, known(), **options), wanted)
        for wrong in (9.5, "9", True, [None]):
            with pytest.raises(ValueError, match="classes must be whole numbers, one or several"):
                call(method, known(), **options | {"forget_classes": wrong})


def test_classes_that_the_retain_set_lacks_are_those_to_forget_by_default():
    wanted = selective_forgetting(known(), pairs(KEPT), forget_classes=[9])
    assert_same(selective_forgetting(known(), pairs(KEPT)), wanted)
    assert differ(selective_forgetting(known(), pairs(KEPT), forget_classes=()), wanted)
    both = {"forget": pairs(~KEPT), "retain": pairs(KEPT)}
    wanted = uniform_target(known(), **both, forget_classes=[9])
    assert_same(uniform_target(known(), **both), wanted)
    assert differ(uniform_target(known(), **both, forget_classes=()), wanted)


def test_drawing_weights_again_draws_those_under_a_mask_or_says_that_it_cannot():
    model = pruned(amount=0.0)
    assert accuracy(*predict(model, pairs())) > 0.9
    fresh = fine_tune(model, pairs(), reinitialised=True, epochs=0)
    assert accuracy(*predict(fresh, pairs())) < 0.5
    assert not torch.equal(fresh[1].weight_orig, model[1].weight_orig)
    with pytest.raises(ValueError, match="ParametrizationList has parameters but no reset_parame"):
        fine_tune(NETWORKS["weight norm"](), pairs(), reinitialised=True)


def test_what_is_frozen_keeps_its_running_statistics():
    model = trained(mlp(nn.BatchNorm1d(32, affine=False)), epochs=3)
    found = fine_tune(model, pairs(), last_layers=1)
    assert_same(found[2], model[2])
    model = trained(mlp(nn.BatchNorm1d(32)), epochs=3).train()
    model[2].eval()  # by hand
    assert torch.equal(fine_tune(model, pairs())[2].running_mean, model[2].running_mean)
    moved = fine_tune(model.eval(), pairs())[2].running_mean  # eval mode as a whole says nothing
    assert not torch.equal(moved, model[2].running_mean)


def test_parameters_that_the_caller_froze_are_not_trained_by_cf_k_or_drawn_by_eu_k():
    model = copy.deepcopy(known())
    model[3].weight.requires_grad_(False)
    for reinitialised in (False, True):
        found = fine_tune(model, pairs(), last_layers=1, reinitialised=reinitialised)
        assert torch.equal(found[3].weight, model[3].weight)
        assert not torch.equal(found[3].bias, model[3].bias)


def test_a_shared_weight_is_masked_once_and_a_normalisation_never():
    found = random_mask(tied(), pairs(), epochs=0, ratio=0.5)
    assert 0.45 < (found[1].weight == 0).float().mean() < 0.55
    scales = random_mask(mlp(nn.RMSNorm(32)), pairs(), epochs=0, ratio=1.0)[2].weight
    assert (scales == 1).all()


def test_every_row_that_feeds_the_logit_of_a_forgotten_class_is_reset():
    torch.manual_seed(0)
    model = trained(NETWORKS["two heads"]())
    assert per_class_accuracy(*predict(model, pairs()))[9] > 0.9
    found = selective_forgetting(model, pairs(KEPT), alpha=1e-12, forget_classes=[9])
    for head in (found.head, found.head_dist):
        assert head.weight[9].abs().max() < 0.2 < head.weight[8].abs().max()
    assert per_class_accuracy(*predict(found, pairs()))[9] < 0.5
    with pytest.raises(ValueError, match=r"do not hold all that make its logits \(2 layers\)"):
        fine_tune(model, pairs(), last_layers=1)
    mixed = nn.Sequential(known(), nn.Conv1d(1, 1, 3, padding=1))
    mixed = nn.Sequential(*known(), nn.Unflatten(1, (1, 10)), mixed[1], nn.Flatten())
    with pytest.raises(ValueError, match="cannot be told which layers make this network's logits"):
        selective_forgetting(mixed, pairs())


def test_a_wrong_state_of_the_optimizer_is_refused_in_one_sentence():
    sgd, other = torch.optim.SGD(known().parameters(), 0.1), torch.optim.Adam(mlp()[1].parameters())
    for state in (sgd.state_dict(), other.state_dict(), {}, {"state": 1}):
        with pytest.raises(ValueError, match=r"no state_dict\(\) of an Adam for this"):
            uniform_target(known(), pairs(), optimizer_state=state)


def test_noise_beyond_all_measure_is_refused():
    for alpha in (1e38, 1e40):
        with pytest.raises(Diverged, match="weights are not finite after the noise: lower alpha"):
            selective_forgetting(known(), pairs(), alpha=alpha)
    for alpha in (float("inf"), float("nan"), -1):
        with pytest.raises(ValueError, match="alpha must be positive"):
            selective_forgetting(known(), pairs(), alpha=alpha)


def test_a_batch_of_one_image_is_named_where_batchnorm_cannot_take_it():
    batches = [*pairs(), (IMAGES[:1], LABELS[:1])]
    with pytest.raises(ValueError, match=r"fine-tuning: a batch .* 1 image, .* drop_last=True"):
        fine_tune(mlp(nn.BatchNorm1d(32)), batches)
    joined = negative_gradient_plus(mlp(nn.BatchNorm1d(32)), batches, pairs(), epochs=1)
    assert predict(joined, batches)[0].shape == (97, 10)


def test_a_network_that_cannot_be_copied_or_trained_says_so():
    model = mlp()
    model.lock = threading.Lock()
    with pytest.raises(ValueError, match=r"the network cannot be copied \(TypeError: .*lock"):
        fine_tune(model, pairs())
    still = copy.deepcopy(known()).requires_grad_(False)
    for function in (fine_tune, random_mask):
        with pytest.raises(ValueError, match="no parameter of the network requires a gradient"):
            function(still, pairs())


def biased(head):
    return nn.Sequential(*list(known())[:3], head)


class AddBias(nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(10))

    def forward(self, x):
        return x + self.bias


@pytest.mark.parametrize(
    "head",
    [
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(32, 10)),
        lambda: nn.Sequential(nn.Linear(32, 10, bias=False), AddBias()),
        lambda: nn.Sequential(nn.Linear(32, 10), nn.PReLU(10)),
    ],
)
def test_a_class_whose_rows_cannot_be_reset_is_refused_and_not_kept_in_silence(head):
    with pytest.raises(ValueError, match="cannot be told which layers make this network's logits"):
        selective_forgetting(biased(head()), pairs(KEPT), forget_classes=[9])


def test_what_was_set_to_eval_mode_by_hand_stays_so_through_both_stages():
    model = mlp(nn.BatchNorm1d(32)).train()
    model[2].eval()
    found = impair_repair(model, pairs(KEPT), 9, noise_size=8, noise_steps=2)
    assert torch.equal(found[2].running_mean, model[2].running_mean)


class OwnOrder(torch.utils.data.Sampler):
    """Draws from a generator object of its own, of NumPy or of Python."""

    def __init__(self, generator):
        self.generator = generator

    def __len__(self):
        return 96

    def __iter__(self):
        order = list(range(96))
        self.generator.shuffle(order)
        return iter(order)


@pytest.mark.parametrize("generator", [random.Random(0), np.random.default_rng(0)])
def test_generators_that_a_sampler_holds_are_seeded_and_left_as_they_were(generator):
    batches = DataLoader(
        torch.utils.data.TensorDataset(IMAGES, LABELS), 16, sampler=OwnOrder(generator)
    )
    first, again = (predict(known(), batches)[0] for _ in range(2))
    assert torch.equal(first, again)
    assert_same(*(fine_tune(known(), batches) for _ in range(2)))


def test_gradients_are_recorded_where_the_caller_switched_them_off_and_never_reach_the_images(
    method,
):
    images = [(x.clone().requires_grad_(), y) for x, y in pairs(KEPT)]
    wanted = call(METHODS[method], known(method), pairs(KEPT))
    with torch.no_grad():
        assert_same(call(METHODS[method], known(method), pairs(KEPT)), wanted)
    assert_same(call(METHODS[method], known(method), images), wanted)
    assert all(x.grad is None for x, _ in images)


def test_a_loader_whose_workers_persist_is_not_read_within_its_own_reading():
    batches = loader(num_workers=1, persistent_workers=True)
    for function in (
        lambda: relearn_time(mlp(), batches, batches, target=1.0),
        lambda: negative_gradient_plus(known(), batches, batches),
    ):
        with pytest.raises(ValueError, match="persistent_workers=True cannot be read twice at a"):
            function()


def test_a_fisher_diagonal_of_another_network_is_refused():
    own = fisher_diagonal(known(), pairs())
    for wrong in ({}, own | {"1.weight": own["3.weight"]}, own | {"1.bias": -own["1.bias"] - 1}, 5):
        with pytest.raises(ValueError, match="fisher has no values of at least 0 of shape"):
            selective_forgetting(known(), pairs(), fisher=wrong)
    with pytest.raises(ValueError, match="labels go from 0 to 10, but the network has 10 outputs"):
        selective_forgetting(known(), relabelled(lambda y: y + (y == 9)))
