"""Random mask: the share that is zeroed, and the repair by Adam written out by hand."""

import math

import pytest
import torch
from by_hand import adam, assert_close, cosine, doubled, network, usual_loss
from torch import nn

from unlearning.methods import random_mask


@pytest.mark.parametrize("name", ["cnn", "torchvision/resnet18"])
@pytest.mark.parametrize("ratio", [0.3, 1.0])
def test_the_mask_zeroes_its_fraction_of_each_parameter_outside_batchnorm(name, ratio, retain):
    model = network(name)
    found = random_mask(model, retain, ratio=ratio, epochs=0)
    # Of torchvision's ResNet, layer2.0.downsample.1 is a BatchNorm too.
    norms = {key for key, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    for key, value in found.state_dict().items():
        before = model.state_dict()[key]
        zeroed = (value == 0) & (before != 0)
        assert torch.equal(value[~zeroed], before[~zeroed]), key
        share = 0.0 if key.rpartition(".")[0] in norms else ratio
        error = math.sqrt(share * (1 - share) / value.numel())
        assert abs(float(zeroed.double().mean()) - share) <= 5 * error, key


def test_the_repair_is_adam_with_a_cosine_to_a_tenth_and_no_mask(retain):
    model, data = network().double(), doubled(retain)
    found = random_mask(model, data, ratio=0.5, epochs=2, lr=0.01, weight_decay=0.1)
    by_hand = random_mask(model, data, ratio=0.5, epochs=0)
    rates = [cosine(0.01, step, 6, final=0.1) for step in range(6)]
    adam(by_hand, data * 2, usual_loss, rates=rates, weight_decay=0.1)
    assert_close(found, by_hand, rtol=1e-7)
    assert float((found[3].weight == 0).double().mean()) < 0.1  # zeroed weights have grown
