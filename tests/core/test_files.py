"""core.files: a file appears whole or not at all, whatever stops the writing; names of files."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearning.core import files
from unlearning.core.files import atomic_write, open_to_read, slug, temporary

KILLED_WHILE_WRITING = """
import os, runpy, signal, sys
atomic_write = runpy.run_path(sys.argv[1])["atomic_write"]
with atomic_write(sys.argv[2]) as tmp_path:
    tmp_path.write_text("half of the ne")
    os.kill(os.getpid(), signal.SIGKILL)
"""

# In a process of its own: the limit holds for every file, and pytest's output may be one.
FULL_DISK = """
import resource, runpy, sys
import numpy as np
atomic_write = runpy.run_path(sys.argv[1])["atomic_write"]
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    with atomic_write(sys.argv[2]) as tmp_path:
        np.savez(tmp_path, a=np.random.default_rng(0).random(10_000))
except OSError as error:
    print(error.strerror)
"""


def test_file_appears_only_after_the_block(tmp_path):
    path = tmp_path / "new" / "folder" / "arrays.npz"
    with atomic_write(path) as written:
        np.savez(written, a=np.arange(3))  # adds .npz where it is missing
        assert not path.exists()
        assert written.parent == path.parent  # on the same disk, so that renaming is atomic
    with np.load(path) as arrays:
        assert arrays["a"].tolist() == [0, 1, 2]
    assert list(path.parent.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_mix(tmp_path):
    path = tmp_path / "file.txt"
    with atomic_write(path) as first, atomic_write(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the outer block ends last
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_exception_keeps_the_old_file_and_leaves_no_other(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as written:
        written.write_text("half of the ne")
        raise error("stopped")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_killed_process_keeps_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, files.__file__, str(path)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_the_next_writer_removes_what_killed_ones_left_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    for name in ("file.txt", "other.txt"):
        command = [sys.executable, "-c", KILLED_WHILE_WRITING, files.__file__, tmp_path / name]
        subprocess.run(command)
    with temporary(path) as folder:  # of a process that runs: this one
        folder.mkdir()
        (folder / "part").write_text("half")
        left = {file.name for file in tmp_path.iterdir()}
        assert len(left) == 2  # the folder, and what was left of the other file
        with atomic_write(path) as written:
            written.write_text("new")
        assert folder.exists()
    (other,) = {file.name for file in tmp_path.iterdir()} - {"file.txt"}
    assert other in left and other.startswith(".other-")
    dead = tmp_path / folder.name.replace(str(os.getpid()), "4194304")  # above the highest number
    dead.mkdir()
    (dead / "part").write_text("half")
    elsewhere = tmp_path / dead.name.replace(files._machine(), "01234567")
    elsewhere.touch()
    with atomic_write(path) as written:
        written.write_text("newer")
    assert {file.name for file in tmp_path.iterdir()} == {"file.txt", other, elsewhere.name}


@pytest.mark.parametrize("fault", ["a file is in the way", "a folder has its name"])
def test_folder_that_cannot_be_made_is_one_clear_sentence(tmp_path, fault):
    path = tmp_path / "folder" / "file.txt"
    if fault == "a file is in the way":
        (tmp_path / "folder").touch()
    else:
        (path / "in it").mkdir(parents=True)
    sentence = r"file\.txt could not be written \(.*another folder"
    with pytest.raises(OSError, match=sentence), atomic_write(path) as written:
        written.write_text("new")
    assert not list(tmp_path.rglob("*.tmp*"))


def test_what_may_not_be_opened_is_not_said_to_be_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_to_read(tmp_path / "missing")
    with pytest.raises(OSError, match=r"cannot be opened \(Is a directory\): make it a file"):
        open_to_read(tmp_path)


def test_disk_that_fills_up_keeps_the_old_file(tmp_path):
    pytest.importorskip("resource")
    path = tmp_path / "arrays.npz"
    path.write_bytes(b"old")
    command = [sys.executable, "-c", FULL_DISK, files.__file__, str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert f"{path} could not be written (File too large)" in done.stdout, done.stderr
    assert "free some space or choose another folder" in done.stdout
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@given(st.text("aZ9 .-+%/ß…", max_size=12))
def test_slug_is_a_plain_file_name_and_its_own_slug(text):
    name = slug(text)
    assert name and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")
    assert not name.startswith((".", "-")) and slug(name) == name
    labels = ("NegGrad+", "class 3, 8", "random 0.5%", "../../etc/passwd")
    names = ["neggrad-plus", "class-3-8", "random-0.5-percent", "etc-passwd"]
    assert [slug(label) for label in labels] == names


def test_a_checkpoint_is_also_looked_for_among_those_that_the_repo_ships(tmp_path, monkeypatch):
    """So every notebook finds the networks that another one saved, in a fresh clone too."""
    monkeypatch.setattr(files, "SAVED", tmp_path / "results")
    monkeypatch.setattr(files, "CHECKPOINTS", tmp_path / "checkpoints")
    shipped = tmp_path / "results" / "08_all_methods" / "mnist-cnn" / "networks" / "cnn-1.pt"
    shipped.parent.mkdir(parents=True)
    shipped.touch()
    own = tmp_path / "checkpoints" / "cnn-1.pt"
    assert files.places(own) == [own, shipped]
    assert files.places(own.with_name("cnn-2.pt")) == [own.with_name("cnn-2.pt")]
    elsewhere = tmp_path / "mine" / "cnn-1.pt"  # a folder that somebody chose
    assert files.places(elsewhere) == [elsewhere]
