"""core.weights: which parameters hold the weights of convolutions, or are matrices."""

import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from unlearning.core.weights import convolutions, convolutions_or_matrices, weights_of


def names(model, parameters):
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    return [known[id(parameter)] for parameter in parameters]


def test_convolutions_count_alone_wherever_their_weights_are_kept():
    model = nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1)),
        *(nn.Flatten(), nn.Linear(64, 4)),
    )
    prune.l1_unstructured(model[0], "weight", 0.5)
    parametrizations.weight_norm(model[2])
    wanted = ["0.weight_orig", "2.parametrizations.weight.original1", "3.weight"]
    assert names(model, convolutions_or_matrices(model)) == wanted
    model[3].weight.requires_grad_(False)
    assert names(model, weights_of(convolutions(model))) == wanted[:2]
    for layer in (model[0], model[2]):
        layer.requires_grad_(False)
    assert convolutions_or_matrices(model) == []  # no other layer takes their place


def test_of_a_network_without_convolutions_all_matrices_count_once():
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8))
    model[3].weight = model[1].weight
    model.token = nn.Parameter(torch.zeros(1, 1, 8))
    model.places = nn.Parameter(torch.zeros(1, 5, 8))
    assert names(model, convolutions_or_matrices(model)) == ["places", "1.weight"]
