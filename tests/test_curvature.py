"""The Fisher diagonal against a batch-of-one double loop, and against values known by hand."""

import copy
import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader, TensorDataset

from unlearning import build, curvature, fisher_diagonal


def one_by_one(model, images):
    """The definition, slowly: a batch of one, a backward pass a class, in float64."""
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


def lived_in(model, seed=0):
    """The network with statistics and weights of its norms that are not those of a fresh one."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                if tensor is not None:
                    noise = torch.rand(tensor.shape, generator=generator)
                    tensor.data = tensor.data + 0.5 * noise.to(tensor)
    return model


@pytest.fixture
def images(tiny):
    return tiny.normalise(tiny.images[:7])


def batches(images, batch_size=4):
    labels = torch.zeros(len(images), dtype=torch.long)
    return list(zip(images.split(batch_size), labels.split(batch_size), strict=True))


# ------------------------------------------------------------------------------------------------
# Networks that ask for a closed form, or for the way around it


class Flat(nn.Module):
    """Base of the networks below: they see the image as 64 numbers, and have 4 outputs."""

    def __init__(self, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)


class SharedLayer(Flat):
    def forward(self, x):
        return self.head(self.layer(self.layer(x.flatten(1)).tanh()).tanh())


class TiedParameter(Flat):
    def __init__(self, **layers):
        super().__init__(**layers)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.head(self.b(self.a(x.flatten(1)).tanh()).tanh())


class AlsoReadElsewhere(Flat):
    def forward(self, x):
        hidden = self.layer(x.flatten(1)).tanh()
        return self.head((hidden @ self.layer.weight).tanh())


class Functional(Flat):
    def forward(self, x):
        return self.head(F.linear(x.flatten(1), self.layer.weight, self.layer.bias).tanh())


class OwnParameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(64) + 0.5)
        self.head = nn.Linear(64, 4)

    def forward(self, x):
        return self.head(x.flatten(1) * self.scale)


class UnusedOutput(Flat):
    def forward(self, x):
        hidden = self.layer(x.flatten(1)).relu()
        self.unused(hidden)
        return self.head(hidden)


class ByKeyword(Flat):
    def forward(self, x):
        return self.head(input=x.flatten(1))


class Binarised(Flat):
    def forward(self, x):
        return self.head((x > 0).to(x).flatten(1))


class OnSequences(Flat):
    def forward(self, x):
        return self.head(self.layer(x[:, 0]).relu().mean(1))


class InPlaceResidual(Flat):
    def forward(self, x):
        x = self.norm(self.conv(x))
        y = self.again(F.relu(x, inplace=True))
        y += x
        return self.head(F.relu_(y).mean((2, 3)))


def flat(*layers):
    return nn.Sequential(nn.Flatten(), *layers)


def pruned():
    layer = nn.Linear(64, 4)
    with torch.no_grad():
        prune.random_unstructured(layer, "weight", 0.5)
    return flat(layer)


def hooked():
    model = flat(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 4))
    model[1].register_forward_hook(lambda layer, inputs, output: 2 * output)
    model[3].register_forward_hook(lambda layer, inputs, output: 3 * output)
    return model


IN_CLOSED_FORM = {
    "no gradient reaches the image": lambda: Binarised(head=nn.Linear(64, 4)),
    "conv bias, stride, dilation, padding": lambda: nn.Sequential(
        nn.Conv2d(1, 3, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
        nn.ReLU(inplace=True),
        nn.Conv2d(3, 5, 1),
        nn.Tanh(),
        nn.Flatten(),
        nn.LazyLinear(4),
    ),
    "BatchNorm1d after a linear layer": lambda: lived_in(
        flat(nn.Linear(64, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4, bias=False))
    ),
    "BatchNorm1d over places": lambda: lived_in(
        nn.Sequential(nn.Flatten(1, 2), nn.BatchNorm1d(8), nn.Flatten(), nn.Linear(64, 4))
    ),
    "BatchNorm without weights": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, affine=False), nn.Flatten(), nn.Linear(108, 4)
    ),
    "in-place residual": lambda: lived_in(
        InPlaceResidual(
            conv=nn.Conv2d(1, 4, 3),
            norm=nn.BatchNorm2d(4),
            again=nn.Conv2d(4, 4, 3, padding=1),
            head=nn.Linear(4, 4),
        )
    ),
    "an output that is thrown away": lambda: UnusedOutput(
        layer=nn.Linear(64, 6), unused=nn.Linear(6, 3), head=nn.Linear(6, 4)
    ),
    "dropout, off in eval mode": lambda: flat(nn.Dropout(0.5), nn.Linear(64, 4)),
}
AROUND_IT = {
    "shared layer": lambda: SharedLayer(layer=nn.Linear(64, 64), head=nn.Linear(64, 4)),
    "tied parameter": lambda: TiedParameter(
        a=nn.Linear(64, 64), b=nn.Linear(64, 64), head=nn.Linear(64, 4)
    ),
    "weight also read outside its layer": lambda: AlsoReadElsewhere(
        layer=nn.Linear(64, 6), head=nn.Linear(64, 4)
    ),
    "functional use": lambda: Functional(layer=nn.Linear(64, 6), head=nn.Linear(6, 4)),
    "parameter of its own": OwnParameter,
    "LayerNorm": lambda: flat(nn.Linear(64, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 4)),
    "GroupNorm": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4)
    ),
    "grouped convolution": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(64, 4)
    ),
    "padding by name": lambda: nn.Sequential(
        nn.Conv2d(1, 2, 3, padding="same"), nn.Tanh(), nn.Flatten(), nn.Linear(128, 4)
    ),
    "circular padding": lambda: nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), nn.Flatten(), nn.Linear(128, 4)
    ),
    "linear layer on sequences": lambda: OnSequences(layer=nn.Linear(8, 6), head=nn.Linear(6, 4)),
    "layer called by keyword": lambda: ByKeyword(head=nn.Linear(64, 4)),
    "pruned layer": pruned,
    "hooks that change an output": hooked,
}


def made(make, images):
    torch.manual_seed(0)
    model = make()
    with torch.no_grad():
        model.double().eval()(images.double())  # lazy layers take their shape
    return model


@pytest.mark.parametrize("name", IN_CLOSED_FORM | AROUND_IT)
def test_exact_fisher_is_the_double_loop_for_every_kind_of_layer(name, images):
    model = made((IN_CLOSED_FORM | AROUND_IT)[name], images)
    found = fisher_diagonal(model, batches(images.double()))
    assert_same(found, one_by_one(model, images))


@pytest.mark.parametrize("name", IN_CLOSED_FORM | AROUND_IT)
def test_the_fast_way_is_taken_where_it_holds_and_only_there(name, images):
    model = made((IN_CLOSED_FORM | AROUND_IT)[name], images).requires_grad_(False)
    assert curvature.in_closed_form(model, images.double()) == (name in IN_CLOSED_FORM)


# ------------------------------------------------------------------------------------------------
# The networks of this package


@pytest.mark.parametrize(
    "name, count", [("mlp", 7), ("cnn", 7), ("resnet20", 3), ("torchvision/resnet18", 2)]
)
def test_exact_fisher_is_the_double_loop_for_our_networks_in_closed_form(
    name, count, images, monkeypatch
):
    torch.manual_seed(0)
    model = lived_in(build(name, 4, 1, 8)).double()
    monkeypatch.setattr(curvature, "add_by_func", None)  # would fail if it were called
    found = fisher_diagonal(model, batches(images[:count].double()))
    assert_same(found, one_by_one(model, images[:count]))


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet20"])
def test_float32_is_as_close_to_the_double_loop_as_its_digits_allow(name, images):
    torch.manual_seed(0)
    model = lived_in(build(name, 4, 1, 8))
    found, wanted = fisher_diagonal(model, batches(images[:4])), one_by_one(model, images[:4])
    for key, value in wanted.items():
        assert (found[key] - value).norm() <= 1e-5 * value.norm(), key
        assert found[key].dtype == torch.float32


@pytest.mark.parametrize("labels", ["exact", "sampled"])
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_closed_form_and_torch_func_agree(name, labels, images, monkeypatch):
    torch.manual_seed(0)
    model = lived_in(build(name, 4, 1, 8)).double()
    data = batches(images.double())
    closed = fisher_diagonal(model, data, labels=labels)
    monkeypatch.setattr(curvature, "in_closed_form", lambda *_: False)
    monkeypatch.setattr(curvature, "add_closed_form", None)
    assert_same(closed, fisher_diagonal(model, data, labels=labels))


@pytest.mark.parametrize("way", ["closed form", "torch.func"])
def test_neither_batch_size_nor_chunks_matter(way, images, monkeypatch):
    torch.manual_seed(0)
    model = lived_in(build("cnn", 4, 1, 8)).double()
    if way == "torch.func":
        monkeypatch.setattr(curvature, "in_closed_form", lambda *_: False)
    whole = fisher_diagonal(model, batches(images.double(), 7))
    assert_same(fisher_diagonal(model, batches(images.double(), 1)), whole)
    monkeypatch.setattr(curvature, "CHUNK_FLOATS", 60_000)  # two or three examples at a time
    assert_same(fisher_diagonal(model, batches(images.double(), 5)), whole)


# ------------------------------------------------------------------------------------------------
# Values known by hand


def test_logistic_model_has_p_times_one_minus_p_times_x_squared(images):
    torch.manual_seed(0)
    model = flat(nn.Linear(64, 4)).double()
    x = images.double().flatten(1)
    p = model(images.double()).softmax(-1).detach()
    found = fisher_diagonal(model, batches(images.double()))
    spread = p * (1 - p)
    torch.testing.assert_close(found["1.weight"], spread.T @ x.square() / len(x))
    torch.testing.assert_close(found["1.bias"], spread.mean(0))


def test_a_network_that_knows_nothing_has_a_quarter_of_x_squared():
    model = nn.Linear(2, 2)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    data = [(torch.tensor([[2.0, 4.0]]), torch.tensor([0]))]
    found = fisher_diagonal(model, data)
    torch.testing.assert_close(found["weight"], torch.tensor([[1.0, 4.0], [1.0, 4.0]]))
    torch.testing.assert_close(found["bias"], torch.tensor([0.25, 0.25]))


def test_mean_of_sampled_estimates_is_the_exact_fisher(images):
    torch.manual_seed(0)
    model = build("mlp", 4, 1, 8).double()
    data = batches(images.double(), 7)
    exact = fisher_diagonal(model, data)
    draws = [fisher_diagonal(model, data, labels="sampled", seed=seed) for seed in range(200)]
    for name in ("5.weight", "5.bias"):
        values = torch.stack([draw[name] for draw in draws])
        error = values.std(0) / len(draws) ** 0.5
        assert (error > 0).any()
        assert ((values.mean(0) - exact[name]).abs() <= 5 * error + 1e-12).all()
    total = torch.tensor([sum(v.sum() for v in draw.values()) for draw in draws])
    wanted = sum(float(v.sum()) for v in exact.values())
    assert abs(float(total.mean()) - wanted) < 5 * float(total.std()) / len(draws) ** 0.5


def test_sampled_labels_follow_their_seed(images):
    torch.manual_seed(0)
    model = build("mlp", 4, 1, 8)
    first, again, other = (
        fisher_diagonal(model, batches(images), labels="sampled", seed=seed)["5.bias"]
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_saturated_network_has_almost_no_fisher_and_no_nan(images):
    torch.manual_seed(0)
    model = flat(nn.Linear(64, 4))
    model[1].weight.data *= 1e4
    found = fisher_diagonal(model, batches(images))
    assert float(found["1.bias"].max()) < 1e-6


# ------------------------------------------------------------------------------------------------
# What must not matter, and what must not change


def test_the_labels_of_the_data_are_not_read(images):
    torch.manual_seed(0)
    model = build("mlp", 4, 1, 8)
    found = fisher_diagonal(model, [(images, torch.zeros(7, dtype=torch.long))])
    garbage = fisher_diagonal(model, [(images, torch.full((7,), -5))])
    assert_same(found, garbage, rtol=0)


@pytest.mark.parametrize("labels", ["exact", "sampled"])
def test_the_network_is_not_changed(labels, images):
    torch.manual_seed(0)
    model = lived_in(build("cnn", 4, 1, 8)).train()
    model[1].eval()
    model[0].requires_grad_(False)
    model(images).sum().backward()
    grads = {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}
    needs = {name: p.requires_grad for name, p in model.named_parameters()}
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    fisher_diagonal(model, batches(images), labels=labels)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert needs == {name: p.requires_grad for name, p in model.named_parameters()}
    assert not any(module._forward_hooks for module in model.modules())
    for name, p in model.named_parameters():
        assert p.grad is grads[name] is None or torch.equal(p.grad, grads[name])


def test_frozen_parameters_have_a_fisher_too(images):
    torch.manual_seed(0)
    model = build("cnn", 4, 1, 8)
    wanted = fisher_diagonal(model, batches(images))
    model.requires_grad_(False)
    found = fisher_diagonal(model, batches(images))
    assert_same(found, wanted, rtol=0)
    assert all(not value.requires_grad and value.any() for value in found.values())


def test_dropout_and_batch_statistics_of_a_network_in_train_mode_play_no_part(images):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten())
    model = lived_in(nn.Sequential(*model, nn.Linear(108, 4)))
    in_training = fisher_diagonal(model.train(), batches(images))
    assert_same(in_training, fisher_diagonal(model.eval(), batches(images)), rtol=0)


@pytest.mark.parametrize("labels", ["exact", "sampled"])
def test_a_shuffling_loader_gives_one_result_and_the_global_generator_is_left_alone(labels, images):
    model = build("mlp", 4, 1, 8)
    data = TensorDataset(images, torch.zeros(7))
    shuffled = DataLoader(data, batch_size=3, shuffle=True)
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        results.append(fisher_diagonal(model, shuffled, labels=labels))
        assert torch.equal(torch.get_rng_state(), state)
    assert_same(*results, rtol=0)


class Marker:
    """An object that lives as long as the graph that it was put in."""


MARKERS = weakref.WeakSet()


class Marked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.marker = Marker()
        MARKERS.add(ctx.marker)
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return g


def test_no_batch_leaves_its_graph_in_memory(images):
    class Marking(nn.Module):
        def forward(self, x):
            return Marked.apply(x)

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), Marking(), nn.ReLU(), nn.Linear(8, 4))
    assert curvature.in_closed_form(model.requires_grad_(False), images[:1])
    fisher_diagonal(model, batches(images, 1))
    gc.collect()
    assert len(MARKERS) == 0


def test_a_generator_is_read_once(images):
    model = build("mlp", 4, 1, 8)
    found = fisher_diagonal(model, (batch for batch in batches(images)))
    assert_same(found, fisher_diagonal(model, batches(images)), rtol=0)


# ------------------------------------------------------------------------------------------------
# Refusals


def test_an_empty_loader_is_refused():
    with pytest.raises(ValueError, match="the loader yielded no batches"):
        fisher_diagonal(build("mlp", 4, 1, 8), [])


def test_another_word_for_labels_is_refused(images):
    with pytest.raises(ValueError, match='labels must be "exact" or "sampled", not \'empirical\''):
        fisher_diagonal(build("mlp", 4, 1, 8), batches(images), labels="empirical")


@pytest.mark.parametrize("labels", ["exact", "sampled"])
@pytest.mark.parametrize("where", ["weights", "images"])
def test_nan_is_refused(labels, where, images):
    model, images = build("mlp", 4, 1, 8), images.clone()
    (model[1].weight.data if where == "weights" else images).view(-1)[0] = torch.nan
    with pytest.raises(ValueError, match="not finite: weights or images hold NaN"):
        fisher_diagonal(model, batches(images), labels=labels)
