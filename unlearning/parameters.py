"""Can a notebook's parameters be used: checked in a moment, before anything trains."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .data import SOURCES, load
from .methods import METHODS
from .models import check_network
from .scenarios import scenarios_of
from .training import fresh_network


class ParameterError(ValueError):
    """A parameter cannot be used; a notebook shows the sentence alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:  # IPython's hook
        return [f"{type(self).__name__}: {self}"]


class _Rule(NamedTuple):
    """What a parameter must be, in words and as a test."""

    words: str
    holds: Callable[[Any], bool]


def check_parameters(parameters: Mapping[str, Any], *, kinds: tuple[str, ...] = ()) -> None:
    """Check the parameters of a notebook, by name; call it with ``globals()``.

    Args:
        parameters: name -> value; names in capitals that are known here are checked.
        kinds: kinds of scenario that the notebook can use; by default all.

    Raises:
        ParameterError: says in one sentence which parameter cannot be used, and what it must be; or
            that the data set must be downloaded first and cannot be.
    """
    for name, value in parameters.items():
        rule = _rule_for(name) if name.isupper() else None
        if rule and not rule.holds(value):
            raise ParameterError(f"{name} must be {rule.words}, not {value!r}")
    try:
        _check_together(parameters, kinds)
    except (ConnectionError, ValueError) as error:
        raise ParameterError(str(error)) from error


def _check_together(parameters: Mapping[str, Any], kinds: tuple[str, ...]) -> None:
    """Load the data, build the network once and split once, as the notebook will."""
    sizes = {f"{part}_size": parameters.get(f"{part.upper()}_SIZE") for part in ("train", "test")}
    train, _ = load(parameters["DATASET"], **sizes)
    check_network(fresh_network(parameters["MODEL"], train, seed=0), train)
    if "FORGET" in parameters:
        for scenario in scenarios_of(parameters["FORGET"], train).values():
            if kinds and scenario.kind not in kinds:
                raise ValueError(
                    f"this notebook cannot forget {scenario.name!r}: its scenarios are of the kind "
                    f"{' or '.join(kinds)}"
                )
            if scenario.complete:  # scores are still to come
                scenario.split(train, seed=0)


def _is_count(value: Any, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: Any) -> bool:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return real and math.isfinite(value)


def _list_of(entry: _Rule) -> _Rule:
    return _Rule(
        f"a list, each entry {entry.words}",
        lambda value: (
            isinstance(value, list | tuple) and len(value) > 0 and all(map(entry.holds, value))
        ),
    )


COUNT = _Rule("a whole number above 0", _is_count)
POSITIVE = _Rule("a number above 0", lambda value: _is_number(value) and value > 0)
SHARE = _Rule("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1)
NAMED = _Rule(
    "values by name, such as {'lr': 0.01}",
    lambda value: isinstance(value, Mapping) and all(isinstance(name, str) for name in value),
)
RULES = {  # a pattern that the whole name must match -> what its value must be
    "DATASET": _Rule(f"one of {', '.join(SOURCES)}", lambda value: value in list(SOURCES)),
    "MODEL": _Rule(
        "mlp, cnn, resnet20, resnet18, airbench or torchvision/<name>",
        lambda value: isinstance(value, str),
    ),
    "(TRAIN|TEST)_SIZE": _Rule(
        "a whole number of images, such as 5_000, or None for all",
        lambda value: value is None or _is_count(value),
    ),
    "SEEDS": _Rule(
        "a list of different whole numbers, such as [0, 1, 2]",
        lambda value: (
            isinstance(value, list | tuple | range)
            and len(set(map(str, value))) == len(value) > 0
            and all(_is_count(seed, 0) for seed in value)
        ),
    ),
    "JOBS": _Rule(
        "a whole number above 0, or None for one per core",
        lambda value: value is None or _is_count(value),
    ),
    "AUGMENT": _Rule(
        "True, False or 'alternate'",
        lambda value: isinstance(value, bool) or value == "alternate",
    ),
    "SHIP|KEEP": _Rule("True or False", lambda value: isinstance(value, bool)),
    "BATCH_SIZE|NETWORKS|STARTS|ROUNDS|LAST_LAYERS|FORGET_COUNT|SLICES|(.*_)?EPOCHS": COUNT,
    "REQUESTS": COUNT,
    "(.*_)?(LR|ALPHA|SIGMA|DECAY|EPSILON)": POSITIVE,
    "(.*_)?RATIO": SHARE,
    "SHOWN": _Rule(
        "a list of names",
        lambda value: (
            isinstance(value, list | tuple)
            and len(value) > 0
            and all(isinstance(name, str) for name in value)
        ),
    ),
    "VALUES": _Rule("a name in tuned.json", lambda value: isinstance(value, str)),
    "UNLEARNED": _Rule(
        "a list of methods, or None for all",
        lambda value: value is None or (isinstance(value, list) and {*value} <= {*METHODS}),
    ),
    "SIZES|SHARDS": _list_of(COUNT),
    "RECIPE|TWEAKS|UNSIR|STUDENT": NAMED,
}


def _rule_for(name: str) -> _Rule | None:
    """The rule of a parameter; that of a swept one holds for each of its values."""
    if name.startswith("SWEPT_"):
        entry = _rule_for(name.removeprefix("SWEPT_"))
        return entry and _list_of(entry)
    return next((rule for pattern, rule in RULES.items() if re.fullmatch(pattern, name)), None)
