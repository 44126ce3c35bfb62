"""The Fisher diagonal against a batch-of-one double loop, and against values known by hand."""

import copy
import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

from unlearning import build, curvature
from unlearning.curvature import fisher_diagonal


def one_by_one(model, images):
    """The definition, slowly: a batch of one, a backward pass for each class, in float64."""
    model = copy.deepcopy(model).double().eval().requires_grad_(True)
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for image in images.double():
        for label in range(4):
            model.zero_grad()
            log_p = model(image[None]).log_softmax(-1)[0, label]
            log_p.backward()
            for name, p in model.named_parameters():
                if p.grad is not None:
                    total[name] += log_p.detach().exp() * p.grad.square()
    return {name: value / len(images) for name, value in total.items()}


def assert_same(found, wanted, rtol=1e-7):
    found, wanted = ({n: v.double() for n, v in each.items()} for each in (found, wanted))
    torch.testing.assert_close(found, wanted, rtol=rtol, atol=1e-14)


def used(model):
    """The network with norms whose statistics and weights are not those of a fresh one."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                if tensor is not None:
                    tensor.data += 0.5 * torch.rand_like(tensor)
    return model


def built(name):
    torch.manual_seed(0)
    return used(build(name, 4, 1, 8))


@pytest.fixture
def images(tiny):
    return tiny.normalise(tiny.images[:7])


def batches(images, batch_size=4):
    labels = torch.zeros(len(images), dtype=torch.long)
    return list(zip(images.split(batch_size), labels.split(batch_size), strict=True))


def chain(net, x):
    return net.out(net.a(x).tanh())


class Net(nn.Module):
    """Layers a, 64 -> 64, and out, 64 -> 4, used by ``run(network, flat images)``."""

    def __init__(self, run):
        super().__init__()
        self.run, self.a, self.out = run, nn.Linear(64, 64), nn.Linear(64, 4)

    def forward(self, x):
        return self.run(self, x.flatten(1))


def flat(*layers):
    return nn.Sequential(nn.Flatten(), *layers)


def conv(*layers, size=3, **options):
    """A convolution of the image, 4 channels, other layers, and a linear one."""
    first = nn.Conv2d(1, 4, size, **options)
    return nn.Sequential(first, nn.Tanh(), *layers, nn.Flatten(), nn.LazyLinear(4))


def changed(change):
    change(net := Net(chain))
    return net


def tied():
    net = flat(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Linear(64, 4))
    net[3].weight = net[1].weight
    return net


CLOSED = {
    "no gradient reaches the image": lambda: Net(lambda net, x: chain(net, (x > 0).to(x))),
    "convolution with bias, stride, dilation, padding": lambda: conv(
        nn.Conv2d(4, 5, 1), size=(3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)
    ),
    "BatchNorm1d after a linear layer": lambda: used(
        flat(nn.Linear(64, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4, bias=False))
    ),
    "BatchNorm1d over places": lambda: used(
        nn.Sequential(nn.Flatten(1, 2), nn.BatchNorm1d(8), nn.Flatten(), nn.Linear(64, 4))
    ),
    "BatchNorm without weights": lambda: conv(nn.BatchNorm2d(4, affine=False)),
    "an output that is thrown away": lambda: Net(lambda net, x: (net.a(x), net.out(x))[1]),
}
OPEN = {
    "shared layer": lambda: Net(lambda net, x: chain(net, net.a(x).tanh())),
    "tied parameter": tied,
    "also read elsewhere": lambda: Net(lambda net, x: chain(net, x) + x @ net.out.weight.T),
    "functional use": lambda: Net(lambda net, x: net.out(F.linear(x, net.a.weight, net.a.bias))),
    "layers without one": lambda: flat(nn.LayerNorm(64), nn.PReLU(), nn.Linear(64, 4)),
    "grouped convolution": lambda: conv(nn.Conv2d(4, 4, 3, groups=2)),
    "padding by name": lambda: conv(padding="same"),
    "circular padding": lambda: conv(padding=1, padding_mode="circular"),
    "linear layer on sequences": lambda: nn.Sequential(
        nn.Flatten(1, 2), nn.Linear(8, 6), nn.Flatten(), nn.Linear(48, 4)
    ),
    "layer called by keyword": lambda: Net(lambda net, x: net.out(input=net.a(x).tanh())),
    "pruned layer": lambda: changed(lambda net: prune.random_unstructured(net.out, "weight", 0.5)),
    "hook": lambda: changed(lambda net: net.a.register_forward_hook(lambda *given: 2 * given[2])),
}


@pytest.mark.parametrize("name", CLOSED | OPEN)
def test_exact_fisher_is_the_double_loop_and_the_fast_way_is_taken_only_where_it_holds(
    name, images
):
    torch.manual_seed(0)
    with torch.no_grad():
        model = (CLOSED | OPEN)[name]()
        model.double().eval()(images.double())  # lazy layers take their shape
    assert_same(fisher_diagonal(model, batches(images.double())), one_by_one(model, images))
    fast = curvature._in_closed_form(model.requires_grad_(False), images.double())
    assert fast == (name in CLOSED)


@pytest.mark.parametrize("name, count", [("cnn", 7), ("resnet20", 3)])
def test_our_networks_have_a_closed_form(name, count, images, monkeypatch):
    model = built(name).double()
    monkeypatch.setattr(curvature, "_add_by_func", None)  # would fail if it were called
    found = fisher_diagonal(model, batches(images[:count].double()))
    assert_same(found, one_by_one(model, images[:count]))


@pytest.mark.parametrize("estimator", ["exact", "sampled"])
def test_neither_the_way_nor_the_batch_size_nor_chunks_matter(estimator, images, monkeypatch):
    model, data = built("cnn").double(), images.double()
    wanted = fisher_diagonal(model, batches(data, 7), estimator=estimator)
    for by_func in (False, True):
        if by_func:
            monkeypatch.setattr(curvature, "_in_closed_form", lambda *_: False)
        assert_same(fisher_diagonal(model, batches(data, 1), estimator=estimator), wanted)
        with monkeypatch.context() as patch:  # two or three examples at a time
            patch.setattr(curvature, "_CHUNK_FLOATS", 60_000)
            assert_same(fisher_diagonal(model, batches(data, 5), estimator=estimator), wanted)


def test_logistic_model_has_p_times_one_minus_p_times_x_squared(images):
    torch.manual_seed(0)
    model = flat(nn.Linear(64, 4)).double()
    x = images.double().flatten(1)
    p = model(images.double()).softmax(-1).detach()
    found = fisher_diagonal(model, batches(images.double()))
    torch.testing.assert_close(found["1.weight"], (p * (1 - p)).T @ x.square() / len(x))
    torch.testing.assert_close(found["1.bias"], (p * (1 - p)).mean(0))
    model[1].weight.data *= 1e4  # saturated: almost no Fisher information, and no NaN
    assert float(fisher_diagonal(model, batches(images.double()))["1.bias"].max()) < 1e-6


def test_mean_of_sampled_estimates_is_the_exact_fisher(images):
    model, data = built("mlp").double(), batches(images.double(), 7)
    exact = fisher_diagonal(model, data)
    draws = [fisher_diagonal(model, data, estimator="sampled", seed=seed) for seed in range(200)]
    for name in ("5.weight", "5.bias"):
        values = torch.stack([draw[name] for draw in draws])
        error = values.std(0) / len(draws) ** 0.5
        assert (error > 0).any()
        assert ((values.mean(0) - exact[name]).abs() <= 5 * error + 1e-12).all()


@pytest.mark.parametrize("estimator", ["exact", "sampled"])
def test_neither_mode_nor_labels_nor_frozen_weights_nor_one_reading_matter(estimator, images):
    wanted = fisher_diagonal(built("cnn"), batches(images, 7), estimator=estimator)
    model = built("cnn").train()
    model[1].eval()
    model[0].requires_grad_(False)
    found = fisher_diagonal(model, [(images, torch.full((7,), -5))], estimator=estimator)
    assert_same(found, wanted, rtol=0)
    assert not any(value.requires_grad for value in found.values())
    assert not any(module._forward_hooks for module in model.modules())
    assert (model.training, model[1].training) == (True, False)


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_the_empirical_fisher_is_the_mean_square_of_each_examples_gradient(kind, images):
    model, labels = built(kind).eval(), torch.arange(len(images)) % 3
    found = fisher_diagonal(model, [(images, labels)], estimator="empirical")
    wanted = [torch.zeros_like(p) for p in model.parameters()]
    for image, label in zip(images, labels, strict=True):
        loss = torch.nn.functional.cross_entropy(model(image[None]), label[None])
        for total, g in zip(wanted, torch.autograd.grad(loss, model.parameters()), strict=True):
            total += g.square() / len(images)
    torch.testing.assert_close(list(found.values()), wanted)


def test_no_batch_leaves_its_graph_in_memory(images, monkeypatch):
    recorders, recorder = weakref.WeakSet(), curvature._Recorder

    def watched(*arguments):
        recorders.add(made := recorder(*arguments))
        return made

    monkeypatch.setattr(curvature, "_Recorder", watched)
    fisher_diagonal(built("mlp"), batches(images, 1))
    gc.collect()
    assert len(recorders) == 0


def test_bad_arguments_are_refused(images):
    with pytest.raises(ValueError, match='"sampled" or "empirical", not \'mean\''):
        fisher_diagonal(built("mlp"), batches(images), estimator="mean")
    with pytest.raises(ValueError, match="labels go from 9 to 9, but the network has"):
        fisher_diagonal(
            built("mlp"), [(images, images[:, 0, 0, 0].long() * 0 + 9)], estimator="empirical"
        )
    broken = built("mlp")
    broken[1].weight.data.view(-1)[0] = torch.nan
    for model, data in ((built("mlp"), images * torch.nan), (broken, images)):
        for estimator in ("exact", "sampled"):
            with pytest.raises(ValueError, match="not finite: weights or images hold NaN"):
                fisher_diagonal(model, batches(data), estimator=estimator)
