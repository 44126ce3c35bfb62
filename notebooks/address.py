"""Write the repo's public address, on GitHub, into the files that hold it.

  python notebooks/address.py ada/unlearning    set-up cells clone it, and links to Colab appear
  python notebooks/address.py OWNER/NAME        no address: the links disappear

pyproject.toml keeps the address. The link to Colab stands before its marker, <!-- Colab: FILE -->.
"""

import argparse
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UNSET = "OWNER/NAME"
VALID = re.compile(r"[a-z\d][a-z\d-]{0,38}/(?!\.{1,2}$)[\w.-]{1,100}(?<!\.git)", re.A | re.I)
SETTING = re.compile(r'^(address = ")([^"]+)', re.M)  # in pyproject.toml
SETUP = re.compile(r'("ADDRESS = \\"https://github\.com/)([^"\\]+)')  # in a notebook, so in JSON
COLAB = "https://colab.research.google.com"
BADGE = f"![Open in Colab]({COLAB}/assets/colab-badge.svg)"
# The marker comes last: Markdown takes the rest of a line that begins with a comment for HTML.
MARKER = re.compile(rf"(?:\[{re.escape(BADGE)}\]\(\S+?\) )?(<!-- ?Colab: ?(\S+?) ?-->)")


class Refused(Exception):
    """Say in one sentence why the address cannot be written; nothing has been."""


def current_address(root: Path = ROOT) -> str:
    """Return OWNER/NAME as pyproject.toml has it."""
    return SETTING.search((root / "pyproject.toml").read_text(encoding="utf-8"))[2]


def stamp(address: str, root: Path = ROOT) -> None:
    """Write an address in place of the current one: notebooks, README.md, pyproject.toml."""
    if not VALID.fullmatch(address):
        raise Refused(f"The address is OWNER/NAME, as in ada/unlearning; got {address!r}.")
    link = "" if address == UNSET else rf"[{BADGE}]({COLAB}/github/{address}/blob/main/\g<2>) "
    places = {MARKER: rf"{link}\g<1>", SETUP: rf"\g<1>{address}", SETTING: rf"\g<1>{address}"}
    notebooks = sorted((root / "notebooks").glob("[0-9]*.ipynb"))
    for path in [*notebooks, root / "README.md", root / "pyproject.toml"]:
        text, total = path.read_text(encoding="utf-8"), 0
        for place, new in places.items():
            text, count = place.subn(new, text)
            total += count
        tmp_path = path.with_suffix(".tmp")
        tmp_path.write_text(text, encoding="utf-8", newline="\n")
        os.replace(tmp_path, path)
        print(f"{path.relative_to(root)}: {total} written")


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Do what the command line asks; return the exit code."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("address.py", description=__doc__, formatter_class=raw)
    parser.add_argument("address", metavar="OWNER/NAME")
    try:
        stamp(parser.parse_args(arguments).address, root)
    except Refused as refusal:
        print(f"address.py: {refusal}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
