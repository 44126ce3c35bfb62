"""What a file was made with: configurations as JSON, their digests, and whether two agree."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import cloudpickle

from .files import atomic_write


def as_json(configuration: Any) -> Any:
    """Return the configuration as JSON reads it back, so that it can be compared with a file.

    Raises:
        ValueError: if it holds something that JSON does not have.
    """
    try:
        return json.loads(json.dumps(configuration))
    except TypeError as error:
        raise ValueError(
            f"a configuration must consist of numbers, texts, lists and dicts ({error})"
        ) from error


def digest_of(configuration: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a configuration."""
    text = json.dumps(configuration, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_or_write_config(folder: Path, configuration: dict) -> None:
    """Write ``configuration.json`` into the folder, or check that the one there is the same.

    Raises:
        ValueError: if it is another one, cannot be read, or is missing beside results.
    """
    file = folder / "configuration.json"
    if not file.exists():
        results = [old for suffix in ("*.npz", "*.pth") for old in sorted(folder.glob(suffix))]
        if results:
            raise ValueError(
                f"{folder} holds {results[0].name} but no {file.name} that says how it was made: "
                "choose another folder, or move it away"
            )
        with atomic_write(file) as tmp_path:
            tmp_path.write_text(json.dumps(configuration, indent=1, sort_keys=True))
        return
    try:
        found = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(
            f"{file} cannot be read ({error}), so the contents of {folder} are unknown: "
            "move the folder away, or choose another one"
        ) from error
    if found != configuration:
        raise ValueError(
            f"{folder} holds {difference(found, configuration)}: choose another folder, or move "
            "it away"
        )


def difference(found: Any, wanted: Any, name: str = "results of another configuration") -> str:
    """Describe the first entry in which two configurations differ."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(found | wanted):
            if found.get(key) != wanted.get(key):
                return difference(found.get(key), wanted.get(key), f"results made with {key}")
    return f"{name}={found!r}, not {wanted!r}"


# ------------------------------------------------------------------------------------------------
# Functions as a part of a configuration


def described(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON has them; functions by ``identity_of``, anything else by a digest."""
    return {name: _described(value, set()) for name, value in options.items()}


def identity_of(function: Callable | None, seen: set | None = None) -> Any:
    """What tells a function from others, its code included, so that an edited one is run again.

    Of a function of this package, the source of its file. Of any other, one of a notebook for
    example, its own source and whatever it reads from around it.
    """
    seen = set() if seen is None else seen
    if function is None:
        return None
    if isinstance(function, functools.partial):
        of = identity_of(function.func, seen)
        return {"of": of, "given": _described([function.args, function.keywords], seen)}
    name = getattr(function, "__qualname__", type(function).__name__)
    if id(function) in seen:
        return name
    seen.add(id(function))
    module = inspect.getmodule(function)
    if module is not None and module.__name__.startswith("unlearning."):
        return {"name": name, "source": _digest(inspect.getsource(module).encode())}
    if not isinstance(function, FunctionType):
        return {"name": name, "source": _digest(cloudpickle.dumps(function))}
    outside = inspect.getclosurevars(function)
    read = {**outside.globals, **outside.nonlocals}
    return {
        "name": name,
        "source": _digest(_source(function)),
        "reads": {key: _described(value, seen) for key, value in sorted(read.items())},
    }


def _source(function: FunctionType) -> bytes:
    try:
        return inspect.getsource(function).encode()
    except OSError:  # typed into an interpreter: its source is not kept
        return function.__code__.co_code + repr(function.__code__.co_consts).encode()


def _described(value: Any, seen: set) -> Any:
    if isinstance(value, ModuleType):
        return value.__name__
    if hasattr(value, "about"):  # an experiment, which changes with every run
        return value.about
    if callable(value) and hasattr(value, "__qualname__"):
        return identity_of(value, seen)
    try:
        return json.loads(json.dumps(value))
    except TypeError:
        return _digest(cloudpickle.dumps(value))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
