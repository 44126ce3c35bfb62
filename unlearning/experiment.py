"""Method x scenario x seed: every network is made and measured once, kept, and resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from . import report
from .core.devices import pick_device
from .core.files import CHECKPOINTS
from .core.loop import Diverged
from .core.progress import Progress
from .data import train_and_test
from .hyperparameters import Method, supports, swept
from .many import Arrays, check_seeds
from .measurement import Measurement, compared
from .models import check_network, name_of
from .scenarios import Scenario, choose, scenarios_of
from .store import Key, NetworkStore
from .training import fresh_network

OURS = ("original again", "original", "retrained again", "retrained")  # rows of ``prepare``

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
    more: Callable[..., dict[str, float]] | None = None,
    noise_floor: bool = True,
    original_again: bool = False,
    n_jobs: int | None = 1,
    folder: Path | str = CHECKPOINTS,
    artifacts: Path | str | None = None,
    keep_networks: bool = False,
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
        scenarios: what to forget, as ``scenarios`` describes. Each may have labels, and so an
            original, of its own.
        seeds: random seeds, each for initialisation, order and random split of one repetition.
        model: as ``load_or_train``. What a function makes is the untrained network of ZRF, too.
        train_size, test_size: take fixed, class-balanced subsets, as ``load``.
        batch_size, augment: as ``Images.batches``, for training and unlearning alike.
        more: ``more(model, split, test)`` -> further numbers for every row; ``test`` is a ``Split``
            where subclasses or wrong labels are forgotten. If it has a parameter ``original`` or
            ``retrained``, it is given that network of the row's scenario and seed.
        noise_floor: False leaves out the networks that are retrained again.
        original_again: whether to add the original with another seed, the noise floor of what is
            compared with the original.
        n_jobs: processes, as ``run_many``; 1 works in this one.
        folder: for checkpoints and measurements; a stopped run continues from there.
        artifacts: another folder for originals and measurements; in that of results, those that the
            repo ships are read as well.
        keep_networks: whether unlearned networks are kept in ``folder``, so that another experiment
            finds them which does the same and measures more.
        **training: ``epochs``, ``lr`` and other arguments of ``load_or_train``.

    Raises:
        ValueError: if a set, scenario, class, seed or network does not exist or does not fit.
    """
    train, test = train_and_test(dataset, train_size=train_size, test_size=test_size)
    named = scenarios_of(scenarios, train)
    labelled = [scenario.labelled(train) for scenario in named.values()]
    for images in {own.num_classes: own for own in labelled}.values():
        check_network(fresh_network(model, images, 0), images)
    experiment = Experiment(
        name=report.setting_name(dataset, name_of(model)),
        train=train.to(pick_device()),
        test=replace(test, classes=train.classes).to(pick_device()),
        scenarios=named,
        seeds=check_seeds(seeds),
        training={"model": model, "batch_size": batch_size, "augment": augment, **training},
        more=more,
        n_jobs=n_jobs,
        folder=Path(folder),
        artifacts=Path(artifacts) if artifacts else None,
        keep_networks=keep_networks,
    )
    experiment.sizes()  # a split that cannot be made is refused before training
    wanted = {"original again": original_again, "retrained again": noise_floor}
    experiment._measure_ours([name for name in OURS if wanted.get(name, True)])
    return experiment


@dataclass
class Experiment(NetworkStore, report.Tables):
    """What ``prepare`` returns: its networks, and rows keyed (name, scenario, seed).

    A new run replaces its rows.
    """

    rows: dict[Key, dict] = field(default_factory=dict)
    methods: dict[tuple[str, str], tuple[Method, dict]] = field(default_factory=dict)
    measurements: dict[Key, Measurement] = field(default_factory=dict)

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
                self._keep(name, of, self.measured_method(method, of, self.seeds, hyperparameters))
                self.methods[name, of] = method, hyperparameters

    def network(self, name: str, scenario: str, seed: int) -> nn.Module:
        """The network of a row: loaded, or unlearned once more, since only numbers are kept.

        Raises:
            ValueError: if there is no such row.
        """
        self._check_row(name, scenario, seed)
        if name in OURS:
            return self.trained(name, scenario, seed).result
        method, hyperparameters = self.methods[name, scenario]
        return self.unlearn(method, scenario, seed, hyperparameters).result

    def add(self, numbers: pd.DataFrame, scenario: str, seed: int) -> None:
        """Add to the rows of one scenario and seed numbers that compare their networks.

        A row that is run again loses them.

        Args:
            numbers: index: names of rows; columns: names of the numbers.
            scenario, seed: of the rows.

        Raises:
            ValueError: if there is no such row.
        """
        for name in numbers.index:
            self._check_row(name, scenario, seed)
        for name, own in numbers.iterrows():
            self.rows[name, scenario, seed] |= own.to_dict()

    def run_all(
        self, methods: Mapping[str, Method], values: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, str]:
        """``run`` of every method wherever it can be used, on all processes at once.

        Args:
            methods: name of the rows -> the method.
            values: name -> its hyperparameters, as ``run`` takes them; by default the method's own.

        Returns:
            "<name>, <scenario>" -> why its rows are missing: it diverged, or does not suit.
        """
        todo = [(name, of) for name, method in methods.items() for of in self._usable(None, method)]
        keys = [(*one, seed) for one, seed in product(todo, self.seeds)]
        keys.sort(key=lambda key: self.scenarios[key[1]].place or 0)  # a request needs the former
        left_out = {}

        def make(alone: Experiment, name: str, scenario: str, seed: int) -> None:
            own = values.get(name, {})
            with suppress(Diverged, ValueError):  # below, it is said
                alone.measured_method(methods[name], scenario, [seed], own)

        with Progress("all methods", len(keys), unit="networks"):
            self.precompute(make, keys, "unlearning")
            for name, scenario in todo:
                try:
                    self.run(name, methods[name], scenarios=scenario, **values.get(name, {}))
                except (Diverged, ValueError) as error:
                    left_out[f"{name}, {scenario}"] = str(error)
        return left_out

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
                    arrays = self.measured_method(method, scenario, chosen, own)
                except Diverged as error:  # a figure would only show a gap
                    told += f"{scenario}, {knob} {value}: {error}\n"
                    continue
                found = self._compared(scenario, chosen, arrays)
                about = {"scenario": scenario, knob: value}
                rows += [about | {"seed": seed, **numbers} for seed, (numbers, _) in found.items()]
        print(told, end="")  # the bar is gone
        return pd.DataFrame(rows)

    def sizes(self) -> pd.DataFrame:
        """Images retained, forgotten and tested on in every scenario, for the first seed."""
        splits = {of: [*self.split(of, self.seeds[0]), self.test] for of in self.scenarios}
        rows = {of: list(map(len, sets)) for of, sets in splits.items()}
        return pd.DataFrame.from_dict(rows, "index", columns=["retain", "forget", "test"])

    def _check_row(self, *key: str | int) -> None:
        if key not in self.rows:
            name, scenario, seed = key
            raise ValueError(f"there is no row {name!r} of {scenario!r}, seed {seed}: run it first")

    def _usable(self, named: str | Sequence[str] | None, method: Method) -> list[str]:
        return [of for of in choose(named, self.scenarios) if supports(method, self.scenarios[of])]

    def _measure_ours(self, names: Sequence[str]) -> None:
        """Make the rows of ``prepare``: the retrained networks first, to compare others with."""
        first, keys = next(iter(self.scenarios)), list(product(names, self.scenarios, self.seeds))
        keys.sort(key=lambda key: key[0] in OURS[:2] and key[1] != first)  # then, it is trained

        def measure_own(alone: NetworkStore, name: str, of: str, *seeds: int) -> list[Arrays]:
            return alone.measured(name, of, list(seeds), partial(alone.trained, name, of))

        with Progress("preparing", len(keys), unit="networks"):
            self.precompute(measure_own, keys, "training")
            for of, name in product(self.scenarios, reversed(names)):
                self._keep(name, of, measure_own(self, name, of, *self.seeds))

    def _compared(self, scenario: str, seeds: list[int], arrays: list[Arrays]) -> dict[int, Found]:
        """Numbers of each seed's network beside the retrained one, and its measurement."""
        goals = [self.measurements.get(("retrained", scenario, seed)) for seed in seeds]
        return dict(zip(seeds, compared(arrays, goals), strict=True))

    def _keep(self, name: str, scenario: str, arrays: list[Arrays]) -> None:
        found = self._compared(scenario, self.seeds, arrays)
        for seed, (numbers, self.measurements[name, scenario, seed]) in found.items():
            about = {"method": name, "scenario": scenario, "seed": seed}
            self.rows[tuple(about.values())] = about | numbers
