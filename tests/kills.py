"""Kill every writer at random moments, run it again, and count what was lost and what was left.

    python tests/kills.py [KILLS] [SEED]        100 kills take about ten minutes on two cores; Linux

A SIGKILL goes to one process, not to those that it started. One line per writer:

    half      files that were there after the kill and were not what a whole run writes
    other     files that were not, after the second run, what a whole run writes
    left      hidden files and folders after the second run
    orphans   processes that were left five seconds after the kill
    again     units (networks, groups, downloads) begun a second time: one or two for a kill
"""

import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import uuid
import zipfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from notebooks import run
from unlearning import Images, data, load, load_or_train, plots, run_many, table, training
from unlearning.challenge import write_checkpoints, zip_submission
from unlearning.report import write_csv

GRACE = 5.0  # seconds in which processes may end
UNITS = 12  # of work, of which two are in flight at most


def begin(folder: Path, unit: object) -> None:
    (folder.parent / "begun" / f"{unit}-{uuid.uuid4().hex}").touch()


def checkpoints(folder: Path) -> None:
    pixels = torch.arange(96 * 64).view(96, 1, 8, 8).remainder(251).to(torch.uint8)
    images, train = Images(pixels, torch.arange(96) % 4), training.train

    training.train = lambda *a, **o: begin(folder, o["seed"]) or train(*a, **o)
    for seed in range(UNITS):
        load_or_train(images, model="mlp", epochs=20, lr=0.1, seed=seed, folder=folder)


def groups(folder: Path) -> None:
    def measure(seeds):
        begin(folder, seeds[0])
        time.sleep(0.5)
        return {"a": np.arange(40_000.0) + np.array(seeds)[:, None]}

    run_many(measure, range(2 * UNITS), path=folder, configuration={}, group=2, n_jobs=2)


def submission(folder: Path, n_jobs: int = 2) -> None:
    def unlearn(seed):
        begin(folder, seed)
        time.sleep(0.1)
        model = nn.Linear(500, 500, bias=False)
        nn.init.constant_(model.weight, seed)
        return model

    original = nn.Linear(500, 500, bias=False).apply(lambda layer: nn.init.zeros_(layer.weight))
    write_checkpoints(unlearn, original, folder, count=UNITS, n_jobs=n_jobs)


def zipped(folder: Path) -> None:
    submission(folder, n_jobs=1)
    for _ in range(20):
        zip_submission(folder, folder / "submission.zip", count=UNITS)


def results(folder: Path) -> None:
    rows = [{"method": "retrained", "seed": seed, "test_accuracy": seed / 9} for seed in range(9)]
    for unit in map(str, range(UNITS)):
        write_csv(pd.DataFrame(rows * 1_000), folder / f"{unit}.csv")
        tables, path = {"class 5": table(rows)}, folder / f"{unit}.png"
        plots.comparison(tables, ["test_accuracy"], title=unit, path=path)


def notebooks(folder: Path) -> None:
    cells = [nbformat.v4.new_code_cell("x" * 200, id=f"cell-{i}") for i in range(300)]
    for unit in range(5 * UNITS):
        run.save(folder / f"{unit}.ipynb", nbformat.v4.new_notebook(cells=cells))


def download(folder: Path) -> None:
    def fetch(name, inside):
        begin(folder, name)
        (inside / "part").write_bytes(bytes(10_000_000))
        time.sleep(0.4)
        arrays = np.full((2_000, 32, 32, 3), 7, np.uint8), np.arange(2_000) % 10
        return dict(zip(data.ARRAYS, arrays * 2, strict=True))

    data._fetch = fetch
    load("svhn", root=folder)


WRITERS = [checkpoints, groups, submission, zipped, results, notebooks, download]


def prepare(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "begun").mkdir(parents=True)
    return folder / "written"


def start(writer, folder: Path, tag: str) -> int:
    if (process := os.fork()) == 0:  # which has all modules already
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1), os.dup2(quiet, 2)
        os.environ["KILLS"] = tag
        with suppress(BaseException):
            writer(folder)
            os._exit(0)
        os._exit(1)
    return process


def run_whole(writer, folder: Path) -> float:
    began = time.monotonic()
    _, status = os.waitpid(start(writer, folder, "whole"), 0)
    assert status == 0, f"{writer.__name__} ended with {status}"
    return time.monotonic() - began


def contents(folder: Path) -> dict[str, str]:
    """What is in each file that is not hidden, apart from times."""
    files = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}
    return {name: content(file) for name, file in files.items() if "/." not in f"/{name}"}


def content(file: Path) -> str:
    if file.suffix == ".zip":
        with zipfile.ZipFile(file) as archive:
            return str([(info.filename, info.CRC) for info in archive.infolist()])
    if file.suffix == ".pt":
        state = torch.load(file, weights_only=True)["state"]
        return str({name: hash(tensor.numpy().tobytes()) for name, tensor in state.items()})
    return hashlib.sha256(file.read_bytes()).hexdigest()


def orphans(tag: str) -> int:
    found = 0
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it ended
            found += f"KILLS={tag}".encode() in environment.read_bytes()
    return found


def kill_once(writer, folder: Path, seconds: float, wanted: dict[str, str]) -> Counter:
    written, tag = prepare(folder), uuid.uuid4().hex
    process = start(writer, written, tag)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    limit = time.monotonic() + GRACE
    while orphans(tag) and time.monotonic() < limit:
        time.sleep(0.1)
    still, there = orphans(tag), contents(written)
    run_whole(writer, written)
    begun = Counter(file.name.split("-")[0] for file in (folder / "begun").iterdir())
    return Counter(
        half=sum(wanted.get(name) != text for name, text in there.items()),
        other=len(wanted.items() ^ contents(written).items()),
        left=len([*folder.rglob(".*")]),
        orphans=still,
        again=sum(begun.values()) - len(begun),
    )


def main(kills: int = 100, seed: int = 0) -> None:
    draw, faults = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as temporary:
        for place, writer in enumerate(WRITERS):
            folder, found = Path(temporary) / writer.__name__, Counter()
            seconds, wanted = run_whole(writer, prepare(folder)), contents(folder / "written")
            count = len(range(place, kills, len(WRITERS)))
            for _ in range(count):
                found.update(kill_once(writer, folder, draw.uniform(0, seconds), wanted))
            told = ", ".join(f"{name} {number}" for name, number in found.items())
            print(f"{writer.__name__:12}{count} kills: {told}", flush=True)
            faults += found.total() - min(found["again"], 2 * count)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
