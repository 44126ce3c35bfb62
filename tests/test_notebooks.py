"""The saved notebooks: their shape, their outputs, and that they run in a small configuration."""

import ast
import json
import re
import statistics
from collections import Counter

import nbformat
import pandas as pd
import pytest

from notebooks import run, summary
from notebooks.address import current_address
from unlearning import METHODS
from unlearning.core.files import SAVED, slug

PATHS = run.find([])
PRESETS = json.loads((run.HERE / "presets.json").read_text())
IGNORED = {"checkpoints", "mine", "quick"}
NEW_METHOD = """
import copy
METHODS["nothing"] = lambda model, retain: copy.deepcopy(model).eval()
"""


def code_cells(path):
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


def code_lines(cell):
    return [line.strip() for line in cell.source.splitlines() if line.strip()]


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


@pytest.fixture
def outputs(path):
    return [output for cell in code_cells(path) for output in cell.outputs]


def test_notebook_is_short(path, notebook):
    lines = [len(code_lines(cell)) for cell in code_cells(path)]
    assert 12 <= len(notebook.cells) <= 16
    assert sum(lines) <= (105 if path.stem == "09_recent_methods" else 90)  # five methods by hand
    assert statistics.median(lines) <= 8
    assert max(lines) <= 25


def test_first_cell_says_what_to_expect_and_has_a_place_for_a_link_to_colab(path, notebook):
    first = notebook.cells[0]
    marker = f"<!-- Colab: notebooks/{path.name} -->\n"
    assert first.cell_type == "markdown"
    assert first.source.startswith(f"# {path.stem[:2]} ")
    assert all(text in first.source for text in [marker, "**Question", "**Expect", "**Time"])


def test_setup_is_the_same_everywhere_and_knows_the_address(path):
    setup = code_cells(path)[0].source
    assert setup == code_cells(PATHS[0])[0].source
    assert f'ADDRESS = "https://github.com/{current_address()}"' in setup.splitlines()


def test_notebooks_of_single_methods_share_hardly_a_line():
    """Beside set-up, imports, parameters, their check and ``prepare``, which may look alike."""
    own = [{line for cell in code_cells(path)[5:] for line in code_lines(cell)} for path in PATHS]
    found = Counter(line for lines in own[:4] for line in lines if len(line) > 20)
    shared = [line for line, count in found.items() if count > 1]
    assert len(shared) <= 6, shared


def test_parameters_are_literals_in_one_cell_in_capitals(notebook):
    """Overrides come after the parameters: what was made of an old value would keep it."""
    (cell,) = (cell for cell in notebook.cells if run.tagged(cell, "parameters"))
    assert not any(run.tagged(cell, run.INJECTED) for cell in notebook.cells)
    names = run.parameters(notebook)
    assert {"DATASET", "MODEL"} <= set(names) and {"SEEDS", "NETWORKS"} & set(names)
    assert [name for name in names if not re.fullmatch(r"[A-Z][A-Z\d_]*", name)] == []
    nodes = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name)]
    assert [node.id for node in nodes if isinstance(node.ctx, ast.Load)] == []


@pytest.mark.parametrize("name", PRESETS)
def test_presets_name_parameters_that_there_are(name):
    for path in PATHS:
        if path.stem[:2] in PRESETS[name]:
            run.overrides(path, run.read(path), run.preset(name, path), smoke=False)


def test_outputs_come_from_one_clean_run(path, notebook, outputs):
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))
    assert "error" not in {output.output_type for output in outputs}
    text = "".join(output.get("text", "") for output in outputs)
    assert "Warning" not in text and "\r" not in text
    saved = nbformat.writes(notebook)
    assert nbformat.writes(run.clean(notebook)) == saved


def test_outputs_can_be_drawn_anywhere_and_are_light(path, outputs):
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert "image/png" in kinds
    assert not any("widget" in kind for kind in kinds)
    assert path.stat().st_size < 500_000


def execute(path, tmp_path, monkeypatch, *, more="", **given):
    """Run the small configuration with other parameters, and return the names of the results."""
    monkeypatch.setenv("UNLEARNING_RESULTS", str(tmp_path))
    notebook = run.read(path)
    run.inject(notebook, run.overrides(path, notebook, given, smoke=True))
    notebook.cells.insert(3, nbformat.v4.new_code_cell(more))
    run.execute(path, notebook)
    return {found.name for found in tmp_path.rglob("*.*")}


def test_runs_in_the_small_configuration(path, tmp_path, monkeypatch):
    saved = execute(path, tmp_path, monkeypatch)
    assert {".csv", ".png"} <= {name[-4:] for name in saved}


@pytest.mark.parametrize(
    ("number", "forget"), [(1, "random 40"), (1, ["class 3, 8"]), (8, ["class 3, 8"])]
)
def test_whatever_is_to_be_forgotten(number, forget, tmp_path, monkeypatch):
    more = NEW_METHOD if number == 8 else ""
    saved = execute(PATHS[number - 1], tmp_path, monkeypatch, more=more, FORGET=forget)
    name = forget if isinstance(forget, str) else forget[0]
    assert {file for file in saved if file.endswith("_runs.csv")} == {f"{slug(name)}_runs.csv"}
    runs = pd.read_csv(next(tmp_path.rglob("*_runs.csv")))
    assert not more or {*METHODS, "nothing"} <= set(runs["method"])
    assert {"seed", "device", "torch"} <= set(runs)


def test_every_saved_run_says_what_it_was_measured_on():
    paths = [path for path in SAVED.rglob("*.csv") if not IGNORED & set(path.parts)]
    runs = [pd.read_csv(path) for path in paths if not path.stem.endswith("_table")]
    assert len(runs) > 10
    for own in runs:
        assert own[["device", "torch"]].notna().all(axis=None)


def test_the_readme_is_short_and_starts_with_a_command():
    readme = (run.HERE.parent / "README.md").read_text(encoding="utf-8")
    assert len(readme.split("```bash")[0].split()) < 120
    assert len(readme.split()) <= 1200
    assert len(re.findall(r"^\|[-: |]+\|$", readme, re.M)) == 3


def test_the_readme_holds_what_the_notebooks_saved():
    assert summary.results() in (run.HERE.parent / "README.md").read_text(encoding="utf-8")
