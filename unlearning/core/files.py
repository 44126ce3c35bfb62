"""Where files go, how to write one whole or not at all, and how to open one."""

from __future__ import annotations

import errno
import os
import platform
import re
import shutil
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_AROUND = Path(__file__).resolve().parent.parent.parent
ROOT = _AROUND if (_AROUND / "notebooks").is_dir() else Path.cwd()  # the repo; else, here
SAVED = ROOT / "results"  # what the repo ships; only run.py and the scripts beside it write there
MINE = SAVED / "mine"  # of notebooks that somebody runs by hand; ignored by git
RESULTS = Path(os.environ.get("UNLEARNING_RESULTS", MINE))
CHECKPOINTS = Path(os.environ.get("UNLEARNING_CHECKPOINTS", SAVED / "checkpoints"))
_FAULTS = ["EACCES", "EDQUOT", "EEXIST", "EFBIG", "EISDIR", "ENOSPC", "ENOTDIR", "EPERM", "EROFS"]
OF_THE_DISK = {getattr(errno, name) for name in _FAULTS if hasattr(errno, name)}


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path to write to, then rename it to ``path``.

    If the process is killed at any moment, the file at ``path`` is the old one or the new one,
    never half of one. The temporary path keeps the suffix, which ``savefig`` and ``savez`` need.

    Raises:
        OSError: if the file cannot be written (a full disk, for example); ``path`` is unchanged.
    """
    path = Path(path)
    try:
        with temporary(path) as tmp_path:
            yield tmp_path
            os.replace(tmp_path, path)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> OSError:
    """The error that says why ``path`` was not written, and what to do."""
    reason = error.strerror or str(error)
    return OSError(
        error.errno,
        f"{path} could not be written ({reason}) and is unchanged: "
        "free some space or choose another folder, then run again",
    )


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """Yield a hidden path next to ``path``, for a file or folder that is removed at the end.

    Its name says which process it belongs to, so that what a killed one left for the same ``path``
    is removed as well, and what one that still runs writes is not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    start, end = f".{path.stem}-{_machine()}-", f".tmp{path.suffix}"
    for left in path.parent.glob(".*.tmp*"):
        if left.name.startswith(start) and left.name.endswith(end):
            found = re.fullmatch(r"(\d+)-[0-9a-f]{8}", left.name[len(start) : -len(end)])
            if found and not _runs(int(found[1])):
                _remove(left)
    tmp_path = path.with_name(f"{start}{os.getpid()}-{uuid.uuid4().hex[:8]}{end}")
    try:
        yield tmp_path
    finally:
        _remove(tmp_path)


def _machine() -> str:
    """Where process numbers count: this machine, and in a container, the container."""
    numbering = ""
    with suppress(OSError):
        numbering = os.readlink("/proc/self/ns/pid")
    return f"{zlib.crc32(f'{platform.node()} {numbering}'.encode()):08x}"


def _runs(process: int) -> bool:
    """Whether there is a process of this number; where asking would end it, yes."""
    try:
        if os.name == "posix":
            os.kill(process, 0)
    except PermissionError:  # it belongs to somebody else
        return True
    except (OSError, OverflowError):
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def places(path: Path | str) -> list[Path]:
    """Where to look for a file: there, and among those that the repo ships.

    One of the results may be shipped under the same name, and a network of ``CHECKPOINTS``, whose
    name tells its configuration, with the results of any notebook.
    """
    path, own = Path(path).resolve(), RESULTS.resolve()
    shipped = [SAVED / path.relative_to(own)] if path.is_relative_to(own) else []
    if path.parent == CHECKPOINTS.resolve():
        shipped += sorted(SAVED.glob(f"*/*/networks/{path.name}"))
    return list(dict.fromkeys([path, *shipped]))


def open_to_read(path: Path | str) -> BinaryIO:
    """Open a file; that it may not be opened is no reason to delete it.

    Raises:
        FileNotFoundError: if there is none.
        OSError: if it cannot be opened; says why.
    """
    try:
        return Path(path).open("rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise OSError(
            error.errno,
            f"{path} cannot be opened ({error.strerror}): make it a file that you may read, or "
            "choose another folder",
        ) from error


def is_plain_name(text: object) -> bool:
    """Whether this can be a file's name in any folder, and leads nowhere else.

    >>> [is_plain_name(text) for text in ("a-1.b", "", "..", "../a", "/a", "C:a", "a\\\\b")]
    [True, False, False, False, False, False, False]
    """
    return isinstance(text, str) and bool(re.fullmatch(r"[^./\\:\0][^/\\:\0]*", text))


def slug(text: str) -> str:
    """A file name for a label: lower case, with hyphens.

    >>> slug("NegGrad+, 20 epochs"), slug("random 10%")
    ('neggrad-plus-20-epochs', 'random-10-percent')
    """
    words = text.lower().replace("+", " plus ").replace("%", " percent ")
    return re.sub(r"[^a-z0-9.]+", "-", words).strip("-.") or "unnamed"
