"""training: seeds, training, predictions, and checkpoints found again by their configuration."""

import copy
import math
import random
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from unlearning import Diverged, build, load_or_train, predict, train, training
from unlearning.core.loop import minimise
from unlearning.core.losses import classification_loss, cross_entropy
from unlearning.core.randomness import seeded
from unlearning.training import digest_of_images, fresh_network


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def network(name="cnn", seed=0):
    with seeded(seed, torch.device("cpu")):
        return build(name, 4, 1, 8)


def test_train_minimises_cross_entropy_and_learns(tiny):
    options = {"epochs": 20, "lr": 0.1, "momentum": 0.8, "weight_decay": 0.01, "seed": 5}
    model, batches = network(), tiny.batches(16)
    assert train(model, batches, **options) is model
    other = minimise(network(), batches, classification_loss, **options)
    assert torch.equal(weights(model), weights(other))
    logits, labels = predict(model, batches)
    assert (logits.argmax(1) == labels).float().mean() > 0.9


def test_predictions_are_those_of_each_image_alone_in_order(tiny):
    model = network()
    logits, labels = predict(model, tiny.batches(40))
    assert logits.dtype == torch.float32
    assert torch.equal(labels, tiny.labels)
    model.eval()
    with torch.inference_mode():
        alone = torch.cat([model(tiny.normalise(image[None])) for image in tiny.images])
    torch.testing.assert_close(logits, alone)


def test_predict_leaves_every_module_in_its_own_mode_and_changes_nothing(tiny):
    model = network().train()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    state, generator = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    logits, labels = predict(model, tiny.batches(40))
    with pytest.raises(ValueError, match="labels go from 4 to 4, but the network has 4 outputs"):
        predict(model, [(torch.zeros(1, 1, 8, 8), torch.tensor([4]))])
    with pytest.raises(ValueError, match="outputs are not finite: its weights or the images"):
        predict(model, [(torch.full((2, 1, 8, 8), math.nan), labels[:2])])
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(model.state_dict()[key], state[key]) for key in state)
    layer = nn.Linear(4, 4)  # predictions may be trained on
    cross_entropy(layer(logits), labels).backward()
    assert layer.weight.grad.isfinite().all()


RECIPE = {"model": "mlp", "epochs": 1, "lr": 0.1, "device": "cpu"}


@pytest.fixture
def untrained(monkeypatch):
    """load_or_train as it is, except that no time is spent on training."""
    monkeypatch.setattr(training, "train", lambda *_, **__: None)


def test_second_call_loads_the_same_network_and_its_seconds(tiny, tmp_path, monkeypatch):
    recipe = RECIPE | {"model": "cnn", "folder": tmp_path}
    first = load_or_train(tiny, **recipe)
    monkeypatch.setattr(training, "train", lambda *_, **__: pytest.fail("trained again"))
    second = load_or_train(tiny, **recipe)
    batches = tiny.batches(32)  # the statistics of BatchNorm are kept too
    assert torch.equal(predict(first.result, batches)[0], predict(second.result, batches)[0])
    assert second.seconds == first.seconds > 0
    assert not first.result.training and not second.result.training


def test_network_depends_on_its_seed_only_and_leaves_the_global_generator_alone(tiny, tmp_path):
    def trained(seed, global_seed, folder):
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        model, _ = load_or_train(tiny, **RECIPE, seed=seed, folder=tmp_path / folder)
        assert torch.equal(torch.get_rng_state(), state)
        return weights(model)

    assert torch.equal(trained(0, 0, "a"), trained(0, 1, "b"))
    assert not torch.equal(trained(0, 0, "a"), trained(1, 0, "a"))


def test_every_other_configuration_and_other_images_are_another_file(tiny, tmp_path, untrained):
    changes = [{}, {"epochs": 2}, {"lr": 0.2}, {"batch_size": 32}, {"optimizer": "adam"}]
    changes += [{"momentum": 0.8}, {"weight_decay": 0.0}, {"schedule": "constant"}]
    changes += [{"augment": True}, {"seed": 1}, {"model": "cnn"}, {"optimizer": "nesterov"}]
    for change in changes:
        load_or_train(tiny, **RECIPE | change, folder=tmp_path)
    pixels, labels = tiny.images.clone(), tiny.labels.clone()
    same = replace(tiny, images=pixels.clone(), labels=labels.clone())
    assert digest_of_images(same) == digest_of_images(tiny)
    pixels[5, 0, 3, 3] ^= 1
    labels[5] = (labels[5] + 1) % 4
    others = [{"images": pixels}, {"labels": labels}, {"mean": (0.3,)}, {"std": (0.3,)}]
    others = [replace(tiny, **change) for change in (*others, {"classes": tuple("abcde")})]
    for images in (*others, tiny.select(torch.arange(95)), tiny.select(torch.arange(96).flip(0))):
        load_or_train(images, **RECIPE, folder=tmp_path)
    for kind in (True, "alternate"):
        load_or_train(replace(tiny, mirror=True), **RECIPE, augment=kind, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == len(changes) + len(others) + 4


def test_checkpoints_of_earlier_versions_are_found_again(tiny, tmp_path, untrained):
    """A snapshot: under another name, all networks that somebody has would be trained again."""
    load_or_train(tiny, **RECIPE, folder=tmp_path)
    load_or_train(tiny, **RECIPE | {"model": "torchvision/squeezenet1_1"}, folder=tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[0] == "mlp-ea79755612feead9.pt"
    assert names[1].startswith("torchvision-squeezenet1_1-")  # and no folder


def test_a_checkpoint_is_found_again_though_another_torch_prints_its_layers_differently(
    tiny, tmp_path, monkeypatch
):
    """BatchNorm2d prints ``bias=True`` from torch 2.14 on, which once gave files other names."""
    made = load_or_train(tiny, **RECIPE | {"model": "cnn"}, folder=tmp_path)
    monkeypatch.setattr(torch.nn.Module, "__repr__", lambda layer: "printed in another way")
    again = load_or_train(tiny, **RECIPE | {"model": "cnn"}, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1 and again.seconds == made.seconds


@pytest.mark.parametrize("error", [KeyboardInterrupt, Diverged])
def test_training_that_is_stopped_leaves_no_file(tiny, tmp_path, monkeypatch, error):
    def stopped(*_, **__):
        raise error

    monkeypatch.setattr(training, "train", stopped)
    with pytest.raises(error):
        load_or_train(tiny, **RECIPE, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


NETWORK = """
import torch
from torch import nn
WIDTH = 5
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, WIDTH), nn.Linear(WIDTH, 4)
    def forward(self, x):
        return self.last(self.first(x.flatten(1)).relu())
def make():
    return Net()
named, unnamed = {"function": make, "class": Net}, lambda: make()
"""


def made(source=NETWORK):
    space = {"__name__": "__main__"}
    exec(source, space)
    return {**space["named"], "lambda": space["unnamed"]}


def test_a_network_of_ones_own_is_initialised_like_the_named_one_and_found_again(
    tiny, tmp_path, monkeypatch
):
    recipe = RECIPE | {"folder": tmp_path}
    named = load_or_train(tiny, **recipe).result
    own = load_or_train(tiny, **recipe | {"model": lambda: build("mlp", 4, 1, 8)}).result
    assert torch.equal(weights(own), weights(named))
    for kind, make in made().items():
        first = load_or_train(tiny, **recipe | {"model": make}).result
        with monkeypatch.context() as patch:
            patch.setattr(training, "train", lambda *_, **__: pytest.fail("trained again"))
            again = load_or_train(tiny, **recipe | {"model": made()[kind]}).result
        assert torch.equal(weights(first), weights(again)) and first is not again
    names = sorted(path.name.rpartition("-")[0] for path in tmp_path.iterdir())
    assert names == ["make", "mlp", "net", "own-network", "own-network"]


def test_an_edit_of_ones_own_network_or_other_first_weights_are_another_file(
    tiny, tmp_path, untrained
):
    recipe = RECIPE | {"folder": tmp_path / "a"}
    edits = [("", ""), (".relu()", ".tanh()"), ("WIDTH = 5", "WIDTH = 6")]
    edits += [("return Net()", "net = Net(); nn.init.zeros_(net.last.bias); return net")]
    for edit in edits:
        load_or_train(tiny, **recipe | {"model": made(NETWORK.replace(*edit))["function"]})
    assert len(list((tmp_path / "a").iterdir())) == len(edits)
    recipe["folder"], file = tmp_path / "b", tmp_path / "start"
    for start in (0.0, 1.0):  # read from a file, for example, which no code tells
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
        nn.init.constant_(network[1].bias, start)
        torch.save(network.state_dict(), file)
        load_or_train(tiny, **recipe | {"model": partial(from_file, file)})
    assert len(list((tmp_path / "b").iterdir())) == 2


def from_file(path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    network.load_state_dict(torch.load(path, weights_only=True))
    return network


@pytest.mark.parametrize("model", [lambda: None, nn.Identity, lambda: build("mlp", 3, 1, 8), 5])
def test_a_network_that_cannot_be_used_is_refused_before_training(tiny, tmp_path, model):
    with pytest.raises(ValueError, match="network"):
        load_or_train(tiny, **RECIPE | {"model": model}, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_function_may_draw_from_any_global_generator(tiny):
    def make():
        network = build("mlp", 4, 1, 8)
        draws = [float(torch.rand(())), np.random.rand(), random.random()]  # noqa: NPY002
        nn.init.constant_(network[-1].bias, sum(draws))
        return network

    state = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    first, again, other = (weights(fresh_network(make, tiny, seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and first[-1] != other[-1]
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    assert torch.equal(state[0], after[0]) and state[1:] == after[1:]


def test_a_network_whose_answers_depend_on_the_batch_is_warned_of(tiny):
    model = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), build("mlp", 4, 1, 8))
    with pytest.warns(UserWarning, match="a BatchNorm keeps no running statistics"):
        predict(model, tiny.batches(16))
