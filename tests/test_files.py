"""files.whole: a file appears whole or not at all, whatever stops the writing."""

import errno
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from unlearning import files
from unlearning.files import whole

KILLED_WHILE_WRITING = """
import os, runpy, signal, sys
whole = runpy.run_path(sys.argv[1])["whole"]
with whole(sys.argv[2]) as beside:
    beside.write_text("half of the ne")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def full_disk():
    """Let no file grow beyond 1,000 bytes: a write that the system itself refuses."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_file_appears_only_after_the_block(tmp_path):
    path = tmp_path / "new" / "folder" / "table.csv"
    with whole(path) as beside:
        beside.write_text("a,b")
        assert not path.exists()
        assert beside.parent == path.parent  # on the same disk, so that renaming is atomic
    assert path.read_text() == "a,b"
    assert list(path.parent.iterdir()) == [path]


def test_temporary_path_keeps_the_suffix_that_savez_and_savefig_look_at(tmp_path):
    with whole(tmp_path / "arrays.npz") as beside:
        np.savez(beside, a=np.arange(3))
    with np.load(tmp_path / "arrays.npz") as arrays:
        assert arrays["a"].tolist() == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["arrays.npz"]


def test_two_writers_of_one_file_do_not_write_into_each_other(tmp_path):
    path = tmp_path / "file.txt"
    with whole(path) as first, whole(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the outer block ends last
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_exception_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error), whole(path) as beside:
        beside.write_text("half of the ne")
        raise error("stopped")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_killed_process_keeps_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, files.__file__, str(path)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_full_disk_is_one_clear_sentence(tmp_path):
    path = tmp_path / "file.txt"
    with pytest.raises(OSError) as caught, whole(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.strerror == (
        f"{path} could not be written (No space left on device) and is as it was before: "
        "make room or name another folder, and run again"
    )


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed], ids=lambda f: f.__name__)
def test_disk_that_fills_up_while_arrays_are_written_keeps_the_old_file(tmp_path, full_disk, write):
    path = tmp_path / "arrays.npz"
    path.write_bytes(b"old")
    noise = np.random.default_rng(0).random(10_000)
    with pytest.raises(OSError, match=r"arrays\.npz could not be written"), whole(path) as beside:
        write(beside, a=noise)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
