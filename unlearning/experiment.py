"""Method x scenario x seed: every network is made and measured once, kept, and resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from . import report
from .core.batches import ImageBatches
from .core.devices import pick_device
from .core.files import CHECKPOINTS, slug
from .core.identity import described, identity_of
from .core.images import Images
from .core.loop import Diverged, Timed, timed
from .core.progress import Progress
from .data import train_and_test
from .hyperparameters import Method, bind, resolve, supports, swept
from .many import check_seeds, run_many
from .measurement import Measurement, compared, measure_seeds
from .models import check_network, name_of
from .report import STANDARD
from .scenarios import Scenario, choose, scenarios_of
from .splitting import Split
from .training import digest_of_images, fresh_network, identity_of_own, load_or_train

AGAIN = 10_000  # added to a seed for the second retrained network, which gives the noise floor
OURS = ("original", "retrained again", "retrained")  # rows that ``prepare`` makes

Key = tuple[str, str, int]  # of a row: name, scenario, seed
Found = tuple[dict[str, Any], Measurement]  # numbers of a network and what they were taken from


def prepare(
    dataset: str | tuple[Any, Any],
    *,
    scenarios: str | Scenario | Iterable[str | Scenario],
    seeds: Iterable[int],
    model: str | Callable[[], nn.Module] = "cnn",
    train_size: int | None = None,
    test_size: int | None = None,
    batch_size: int = 64,
    augment: bool | str = False,
    more: Callable[[nn.Module, Split, Images], dict[str, float]] | None = None,
    n_jobs: int | None = 1,
    folder: Path | str = CHECKPOINTS,
    kept: Path | str | None = None,
    **training: Any,
) -> Experiment:
    """Train or load, for every scenario and seed, the original and the retrained network.

    The table then has three rows: the original, the network retrained without the forget set, and
    "retrained again", the same with another seed: the noise floor. ``Experiment.run`` adds others::

        setting = prepare("mnist", scenarios=["class 5"], seeds=[0, 1], epochs=5, lr=0.1)
        setting.run("fine-tuning", fine_tune, lr=0.1)
        setting.table()

    Args:
        dataset: name of a set, as ``load`` takes it, or (training images, test images), each
            ``Images`` or what ``Images.of`` takes.
        scenarios: what to forget, as ``scenarios`` describes.
        seeds: random seeds, each for initialisation, order and random split of one repetition.
        model: as ``load_or_train``. What a function makes is the untrained network of ZRF, too.
        train_size, test_size: take fixed, class-balanced subsets, as ``load``.
        batch_size, augment: as ``Images.batches``, for training and unlearning alike.
        more: ``more(model, split, test)`` -> further numbers for every row.
        n_jobs: processes, as ``run_many``; 1 works in this one.
        folder: for checkpoints and measurements; a stopped run continues from there.
        kept: another folder for originals and measurements; what the repo ships is read as well.
        **training: ``epochs``, ``lr`` and other arguments of ``load_or_train``.

    Raises:
        ValueError: if a set, scenario, class, seed or network does not exist or does not fit.
    """
    train, test = train_and_test(dataset, train_size=train_size, test_size=test_size)
    check_network(fresh_network(model, train, 0), train)
    experiment = Experiment(
        name=report.setting_name(dataset, name_of(model)),
        train=train.to(pick_device()),
        test=test.to(pick_device()),
        scenarios=scenarios_of(scenarios, train),
        seeds=check_seeds(seeds),
        training={"model": model, "batch_size": batch_size, "augment": augment, **training},
        more=more,
        n_jobs=n_jobs,
        folder=Path(folder),
        kept=Path(kept) if kept else None,
    )
    experiment.sizes()  # a split that cannot be made is refused before training
    experiment._measure_ours()
    return experiment


@dataclass
class Experiment:
    """What ``prepare`` returns: its arguments, and rows keyed (name, scenario, seed).

    A new run replaces its rows. ``training`` has the arguments of ``load_or_train``.
    """

    name: str
    train: Images
    test: Images
    scenarios: dict[str, Scenario]
    seeds: list[int]
    training: dict[str, Any]
    more: Callable | None = None
    n_jobs: int | None = 1
    folder: Path = CHECKPOINTS
    kept: Path | None = None
    rows: dict[Key, dict] = field(default_factory=dict)
    measurements: dict[Key, Measurement] = field(default_factory=dict)

    def split(self, scenario: str, seed: int) -> Split:
        """What is retained and what is forgotten, as images."""
        return self.scenarios[choose(scenario, self.scenarios)[0]].split(self.train, seed)

    def original(self, seed: int) -> nn.Module:
        """The network trained on all images."""
        return self._train("original", "", seed).result

    def retrained(self, scenario: str, seed: int) -> nn.Module:
        """The network trained from scratch on the retained images alone."""
        return self._train("retrained", scenario, seed).result

    def unlearn(
        self, method: Method, scenario: str, seed: int, hyperparameters: Mapping[str, Any]
    ) -> Timed:
        """Run a method once, and time it; its data is bound as ``hyperparameters.bind`` says."""
        data = bind(method, self.split(scenario, seed), seed, self.batches)
        own = resolve(hyperparameters, self.scenarios[scenario])
        return timed(method, self.original(seed), **{**data, **own})

    def batches(self, images: Images, seed: int) -> ImageBatches:
        """Shuffled batches of these images, as training had them."""
        options = {name: self.training[name] for name in ("batch_size", "augment")}
        return images.batches(shuffle=True, seed=seed, **options)

    def run(
        self,
        name: str,
        method: Method,
        *,
        scenarios: str | Sequence[str] | None = None,
        **hyperparameters: Any,
    ) -> None:
        """Unlearn with a method for every scenario and seed, and add or replace its rows.

        A method that needs whole classes is left out where single images are forgotten.

        Args:
            name: name of the rows.
            method: a function of a network and of data that ``hyperparameters.bind`` knows.
            scenarios: only these; by default all.
            **hyperparameters: of the method; a dict gives each scenario, or kind of scenario, its
                own value: ``alpha={"random": 0.8, "class": 0.99}``.

        Raises:
            ValueError: if the name belongs to a row of ``prepare``, or a scenario does not exist.
            Diverged: if the method's loss is no longer finite.
        """
        if name in OURS:
            raise ValueError(f"{name!r} is a row that prepare makes: choose another name")
        usable = self._usable(scenarios, method)
        with Progress(name, len(usable) * len(self.seeds), unit="networks"):
            for of in usable:
                self._keep(name, of, self._measure_method(method, of, self.seeds, hyperparameters))

    def sweep(
        self,
        method: Method,
        *,
        scenarios: str | Sequence[str] | None = None,
        seeds: Iterable[int] | None = None,
        **hyperparameters: Any,
    ) -> pd.DataFrame:
        """Vary one hyperparameter, the one given as a list; the table stays as it is.

        Args:
            method, scenarios, seeds: as ``run``; only these seeds, by default all.
            **hyperparameters: exactly one of them a list.

        Returns:
            One row per run: scenario, seed, the hyperparameter and numbers; none where it diverged.

        Raises:
            ValueError: if not exactly one hyperparameter is a list.
        """
        knob, rows, told = swept(hyperparameters), [], ""
        chosen = self.seeds if seeds is None else check_seeds(seeds)
        if unknown := set(chosen) - set(self.seeds):  # nothing was retrained to compare with
            raise ValueError(f"seed {min(unknown)} was not prepared: there are {self.seeds}")
        todo = list(product(self._usable(scenarios, method), hyperparameters[knob]))
        with Progress(knob, len(todo) * len(chosen), unit="networks"):
            for scenario, value in todo:
                own = {**hyperparameters, knob: value}
                try:
                    found = self._measure_method(method, scenario, chosen, own)
                except Diverged as error:  # a figure would only show a gap
                    told += f"{scenario}, {knob} {value}: {error}\n"
                    continue
                about = {"scenario": scenario, knob: value}
                rows += [about | {"seed": seed, **numbers} for seed, (numbers, _) in found.items()]
        print(told, end="")  # the bar is gone
        return pd.DataFrame(rows)

    def records(self, scenario: str) -> list[dict]:
        """One row per run in a scenario, as ``report.table`` takes them."""
        return [row for (_, of, _), row in self.rows.items() if of == scenario]

    def numbers(self, scenario: str) -> pd.DataFrame:
        """Mean and spread over seeds, as ``report.table`` gives them."""
        return report.table(self.records(scenario))

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """``numbers`` of every scenario, as the figures take them."""
        return {of: self.numbers(of) for of in self.scenarios}

    def table(self, columns: Sequence[str] = STANDARD) -> pd.DataFrame:
        """All rows as people read them: per cent, mean ± standard deviation over seeds."""
        return pd.concat({of: report.readable(means, columns) for of, means in self.tables.items()})

    def save(self, folder: Path | str) -> None:
        """Write ``<scenario>_runs.csv`` and ``<scenario>_table.csv`` for every scenario."""
        for scenario in self.scenarios:
            report.save(self.records(scenario), folder, slug(scenario))

    def sizes(self) -> pd.DataFrame:
        """Images retained, forgotten and tested on in every scenario, for the first seed."""
        splits = {of: [*self.split(of, self.seeds[0]), self.test] for of in self.scenarios}
        rows = {of: list(map(len, sets)) for of, sets in splits.items()}
        return pd.DataFrame.from_dict(rows, "index", columns=["retain", "forget", "test"])

    def _usable(self, named: str | Sequence[str] | None, method: Method) -> list[str]:
        return [of for of in choose(named, self.scenarios) if supports(method, self.scenarios[of])]

    def _measure_ours(self) -> None:
        """Make the rows of ``prepare``: the retrained networks first, to compare others with."""
        todo = list(product(self.scenarios, reversed(OURS)))
        with Progress("preparing", len(todo) * len(self.seeds), unit="networks"):
            for scenario, name in todo:
                make = partial(self._train, name, scenario)
                self._keep(name, scenario, self._measure(name, scenario, self.seeds, make))

    def _train(self, name: str, scenario: str, seed: int) -> Timed:
        is_original = name == "original"
        images = self.train if is_original else self.split(scenario, seed).retain
        folder = (is_original and self.kept) or self.folder
        own_seed = seed + AGAIN if name == "retrained again" else seed
        return load_or_train(images, seed=own_seed, folder=folder, **self.training)

    def _measure_method(
        self, method: Method, scenario: str, seeds: list[int], hyperparameters: Mapping[str, Any]
    ) -> dict[int, Found]:
        own = resolve(hyperparameters, self.scenarios[scenario])
        about = {"method": identity_of(method), "hyperparameters": described(own)}
        make = partial(self.unlearn, method, scenario, hyperparameters=own)
        return self._measure(getattr(method, "__name__", "method"), scenario, seeds, make, **about)

    def _measure(
        self, kind: str, scenario: str, seeds: list[int], make: Callable[[int], Timed], **about: Any
    ) -> dict[int, Found]:
        """Numbers and outputs of a network for every seed, from the folder or measured now."""
        more = {"more": self.more, "untrained": self._untrained}
        arrays = run_many(
            measure_seeds(make, partial(self.split, scenario), self.test, **more),
            seeds,
            path=(self.kept or self.folder / "measured") / slug(scenario) / slug(kind),
            configuration={**self.about, "scenario": scenario, "kind": kind, **about},
            group=1,
            n_jobs=self.n_jobs,
            title=scenario if about else f"{kind}, {scenario}",  # a method's name is outside
        )
        goals = [self.measurements.get(("retrained", scenario, seed)) for seed in seeds]
        return dict(zip(seeds, compared(arrays, goals), strict=True))

    def _untrained(self) -> nn.Module | None:
        """A network of one's own as it is made; None if a name says which."""
        model = self.training["model"]
        return None if isinstance(model, str) else fresh_network(model, self.train, 0)

    def _keep(self, name: str, scenario: str, found: dict[int, Found]) -> None:
        for seed, (numbers, self.measurements[name, scenario, seed]) in found.items():
            about = {"method": name, "scenario": scenario, "seed": seed}
            self.rows[tuple(about.values())] = about | numbers

    @cached_property
    def about(self) -> dict:
        """What all networks of this experiment have in common."""
        sets = {"train": digest_of_images(self.train), "test": digest_of_images(self.test)}
        training = described(self.training | identity_of_own(self.training["model"], self.train))
        return {**sets, "training": training, "more": identity_of(self.more)}
