"""Functions and options as a part of a configuration, so that an edit is noticed."""

import dis
import math
import sys
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

import cloudpickle
import torch
from torch import nn

from .configuration import digest_of


def described(options: dict[str, Any]) -> dict[str, Any]:
    """Options as JSON: functions as ``identity_of`` has them, arrays and objects by content."""
    return {name: identity_of(value) for name, value in options.items()}


def identity_of(value: Any, within: tuple[int, ...] = ()) -> Any:
    """Describe a function or value as JSON: the same in every process, another after an edit.

    A function of this package counts by its file, others by their code and all that they read.

    Raises:
        ValueError: if something cannot be compared, such as a generator.
    """
    value = getattr(value, "about", value)  # an experiment changes with every run
    if value is None or isinstance(value, str | int | float):
        return value if not isinstance(value, float) or math.isfinite(value) else str(value)
    if id(value) in within:  # a recursive function, for example
        return f"within itself: {type(value).__name__}"
    parts = partial(identity_of, within=(*within, id(value)))
    if isinstance(value, dict):
        return {str(key): parts(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [parts(one) for one in value]
    if isinstance(value, set | frozenset):
        return sorted(map(parts, value), key=str)
    return parts(_taken_apart(value))


def _taken_apart(value: Any) -> Any:
    """What tells a value from others, in simpler values and without addresses."""
    if isinstance(value, FunctionType | type):
        return _by_source(value)
    if isinstance(value, CodeType):
        return [value.co_code, value.co_names, value.co_varnames, value.co_consts]
    if isinstance(value, partial | MethodType):
        return value.__reduce__()
    if isinstance(value, torch.Tensor):
        content = value.detach().cpu().contiguous().flatten().view(torch.uint8)
        return [str(value.dtype), list(value.shape), content.numpy().tobytes()]
    if isinstance(value, nn.Module):
        return [repr(value), list(map(type, value.modules())), value.state_dict()]
    if is_dataclass(value):  # the fields, not what a cached_property has added
        return [type(value), {field.name: getattr(value, field.name) for field in fields(value)}]
    if hasattr(value, "__dict__") and not _home(type(value)):
        return [type(value), vars(value)]
    kind = type(value).__name__
    try:
        return f"{kind} {digest_of(cloudpickle.dumps(value).hex())}"
    except Exception as error:
        raise ValueError(f"a {kind} cannot be a part of a configuration: {error}") from error


def _by_source(value: FunctionType | type) -> Any:
    home = _home(value)
    if isinstance(value, type):
        own = {n: getattr(m, "__func__", getattr(m, "fget", m)) for n, m in vars(value).items()}
        kept = {n: m for n, m in own.items() if isinstance(m, FunctionType) or n[0] != "_"}
        return home or [value.__qualname__, value.__bases__, kept]
    scope, closure = value.__globals__, [cell.cell_contents for cell in value.__closure__ or ()]
    reads = {name: scope[name] for name in sorted(_globals_of(value.__code__) & scope.keys())}
    return [home or [value.__code__, value.__defaults__, value.__kwdefaults__, reads], closure]


def _globals_of(code: CodeType) -> set[str]:
    own = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    inner = [one for one in code.co_consts if isinstance(one, CodeType)]  # functions and lambdas
    return own.union(*map(_globals_of, inner))


def _home(value: FunctionType | type) -> str:
    """The name of what is installed, with a digest of its file if in this package; else ""."""
    name = f"{value.__module__}.{value.__qualname__}"
    root = name.partition(".")[0]
    file = Path(getattr(sys.modules.get(value.__module__), "__file__", None) or "")
    if root == __name__.partition(".")[0]:
        return f"{name} {digest_of(file.read_bytes().hex())}"
    by_pip = root != "__main__" and {"site-packages", "dist-packages"} & {*file.parts}
    return name if root in sys.stdlib_module_names or by_pip else ""
