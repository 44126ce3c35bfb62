"""Execute the notebooks and save them clean.

examples, from anywhere:
  python notebooks/run.py                 08 with three seeds, into results/quick/
  python notebooks/run.py --all           make every saved notebook, table and figure anew
  python notebooks/run.py 01 05_uniform_target
                                          those whose names start so, in place
  python notebooks/run.py 05 -p SEEDS "[0, 1]" -p DATASET fashion_mnist --output out
                                          other parameters, saved elsewhere
  python notebooks/run.py 08 --preset cifar10-airbench
                                          parameters kept in presets.json; saved in results/
  python notebooks/run.py --smoke         all in their small configuration, nothing kept

A saved notebook appears only when all its cells ran; where one fails, what was saved before stays,
and the partial run is kept next to it as failed-NAME.ipynb. With --output the results go to
FOLDER/results, so that the saved ones stay too. The small configuration of a notebook is the entry
"smoke" of its metadata.
"""

import argparse
import ast
import json
import logging
import os
import re
import shutil
import subprocess
import symtable
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import nbformat
import papermill
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError
from traitlets import default

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # for the package, which takes seconds to import: when needed
INJECTED = "injected-parameters"  # papermill's tag for the cell of overrides
KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
QUICK = "quick"  # the preset of the quick run, and its folder under results/
FIGURE = "08_all_methods/mnist-cnn/trade_off.png"  # what the quick run is for
ROOM = 2**20  # bytes that must be free: no saved notebook is larger
WORDS = {"true": True, "false": False, "null": None}


class Refused(Exception):
    """Say in one sentence why a request cannot be carried out; nothing has run yet."""


class Failed(Exception):
    """Say which notebook failed, in which cell and why; its saved file is as it was."""

    partial = None  # the notebook as far as it ran


class OwnKernel(AsyncKernelManager):
    """Start kernels with the interpreter that runs this script, whatever kernels are installed."""

    @default("kernel_spec_manager")
    def _kernel_spec_manager_default(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])


def find(names: list[str], folder: Path = HERE) -> list[Path]:
    """Return the notebooks whose file names start with one of ``names``; all of them for none."""
    notebooks = sorted(folder.glob("[0-9]*.ipynb"))
    stems = [Path(name).name.removesuffix(".ipynb") for name in names]
    for name, stem in zip(names, stems, strict=True):
        if not stem or not any(path.stem.startswith(stem) for path in notebooks):
            known = ", ".join(path.stem for path in notebooks) or "none"
            raise Refused(f"No notebook is called {name!r}; there are: {known}.")
    return [path for path in notebooks if not stems or path.stem.startswith(tuple(stems))]


def read(path: Path) -> NotebookNode:
    """Read a notebook, without the overrides of an earlier run."""
    try:
        notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
        nbformat.validate(notebook)
    except OSError as error:
        raise Refused(f"{path.name} cannot be read: {error.strerror}.") from error
    except nbformat.reader.NotJSONError as error:
        raise Refused(f"{path.name} is not a notebook: it is not JSON.") from error
    except Exception as error:  # of other JSON, nbformat raises errors of many kinds
        reason = str(error).splitlines()[0]
        raise Refused(f"{path.name} is not a notebook: {reason}.") from error
    notebook.cells = [cell for cell in notebook.cells if not tagged(cell, INJECTED)]
    return notebook


def tagged(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def value(text: str) -> object:
    """Read a value written as in Python or YAML; a plain word is text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        if re.match(r"[\[({\"']", text):
            raise Refused(f"{text} is not a value that Python can read.") from None
        return WORDS.get(text, text)


def parameters(notebook: NotebookNode) -> list[str]:
    """Return the names that the cell tagged ``parameters`` assigns, in their order."""
    source = next((cell.source for cell in notebook.cells if tagged(cell, "parameters")), "")
    try:
        symbols = symtable.symtable(source, "parameters", "exec").get_symbols()
    except SyntaxError as error:
        raise Refused(f"The cell of parameters is not Python: {error}.") from error
    return [symbol.get_name() for symbol in symbols if symbol.is_assigned()]


def preset(name: str | None, path: Path) -> dict:
    """Return a preset's parameters for a notebook: those of all, and its own."""
    if name is None:
        return {}
    file = path.parent / "presets.json"
    try:
        known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except ValueError as error:
        raise Refused(f"{file.name} is not JSON: {error}.") from error
    if name not in known:
        raise Refused(f"There is no preset {name!r}; there are: {', '.join(known) or 'none'}.")
    number = path.stem.partition("_")[0]
    if number not in known[name]:
        raise Refused(f"The preset {name} has no parameters for {path.name}.")
    return {**known[name].get("all", {}), **known[name][number]}


def overrides(path: Path, notebook: NotebookNode, given: dict, *, smoke: bool) -> dict:
    """Return what to override in a notebook; every name must be one of its parameters."""
    if smoke and "smoke" not in notebook.metadata:
        raise Refused(f'{path.name} has no small configuration: no "smoke" in its metadata.')
    chosen = {**(notebook.metadata["smoke"] if smoke else {}), **given}
    known = parameters(notebook)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        has = ", ".join(known) or "none"
        raise Refused(f"{path.name} has no parameter {', '.join(unknown)}; it has: {has}.")
    return chosen


def inject(notebook: NotebookNode, chosen: dict) -> None:
    """Put the overrides in a cell of their own, right after the cell tagged ``parameters``."""
    if not chosen:
        return
    lines = ["# Overrides", *(f"{name} = {new!r}" for name, new in chosen.items())]
    cell = nbformat.v4.new_code_cell("\n".join(lines), id=INJECTED, metadata={"tags": [INJECTED]})
    place = next(i for i, cell in enumerate(notebook.cells) if tagged(cell, "parameters"))
    notebook.cells.insert(place + 1, cell)


def check(path: Path, notebook: NotebookNode) -> None:
    """Refuse parameters with which a notebook would stop at its own ``check_parameters``."""
    nodes = [node for cell in notebook.cells if cell.cell_type == "code" for node in tree(cell)]
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    call = next((one for one in calls if ast.unparse(one.func) == "check_parameters"), None)
    if call is None:
        return
    try:
        options = {one.arg: ast.literal_eval(one.value) for one in call.keywords}
        found = values(notebook)
    except (SyntaxError, TypeError, ValueError):
        return  # something is computed, so only the notebook can tell
    from unlearning.parameters import check_parameters

    try:
        check_parameters(found, **options)
    except (OSError, ValueError) as error:
        raise Refused(f"{path.name} cannot run so: {error}") from error


def tree(cell: NotebookNode) -> Iterable[ast.AST]:
    """Return the syntax of a cell of code; nothing of one that is more than Python."""
    try:
        return ast.walk(ast.parse(cell.source))
    except SyntaxError:
        return []


def values(notebook: NotebookNode) -> dict:
    """Return the values of the parameters, overrides included; a ValueError if one is computed."""
    found = {}
    for cell in notebook.cells:
        if tagged(cell, "parameters") or tagged(cell, INJECTED):
            for line in ast.parse(cell.source).body:
                if isinstance(line, ast.Assign | ast.AnnAssign):
                    targets = line.targets if isinstance(line, ast.Assign) else [line.target]
                    found |= {ast.unparse(one): line.value for one in targets}
    return {name: ast.literal_eval(assigned) for name, assigned in found.items()}


def execute(path: Path, notebook: NotebookNode) -> NotebookNode:
    """Return the notebook, run from top to bottom in its own folder."""
    with tempfile.TemporaryDirectory() as folder:
        partial = Path(folder) / path.name
        try:
            return _execute(path, notebook, partial)
        except Failed as failure:
            with suppress(OSError, nbformat.reader.NotJSONError):
                failure.partial = nbformat.read(partial, as_version=4)
            raise


def _execute(path: Path, notebook: NotebookNode, partial: Path) -> NotebookNode:
    try:
        return papermill.execute_notebook(
            notebook,
            partial,
            kernel_name="python3",
            kernel_manager_class=OwnKernel,
            extra_arguments=["--log-level=CRITICAL"],
            cwd=path.parent,
            progress_bar=False,
            stdout_file=sys.stderr if sys.stderr.isatty() else None,  # the kernel's bars, live
            coalesce_streams=True,
            record_timing=False,
        )
    except PapermillExecutionError as error:
        raise Failed(f"{path.name} failed in cell [{error.exec_count}].\n{short(error)}") from None
    except DeadKernelError:
        raise Failed(f"{path.name} failed: its kernel died, perhaps for lack of memory.") from None
    except OSError as error:
        raise Failed(f"{path.name} failed: {error}.") from error


def short(error: PapermillExecutionError) -> str:
    """Return the line of each frame that led to an error, and the error."""
    lines = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error.traceback)).splitlines()
    frames = [line for line in lines if re.match(r"-+> ?\d|(File|Cell) ", line)]
    return "\n".join([*(f"  {line}" for line in frames), f"  {error.ename}: {error.evalue}"])


def clean(notebook: NotebookNode) -> NotebookNode:
    """Drop all that differs from run to run or that only a tool reads: times, empty streams."""
    smoke = {key: notebook.metadata[key] for key in ["smoke"] if key in notebook.metadata}
    notebook.metadata = nbformat.from_dict({**KERNEL, **smoke})
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            for output in cell.outputs:
                if output.output_type == "stream":  # a progress bar overwrites its own line
                    output.text = re.sub(r"[^\n]*\r", "", output.text)
            cell.outputs = [one for one in cell.outputs if one.get("text", "shown").strip()]
    return notebook


def write(path: Path, notebook: NotebookNode) -> None:
    """Save a notebook whole or not at all."""
    from unlearning.core.files import atomic_write

    with atomic_write(path) as tmp_path:
        text = nbformat.writes(notebook) + "\n"
        tmp_path.write_text(text, encoding="utf-8", newline="\n")


def save(path: Path, notebook: NotebookNode) -> None:
    """Save a notebook that ran; if that cannot be, elsewhere, and say where."""
    try:
        write(path, notebook)
    except OSError as error:
        where = "and could not be kept elsewhere either"
        with suppress(OSError):
            other = Path(tempfile.mkdtemp(prefix="unlearning-")) / path.name
            write(other, notebook)
            where = f"but is kept as {other}"
        raise Failed(f"{path.name} ran, {where}. {error}") from error


def keep_partial(failure: Failed, path: Path) -> Failed:
    """Save the partial run of a failed notebook, and say where; the failure is what matters."""
    first, _, rest = str(failure).partition("\n")
    with suppress(OSError):
        if failure.partial is not None:
            write(path, clean(failure.partial))
            first += f"\nIts partial run is kept as {path}."
    return Failed("\n".join(filter(None, [first, rest])))


def usable(folder: Path) -> None:
    """Make a folder if need be and try to write there, lest a run be for nothing."""
    from unlearning.core.files import temporary

    try:
        with temporary(folder / "notebook.ipynb") as tmp_path:
            tmp_path.write_bytes(bytes(ROOM))
    except OSError as error:
        raise Refused(
            f"Nothing can be saved in {folder} ({error.strerror}): free some space, or choose "
            "another folder with --output."
        ) from error


def run(
    paths: list[Path],
    given: dict,
    *,
    smoke: bool,
    target: Path | None,
    named: str | None = None,
    partial: Path | None = None,
) -> None:
    """Execute notebooks in order and save each, in place or into ``target``.

    Run with a preset, a notebook is saved beside its results, and the one in place stays. What ran
    of a notebook that fails is kept in ``partial``, by default where it would be saved.
    """
    notebooks = {path: read(path) for path in paths}
    for path, notebook in notebooks.items():
        chosen = {**preset(named, path), **given}
        inject(notebook, overrides(path, notebook, chosen, smoke=smoke))
    results = Path(os.environ["UNLEARNING_RESULTS"])
    places = {path: results / path.stem / named if named else path.parent for path in paths}
    places = places if target is None else dict.fromkeys(paths, target)
    for folder in {results, *places.values()}:
        usable(folder)
    for path, notebook in notebooks.items():
        check(path, notebook)
    for path, notebook in notebooks.items():
        if sys.stderr.isatty():
            print(f"{path.stem} runs", file=sys.stderr)
        start, failed = time.perf_counter(), f"failed-{path.name}"
        try:
            done = clean(execute(path, notebook))
        except Failed as failure:
            raise keep_partial(failure, (partial or places[path]) / failed) from None
        save(places[path] / path.name, done)
        print(f"{path.stem}: {time.perf_counter() - start:.0f} s", flush=True)


def output_folder(name: str, folder: Path) -> Path:
    """Return the folder to save in, made if need be; results go beneath it as well."""
    target = Path(name).resolve()
    if target == folder:
        raise Refused(f"--output must not be {folder.name}/ itself; leave it out to run in place.")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"--output cannot be {name}: {error.strerror}.") from error
    return target


def quick(folder: Path) -> None:
    """Run all methods with few seeds into an ignored folder, and say where the figure is."""
    (path,), target = find(["08"], folder), folder.parent / "results" / QUICK
    os.environ["UNLEARNING_RESULTS"] = str(target)
    run([path], {}, smoke=False, target=target, named=QUICK)
    print(f"The figure: {target / FIGURE}\nThe notebook: {target / path.name}")


def chosen(options: argparse.Namespace, folder: Path) -> None:
    """Run the notebooks that are named, as the options say."""
    given = {name: value(text) for name, text in options.given}
    paths = find(options.names, folder)
    with tempfile.TemporaryDirectory() as temporary:
        name = options.output or (temporary if options.smoke else None)
        target = output_folder(name, folder) if name else None
        if target:
            os.environ["UNLEARNING_RESULTS"] = str(target / "results")
        if options.smoke:
            os.environ["UNLEARNING_CHECKPOINTS"] = str(target / "results" / "checkpoints")
        places = {"target": target, "partial": target if options.output else paths[0].parent}
        run(paths, given, smoke=options.smoke, named=options.preset, **places)


def everything(folder: Path) -> None:
    """Run all notebooks in place, then write README's table and figure."""
    run(find([], folder), {}, smoke=False, target=None)
    subprocess.run([sys.executable, folder / "summary.py"], check=True)


def read_arguments(arguments: list[str] | None) -> argparse.Namespace:
    summary, _, examples = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="run.py",
        description=summary,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NOTEBOOK", help="start of a name; default: all")
    add("--all", action="store_true", help="make all that is saved anew")
    pair = {"nargs": 2, "action": "append", "default": [], "metavar": ("NAME", "VALUE")}
    add("-p", dest="given", help="override a parameter of each of them; repeatable", **pair)
    add("--preset", metavar="NAME", help="override the parameters that presets.json has for it")
    add("--smoke", action="store_true", help="run the small configuration")
    add("--output", metavar="FOLDER", help="save there, notebooks and results; default: in place")
    return parser.parse_intermixed_args(arguments)


def main(arguments: list[str] | None = None, folder: Path = HERE) -> int:
    """Do what the command line asks; return the exit code."""
    options = read_arguments(arguments)
    logging.getLogger("papermill").setLevel(logging.ERROR)
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # a debugger's warning
    try:
        os.environ["UNLEARNING_RESULTS"] = str(folder.parent / "results")
        os.environ["COLUMNS"] = str(shutil.get_terminal_size().columns)  # the kernel's bars fit in
        if options.all:
            everything(folder)
        elif options == read_arguments([]):
            quick(folder)
        else:
            chosen(options, folder)
        return 0
    except Refused as refusal:
        print(f"run.py: {refusal}", file=sys.stderr)
        return 2
    except Failed as failure:
        print(f"run.py: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("run.py: stopped; the notebook that was running is as it was.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
