"""Networks of every kind for one split, by the hundred: made, measured, kept, timed, compared."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from ..core.batches import Batches
from ..core.files import slug
from ..core.images import Images
from ..core.loop import Timed, timed
from ..hyperparameters import Method, bind
from ..many import load_or_run
from ..measurement import measure_seeds
from ..metrics.forgetting_quality import ForgettingQuality
from ..report import write_csv
from ..splitting import Split
from .costs import cost_table, costs
from .replicates import FEWEST, blocks, interval_table, join_starts, replicates
from .scoring import Arrays, score_arrays
from .tables import attack_table, quality_table

ROUNDS = 10  # of timing
TOGETHER = 8  # networks in a block where each has its own original
APART = 1_000  # seeds of two kinds that are trained from scratch differ by this, or by their number


class Networks:
    """Hundreds of networks of each kind, measured alike, for one split.

    ``measured`` has, by name, what ``score_arrays`` keeps of ``count`` networks; of a method, they
    are those of one original, as in the challenge. ``of_starts`` has as many that come from all
    originals, one block each: see ``replicates``. With as many starts as networks, each network is
    unlearned from an original of its own, in both, and blocks of eight are compared.

    Args:
        folder: where measurements and tables are kept; what is there is not made again.
        split: what is retained and what is forgotten.
        test: test images.
        count: networks of each kind.
        starts: originals, fewer than half of ``count`` or as many.
        about: what else the networks depend on, in values that JSON has.
    """

    def __init__(
        self, folder: Path, split: Split, test: Images, *, count: int, starts: int, about: dict
    ):
        self.folder, self.split, self.test = Path(folder), split, test
        replicates = max(FEWEST, count // TOGETHER) if starts == count else starts
        self.count, self.blocks, self.about = count, blocks(count, replicates), about
        self.each_its_own = starts == count
        self.measured: dict[str, Arrays] = {}
        self.of_starts: dict[str, Arrays] = {}
        self.makes: dict[str, Callable[[int], Timed]] = {}
        self.values: dict[str, dict] = {}
        self.unlearned: list[str] = []  # names of methods

    def train(self, name: str, make: Callable[[int], nn.Module]) -> None:
        """Measure ``make(seed)`` for ``count`` seeds that no other kind has; each is a start."""
        place = [*self.makes, name].index(name)  # the same if the cell is run again
        first = (place + 1) * max(APART, self.count)
        self.makes[name], self.values[name] = partial(timed, make), {}
        found = self._measure(name, range(first, first + self.count), values={})
        self.measured[name] = self.of_starts[name] = found

    def unlearn(
        self,
        name: str,
        method: Method,
        original: Callable[[int], nn.Module],
        values: dict[str, Any],
        batches: Callable[[Images, int], Batches],
    ) -> None:
        """Measure what a method makes: ``count`` times of one original, a block of each other.

        With as many originals as networks: once for each.

        Args:
            name: of the rows.
            method: its data is bound as ``hyperparameters.bind`` says.
            original: ``original(start)`` -> a network, called where nothing is kept, and not timed.
            values: its hyperparameters, in values that JSON has.
            batches: ``batches(images, seed)`` -> batches of a set.
        """

        def make(seed: int, per_start: int = self.count) -> Timed:
            start = original(seed // per_start)
            return timed(method, start, **bind(method, self.split, seed, batches), **values)

        self.values[name] = values
        self.unlearned = [*dict.fromkeys([*self.unlearned, name])]
        if self.each_its_own:
            self.makes[name] = partial(make, per_start=1)
            found = self._measure(name, range(self.count), values=values, originals=self.count)
            self.measured[name] = self.of_starts[name] = found
            return
        self.makes[name] = make
        self.measured[name] = found = self._measure(name, range(self.count), values=values)
        size, others = len(self.blocks[0]), range(len(self.blocks[0]), self.blocks[-1].stop)
        label, of_others = f"{name}, other starts", partial(make, per_start=size)
        more = self._measure(label, others, of_others, values=values, per_start=size)
        self.of_starts[name] = join_starts(found, more, self.blocks)

    def _measure(
        self, name: str, seeds: range, make: Callable[[int], Timed] | None = None, **more: Any
    ) -> Arrays:
        split, keep = self.split, {"keep": score_arrays, "attacks": False}
        measure = measure_seeds(make or self.makes[name], lambda seed: split, self.test, **keep)
        file, configuration = f"{slug(name)}.npz", {**self.about, "method": name, **more}
        path = self.folder / "networks" / file
        return load_or_run(path, measure, seeds, configuration=configuration, title=name)

    def intervals(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """``replicates`` of all kinds and their ``interval_table``, written as csv files."""
        rows = replicates(self.of_starts, self.blocks)
        table = interval_table(rows)
        write_csv(rows, self.folder / "replicates.csv")
        write_csv(table.reset_index(names="method"), self.folder / "intervals.csv")
        return rows, table

    def table(self) -> tuple[pd.DataFrame, dict[str, ForgettingQuality]]:
        """``quality_table`` and ``attack_table`` of ``measured``, written as one csv file.

        The seconds are those of ``costs``, from ten rounds, fewer for less than 320 networks, and
        are kept as the measurements are.
        """
        rounds = min(ROUNDS, max(2, self.count // 32))
        seconds = load_or_run(
            self.folder / "costs.npz",
            partial(costs, self.makes),
            range(rounds),
            configuration={**self.about, "values": self.values},
            group=rounds,
            n_jobs=1,
            title="timing",
        )
        numbers, found = quality_table(self.measured, cost_table(seconds))
        numbers = numbers.join(attack_table(self.measured))
        write_csv(numbers.reset_index(names="method"), self.folder / "forgetting_quality.csv")
        return numbers, found
