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


# In a process of its own: the limit holds for every file, and pytest's output may be one.
FULL_DISK = """
import resource, runpy, sys
import numpy as np
whole = runpy.run_path(sys.argv[1])["whole"]
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    with whole(sys.argv[2]) as beside:
        getattr(np, sys.argv[3])(beside, a=np.random.default_rng(0).random(10_000))
except OSError as error:
    print(error.strerror)
"""


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


@pytest.mark.parametrize("write", ["savez", "savez_compressed"])
def test_disk_that_fills_up_while_arrays_are_written_keeps_the_old_file(tmp_path, write):
    pytest.importorskip("resource")
    path = tmp_path / "arrays.npz"
    path.write_bytes(b"old")
    command = [sys.executable, "-c", FULL_DISK, files.__file__, str(path), write]
    done = subprocess.run(command, capture_output=True, text=True)
    assert f"{path} could not be written (File too large)" in done.stdout, done.stderr
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
