"""Where files go, and how to write one whole or not at all."""

from __future__ import annotations

import os
import re
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_AROUND = Path(__file__).resolve().parent.parent.parent
ROOT = _AROUND if (_AROUND / "notebooks").is_dir() else Path.cwd()  # the repo; else, here
SAVED = ROOT / "results"  # what the repo ships; only run.py and the scripts beside it write there
MINE = SAVED / "mine"  # of notebooks that somebody runs by hand; ignored by git
RESULTS = Path(os.environ.get("UNLEARNING_RESULTS", MINE))
CHECKPOINTS = Path(os.environ.get("UNLEARNING_CHECKPOINTS", SAVED / "checkpoints"))
UNREADABLE = (EOFError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path to write to, then rename it to ``path``.

    If the process is killed at any moment, the file at ``path`` is the old one or the new one,
    never half of one. The temporary path keeps the suffix, which ``savefig`` and ``savez`` need.

    Raises:
        OSError: if the file cannot be written (a full disk, for example); ``path`` is unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp_path = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
    try:
        yield tmp_path
        os.replace(tmp_path, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            error.errno,
            f"{path} could not be written ({reason}) and is unchanged: "
            "free some space or choose another folder, then run again",
        ) from error
    finally:
        tmp_path.unlink(missing_ok=True)


def slug(text: str) -> str:
    """A file name for a label: lower case, with hyphens.

    >>> slug("NegGrad+, 20 epochs"), slug("random 10%")
    ('neggrad-plus-20-epochs', 'random-10-percent')
    """
    words = text.lower().replace("+", " plus ").replace("%", " percent ")
    return re.sub(r"[^a-z0-9.]+", "-", words).strip("-.") or "unnamed"
