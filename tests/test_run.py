"""notebooks/run.py: overrides that hit, clean and repeatable files, and nothing lost on failure."""

import errno
import json
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest

from notebooks import run

SHOW = "import os\nprint(SEEDS, os.environ['UNLEARNING_RESULTS'])"
NOISY = (
    "import sys\n"
    "print('first'); print('note', file=sys.stderr); print('second')\n"
    "print('\\r 50 %\\r      \\r', end='', file=sys.stderr, flush=True)"
)
BAR = (
    f"import sys\nsys.path.insert(0, {str(run.HERE.parent)!r})\n"
    "from unlearning.core.progress import Progress\n"
    "print('before')\nwith Progress('training', 2) as bar: bar.update()"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("UNLEARNING_RESULTS", "UNLEARNING_CHECKPOINTS", "COLUMNS"):
        monkeypatch.setenv(name, "80")  # put back afterwards, whatever run.py sets
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    folder = tmp_path / "notebooks"
    folder.mkdir()
    return folder


def make(
    folder, *sources, name="01_first", parameters="SEEDS = [0, 1]\nLR: float = 0.1", **metadata
):
    """Save a notebook: a badge, a cell of parameters, and ``sources``."""
    badge = f"https://colab.research.google.com/github/OWNER/NAME/blob/main/notebooks/{name}.ipynb"
    cells = [
        nbformat.v4.new_markdown_cell(f"# Größe\n[badge]({badge})", id="badge"),
        nbformat.v4.new_code_cell(parameters, id="values", metadata={"tags": ["parameters"]}),
        *(nbformat.v4.new_code_cell(text, id=f"cell-{i}") for i, text in enumerate(sources)),
    ]
    path = folder / f"{name}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)
    return path


def printed(path):
    """The text that each code cell of a saved notebook printed."""
    cells = nbformat.read(path, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    return ["".join(output.get("text", "") for output in cell.outputs) for cell in code]


def test_all_notebooks_run_in_order_in_their_own_folder(folder, capsys):
    show = "import os\nprint(os.getcwd(), SEEDS)"
    paths = [make(folder, show, name=name) for name in ["02_second", "01_first"]]
    assert run.main(["0"], folder) == 0
    told = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert told == ["01_first", "02_second"]
    assert printed(paths[0])[-1] == printed(paths[1])[-1] == f"{folder} [0, 1]\n"


def test_find_matches_starts_of_names_and_paths(folder):
    first, second = (make(folder, name=name) for name in ["01_first", "05_uniform_target"])
    assert run.find([], folder) == [first, second]
    assert run.find(["05", "01_first"], folder) == [first, second]
    assert run.find(["notebooks/05_uniform_target.ipynb", "05"], folder) == [second]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["07"], "No notebook is called '07'; there are: 01_first, 02_second."),
        ([""], "No notebook is called ''; there are: 01_first, 02_second."),
        (["-p", "SEEDS", "[0, 1"], "[0, 1 is not a value that Python can read."),
        (["-p", "SEED", "1"], "02_second.ipynb has no parameter SEED; it has: SEEDS, LR."),
        (["--smoke"], '01_first.ipynb has no small configuration: no "smoke"'),
        (["--output", "."], "--output must not be notebooks/ itself"),
        (["--output", "01_first.ipynb"], "--output cannot be"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(
    folder, capsys, monkeypatch, arguments, sentence
):
    make(folder, "open('ran', 'w').close()", parameters="SEEDS = [0]\nSEED = 0")
    make(folder, name="02_second")
    monkeypatch.chdir(folder)
    assert run.main(arguments, folder) == 2
    assert sentence in capsys.readouterr().err
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"<<<<<<< HEAD",
        b"",
        b"{}",
        b"[1]",
        b"null",
        b'{"cells": 3}',
        b'{"nbformat": 99}',
        b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "code"}]}',
        '{"nbformat": 4}'.encode("utf-16"),
    ],
)
def test_what_is_no_notebook_is_refused_in_one_sentence(folder, capsys, content):
    (folder / "01_first.ipynb").write_bytes(content)
    assert run.main(["01"], folder) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("run.py: 01_first.ipynb is not a notebook: ")
    assert content != b"<<<<<<< HEAD" or line.endswith("it is not JSON.")


PARAMETERS = """
DATASET = "mnist"
MODEL: str = "mlp"
TRAIN_SIZE = 100  # images
SEEDS = [0]
FORGET = ["class 5"]
"""
CHECK = (
    "from unlearning.parameters import check_parameters\n"
    "open('ran', 'w').close()\ncheck_parameters(globals(), kinds=('class',))"
)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("DATASET", "nope", "DATASET must be one of mnist"),
        ("TRAIN_SIZE", "abc", "TRAIN_SIZE must be a whole number"),
        ("SEEDS", "3", "SEEDS must be a list of different whole numbers"),
        ("FORGET", "class 77", "class 77 does not exist"),
        ("FORGET", "random 10%", "this notebook cannot forget 'random 10%'"),
        ("MODEL", "mpl", "mpl"),
    ],
)
def test_parameters_that_cannot_work_are_refused_before_anything_runs(
    folder, capsys, name, text, sentence
):
    make(folder, "%matplotlib inline", CHECK, parameters=PARAMETERS)
    assert run.main(["01", "-p", name, text], folder) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("run.py: 01_first.ipynb cannot run so: ") and sentence in line
    assert not (folder / "ran").exists()


def test_parameters_that_are_computed_are_left_to_the_notebook(folder):
    wrong = 'DATASET = "nope"\n'
    path = make(folder, CHECK, parameters=PARAMETERS + wrong + "SEEDS = list(range(2))")
    run.check(path, run.read(path))
    make(folder, CHECK, parameters=PARAMETERS + wrong + "SEEDS = [0]\nfor i in range(2): pass")
    with pytest.raises(run.Refused, match="DATASET must be one of"):
        run.check(path, run.read(path))


def test_the_small_configurations_of_all_notebooks_pass_the_check():
    for path in run.find([]):
        notebook = run.read(path)
        run.inject(notebook, run.overrides(path, notebook, {}, smoke=True))
        assert run.values(notebook)["DATASET"] == "mnist"
        run.check(path, notebook)


@pytest.mark.parametrize("fault", ["results is a file", "the disk is full"])
def test_where_nothing_can_be_saved_nothing_runs(folder, capsys, monkeypatch, fault):
    make(folder, "open('ran', 'w').close()")
    if fault == "results is a file":
        (folder.parent / "results").write_text("mine")
    else:
        monkeypatch.setattr(run, "bytes", full, raising=False)
    assert run.main(["01"], folder) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("run.py: Nothing can be saved in ") and "free some space" in line
    assert os.listdir(folder) == ["01_first.ipynb"]


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_notebook_that_ran_and_cannot_be_saved_is_kept_elsewhere(
    folder, tmp_path, capsys, monkeypatch
):
    path = make(folder, "import os\nos.rename('01_first.ipynb', 'old')\nos.mkdir('01_first.ipynb')")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    assert run.main(["01"], folder) == 1
    (line,) = capsys.readouterr().err.splitlines()
    other = re.match(r"run\.py: 01_first\.ipynb ran, but is kept as (\S+)\. .*could not be", line)[
        1
    ]
    assert nbformat.read(other, as_version=4).cells[-1].execution_count == 2
    assert Path(other).is_relative_to(tmp_path / "elsewhere") and path.name == Path(other).name
    assert sorted(os.listdir(folder)) == ["01_first.ipynb", "old"]


def test_values_are_read_as_written():
    meant = {"1e-3": 1e-3, "-1": -1, "[0, 1]": [0, 1], "(3,)": (3,), "None": None, "null": None}
    meant |= {"true": True, "False": False, "mnist": "mnist", "resnet-18": "resnet-18", "'5'": "5"}
    meant |= {"class 5": "class 5", "random 10%": "random 10%"}
    for text, value in meant.items():
        assert run.value(text) == value
        assert type(run.value(text)) is type(value)


def test_override_hits_and_stays_visible_but_never_stacks(folder):
    values = "import os\nSEEDS = [i for i in range(2)]\nLR: float = 0.1"
    path = make(folder, "print(SEEDS, LR)", parameters=values)
    assert sorted(run.parameters(run.read(path))) == ["LR", "SEEDS"]
    assert run.main(["-p", "SEEDS", "(7,)", "01", "-p", "LR", "0.5"], folder) == 0
    assert printed(path)[-1] == "(7,) 0.5\n"
    assert run.main(["-p", "SEEDS", "(8,)"], folder) == 0
    cells = nbformat.read(path, as_version=4).cells
    tags = [cell.metadata.get("tags") for cell in cells]
    assert tags == [None, ["parameters"], ["injected-parameters"], None]
    assert cells[2].source == "# Overrides\nSEEDS = (8,)"
    assert printed(path)[-1] == "(8,) 0.1\n"

    assert run.main(["01"], folder) == 0
    assert len(nbformat.read(path, as_version=4).cells) == 3
    assert printed(path)[-1] == "[0, 1] 0.1\n"


def test_a_preset_overrides_the_notebooks_that_it_names(folder, tmp_path, capsys):
    paths = [make(folder, "print(SEEDS, LR)", name=name) for name in ("01_first", "02_second")]
    own = {"all": {"SEEDS": [7], "LR": 0.2}, "01": {}, "02": {"LR": 0.3}, "03": {"NO": 1}}
    (folder / "presets.json").write_text(json.dumps({"large": own}))
    options = ["--preset", "large", "--output", str(tmp_path / "out")]
    assert run.main(["-p", "SEEDS", "[8]", *options], folder) == 0
    assert printed(tmp_path / "out" / "01_first.ipynb")[-1] == "[8] 0.2\n"
    assert printed(tmp_path / "out" / "02_second.ipynb")[-1] == "[8] 0.3\n"
    assert run.main(["01", "--preset", "large"], folder) == 0
    assert printed(folder.parent / "results/01_first/large/01_first.ipynb")[-1] == "[7] 0.2\n"
    assert printed(paths[0])[-1] == ""
    make(folder, name="03_third")
    for arguments, sentence in [
        (["--preset", "small"], "There is no preset 'small'; there are: large."),
        (["03", "--preset", "large"], "03_third.ipynb has no parameter NO; it has: SEEDS, LR."),
    ]:
        assert run.main(arguments, folder) == 2
        assert sentence in capsys.readouterr().err


def test_smoke_runs_the_small_configuration_and_keeps_what_is_saved(folder, tmp_path):
    show = "import os\nprint(SEEDS, LR, os.environ['UNLEARNING_RESULTS'])"
    path = make(folder, show, smoke={"SEEDS": [5]})
    before, target = path.read_bytes(), tmp_path / "small"
    assert run.main(["--smoke", "-p", "LR", "2", "--output", str(target)], folder) == 0
    assert printed(target / path.name)[-1] == f"[5] 2 {target / 'results'}\n"
    assert run.main(["--smoke"], folder) == 0
    assert path.read_bytes() == before
    assert os.listdir(folder) == [path.name]


def test_without_arguments_all_methods_run_quickly_and_tracked_files_stay(folder, capsys):
    path = make(folder, SHOW, name="08_all_methods")
    other = make(folder, SHOW)
    (folder / "presets.json").write_text('{"quick": {"08": {"SEEDS": [0, 1, 2]}}}')
    before = [file.read_bytes() for file in (path, other)]
    assert run.main([], folder) == 0
    quick = folder.parent / "results" / "quick"
    assert printed(quick / path.name)[-1] == f"[0, 1, 2] {quick}\n"
    assert [file.read_bytes() for file in (path, other)] == before
    told = capsys.readouterr().out
    assert f"The figure: {quick}/08_all_methods/mnist-cnn/trade_off.png" in told


def test_all_makes_every_notebook_and_the_tables_anew(folder, capfd):
    paths = [make(folder, SHOW, name=name) for name in ("01_first", "02_second")]
    (folder / "summary.py").write_text("print('tables')")
    assert run.main(["--all"], folder) == 0
    results = folder.parent / "results"
    assert [printed(path)[-1] for path in paths] == [f"[0, 1] {results}\n"] * 2
    assert capfd.readouterr().out.splitlines()[-1] == "tables"


def test_saved_notebook_is_clean_and_the_same_from_every_run(folder, capfd):
    path = make(folder, NOISY, BAR, authors=[{"name": "x"}], smoke={"SEEDS": [0]})
    assert run.main(["01"], folder) == 0
    first = path.read_bytes()
    out, err = capfd.readouterr()
    assert re.fullmatch(r"01_first: \d+ s\n", out) and err == ""
    assert run.main(["01"], folder) == 0
    assert path.read_bytes() == first
    saved = json.loads(first)
    assert saved["metadata"] == {**run.KERNEL, "smoke": {"SEEDS": [0]}}
    assert [cell["metadata"] for cell in saved["cells"]] == [{}, {"tags": ["parameters"]}, {}, {}]
    assert [cell["id"] for cell in saved["cells"]] == ["badge", "values", "cell-0", "cell-1"]
    assert [cell["execution_count"] for cell in saved["cells"][1:]] == [1, 2, 3]
    streams = {output["name"]: output["text"] for output in saved["cells"][2]["outputs"]}
    assert streams["stdout"] == ["first\n", "second\n"]
    assert "%" not in "".join(streams["stderr"])
    assert printed(path)[-1] == "before\n"  # nothing is left of the bar


def test_failing_notebook_leaves_its_saved_file_as_it_was(folder, capsys):
    halve = "def halve(x):\n    return x / 0\n\nhalve(1)"
    path = make(folder, "print('fine')", halve, "print('no')")
    before = path.read_bytes()
    assert run.main(["01"], folder) == 1
    error = capsys.readouterr().err
    assert "run.py: 01_first.ipynb failed in cell [3]." in error
    assert "return x / 0" in error
    assert error.endswith("ZeroDivisionError: division by zero\n")
    assert "\x1b" not in error
    assert path.read_bytes() == before
    partial = folder / "failed-01_first.ipynb"
    assert f"Its partial run is kept as {partial}." in error
    assert sorted(os.listdir(folder)) == [path.name, partial.name]
    assert "fine\n" in printed(partial) and run.find([], folder) == [path]
    make(folder, "import os\nos._exit(1)")
    assert run.main(["01"], folder) == 1
    assert "01_first.ipynb failed: its kernel died" in capsys.readouterr().err


def test_kernel_is_this_interpreter_whatever_is_registered(folder, tmp_path, monkeypatch):
    spec = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["false"], "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    path = make(folder, "import sys\nprint(sys.executable)")
    assert run.main(["01"], folder) == 0
    assert printed(path)[-1] == f"{sys.executable}\n"
