"""Notebooks in Colab: its IPython, an empty folder, and a clone from a real git server."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time

import pytest
from filelock import FileLock
from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpecManager
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from notebooks import address, run

ROOT = address.ROOT
PYTHON = "3.13"
KERNEL = {"ipython": "7.34.0", "ipykernel": "6.17.1"}
PACKAGES = {
    "torch": "2.11.0",
    "torchvision": "0.26.0",
    "numpy": "2.1.3",
    "pandas": "2.2.3",
    "scikit-learn": "1.6.1",
    "matplotlib": "3.10.0",
}
COPY = "ada/unlearning"  # the address under which this repo is served
# As good as a new kernel, but for the packages that are loaded.
CLEAR = """
import os, sys
os.chdir({folder!r})
sys.path[:] = [path for path in sys.path if not path.endswith("unlearning-repo")]
for name in list(sys.modules):
    if name.startswith(("unlearning", "google.colab")):
        del sys.modules[name]
%reset -f
"""
# A stub of Colab's own package; it is on no path, lest a library imports it unasked.
COLAB = "import sys, types\nsys.modules['google.colab'] = types.ModuleType('google.colab')"
TELL = """
import importlib.metadata, unlearning
print(importlib.metadata.version("ipython"), importlib.metadata.version("ipykernel"))
print(get_ipython().run_line_magic("pwd", ""), unlearning.__file__, sep="\\n")
"""


class Failed(Exception):
    """What a cell raised."""


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A folder with Colab's IPython and ipykernel."""
    base = tmp_path_factory.getbasetemp()
    several = "PYTEST_XDIST_WORKER" in os.environ  # they share what is installed
    folder = (base.parent if several else base) / "colab"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            names = [f"{name}=={version}" for name, version in KERNEL.items()]
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, *names]
            done = subprocess.run(pip, capture_output=True, text=True)
            if done.returncode:
                shutil.rmtree(folder, ignore_errors=True)
                why = done.stderr.strip().rpartition("\n")[2]
                pytest.skip(f"pip cannot install {' and '.join(names)}: {why}")
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A copy of this working tree with an address, and the environment in which git finds it."""
    base = tmp_path_factory.mktemp("served")
    git = ["git", "-c", "user.name=ada", "-c", "user.email=ada@localhost"]
    listed = subprocess.run(
        [*git, "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip(f"git cannot list the files of this repo: {listed.stderr.strip()}")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():  # else it was deleted, and is tracked still
            (base / COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, base / COPY / name)
    address.stamp(COPY, base / COPY)
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all", "--no-gpg-sign"]):
        subprocess.run([*git, *arguments], cwd=base / COPY, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--export-all", "--listen=127.0.0.1", f"--port={port}", f"--base-path={base}"]
    daemon = subprocess.Popen(["git", "daemon", *options])
    try:
        wait_for(port, daemon)
        redirected = {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.git://127.0.0.1:{port}/.insteadOf",
            "GIT_CONFIG_VALUE_0": "https://github.com/",
        }
        yield base / COPY, redirected
    finally:
        daemon.terminate()
        daemon.wait()


def wait_for(port, process):
    for _ in range(100):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, "git daemon has stopped"
        time.sleep(0.1)
    raise TimeoutError(f"git daemon does not answer on port {port}")


@pytest.fixture(scope="module")
def kernel(packages, served, tmp_path_factory):
    """A kernel of Colab's, for all tests here: to load torch for each of them would take long."""
    base = tmp_path_factory.mktemp("kernel")
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Colab",
        "language": "python",
        "env": {**served[1], "PYTHONPATH": str(packages)},
    }
    (base / "colab").mkdir()
    (base / "colab" / "kernel.json").write_text(json.dumps(spec))
    specs = KernelSpecManager(kernel_dirs=[str(base)])
    manager = KernelManager(kernel_name="colab", kernel_spec_manager=specs)
    manager.start_kernel(cwd=base)
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=300)
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.fixture
def start(kernel, tmp_path):
    """Run cells one after the other in an empty folder, up to one that fails."""

    def start(*sources):
        printed = []

        def keep(message):
            printed.append(message["content"].get("text", ""))

        for source in (CLEAR.format(folder=str(tmp_path)), *sources):
            options = {"timeout": 300, "stop_on_error": False}  # else the next may be left out
            reply = kernel.execute_interactive(source, output_hook=keep, **options)["content"]
            if reply["status"] == "error":
                raise Failed(f"{reply['ename']}: {reply['evalue']}")
            assert reply["status"] == "ok"
        return "".join(printed)

    return start


def head(path):
    """The code of a served notebook up to its parameters, and their check where there is one."""
    cells = [cell for cell in run.read(path).cells if cell.cell_type == "code"]
    ends = [i for i, cell in enumerate(cells) if run.tagged(cell, "parameters")]
    ends += [i for i, cell in enumerate(cells) if "check_parameters(" in cell.source]
    return [cell.source for cell in cells[: max(ends) + 1]]


@pytest.mark.parametrize("name", [path.name for path in run.find([])])
def test_a_notebook_starts_in_colab(name, start, served, tmp_path):
    printed = start(COLAB, *head(served[0] / "notebooks" / name), TELL)
    clone = tmp_path / "unlearning-repo"
    told = [*KERNEL.values(), clone / "notebooks", clone / "unlearning" / "__init__.py"]
    assert printed.split() == [str(thing) for thing in told]


NEEDED = "put the address of your public copy in ADDRESS, as in https://github.com/ada/unlearning."


@pytest.mark.parametrize(
    ("colab", "given", "sentence"),
    [
        (COLAB, "OWNER/NAME", NEEDED),
        (COLAB, "ada/another", NEEDED),
        (
            "",
            "OWNER/NAME",
            "open this notebook in the folder notebooks/ of a copy of the whole repo.",
        ),
    ],
)
def test_without_the_repo_one_sentence_says_what_to_do(start, tmp_path, colab, given, sentence):
    setup = head(run.find([])[0])[0]
    setup = re.sub(r"^ADDRESS = .*", f'ADDRESS = "https://github.com/{given}"', setup, flags=re.M)
    with pytest.raises(Failed) as failure:
        start(colab, setup)
    message = f"FileNotFoundError: The package unlearning is missing: {sentence}"
    assert str(failure.value) == message
    assert os.listdir(tmp_path) == []


def test_requirements_admit_what_colab_has():
    """Else pip would replace there what is loaded already."""
    text = (ROOT / "requirements.txt").read_text()
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    needed = {made.name: made.specifier for made in map(Requirement, filter(None, lines))}
    assert set(PACKAGES) <= set(needed)
    for name, version in {**PACKAGES, **KERNEL}.items():
        assert needed.get(name, SpecifierSet()).contains(version), name
    python = re.search(r'requires-python = "(.*)"', (ROOT / "pyproject.toml").read_text())[1]
    assert SpecifierSet(python).contains(PYTHON)
