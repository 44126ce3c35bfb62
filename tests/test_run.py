"""notebooks/run.py: overrides that hit, clean and repeatable files, and nothing lost on failure."""

import json
import os
import re
import sys

import nbformat
import pytest

from notebooks import run

SETUP = 'ADDRESS = "https://github.com/OWNER/NAME"\n!git clone {ADDRESS} unlearning-repo'
NOISY = (
    "import sys\n"
    "print('first'); print('note', file=sys.stderr); print('second')\n"
    "print('\\r 50 %\\r      \\r', end='', file=sys.stderr, flush=True)"
)
BAR = "from tqdm import tqdm\nfor _ in tqdm(range(3), leave=False): pass"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("UNLEARNING_RESULTS", "results")  # put back afterwards, whatever run.py sets
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
    assert run.main([], folder) == 0
    told = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert told == ["01_first", "02_second"]
    assert printed(paths[0])[-1] == printed(paths[1])[-1] == f"{folder} [0, 1]\n"


def test_find_matches_starts_of_names_and_paths(folder):
    first, second = (make(folder, name=name) for name in ["01_first", "05_uniform_target"])
    assert run.find([], folder) == [first, second]
    assert run.find(["05", "01_first"], folder) == [first, second]
    assert run.find(["notebooks/05_uniform_target.ipynb", "05"], folder) == [second]


def test_unknown_notebook_is_refused_with_the_known_ones(folder, capsys):
    make(folder)
    for name in ["07", "", "uniform"]:
        assert run.main([name], folder) == 2
        assert f"No notebook is called {name!r}; there are: 01_first." in capsys.readouterr().err


def test_values_are_read_as_written():
    meant = {"1e-3": 1e-3, "-1": -1, "[0, 1]": [0, 1], "(3,)": (3,), "None": None, "null": None}
    meant |= {"true": True, "False": False, "mnist": "mnist", "resnet-18": "resnet-18", "'5'": "5"}
    meant |= {"class 5": "class 5", "random 10%": "random 10%"}
    for text, value in meant.items():
        assert run.value(text) == value
        assert type(run.value(text)) is type(value)


def test_half_a_value_is_refused(folder, capsys):
    make(folder)
    assert run.main(["-p", "SEEDS", "[0, 1"], folder) == 2
    assert "[0, 1 is not a value that Python can read." in capsys.readouterr().err


def test_parameters_are_the_assigned_names_only(folder):
    source = "import os\nA = [i for i in range(3)]\nB: int = len(A)\nC, D = 1, os.sep  # a unit"
    assert sorted(run.parameters(run.read(make(folder, parameters=source)))) == ["A", "B", "C", "D"]


def test_override_hits_and_stays_visible_but_never_stacks(folder):
    path = make(folder, "print(SEEDS, LR)")
    assert run.main(["-p", "SEEDS", "(7,)", "01", "-p", "LR", "0.5"], folder) == 0
    assert printed(path)[-1] == "(7,) 0.5\n"
    assert run.main(["-p", "SEEDS", "(8,)"], folder) == 0
    saved = path.read_bytes()
    assert run.main(["-p", "SEEDS", "(8,)"], folder) == 0
    assert path.read_bytes() == saved
    cells = nbformat.read(path, as_version=4).cells
    tags = [cell.metadata.get("tags") for cell in cells]
    assert tags == [None, ["parameters"], ["injected-parameters"], None]
    assert cells[2].source == "# Overrides\nSEEDS = (8,)"
    assert printed(path)[-1] == "(8,) 0.1\n"

    assert run.main([], folder) == 0
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
    assert printed(paths[0])[-1] == ""
    make(folder, name="03_third")
    make(folder, name="04_fourth")
    for arguments, sentence in [
        (["--preset", "small"], "There is no preset 'small'; there are: large."),
        (["03", "--preset", "large"], "03_third.ipynb has no parameter NO; it has: SEEDS, LR."),
        (["04", "--preset", "large"], "The preset large has no parameters for 04_fourth.ipynb."),
    ]:
        assert run.main(arguments, folder) == 2
        assert sentence in capsys.readouterr().err
    (folder / "presets.json").write_text('{"large": ')
    assert run.main(["01", "--preset", "large"], folder) == 2
    assert "presets.json is not JSON" in capsys.readouterr().err


def test_misspelt_override_is_refused_before_anything_runs(folder, capsys):
    ran = "open('ran', 'w').close()"
    make(folder, ran, name="01_first", parameters="SEEDS = [0]\nSEED = 0")
    make(folder, ran, name="02_second")
    assert run.main(["-p", "SEED", "1"], folder) == 2
    message = "02_second.ipynb has no parameter SEED; it has: SEEDS, LR."
    assert message in capsys.readouterr().err
    assert not (folder / "ran").exists()


def test_smoke_runs_the_small_configuration_and_keeps_what_is_saved(folder, tmp_path):
    path = make(folder, "import os\nprint(SEEDS, LR, os.environ['UNLEARNING_RESULTS'])")
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["smoke"] = {"SEEDS": [5]}
    nbformat.write(notebook, path)
    before = path.read_bytes()

    target = tmp_path / "small"
    assert run.main(["--smoke", "-p", "LR", "2", "--output", str(target)], folder) == 0
    assert printed(target / path.name)[-1] == f"[5] 2 {target / 'results'}\n"
    assert run.main(["--smoke"], folder) == 0
    assert path.read_bytes() == before
    assert os.listdir(folder) == [path.name]


def test_smoke_configuration_must_exist_and_hit(folder, capsys):
    make(folder)
    assert run.main(["--smoke"], folder) == 2
    assert '01_first.ipynb has no small configuration: no "smoke"' in capsys.readouterr().err
    make(folder, smoke={"SEEDS": [0], "EPOCH": 1})
    assert run.main(["--smoke"], folder) == 2
    assert "01_first.ipynb has no parameter EPOCH; it has: SEEDS, LR." in capsys.readouterr().err


def test_output_never_falls_on_the_saved_notebooks(folder, tmp_path, capsys):
    make(folder)
    assert run.main(["--smoke", "--output", str(folder)], folder) == 2
    assert "--output must not be notebooks/ itself" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert run.main(["--output", str(tmp_path / "file")], folder) == 2
    assert "--output cannot be" in capsys.readouterr().err


def test_saved_notebook_is_clean_and_the_same_from_every_run(folder):
    path = make(folder, NOISY, BAR, authors=[{"name": "x"}], smoke={"SEEDS": [0]})
    assert run.main([], folder) == 0
    first = path.read_bytes()
    assert run.main([], folder) == 0
    assert path.read_bytes() == first

    saved = json.loads(first)
    assert saved["metadata"] == {**run.KERNEL, "smoke": {"SEEDS": [0]}}
    assert [cell["metadata"] for cell in saved["cells"]] == [{}, {"tags": ["parameters"]}, {}, {}]
    assert [cell["id"] for cell in saved["cells"]] == ["badge", "values", "cell-0", "cell-1"]
    assert [cell["execution_count"] for cell in saved["cells"][1:]] == [1, 2, 3]
    streams = {output["name"]: output["text"] for output in saved["cells"][2]["outputs"]}
    assert streams["stdout"] == ["first\n", "second\n"]
    assert "%" not in "".join(streams["stderr"])
    assert saved["cells"][3]["outputs"] == []  # nothing is left of the bar


def test_terminal_shows_a_line_a_notebook_and_no_warnings(folder, capfd):
    make(folder)
    assert run.main([], folder) == 0
    out, err = capfd.readouterr()
    assert re.fullmatch(r"01_first: \d+ s\n", out) and err == ""


def test_failing_notebook_leaves_its_saved_file_as_it_was(folder, capsys):
    halve = "def halve(x):\n    return x / 0\n\nhalve(1)"
    path = make(folder, "print('fine')", halve, "print('no')")
    before = path.read_bytes()
    assert run.main([], folder) == 1
    error = capsys.readouterr().err
    assert "run.py: 01_first.ipynb failed in cell [3]." in error
    assert "return x / 0" in error
    assert error.endswith("ZeroDivisionError: division by zero\n")
    assert "\x1b" not in error
    assert path.read_bytes() == before
    assert os.listdir(folder) == [path.name]


def test_dead_kernel_is_reported_in_one_sentence(folder, capsys):
    make(folder, "import os\nos._exit(1)")
    assert run.main([], folder) == 1
    assert "01_first.ipynb failed: its kernel died" in capsys.readouterr().err


def test_broken_file_is_refused(folder, capsys):
    (folder / "01_first.ipynb").write_text("<<<<<<< HEAD")
    assert run.main([], folder) == 2
    assert "01_first.ipynb is not a notebook: it is not JSON." in capsys.readouterr().err


def test_kernel_is_this_interpreter_whatever_is_registered(folder, tmp_path, monkeypatch):
    spec = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["false"], "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    path = make(folder, "import sys\nprint(sys.executable)")
    assert run.main([], folder) == 0
    assert printed(path)[-1] == f"{sys.executable}\n"


def repository(folder):
    """Make the other files that hold the address, and return all that do."""
    root = folder.parent
    readme, project = root / "README.md", root / "pyproject.toml"
    readme.write_text(
        "[x](https://colab.research.google.com/github/OWNER/NAME/blob/main/notebooks/01_first.ipynb)\n"
        "git clone https://github.com/OWNER/NAME.git\nSee https://github.com/OWNER/NAME.\n"
        "Not https://github.com/OWNER/NAMES, nor OWNER/NAME in words.\n"
    )
    project.write_text('[project.urls]\nrepository = "https://github.com/OWNER/NAME"\n')
    return [make(folder, SETUP), make(folder, SETUP, name="02_second"), readme, project]


def test_address_is_stamped_everywhere_and_back(folder):
    files = repository(folder)
    before = [path.read_bytes() for path in files]
    assert run.main(["--address", "a/b.c-d"], folder) == 0
    for path, old in zip(files, before, strict=True):
        assert path.read_bytes() == old.replace(b"OWNER/NAME", b"a/b.c-d").replace(
            b"a/b.c-dS, nor a/b.c-d in words", b"OWNER/NAMES, nor OWNER/NAME in words"
        )
    assert (
        'ADDRESS = "https://github.com/a/b.c-d"'
        in nbformat.read(files[0], as_version=4).cells[2].source
    )
    assert run.current_address(folder.parent) == "a/b.c-d"

    assert run.main(["--address", "OWNER/NAME"], folder) == 0
    assert [path.read_bytes() for path in files] == before


def test_bad_address_is_refused_and_nothing_changes(folder, capsys):
    files = repository(folder)
    before = [path.read_bytes() for path in files]
    bad = ["name", "https://github.com/a/b", "a/b/c", "a/b.git", "a/..", "-a/b", "a b/c", "a/é"]
    for address in bad:
        assert run.main([f"--address={address}"], folder) == 2
        assert "--address takes OWNER/NAME, as in ada/unlearning" in capsys.readouterr().err
    assert [path.read_bytes() for path in files] == before


def test_help_shows_the_examples(capsys):
    with pytest.raises(SystemExit):
        run.main(["--help"])
    assert 'python notebooks/run.py 05 -p SEEDS "[0, 1]"' in capsys.readouterr().out
