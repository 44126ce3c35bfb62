"""core.configuration: digests, folders that know what they hold, and functions told apart."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from unlearning import METHODS, Images
from unlearning.core.configuration import (
    as_json,
    check_or_write_config,
    described,
    difference,
    digest_of,
    identity_of,
)

PACKAGE = Path(__file__).resolve().parents[2] / "unlearning"


def test_as_json_is_what_a_file_gives_back():
    assert as_json({"layers": (1, 2), "nothing": None}) == {"layers": [1, 2], "nothing": None}
    with pytest.raises(ValueError, match=r"numbers, texts, lists and dicts .*ndarray"):
        as_json({"lr": np.zeros(2)})


def test_digest_depends_on_the_content_only():
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1}) != digest_of({"a": 1, "b": 3})
    assert digest_of({}) == "44136fa355b3678a"  # sha256sum of {}
    one, other = ({"run": {"lr": lr, "epochs": 3}} for lr in (0.1, 0.2))
    assert difference(one, other) == "results made with lr=0.1, not 0.2"


def test_folder_is_of_one_configuration(tmp_path):
    folder = tmp_path / "new"
    check_or_write_config(folder, {"lr": 0.1})
    assert json.loads((folder / "configuration.json").read_text()) == {"lr": 0.1}
    check_or_write_config(folder, {"lr": 0.1})
    with pytest.raises(ValueError, match=r"made with lr=0\.1, not 0\.2: choose another folder"):
        check_or_write_config(folder, {"lr": 0.2})
    (folder / "configuration.json").write_text("{")
    with pytest.raises(ValueError, match=r"cannot be read .* so the contents of"):
        check_or_write_config(folder, {"lr": 0.1})
    (folder / "configuration.json").rename(folder / "seeds-0.npz")
    with pytest.raises(ValueError, match=r"holds seeds-0\.npz but no configuration\.json"):
        check_or_write_config(folder, {})


# ------------------------------------------------------------------------------------------------
# Functions

HELPERS = """
import numpy as np
import torch
from dataclasses import dataclass
from functools import partial

LR, NAMES, TENSOR = 0.1, {"a", "b", "c", "d"}, torch.arange(3)

def helper(x):
    return x * LR

def calls_helper(model):
    return helper(model)

def reads_in_a_generator(model):
    return sum(LR * x for x in model)

def reads_a_tensor(model):
    return TENSOR

def reads_a_set(model):
    return NAMES

def takes_a_default(model, lr=LR):
    return lr

def make(lr):
    def closure(model):
        return lr
    return closure

closes_over = make(LR)
given = partial(takes_a_default, lr=LR)
anonymous = lambda model: LR

class Method:
    rate = LR
    def __call__(self, model):
        return helper(model)
    def bound(self, model):
        return self.rate

called, bound, built = Method(), Method().bound, Method

@dataclass
class Record:
    rate: float

record = Record(LR)

def reads_a_record(model):
    return record

def recursive(n):
    return recursive(n - 1) if n else LR
"""
FUNCTIONS = [
    "helper", "calls_helper", "reads_in_a_generator", "takes_a_default",
    "closes_over", "given", "anonymous", "called", "bound", "built", "reads_a_record", "recursive",
]  # fmt: skip


@pytest.fixture
def identities(tmp_path):
    """The identities of the functions of a module, by name, from its source."""

    def identify(source, name="helpers.py"):
        path = tmp_path / name
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        try:
            names = [*FUNCTIONS, "reads_a_tensor", "reads_a_set"]
            return {name: identity_of(getattr(module, name)) for name in names}
        finally:
            del sys.modules[path.stem]

    return identify


def test_same_source_has_the_same_identity_wherever_it_lies(identities):
    first, second = identities(HELPERS), identities("\n\n" + HELPERS, "elsewhere.py")
    assert first == second
    assert len({json.dumps(identity) for identity in first.values()}) == len(first)
    json.dumps(first)  # can be a part of a configuration


def test_identity_changes_with_whatever_the_function_reads(identities):
    before = identities(HELPERS)
    after = identities(HELPERS.replace("LR, NAMES, TENSOR = 0.1", "LR, NAMES, TENSOR = 0.2"))
    assert [name for name in FUNCTIONS if after[name] == before[name]] == []
    assert after["reads_a_tensor"] == before["reads_a_tensor"]
    other = HELPERS.replace("torch.arange(3)", "torch.arange(4)").replace('"d"}', '"e"}')
    after = identities(other)
    assert {n for n in before if after[n] != before[n]} == {"reads_a_tensor", "reads_a_set"}
    after = identities(HELPERS.replace("return x * LR", "return x / LR"))  # and its callers
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"helper", "calls_helper", "called", "built", "bound"}


PROCESS = """
import json, sys, types
package = types.ModuleType("unlearning")  # the whole package takes seconds to import
package.__path__ = [sys.argv[1]]
sys.modules["unlearning"] = package
from unlearning.core.configuration import described
exec(sys.argv[2])
print(json.dumps(described({name: globals()[name] for name in sys.argv[3].split()})))
"""


def test_identity_is_the_same_in_every_process():
    """Typed into an interpreter, with other addresses and another order of sets than here."""
    names, space = (
        [*FUNCTIONS, "reads_a_tensor", "reads_a_set", "TENSOR", "NAMES"],
        {"__name__": "__main__"},
    )
    exec(HELPERS, space)
    command = [sys.executable, "-c", PROCESS, str(PACKAGE), HELPERS, " ".join(names)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    assert json.loads(done.stdout) == described({name: space[name] for name in names})


def test_functions_of_one_line_and_of_this_package_are_told_apart():
    one, other = (lambda model: 1, lambda model: 2)
    assert identity_of(one) != identity_of(other)
    identities = [identity_of(method) for method in METHODS.values()]
    assert len({json.dumps(identity) for identity in identities}) == len(METHODS)
    assert all(one["globals"] == {} and len(one["source"]) == 16 for one in identities)


# ------------------------------------------------------------------------------------------------
# Options


def test_what_json_has_and_names_of_modules_are_kept():
    class Experiment:
        about = {"train": "digest"}  # noqa: RUF012

    options = {"lr": 0.1, "alpha": {"random": 0.8}, "layers": (1, 2), "none": None, "module": np}
    assert described(options) == {**options, "layers": [1, 2], "module": "numpy"}
    assert described({"experiment": Experiment()}) == {"experiment": {"train": "digest"}}


def network(value):
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda value: torch.full((3,), value),
        lambda value: torch.full((3,), value, dtype=torch.bfloat16),
        lambda value: np.full(3, value),
        lambda value: np.array([None, value]),
        lambda value: np.float32(value),
        lambda value: {1: torch.tensor(value)},
        lambda value: [torch.tensor(value)],
        lambda value: {("a", value)},
        network,
        lambda value: Images(torch.full((2, 1, 1, 1), int(value)).byte(), torch.zeros(2).long()),
    ],
)
def test_objects_are_described_by_their_content(make):
    first, same, other = (described({"a": make(value)}) for value in (1.0, 1.0, 2.0))
    assert first == same != other
    json.dumps(first)


def test_using_a_set_of_images_does_not_change_its_description(tiny):
    fresh = tiny.select(torch.arange(9))
    before = described({"images": fresh})
    fresh.normalise(fresh.images)  # caches
    assert described({"images": fresh}) == before


def test_what_holds_itself_ends_and_what_cannot_be_compared_is_refused():
    ring = []
    ring.append(ring)
    assert described({"ring": ring}) == {"ring": ["within itself: list"]}
    with pytest.raises(ValueError, match="a generator cannot be a part of a configuration"):
        described({"images": (image for image in "ab")})
