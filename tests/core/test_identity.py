"""core.identity: an edit of a function, or of what it reads, is noticed; a new process is not."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from unlearning import METHODS
from unlearning.core.configuration import digest_of
from unlearning.core.identity import described, identity_of

PACKAGE = Path(__file__).resolve().parents[2] / "unlearning"

NOTEBOOK = """
import torch
from functools import partial

LR, NAMES, TENSOR = 0.1, {"a", "b", "c", "d"}, torch.arange(3)

def helper(x):
    return x * LR

def reads_in_a_lambda(model):
    return lambda x: helper(x) in {"a", "b", "c"}

def reads_a_tensor(model):
    return TENSOR, NAMES

def takes_a_default(model, lr=LR):
    return lambda model: lr

closes_over, given = takes_a_default(0), partial(takes_a_default, lr=LR)

class Method:
    rate = LR
    def __call__(self, model):
        return helper(model)

called, built = Method(), Method

def recursive(n):
    return recursive(n - 1) if n else LR
"""
READ_LR = [
    "helper", "reads_in_a_lambda", "takes_a_default",
    "closes_over", "given", "called", "built", "recursive",
]  # fmt: skip
NAMES = [*READ_LR, "reads_a_tensor"]


def identities(source=NOTEBOOK):
    space = {"__name__": "__main__"}
    exec(source, space)
    return described({name: space[name] for name in NAMES})


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("import torch", "\n\nimport torch", []),
        ("= 0.1,", "= 0.2,", READ_LR),
        ("torch.arange(3)", "torch.arange(4)", ["reads_a_tensor"]),
        ('"d"}', '"e"}', ["reads_a_tensor"]),
        ('"c"}\n', '"e"}\n', ["reads_in_a_lambda"]),
        ("lr=LR):", "lr=0.3):", ["takes_a_default", "closes_over", "given"]),
        ("x * LR", "x / LR", ["helper", "reads_in_a_lambda", "called", "built"]),  # callers too
    ],
)
def test_what_a_function_reads_is_a_part_of_its_identity(old, new, changed):
    before, after = identities(), identities(NOTEBOOK.replace(old, new))
    assert {name for name in NAMES if after[name] != before[name]} == set(changed)
    assert len({json.dumps(identity) for identity in before.values()}) == len(NAMES)


PROCESS = """
import json, sys, types
package = types.ModuleType("unlearning")  # the whole package takes seconds to import
package.__path__ = [sys.argv[1]]
sys.modules["unlearning"] = package
from unlearning.core.identity import described
exec(sys.argv[2])
print(json.dumps(described({name: globals()[name] for name in sys.argv[3].split()})))
"""


def test_identity_is_the_same_in_every_process():
    """With other addresses and another order of sets than here."""
    command = [sys.executable, "-c", PROCESS, str(PACKAGE), NOTEBOOK, " ".join(NAMES)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    assert json.loads(done.stdout) == identities()


def test_functions_of_one_line_and_of_this_package_are_told_apart():
    one, other = (lambda model: 1, lambda model: 2)
    assert identity_of(one) != identity_of(other)
    found = {json.dumps(identity_of(method)) for method in METHODS.values()}
    assert len(found) == len(METHODS) and all(len(text) < 100 for text in found)
    assert identity_of(torch.optim.Adam) == "torch.optim.adam.Adam"


def network(value, activation=nn.ReLU):
    model = nn.Sequential(nn.Linear(2, 2), activation(), nn.BatchNorm1d(2))
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    return model


def test_objects_are_described_by_their_content_and_plain_values_are_kept(tiny, monkeypatch):
    for make in (
        lambda value: torch.full((3,), value, dtype=torch.bfloat16),
        lambda value: np.full(3, value),
        lambda value: {1: [torch.tensor(value)]},
        lambda value: {("a", value)},
        network,
        lambda value: tiny.select(torch.arange(int(value))),
    ):
        first, same, other = (described({"a": make(value)}) for value in (1.0, 1.0, 2.0))
        assert first == same != other
        json.dumps(first)
    assert identity_of(network(1.0)) != identity_of(network(1.0, nn.Tanh))
    fresh = tiny.select(torch.arange(9))
    before = identity_of(fresh)
    fresh.normalise(fresh.images)  # fills a cache
    assert identity_of(fresh) == before
    options = {"lr": 0.1, "alpha": {"random": 0.8}, "layers": (1, 2), "none": None}
    assert described(options) == {**options, "layers": [1, 2]}
    monkeypatch.setattr(nn.ReLU, "about", {"train": "digest"}, raising=False)
    assert described({"a": [nn.ReLU()]}) == {"a": [{"train": "digest"}]}
    with pytest.raises(ValueError, match="a generator cannot be a part of a configuration"):
        described({"images": (image for image in "ab")})


def test_an_infinite_value_can_be_part_of_a_configuration():
    found = described({"bound": float("inf"), "other": 1.5})
    assert found == {"bound": "inf", "other": 1.5} and digest_of(found)
