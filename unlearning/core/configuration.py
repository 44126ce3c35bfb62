"""Configurations as JSON, their digests, and whether two agree."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

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
