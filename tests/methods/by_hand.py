"""Networks to try methods on, optimizers written out by hand, and comparisons of weights."""

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from unlearning.core.layers import normalisation_layers
from unlearning.core.passes import counting
from unlearning.models import build


def network(name="mlp", seed=0, outputs=4):
    """A small network whose BatchNorm statistics are not those of a fresh one."""
    torch.manual_seed(seed)
    if name == "smooth":  # no dead unit, whose gradient is rounding noise that Adam would amplify
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, outputs))
    model = build(name, outputs, 1, 8)
    for layer in normalisation_layers(model):
        layer.running_mean.uniform_(-0.1, 0.1)
        layer.running_var.uniform_(0.8, 1.2)
        layer.num_batches_tracked.fill_(7)
    return model


class Counted(Dataset):
    """A set that counts how often each of its images is read."""

    def __init__(self, images):
        self.images, self.labels = images.normalise(images.images), images.labels
        self.reads = torch.zeros(len(images), dtype=torch.long)

    def __len__(self):
        return len(self.reads)

    def __getitem__(self, place):
        self.reads[place] += 1
        return self.images[place], self.labels[place]

    def batches(self, size=16):
        return DataLoader(self, size)


def passes(method, model, *data, count, **options):
    """What a call costs, in passes over ``count`` images: a forward alone is a third of one."""
    with counting(model) as images_read:
        method(model, *data, **options)
    return images_read() / count


def doubled(batches):
    return [(images.double(), labels) for images, labels in batches]


def weights(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def assert_same(found, wanted):
    assert_close(found, wanted, rtol=0, atol=0)


def assert_close(found, wanted, rtol=1e-9, atol=1e-12):
    torch.testing.assert_close(weights(found), weights(wanted), rtol=rtol, atol=atol)


def differ(a, b):
    b = weights(b)
    return any(not torch.equal(value, b[name]) for name, value in weights(a).items())


def usual_loss(model, images, labels):
    return F.cross_entropy(model(images), labels)


def cosine(lr, step, steps, final=0.0):
    return lr * (final + (1 - final) * (1 + math.cos(math.pi * step / steps)) / 2)


def sgd(model, batches, loss, *, lr, momentum=0.9, weight_decay=0.0, steps=None):
    """SGD with momentum and a cosine, as in textbooks; in place. Returns each step's loss."""
    parameters = list(model.parameters())
    velocity = [torch.zeros_like(w) for w in parameters]
    losses, steps = [], steps or len(batches)
    for step, batch in enumerate(batches):
        value = loss(model, *batch)
        losses.append(float(value.detach()))
        found = torch.autograd.grad(value, parameters)
        for w, v, g in zip(parameters, velocity, found, strict=True):
            v.mul_(momentum).add_(g + weight_decay * w.detach())
            w.data -= cosine(lr, step, steps) * v
    return losses


def adam(model, batches, loss, *, rates, weight_decay=0.0, state=None):
    """torch's own Adam, with the learning rate of each step written down; in place."""
    adam = torch.optim.Adam(model.parameters(), weight_decay=weight_decay)
    if state is not None:
        adam.load_state_dict(copy.deepcopy(state))
    for batch, rate in zip(batches, rates, strict=True):
        adam.param_groups[0]["lr"] = rate
        adam.zero_grad()
        loss(model, *batch).backward()
        adam.step()
    return adam
