"""Configurations as JSON, their digests, and whether two agree."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from .files import atomic_write, open_to_read


def as_json(configuration: Any) -> Any:
    """Return the configuration as JSON reads it back, so that it can be compared with a file.

    NumPy's numbers become Python's. Infinity and NaN are refused: NaN differs from itself.

    Raises:
        ValueError: if it holds something that JSON does not have.
    """
    return json.loads(_dump(configuration))


def digest_of(configuration: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a configuration, see ``as_json``."""
    text = _dump(configuration, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _dump(configuration: Any, **options: Any) -> str:
    try:
        return json.dumps(configuration, default=_plain, allow_nan=False, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"a configuration must consist of finite numbers, texts, lists and dicts ({error})"
        ) from error


def _plain(value: Any) -> Any:
    """A number of NumPy's as one of Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"not {type(value).__name__}")


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
        with open_to_read(file) as opened:
            found = json.loads(opened.read())
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
