"""core.features: what the layer that makes the logits reads."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unlearning import build
from unlearning.core.features import features_of
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
