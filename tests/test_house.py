"""The structure of the package: small files, imports one way, methods that know no other method."""

import ast
from pathlib import Path

import pytest

import unlearning
from unlearning import METHODS, methods

PACKAGE = Path(unlearning.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
LINES = unlearning.__doc__.splitlines()
ORDER = ["core", *(words[0] for words in map(str.split, LINES) if words and words[0] != "core")]


def rank(module: str) -> int:
    return ORDER.index(module)


def imported(file: Path) -> set[str]:
    """The modules of this package that a file imports, as "data" or "core.files"."""
    here = file.relative_to(PACKAGE).with_suffix("").parts
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level]
            modules = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {".".join([*base, module]) for module in modules}
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_file_is_short_and_imports_only_what_lies_below_it(file):
    assert len(file.read_text().splitlines()) <= (190 if file.parent.name == "methods" else 300)
    here = file.relative_to(PACKAGE).with_suffix("").parts[0]
    if here == "__init__":
        return
    for module in imported(file):
        assert rank(module.split(".")[0]) <= rank(here), f"{here} imports {module}"


def test_the_map_names_every_module():
    modules = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert modules - {"__init__", "__pycache__"} <= set(ORDER)


def test_no_method_imports_another():
    names = {path.stem for path in (PACKAGE / "methods").glob("*.py")} - {"__init__"}
    for name in names:
        used = {module.split(".")[-1] for module in imported(PACKAGE / "methods" / f"{name}.py")}
        assert not used & names, f"{name} imports {used & names}"


def test_every_method_is_registered_once_and_handed_on():
    assert len(set(METHODS.values())) == len(METHODS)
    assert {function.__name__ for function in METHODS.values()} <= set(methods.__all__)
    defined = {path.stem for path in (PACKAGE / "methods").glob("*.py")} - {"__init__"}
    of_another_kind = {one.__module__.split(".")[-1] for one in methods.WITH_A_PROOF}
    registered = {function.__module__.split(".")[-1] for function in METHODS.values()}
    assert registered <= defined <= registered | of_another_kind
