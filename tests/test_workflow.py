"""What people do here: change a number in a notebook and run the cell again; add a method."""

import filecmp
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from nbclient import NotebookClient

from notebooks import run
from unlearning.core.files import ROOT

TWEAKED = '**{**TUNED, "lr": 0.001}'
TOY = '''"""A toy: fine-tune with smoothed labels."""

from __future__ import annotations

import copy

from torch import nn
from torch.nn import functional as F

from ..core.batches import Batches
from ..core.loop import minimise


def toy(
    model: nn.Module, retain: Batches, *, epochs: int = 1, lr: float = 0.01, seed: int = 0
) -> nn.Module:
    """Fine-tune with smoothed labels.

    Source: nobody's.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        retain: batches of images (B, C, H, W), float, normalised, and labels (B,), long.
        epochs: passes over the retain set.
        lr: first learning rate of SGD.
        seed: random seed for dropout.

    Raises:
        Diverged: if the loss is no longer finite.
    """

    def loss(model, images, labels):
        return F.cross_entropy(model(images), labels, label_smoothing=0.1)

    return minimise(copy.deepcopy(model), retain, loss, epochs=epochs, lr=lr, seed=seed)
'''
EDITS = {
    "unlearning/methods/__init__.py": [
        ("from .uniform_target", "from .toy import toy\nfrom .uniform_target"),
        ("METHODS = {", 'METHODS = {\n    "toy": toy,'),
    ],
    "notebooks/tune.py": [("SPACES = {", 'SPACES = {\n    "toy": {"lr": SGD},')],
}
ROWS = "print(comparison(tables, columns, title='').axes[0].get_yticklabels())"
SCRIPT = f"""
import nbformat
from notebooks import run, tune
from optuna.trial import FixedTrial

assert tune.suggest(FixedTrial({{"lr": 0.05}}), tune.SPACES["toy"]) == {{"lr": 0.05}}
path = run.find(["08"])[0]
notebook = run.read(path)
run.inject(notebook, run.overrides(path, notebook, {{}}, smoke=True))
notebook.cells.append(nbformat.v4.new_code_cell({ROWS!r}))
done = run.execute(path, notebook)
print(nbformat.writes(done))
"""


def test_a_cell_that_is_run_again_with_another_value_replaces_its_row(tmp_path, monkeypatch):
    monkeypatch.setenv("UNLEARNING_RESULTS", str(tmp_path))
    path = run.find(["01"])[0]
    notebook = run.read(path)
    run.inject(notebook, run.overrides(path, notebook, {"FORGET": "class 5"}, smoke=True))
    where = {"metadata": {"path": str(run.HERE)}}
    client = NotebookClient(notebook, kernel_manager_class=run.OwnKernel, resources=where)
    with client.setup_kernel():
        for place, cell in enumerate(notebook.cells):
            client.execute_cell(cell, place)
        tweak = _place(notebook, 'setting.run("fine-tuning"', 0)
        table = _place(notebook, "setting.table()", tweak)
        before = _rows(notebook.cells[table])
        notebook.cells[tweak].source = notebook.cells[tweak].source.replace("**TUNED", TWEAKED)
        assert TWEAKED in notebook.cells[tweak].source
        for place in (tweak, table):
            client.execute_cell(notebook.cells[place], place)
    after = _rows(notebook.cells[table])
    assert list(after) == list(before)
    assert {name for name in before if after[name] != before[name]} == {"fine-tuning"}


def _place(notebook, text: str, start: int) -> int:
    """The first code cell from ``start`` on that holds this text."""
    found = [i for i, cell in enumerate(notebook.cells) if text in cell.source]
    return next(i for i in found if i >= start and notebook.cells[i].cell_type == "code")


def _rows(cell) -> dict[str, list[str]]:
    """Name -> numbers of the table that a cell shows, the seconds left out."""
    (html,) = (output.data["text/html"] for output in cell.outputs if "data" in output)
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)[1:]
    return {_cells(row, "th")[-1]: _cells(row, "td")[1:] for row in rows}


def _cells(row: str, tag: str) -> list[str]:
    return re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", row)


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """The repo with a toy method added, and the files that this took."""
    root = tmp_path_factory.mktemp("repo")
    unwanted = shutil.ignore_patterns("__pycache__", "*.ipynb_checkpoints")
    for name in ("unlearning", "notebooks", "tests"):
        shutil.copytree(ROOT / name, root / name, ignore=unwanted)
    shutil.copytree(ROOT / "results" / "tuning", root / "results" / "tuning")
    shutil.copy(ROOT / "pyproject.toml", root)
    (root / "data").symlink_to(ROOT / "data")
    (root / "unlearning" / "methods" / "toy.py").write_text(TOY)
    for name, edits in EDITS.items():
        file = root / name
        for old, new in edits:
            assert old in file.read_text()
            file.write_text(file.read_text().replace(old, new, 1))
    return root


def test_a_method_is_added_in_three_places(copied):
    folders = ("unlearning", "notebooks", "tests")
    files = [path for name in folders for path in _files(copied / name)]
    touched = [path for path in files if not _same(path, ROOT / path.relative_to(copied))]
    names = {str(path.relative_to(copied)) for path in touched}
    assert names == {"unlearning/methods/toy.py", *EDITS}


def test_an_added_method_is_held_to_the_contract(copied):
    ran = _python(copied, "-m", "pytest", "-q", "-k", "toy", "tests/methods/test_contract.py")
    assert " passed" in ran and "failed" not in ran


def test_an_added_method_is_in_the_table_and_the_figure_of_all_methods(copied):
    saved = _python(copied, "-c", SCRIPT)
    assert "<th>toy</th>" in saved
    assert "Text(0, 1, 'toy')" in saved


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]


def _same(path: Path, other: Path) -> bool:
    return other.exists() and filecmp.cmp(path, other, shallow=False)


def _python(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "UNLEARNING_RESULTS": str(folder / "results")}
    environment["PYTHONPATH"] = str(folder)
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout
