"""The saved notebooks: their shape, their outputs, and that they run in a small configuration."""

import ast
import inspect
import json
import re
import statistics
import subprocess
import sys

import nbformat
import pytest

from notebooks import run, summary, tune
from unlearning import methods

ROOT = run.HERE.parent
PATHS = run.find([])


def code_lines(cell):
    return [line for line in cell.source.splitlines() if line.strip()]


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


@pytest.fixture
def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture
def outputs(code):
    return [output for cell in code for output in cell.outputs]


def test_there_are_at_least_five_notebooks():
    assert len(PATHS) >= 5


def test_notebook_is_short(notebook, code):
    lines = [len(code_lines(cell)) for cell in code]
    assert 14 <= len(notebook.cells) <= 20
    assert sum(lines) <= 150
    assert statistics.median(lines) <= 8
    assert max(lines) <= 25


def test_first_cell_says_what_to_expect_and_opens_in_colab(path, notebook):
    first = notebook.cells[0]
    address = run.current_address(ROOT)
    badge = f"https://colab.research.google.com/github/{address}/blob/main/notebooks/{path.name}"
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert badge in first.source
    for word in ["Question", "Expect", "Time"]:
        assert f"**{word}" in first.source


def test_setup_is_the_same_everywhere_and_knows_the_address(code):
    setup = code[0].source
    cells = nbformat.read(PATHS[0], as_version=4).cells
    assert setup == next(cell.source for cell in cells if cell.cell_type == "code")
    assert f'REPOSITORY = "{run.current_address(ROOT)}"' in setup.splitlines()


def test_parameters_are_in_one_cell_in_capitals(notebook):
    assert sum(run.tagged(cell, "parameters") for cell in notebook.cells) == 1
    assert not any(run.tagged(cell, run.INJECTED) for cell in notebook.cells)
    names = run.parameters(notebook)
    assert {"DATASET", "MODEL", "SEEDS"} <= set(names)
    assert [name for name in names if not re.fullmatch(r"[A-Z][A-Z\d_]*", name)] == []


def test_no_parameter_is_made_of_another(notebook):
    """Overrides come after the parameters: what was made of the old value would keep it."""
    cell = next(cell for cell in notebook.cells if run.tagged(cell, "parameters"))
    read = [
        name.id
        for name in ast.walk(ast.parse(cell.source))
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Load)
    ]
    assert read == []


def test_presets_name_parameters_that_there_are_and_every_setting(path, notebook):
    presets = json.loads((run.HERE / "presets.json").read_text())
    for name in presets:
        if path.stem[:2] not in presets[name]:
            continue
        chosen = run.overrides(path, notebook, run.preset(name, path), smoke=False)
        cell = next(cell for cell in notebook.cells if run.tagged(cell, "parameters"))
        forget = {**ast_values(cell.source), **chosen}.get("FORGET")
        for value in [inner for own in chosen.values() for inner in settings_in(own)]:
            assert value.keys() <= forget.keys()
            assert value.keys() == forget.keys() or path.stem[:2] != "08"


def ast_values(source):
    """The literal values that a cell of parameters assigns to single names."""
    nodes = [node for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    single = [node for node in nodes if isinstance(node.targets[0], ast.Name)]
    return {node.targets[0].id: ast.literal_eval(node.value) for node in single}


def settings_in(value):
    """The dicts, however deep, that say something for each setting."""
    if not isinstance(value, dict):
        return []
    inner = [found for own in value.values() for found in settings_in(own)]
    return [value, *inner] if "random" in value else inner


@pytest.mark.parametrize("method", tune.GRIDS)
def test_every_method_has_as_many_trials_of_hyperparameters_that_it_has(method):
    found = tune.trials(method)
    assert len(found) == len({str(trial) for trial in found}) == 12
    known = inspect.signature(getattr(methods, method)).parameters
    assert all(trial.keys() <= known.keys() for trial in found)


def test_outputs_come_from_one_clean_run(notebook, code, outputs):
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert [output for output in outputs if output.output_type == "error"] == []
    text = "".join(output.get("text", "") for output in outputs)
    assert "Warning" not in text
    assert "\r" not in text
    saved = nbformat.writes(notebook)
    assert nbformat.writes(run.clean(notebook)) == saved


def test_outputs_can_be_drawn_anywhere_and_are_light(path, outputs):
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert "image/png" in kinds
    assert not any("widget" in kind for kind in kinds)
    assert path.stat().st_size < 500_000


def test_runs_in_the_small_configuration(path, tmp_path):
    before = path.read_bytes()
    command = [sys.executable, str(run.HERE / "run.py"), path.stem, "--smoke", "--output", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == before
    for suffix in ["csv", "png"]:
        assert list((tmp_path / "results").rglob(f"*.{suffix}")), f"no .{suffix} was saved"


def test_the_readme_holds_what_the_notebooks_saved():
    assert summary.results() in (ROOT / "README.md").read_text(encoding="utf-8")
