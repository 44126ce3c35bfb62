"""The networks of an experiment: every one is made once, measured once, and kept."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import nn

from .core.batches import ImageBatches
from .core.files import CHECKPOINTS, slug
from .core.identity import described, identity_of
from .core.images import Images
from .core.loop import Timed, timed
from .core.progress import Progress
from .core.workers import imap_unordered, local_processes
from .hyperparameters import Method, bind, resolve
from .many import Arrays, run_many
from .measurement import measure_seeds
from .scenarios import Scenario, choose
from .splitting import Split
from .training import digest_of_images, fresh_network, identity_of_own, load_or_train

AGAIN = 10_000  # added to a seed for the second retrained network, which gives the noise floor

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

    def split(self, scenario: str, seed: int) -> Split:
        """What is retained and what is forgotten, as images."""
        return self.scenarios[choose(scenario, self.scenarios)[0]].split(self.train, seed)

    def original(self, seed: int) -> nn.Module:
        """The network trained on all images."""
        return self.trained("original", "", seed).result

    def retrained(self, scenario: str, seed: int) -> nn.Module:
        """The network trained from scratch on the retained images alone."""
        return self.trained("retrained", scenario, seed).result

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

    def trained(self, name: str, scenario: str, seed: int) -> Timed:
        """The network "original", "retrained" or "retrained again", and its seconds."""
        is_original = name == "original"
        images = self.train if is_original else self.split(scenario, seed).retain
        folder = (is_original and self.artifacts) or self.folder
        own_seed = seed + AGAIN if name == "retrained again" else seed
        return load_or_train(images, seed=own_seed, folder=folder, **self.training)

    def measured_method(
        self, method: Method, scenario: str, seeds: list[int], hyperparameters: Mapping[str, Any]
    ) -> Arrays:
        """``measured`` of the networks that a method unlearned."""
        own = resolve(hyperparameters, self.scenarios[scenario])
        about = {"method": identity_of(method), "hyperparameters": described(own)}
        make = partial(self.unlearn, method, scenario, hyperparameters=own)
        return self.measured(getattr(method, "__name__", "method"), scenario, seeds, make, **about)

    def measured(
        self, kind: str, scenario: str, seeds: list[int], make: Callable[[int], Timed], **about: Any
    ) -> Arrays:
        """What ``measure_seeds`` gives, one row per seed, from the folder or measured now."""
        more = self.more and partial(self._further, scenario)
        options = {"more": more, "untrained": self._untrained}
        return run_many(
            measure_seeds(make, partial(self.split, scenario), self.test, **options),
            seeds,
            path=(self.artifacts or self.folder / "measured") / slug(scenario) / slug(kind),
            configuration={**self.about, "scenario": scenario, "kind": kind, **about},
            group=1,
            n_jobs=self.n_jobs,
            title=scenario if about else f"{kind}, {scenario}",  # a method's name is outside
        )

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

    def _further(
        self, scenario: str, model: nn.Module, split: Split, test: Images, seed: int
    ) -> dict[str, float]:
        """The numbers of ``more``, given the networks of this seed that it asks for by name."""
        of_seed = {
            "original": partial(self.original, seed),
            "retrained": partial(self.retrained, scenario, seed),
        }
        wanted = inspect.signature(self.more).parameters
        networks = {name: made() for name, made in of_seed.items() if name in wanted}
        return self.more(model, split, test, **networks)

    def _untrained(self) -> nn.Module | None:
        """A network of one's own as it is made; None if a name says which."""
        model = self.training["model"]
        return None if isinstance(model, str) else fresh_network(model, self.train, 0)

    @cached_property
    def about(self) -> dict:
        """What all networks of this experiment have in common."""
        sets = {"train": digest_of_images(self.train), "test": digest_of_images(self.test)}
        training = described(self.training | identity_of_own(self.training["model"], self.train))
        return {**sets, "training": training, "more": identity_of(self.more)}
