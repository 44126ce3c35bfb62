"""Small inputs as strangers bring them: loaders, labels and networks, with a set to try them on."""

import itertools
import random
from functools import cache
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from unlearning import train

CLASSES = 10
NEEDS = {"CT": "no two-dimensional convolution .* to transpose"}  # a convolution, or this sentence
_generator = torch.Generator().manual_seed(0)
LABELS = torch.arange(96) % CLASSES
_centres = torch.randn(CLASSES, 1, 8, 8, generator=_generator)
IMAGES = torch.randn(96, 1, 8, 8, generator=_generator) + _centres[LABELS]


def mlp(*middle):
    torch.manual_seed(0)
    layers = nn.Linear(64, 32), *middle, nn.ReLU(), nn.Linear(32, CLASSES)
    return nn.Sequential(nn.Flatten(), *layers)


def pairs(kept=None, size=16):
    """A list of batches, of all images or of those where ``kept`` is true."""
    chosen = slice(None) if kept is None else kept
    return list(zip(IMAGES[chosen].split(size), LABELS[chosen].split(size), strict=True))


def loader(kept=None, **options):
    chosen = slice(None) if kept is None else kept
    return DataLoader(TensorDataset(IMAGES[chosen], LABELS[chosen]), 16, **options)


def trained(model, epochs=30, lr=0.1):
    return train(model, pairs(), epochs=epochs, lr=lr)


def suited(name):
    """A small network that the method of this name can use."""
    return convolutional() if name in NEEDS else mlp()


@cache
def known(name=None):
    """A network that knows all 96 images; do not change it."""
    return trained(suited(name))


class RandomOrder(IterableDataset):
    """In an order drawn by Python, with noise drawn by NumPy, as augmentations often are."""

    def __iter__(self):
        places = list(range(96))
        random.shuffle(places)
        for place in places:
            noise = np.random.normal(0, 0.1, (1, 8, 8))  # noqa: NPY002
            yield IMAGES[place] + torch.from_numpy(noise).float(), LABELS[place]


class Announced(IterableDataset):
    """Says that it has 48 items and yields 96."""

    def __len__(self):
        return 48

    def __iter__(self):
        return zip(IMAGES, LABELS, strict=True)


class Endless(IterableDataset):
    def __iter__(self):
        return itertools.repeat((IMAGES[0], LABELS[0]))


class Once:
    """Can be iterated, but only the first time yields anything."""

    def __init__(self):
        self.batches = iter(pairs())

    def __iter__(self):
        return self.batches


class Dicts(Dataset):
    def __len__(self):
        return 96

    def __getitem__(self, place):
        return {"image": IMAGES[place], "label": LABELS[place]}


def relabelled(change):
    return [(images, change(labels)) for images, labels in pairs()]


WRONG_BATCHES = {  # name -> (batches, words of the sentence)
    "three parts": ([(*pair, torch.arange(16)) for pair in pairs()], "a batch must be .images"),
    "dicts": (DataLoader(Dicts(), 16), "a batch must be .images.* not a dict"),
    "arrays": ([(x.numpy(), y.numpy()) for x, y in pairs()], "a batch must be .*ndarray"),
    "texts": (["ab"], "a batch must be .* not a str"),
    "column of labels": (relabelled(lambda y: y[:, None]), r"shape \(16,\).* \(16, 1\)"),
    "one-hot": (relabelled(lambda y: nn.functional.one_hot(y)), r"shape \(16,\).* \(16, 10\)"),
    "soft labels": (
        relabelled(lambda y: nn.functional.one_hot(y).float()),
        r"labels must be whole numbers .* not torch.float32 of shape \(16, 10\)",
    ),
    "float labels": (relabelled(lambda y: y.float()), "labels must be whole numbers"),
    "uint8 images": (
        [((10 * x).to(torch.uint8), y) for x, y in pairs()],
        "images must be normalised floats .* not torch.uint8",
    ),
    "a data set": (TensorDataset(IMAGES, LABELS), "a TensorDataset cannot be read as batches"),
    "a number": (5, "an int cannot be read as batches"),
    "nothing": ([], "yields no batches"),
    "an empty loader": (loader(drop_last=True, sampler=[0, 1]), "yields no batches"),
    "endless": (DataLoader(Endless(), 16), "did not end after 300 batches"),
}
READ_ONCE = {  # name -> a function that makes an iterator
    "iterator of a loader": lambda: iter(loader()),
    "iterator of a list": lambda: iter(pairs()),
    "generator": lambda: (pair for pair in pairs()),
    "generator without end": lambda: itertools.cycle(pairs()),
}


class TwoHeads(nn.Module):
    """The mean of two linear layers, as a distilled DeiT has it."""

    def __init__(self):
        super().__init__()
        self.head, self.body = (
            nn.Linear(32, CLASSES),
            nn.Sequential(nn.Flatten(), nn.Linear(64, 32)),
        )
        self.head_dist = nn.Linear(32, CLASSES)

    def forward(self, x):
        features = self.body(x).relu()
        return (self.head(features) + self.head_dist(features)) / 2


class Attention(nn.Module):
    """A transformer in small: a class token, two layers of attention, a linear head."""

    def __init__(self):
        super().__init__()
        self.embed, self.token = nn.Linear(8, 16), nn.Parameter(torch.zeros(1, 1, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x):
        rows = self.embed(x.flatten(1, 2))  # (B, 8, 16)
        rows = torch.cat([self.token.expand(len(x), -1, -1), rows], 1)
        return self.head(self.layers(rows)[:, 0])


class Caches(nn.Module):
    """Keeps a tensor that it computed in its first forward pass."""

    def __init__(self):
        super().__init__()
        self.net, self.scale = mlp(), None

    def forward(self, x):
        if self.scale is None:
            self.scale = self.net[1].weight.abs().mean() + 1
        return self.net(x) * self.scale.detach()


class Scaled(nn.Module):
    """A network with a parameter of its own, which it cannot draw again."""

    def __init__(self, network):
        super().__init__()
        self.network, self.scale = network, nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.network(x) * self.scale


def convolutional():
    layers = nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(288, CLASSES))


def tied():
    model = nn.Sequential(
        *(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()),
        nn.Linear(64, CLASSES),
    )
    model[3].weight = model[1].weight
    return model


def pruned(amount=0.5):
    model = trained(mlp())
    for layer in (model[1], model[3]):
        prune.l1_unstructured(layer, "weight", amount)
    return model


def frozen():
    model = mlp(nn.BatchNorm1d(32))
    model[1].requires_grad_(False)
    return model


def weight_normed():
    model = mlp()
    parametrizations.weight_norm(model[1])
    return model


NETWORKS = {
    "attention": Attention,
    "RMSNorm": lambda: mlp(nn.RMSNorm(32)),
    "tied": tied,
    "pruned": pruned,
    "two heads": TwoHeads,
    "frozen": frozen,
    "dropout": lambda: mlp(nn.Dropout(0.5)),
    "caching": Caches,
    "weight norm": weight_normed,
    "convolutional": convolutional,
    "double": lambda: mlp().double(),
    "compiled": lambda: torch.compile(mlp(nn.BatchNorm1d(32)), backend="eager"),
    "DataParallel": lambda: nn.DataParallel(mlp(nn.BatchNorm1d(32))),
}


class Returns(nn.Module):
    """A network whose output has another form."""

    def __init__(self, net, change):
        super().__init__()
        self.net, self.change = net, change

    def forward(self, x):
        return self.change(self.net(x))


OUTPUTS = {  # name -> (what becomes of the logits, words of the sentence)
    "tuple": (lambda logits: (logits, logits), "returned a tuple of 2"),
    "dict": (lambda logits: {"logits": logits}, "returned a dict"),
    "object": (lambda logits: SimpleNamespace(logits=logits), "returned a SimpleNamespace"),
    "maps": (
        lambda logits: logits[..., None, None],
        r"returned a tensor of shape \(\d+, 10, 1, 1\)",
    ),
    "one logit": (lambda logits: logits[:, :1], r"returned a tensor of shape \(\d+, 1\)"),
}
