"""What layers hold of an image: against a forward pass by hand; the network is left as it was."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unlearning import build
from unlearning.probing import features_of, layer_features
from unlearning.training import predict


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet20"])
def test_the_last_layer_makes_the_logits_of_them(name, tiny):
    torch.manual_seed(0)
    model = build(name, 4, 1, 8).train()
    batches = tiny.batches(40)
    features, labels = features_of(model, batches)
    layer = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    logits, wanted = predict(model, batches)
    assert features.dtype == torch.float64 and torch.equal(labels, wanted)
    torch.testing.assert_close(layer(features.float()).detach(), logits)
    assert model.training


def test_a_loader_that_shuffles_leaves_no_trace_and_a_compiled_network_is_read(tiny):
    torch.manual_seed(0)
    model = build("mlp", 4, 1, 8)
    data = TensorDataset(tiny.normalise(tiny.images), tiny.labels)
    loader = DataLoader(data, 32, shuffle=True)
    state = torch.get_rng_state()
    found = features_of(nn.DataParallel(model), loader)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(features_of(model, loader), found)


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(64, 4), nn.Linear(64, 4)

    def forward(self, x):
        return self.a(x.flatten(1)) + self.b(x.flatten(1))


def test_what_has_no_features_is_refused(tiny):
    ends_in_a_convolution = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match="reads no vector per image"):
        features_of(ends_in_a_convolution, tiny.batches(16))
    with pytest.raises(ValueError, match="2 layers make the logits"):
        features_of(TwoHeads(), tiny.batches(16))


def fresh(name, channels=1, size=8):
    torch.manual_seed(0)
    model = build(name, 4, channels, size)
    for module in model.modules():  # statistics that are not 0 and 1
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model


def test_a_flat_network_is_read_after_each_activation_and_maps_are_averaged(tiny):
    model, found = fresh("cnn").eval(), {}
    x = tiny.normalise(tiny.images)
    with torch.no_grad():
        for place, layer in enumerate(model):
            x = layer(x)
            found[str(place)] = x
    features, labels = layer_features(model, tiny)
    assert list(features) == ["2", "5", "8", "penultimate"] and torch.equal(labels, tiny.labels)
    for name in ("2", "5", "8"):
        assert isinstance(model[int(name)], nn.ReLU)
        torch.testing.assert_close(features[name], found[name].mean((2, 3)))
    torch.testing.assert_close(features["penultimate"], found["10"])


BY_DEFAULT = {
    "mlp": ["2", "4", "penultimate"],
    "resnet20": ["conv1", *(f"blocks.{n}" for n in range(9)), "penultimate"],
    "airbench-small": ["first", "blocks.0", "blocks.1", "blocks.2", "penultimate"],
    "torchvision/mobilenet_v3_small": [
        "1.features.0.2",
        *(f"1.features.{n}" for n in range(1, 12)),
        "1.features.12.2",
        "1.classifier.1",
        "penultimate",
    ],
}


@pytest.mark.parametrize("name", BY_DEFAULT)
def test_blocks_and_the_weight_layers_outside_them_are_read_in_the_order_they_run(name):
    size = 32 if "torchvision" in name else 16
    batches = [(torch.randn(3, 1, size, size), torch.arange(3))] * 2
    features, _ = layer_features(fresh(name, size=size), batches)
    assert list(features) == BY_DEFAULT[name]
    assert all(values.shape[0] == 6 and values.ndim == 2 for values in features.values())


class Tokens(nn.Module):
    """Tokens (B, 5, 6), maps with the channels last (B, 3, 3, 6) and windows (5 B, 6)."""

    def __init__(self):
        super().__init__()
        self.tokens, self.maps, self.windows = (nn.Linear(64, 6) for _ in range(3))
        self.unused, self.last = nn.Linear(2, 2), nn.Linear(6, 4)

    def forward(self, x):
        x = x.flatten(1)
        self.maps(x[:, None, None].expand(-1, 3, 3, -1))
        self.windows(x.repeat(5, 1))
        return self.last(self.tokens(x[:, None] * torch.arange(5)[:, None]).mean(1))


def test_tokens_are_averaged_and_what_has_no_row_per_image_is_left_out_or_refused(tiny):
    torch.manual_seed(0)
    model, x = Tokens(), tiny.normalise(tiny.images).flatten(1)
    features, _ = layer_features(model, tiny)
    assert list(features) == ["maps", "tokens", "penultimate"]
    torch.testing.assert_close(features["maps"], model.maps(x).detach())
    torch.testing.assert_close(features["tokens"], features["penultimate"])
    torch.testing.assert_close(features["tokens"], model.tokens(2 * x).detach())
    for layer, words in {
        "windows": "layer windows returns no vector or map per image, but a tensor of shape",
        "unused": "layer unused is not called",
        "nowhere": "has no layer 'nowhere': name some of ",
    }.items():
        with pytest.raises(ValueError, match=words):
            layer_features(model, tiny, [layer])
    with pytest.raises(ValueError, match="names no layer"):
        layer_features(model, tiny, [])
    with pytest.raises(ValueError, match="2 layers make the logits"):
        layer_features(TwoHeads(), tiny)
    assert list(layer_features(TwoHeads(), tiny, "a")[0]) == ["a"]


class Changing(nn.Sequential):
    """Its second layer changes the output of the first in place."""

    def __init__(self):
        super().__init__(nn.Linear(64, 6), nn.ReLU(inplace=True), nn.Linear(6, 4))

    def forward(self, x):
        return super().forward(x.flatten(1))


def test_features_are_those_before_the_next_layer_changes_them_in_place(tiny):
    torch.manual_seed(0)
    model = Changing()
    features, _ = layer_features(model, tiny, ["0", "1"])
    before = model[0](tiny.normalise(tiny.images).flatten(1)).detach()
    torch.testing.assert_close(features["0"], before)
    torch.testing.assert_close(features["1"], before.relu())
    assert (before < 0).any()


def hooks_of(model):
    return [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]


@pytest.mark.parametrize("name", ["cnn", "resnet20"])
def test_the_network_and_the_random_state_are_left_as_they_were(name, tiny):
    model = fresh(name).train()
    model.get_submodule("1" if name == "cnn" else "bn1").eval()
    modes = [module.training for module in model.modules()]
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    first, _ = layer_features(model, tiny.batches(10, shuffle=True, seed=1))
    again, _ = layer_features(model, tiny.batches(10, shuffle=True, seed=1))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state) and not any(hooks_of(model))
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


class Failing(nn.Sequential):
    fails = False

    def forward(self, x):
        if self.fails and len(x) < 40:
            raise RuntimeError("the last batch")
        return super().forward(x)


def test_hooks_are_removed_even_if_the_forward_pass_fails(tiny):
    model = Failing(nn.Flatten(), nn.Linear(64, 4)).train()
    model.fails = True
    with pytest.raises(RuntimeError, match="the last batch"):
        layer_features(model, tiny.batches(40))
    assert not any(hooks_of(model)) and all(module.training for module in model.modules())
    model.fails = False
    model[1].weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        layer_features(model, tiny.batches(40), ["1"])
    assert not any(hooks_of(model))
