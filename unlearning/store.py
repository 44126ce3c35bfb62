"""The networks of an experiment: every one is made once, measured once, and kept."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import nn

from .core.batches import ImageBatches
from .core.checkpoints import load_checkpoint, save_checkpoint
from .core.configuration import digest_of
from .core.files import CHECKPOINTS, slug
from .core.identity import described, identity_of
from .core.images import Images
from .core.loop import Timed, timed
from .core.progress import Progress
from .core.workers import imap_unordered, local_processes
from .hyperparameters import Method, bind, resolve
from .many import Arrays, rows_of, run_many
from .measurement import measure_seeds
from .metrics import accuracy
from .scenarios import Scenario, choose
from .splitting import Split
from .training import digest_of_images, fresh_network, identity_of_own, load_or_train, predict

AGAIN = 10_000  # added to a seed for networks trained again, which give the noise floor

Key = tuple[str, str, int]  # of a network: name, scenario, seed


@dataclass
class NetworkStore:
    """Original, retrained and unlearned networks for every scenario and seed.

    Its fields are arguments of ``prepare``; ``training`` has those of ``load_or_train``.
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
    artifacts: Path | None = None
    keep_networks: bool = False

    def split(self, scenario: str, seed: int) -> Split:
        """What is retained and what is forgotten, as images."""
        return self._of(scenario).split(self.train, seed)

    def tested_on(self, scenario: str) -> Images | Split:
        """The test images, as ``measure`` takes them."""
        return self._of(scenario).tested_on(self.test)

    def original(self, seed: int, scenario: str | None = None) -> nn.Module:
        """The network trained on all images, as a scenario labels them; by default the first."""
        return self.trained("original", scenario or next(iter(self.scenarios)), seed).result

    def retrained(self, scenario: str, seed: int) -> nn.Module:
        """The network trained from scratch on the retained images alone."""
        return self.trained("retrained", scenario, seed).result

    def unlearn(
        self, method: Method, scenario: str, seed: int, hyperparameters: Mapping[str, Any]
    ) -> Timed:
        """Run a method once, and time it; its data is bound as ``hyperparameters.bind`` says.

        In a sequence it starts from the network that it made of the request before, and each of
        these is kept in a file; of other scenarios, if ``keep_networks``.
        """
        own = self._of(scenario)
        return self._unlearned(method, own, self.original(seed, scenario), seed, hyperparameters)

    def _unlearned(
        self, method: Method, scenario: Scenario, original: nn.Module, seed: int, values: Mapping
    ) -> Timed:
        """A network loaded, or made of the original or that after the request before, and kept."""
        start, before, keep = original, scenario.before, self.keep_networks or scenario.place
        if keep:
            configuration = {"train": self.about["train"], "training": self.about["training"]}
            configuration |= {"scenario": scenario.name, "seed": seed}
            configuration |= self._recipe(method, scenario, values)
            name = f"{slug(scenario.name)}-{digest_of(configuration)}.pt"
            path = self.folder / "unlearned" / name
            if path.exists():
                network = deepcopy(original)
                return Timed(network, load_checkpoint(path, network, configuration))
        if before is not None:
            start = self._unlearned(method, before, original, seed, values).result
        data = bind(method, scenario.request(self.train, seed), seed, self.batches)
        made = timed(method, start, **{**data, **resolve(values, scenario)})
        if keep:
            save_checkpoint(path, made.result, configuration, seconds=made.seconds)
        return made

    def _recipe(self, method: Method, scenario: Scenario, values: Mapping) -> dict[str, Any]:
        """What tells an unlearned network from others, and those that it was made of."""
        own, before = resolve(values, scenario), scenario.before
        about = {"method": identity_of(method), "hyperparameters": described(own)}
        return about if before is None else about | {"before": self._recipe(method, before, values)}

    def batches(self, images: Images, seed: int) -> ImageBatches:
        """Shuffled batches of these images, as training had them."""
        options = {name: self.training[name] for name in ("batch_size", "augment")}
        return images.batches(shuffle=True, seed=seed, **options)

    def trained(self, name: str, scenario: str, seed: int) -> Timed:
        """The network "original" or "retrained", or either "again", and its seconds."""
        is_original = name.startswith("original")
        own = self._of(scenario)
        images = own.labelled(self.train) if is_original else own.split(self.train, seed).retain
        folder = (is_original and self.artifacts) or self.folder
        own_seed = seed + AGAIN if name.endswith("again") else seed
        return load_or_train(images, seed=own_seed, folder=folder, **self.training)

    def measured_method(
        self, method: Method, scenario: str, seeds: list[int], hyperparameters: Mapping[str, Any]
    ) -> list[Arrays]:
        """``measured`` of the networks that a method unlearned."""
        about = self._recipe(method, self._of(scenario), hyperparameters)
        make = partial(self.unlearn, method, scenario, hyperparameters=hyperparameters)
        return self.measured(getattr(method, "__name__", "method"), scenario, seeds, make, **about)

    def measured(
        self, kind: str, scenario: str, seeds: list[int], make: Callable[[int], Timed], **about: Any
    ) -> list[Arrays]:
        """What ``measure_seeds`` gives of each seed, from the folder or measured now."""
        own = self._of(scenario)
        splits, test = partial(self.split, scenario), self.tested_on(scenario)
        more = {"more": self._more(own), "untrained": self._untrained}
        what = {**self.about, **own.about, "scenario": own.name, "kind": kind, **about}
        keep = partial(
            run_many,
            measure_seeds(make, splits, test, **more),
            path=(self.artifacts or self.folder / "measured") / slug(own.name) / slug(kind),
            configuration=what,
            group=1,
            n_jobs=self.n_jobs,
            title=own.name if about else f"{kind}, {own.name}",  # a method's name is outside
        )
        found = [keep([seed]) for seed in seeds] if own.uneven else [keep(seeds)]
        return [row for arrays in found for row in rows_of(arrays)]

    def precompute(self, make: Callable[..., Any], keys: list[Key], title: str) -> None:
        """Call ``make(self, *key)`` on several processes, if there are, and keep nothing but files.

        So work of one kind need not wait for another: who asks for it later finds the files. A
        cluster might have other folders, so it is not done there.
        """
        if local_processes(self.n_jobs) == 1:
            return
        alone = replace(self, n_jobs=1)

        def call(key: Key) -> None:
            make(alone, *key)

        calls = imap_unordered(call, keys, n_jobs=self.n_jobs)
        with Progress(title, len(keys), unit="precomputed") as bar, closing(calls):
            for _ in calls:
                bar.update()

    def _of(self, scenario: str) -> Scenario:
        return self.scenarios[choose(scenario, self.scenarios)[0]]

    def _more(self, scenario: Scenario) -> Callable | None:
        """``more``, and the accuracy on what a scenario reads besides."""
        besides = scenario.also_read(self.train)

        def more(
            model: nn.Module, split: Split, test: Images | Split, seed: int
        ) -> dict[str, float]:
            read = {name: predict(model, own.sequential_batches()) for name, own in besides.items()}
            found = {f"{name}_accuracy": accuracy(*outputs) for name, outputs in read.items()}
            further = self._further(scenario.name, model, split, test, seed) if self.more else {}
            return found | further

        return more if besides or self.more else None

    @property
    def _labelled(self) -> Images:
        """The training images as the first scenario labels them, which networks must fit."""
        return next(iter(self.scenarios.values())).labelled(self.train)

    def _further(
        self, scenario: str, model: nn.Module, split: Split, test: Images | Split, seed: int
    ) -> dict[str, float]:
        """The numbers of ``more``, given the networks of this seed that it asks for by name."""
        of_seed = {
            "original": partial(self.original, seed, scenario),
            "retrained": partial(self.retrained, scenario, seed),
        }
        wanted = inspect.signature(self.more).parameters
        networks = {name: made() for name, made in of_seed.items() if name in wanted}
        return self.more(model, split, test, **networks)

    def _untrained(self) -> nn.Module | None:
        """A network of one's own as it is made; None if a name says which."""
        model = self.training["model"]
        return None if isinstance(model, str) else fresh_network(model, self._labelled, 0)

    @cached_property
    def about(self) -> dict:
        """What all networks of this experiment have in common."""
        sets = {"train": digest_of_images(self.train), "test": digest_of_images(self.test)}
        own = identity_of_own(self.training["model"], self._labelled)
        training = described(self.training | own)
        return {**sets, "training": training, "more": identity_of(self.more)}
