"""notebooks/address.py: links to Colab where there is an address, and nothing dead elsewhere."""

import re
import shutil

import pytest

from notebooks import address

NOTEBOOKS = sorted(path.name for path in (address.ROOT / "notebooks").glob("[0-9]*.ipynb"))
COLAB = "https://colab.research.google.com/github/"


@pytest.fixture
def copy(tmp_path):
    """The files of this repo that hold the address, without one."""
    (tmp_path / "notebooks").mkdir()
    for name in ["README.md", "pyproject.toml", *(f"notebooks/{name}" for name in NOTEBOOKS)]:
        shutil.copy(address.ROOT / name, tmp_path / name)
    address.stamp(address.UNSET, tmp_path)
    return tmp_path


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*.*"))}


def test_links_appear_with_an_address_move_with_it_and_disappear(copy):
    before = contents(copy)
    assert not any(COLAB.encode() in text for text in before.values())
    for name in ["ada/unlearning", "bob/b.c-d"]:
        assert address.main([name], copy) == 0
        assert address.current_address(copy) == name
        links = [f"{COLAB}{name}/blob/main/notebooks/{notebook}" for notebook in NOTEBOOKS]
        for link, notebook in zip(links, NOTEBOOKS, strict=True):
            text = (copy / "notebooks" / notebook).read_text(encoding="utf-8")
            assert re.findall(rf"\(({COLAB}[^)]*)\) <!-- Colab", text) == [link]
            assert rf"ADDRESS = \"https://github.com/{name}\"" in text
            assert '\\"OWNER/NAME\\" not in ADDRESS' in text
        readme = (copy / "README.md").read_text(encoding="utf-8")
        assert re.findall(rf"\(({COLAB}[^)]*)\) <!--Colab", readme) == links
    assert address.main([address.UNSET], copy) == 0
    assert contents(copy) == before


def test_this_repo_has_no_dead_link(copy):
    """What is saved here is what address.py writes for the address that pyproject.toml has."""
    address.stamp(address.current_address(), copy)
    for path in contents(copy):
        assert path.read_bytes() == (address.ROOT / path.relative_to(copy)).read_bytes(), path.name


@pytest.mark.parametrize(
    "bad", ["name", "https://github.com/a/b", "a/b/c", "a/b.git", "a/..", "-a/b", "a b/c", "a/b\n"]
)
def test_what_is_no_address_is_refused_in_one_sentence(copy, capsys, bad):
    before = contents(copy)
    assert address.main(["--", bad], copy) == 2
    assert capsys.readouterr().err.startswith("address.py: The address is OWNER/NAME, as in ada/")
    assert contents(copy) == before
