"""Where files go, and how one appears: whole, or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(os.environ.get("UNLEARNING_RESULTS", ROOT / "results"))


@contextmanager
def whole(path: Path | str) -> Iterator[Path]:
    """Give a temporary path to write to, and rename it to ``path`` once the block is done.

    Killed at any moment, the file at ``path`` is the old one or the new one, never half of one. The
    temporary path keeps the suffix, because ``savefig`` and ``savez`` look at it.

    Raises:
        OSError: when the file cannot be written (a full disk, say); ``path`` is as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
    try:
        yield beside
        os.replace(beside, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            error.errno,
            f"{path} could not be written ({reason}) and is as it was before: "
            "make room or name another folder, and run again",
        ) from error
    finally:
        beside.unlink(missing_ok=True)
