"""Configurations as JSON, their digests, whether two agree; functions as a part of them."""

from __future__ import annotations

import dis
import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import cloudpickle
import numpy as np
import torch
from torch import nn

from .files import atomic_write

INSTALLED = {"unlearning", *sys.stdlib_module_names}  # and whatever pip has installed


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
# Functions and options in a configuration


def identity_of(function: Callable | None) -> Any:
    """Describe a function so that it is told apart from others, and from itself before an edit.

    An installed function, or one of this package, is described by the source of its file. Any
    other, such as one of a notebook, is described by its own source and by everything that it
    reads from outside: globals, closures, defaults, and the functions among them in turn. The
    description is the same in every process.

    Raises:
        ValueError: if the function reads something that cannot be compared, such as an open file.
    """
    return _described(function, {})


def described(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON has them, functions as ``identity_of`` describes them, arrays as digests.

    Raises:
        ValueError: if an option cannot be compared, such as an open file.
    """
    return {name: _described(value, {}) for name, value in options.items()}


def _described(value: Any, seen: dict[int, tuple]) -> Any:
    if isinstance(value, ModuleType):
        return value.__name__
    if hasattr(value, "about"):  # an experiment, which changes with every run
        return value.about
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        pass
    if id(value) not in seen:  # the value is kept beside its name, so that its id stays its own
        seen[id(value)] = value, f"within itself: {type(value).__name__}"
        found = _taken_apart(value, seen)
        seen[id(value)] = value, digest_of(found)
        return found
    return seen[id(value)][1]


def _taken_apart(value: Any, seen: dict) -> Any:
    """Describe what JSON does not have, without its address or its file's name."""
    parts = partial(_described, seen=seen)
    if isinstance(value, np.ndarray | torch.Tensor):
        return _described_array(value)
    if isinstance(value, Mapping):
        return {str(key): parts(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [parts(one) for one in value]
    if isinstance(value, set | frozenset):
        return sorted(map(parts, value), key=json.dumps)
    if isinstance(value, partial):
        return {"of": parts(value.func), "given": parts([value.args, value.keywords])}
    if isinstance(value, MethodType):
        return {"of": parts(value.__func__), "given": parts(value.__self__)}
    if isinstance(value, FunctionType):
        return {"name": value.__qualname__, "source": _source(value), **parts(_read_by(value))}
    if isinstance(value, type):
        return {"name": value.__qualname__, "source": _file_of(value), **parts(_members(value))}
    if is_dataclass(value):  # the fields, not what a cached_property has added
        return {
            "of": parts(type(value)),
            "state": {f.name: parts(getattr(value, f.name)) for f in fields(value)},
        }
    if isinstance(value, nn.Module) or (hasattr(value, "__dict__") and not _file_of(type(value))):
        return {"of": parts(type(value)), "state": parts(vars(value))}
    return _described_by_pickle(value)


def _described_array(array: np.ndarray | torch.Tensor) -> dict[str, str]:
    if isinstance(array, torch.Tensor):
        content = array.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    else:
        content = repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes()
    return {"array": f"{array.dtype} {tuple(array.shape)}", "content": _digest(content)}


def _described_by_pickle(value: Any) -> dict[str, str]:
    name = type(value).__qualname__
    try:
        return {"name": name, "pickled": _digest(cloudpickle.dumps(value))}
    except Exception as error:
        raise ValueError(
            f"a {name} cannot be a part of a configuration ({error}): "
            "give numbers, arrays or functions, or make it within the function"
        ) from error


def _file_of(value: FunctionType | type) -> str | None:
    """A digest of the file of an installed function or class; None for any other."""
    name = value.__module__ or ""
    file = Path(getattr(sys.modules.get(name), "__file__", None) or "")
    by_pip = name != "__main__" and {"site-packages", "dist-packages"} & set(file.parts)
    if name.partition(".")[0] not in INSTALLED and not by_pip:
        return None
    return _digest(file.read_bytes()) if file.suffix == ".py" and file.exists() else "compiled"


def _source(function: FunctionType) -> str:
    code, file = function.__code__, _file_of(function)
    if file:
        return file
    try:
        source = inspect.getsource(code).encode()
    except OSError:  # typed into an interpreter, which keeps no source
        return _digest(_bytecode(code))
    if function.__name__ == "<lambda>":  # a line may hold several
        source += _bytecode(code)
    return _digest(source)


def _bytecode(code: CodeType) -> bytes:
    inner, constants = _inner(code), [c for c in code.co_consts if not isinstance(c, CodeType)]
    own = code.co_code + repr((constants, code.co_names)).encode()
    return own + b"".join(map(_bytecode, inner))


def _inner(code: CodeType) -> list[CodeType]:
    """The code of functions, lambdas and generators within."""
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _read_by(function: FunctionType) -> dict[str, Any]:
    """What a function reads from outside its body; of an installed one, not the globals."""
    code, scope = function.__code__, {} if _file_of(function) else function.__globals__
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    return {
        "globals": {name: scope[name] for name in sorted(_globals_of(code) & scope.keys())},
        "closure": {name: _content(cell) for name, cell in cells},
        "defaults": [function.__defaults__, function.__kwdefaults__],
    }


def _globals_of(code: CodeType) -> set[str]:
    """Names of the globals that the code reads, functions within it included."""
    reads = ("LOAD_GLOBAL", "LOAD_NAME")
    own = {step.argval for step in dis.get_instructions(code) if step.opname in reads}
    return own.union(*map(_globals_of, _inner(code)))


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that is assigned later
        return None


def _members(value: type) -> dict[str, Any]:
    """The bases, methods and constants of a class. An installed one has them in its file."""
    if _file_of(value):
        return {}
    own = {n: getattr(one, "__func__", getattr(one, "fget", one)) for n, one in vars(value).items()}
    functions = {n: one for n, one in own.items() if isinstance(one, FunctionType)}
    constants = {n: one for n, one in own.items() if not n.startswith("_")}
    return {"bases": value.__bases__, "members": constants | functions}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
