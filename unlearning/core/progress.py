"""A bar of plain text that says what runs and how long is left, and disappears."""

from __future__ import annotations

import multiprocessing
import shutil
import sys
import time

from tqdm import tqdm

FORMAT = "{desc}: {n_fmt}/{total_fmt} {unit} |{bar:10}| {remaining} left{postfix}"
INTERVAL = 0.5  # seconds between two drawings

_open: list[Progress] = []  # the outermost first: only that one is drawn


class Progress:
    """A bar, drawn in a terminal and in a notebook, from entering a ``with`` block to its end.

    A bar inside another one is not drawn: what it says stands at the end of the outer one, and its
    steps are counted there if they have the same unit. So a cell shows one line, such as
    "all methods: 3/24 networks, 02:10 left, fine-tuning, training 40%".

    Args:
        title: what runs.
        total: number of steps.
        done: steps that need not be made.
        unit: what a step is, in the plural.
    """

    def __init__(self, title: str, total: int, *, done: int = 0, unit: str = "steps"):
        self.title, self.total, self.done, self.unit = title, total, done, unit
        self.bar, self.drawn = None, 0.0

    def __enter__(self) -> Progress:
        _open.append(self)
        if _open[0] is not self:
            if self._counts_outside:
                _open[0].skip(self.done)
            return self
        kernel = in_notebook()
        self.bar = tqdm(
            total=self.total,
            initial=self.done,
            desc=self.title,
            unit=self.unit,
            file=sys.stdout if kernel else sys.stderr,  # a notebook draws errors in red
            disable=not (kernel or _in_terminal()),
            leave=False,
            mininterval=INTERVAL,
            bar_format=FORMAT,
            ncols=shutil.get_terminal_size((100, 24)).columns - 1,
            nrows=24,  # tqdm would ask the terminal, and draw nothing if it answers 0
        )
        return self

    def update(self, steps: int = 1) -> None:
        """Count steps that were made."""
        self.done += steps
        if self.bar is not None:
            self.bar.update(steps)
        elif self._counts_outside:
            _open[0].update(steps)
        if self.bar is None and time.monotonic() - self.drawn > INTERVAL:
            self.drawn = time.monotonic()
            _open[0].bar.set_postfix_str(_inner_text())

    def skip(self, steps: int) -> None:
        """Count steps that need not be made, which say nothing about the time left."""
        self.done += steps
        if not self.bar.disable:
            self.bar.initial += steps
            self.bar.n += steps

    def __exit__(self, *_) -> None:
        _open.remove(self)
        if self.bar is not None:
            self.bar.close()

    @property
    def _counts_outside(self) -> bool:
        return self.bar is None and self.unit == _open[0].unit


def _inner_text() -> str:
    """What the inner bars say; a title that stands in the line already is not repeated."""
    texts = []
    for bar in _open[1:]:
        repeated = any(bar.title in text for text in [_open[0].title, *texts])
        if not bar._counts_outside:
            title = "at" if repeated else bar.title
            texts.append(f"{title} {bar.done / max(1, bar.total):.0%}")
        elif not repeated:
            texts.append(bar.title)
    return ", ".join(texts)


def say(text: str) -> None:
    """Print a line, unless a bar is open, which it would tear, or this is a worker."""
    if not _open and multiprocessing.current_process().name == "MainProcess":
        print(text)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _in_terminal() -> bool:
    """Whether this is the main process, and somebody may look at it."""
    return sys.stderr.isatty() and multiprocessing.current_process().name == "MainProcess"
