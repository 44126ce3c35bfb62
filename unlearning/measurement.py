"""One way from a network to numbers: read it once, then compare it with the retrained one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from torch import nn

from .core.devices import machine
from .core.images import Images
from .core.layers import copy_of, reinitialise
from .core.loop import Timed
from .metrics import (
    accuracy,
    activation_distance,
    average_gap,
    confidence_attack,
    cross_entropies,
    js_divergence,
    membership_attack,
    tug_of_war,
    zero_retrain_forgetting,
)
from .metrics.membership import FEWEST_ATTACKED
from .splitting import Split
from .training import predict

ARRAYS = ("forget_logits", "forget_labels", "test_losses")


class Measurement(NamedTuple):
    """Metrics of one network, and the outputs needed to compare it with another.

    ``numbers`` are fractions; which ones, ``measure`` says.
    """

    numbers: dict[str, float]
    forget_logits: np.ndarray  # (F, K), float32, on the forget set
    forget_labels: np.ndarray  # (F,)
    test_losses: np.ndarray  # (T,), cross-entropies of the test images of retained classes

    @property
    def forget_losses(self) -> np.ndarray:
        """Cross-entropy of each forgotten image in nats, (F,)."""
        return cross_entropies(self.forget_logits, self.forget_labels)

    def compare_to(self, retrained: Measurement) -> dict[str, float]:
        """Its numbers, and those that say how far it is from the retrained network.

        Adds ``js_to_retrained`` and ``activation_distance``, on the forget set, ``tug_of_war`` and,
        where the attacks were made, ``average_gap``.
        """
        logits = self.forget_logits, retrained.forget_logits
        compared = {
            "js_to_retrained": js_divergence(*logits),
            "activation_distance": activation_distance(*logits),
            "tug_of_war": tug_of_war(self.numbers, retrained.numbers),
        }
        if "confidence_attack" in self.numbers:
            compared["average_gap"] = average_gap(self.numbers, retrained.numbers)
        return self.numbers | compared

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays by name, to be kept in a file."""
        kept = {name: getattr(self, name) for name in ARRAYS}
        kept["test_losses"] = self.test_losses.astype(np.float32)
        return {**{name: np.float64(x) for name, x in self.numbers.items()}, **kept}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Measurement:
        """The inverse of ``arrays``; scalars that are not floats are left out."""
        numbers = {
            name: float(array)
            for name, array in arrays.items()
            if np.ndim(array) == 0 and np.asarray(array).dtype.kind == "f"
        }
        return cls(numbers, *(arrays[name] for name in ARRAYS))


def measure(
    model: nn.Module,
    split: Split,
    test: Images,
    *,
    attacks: bool = True,
    attacked: int = 1000,
    seed: int = 0,
) -> Measurement:
    """Read a network once on every set, and compute all metrics that need no other network.

    - ``retain_accuracy``, ``forget_accuracy``: on the two parts of the training set.
    - ``test_accuracy``: on the test images of retained classes; if classes are forgotten,
      ``test_forget_accuracy`` on those of the forgotten classes.
    - ``membership_attack``, ``confidence_attack``: against test images. If classes are forgotten,
      the first is against test images of these classes, since other classes differ in more than
      membership; it is NaN if fewer than ten images would have to be told apart.
    - ``zrf``: against an untrained network of the same shape, on the forget set.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        split: what it was to retain and to forget.
        test: test images of all classes.
        attacks: whether to compute the two attacks and ZRF, which take most of the time.
        attacked: largest number of examples per side that the confidence attack is fitted to: the
            time of an SVM grows with their square.
        seed: random seed for the attacks' draws and the untrained network.
    """
    forgotten = split.forget_classes
    parts = {"retain": split.retain, "forget": split.forget}
    parts["test"] = test.without_classes(forgotten) if forgotten else test
    if set(forgotten) & set(test.labels.tolist()):
        parts["test_forget"] = test.of_classes(forgotten)
    read = {part: predict(model, images.sequential_batches()) for part, images in parts.items()}
    numbers = {f"{part}_accuracy": accuracy(*read[part]) for part in parts}
    losses = {part: cross_entropies(*read[part]) for part in parts}
    forget_logits, forget_labels = read["forget"]
    if attacks:
        numbers |= _attacks(losses, attacked, seed)
        untrained = reinitialise(copy_of(model), seed=seed)
        untrained_logits, _ = predict(untrained, split.forget.sequential_batches())
        numbers["zrf"] = zero_retrain_forgetting(forget_logits, untrained_logits)
    return Measurement(numbers, forget_logits.numpy(), forget_labels.numpy(), losses["test"])


def measure_seeds(
    make: Callable[[int], Timed],
    split: Callable[[int], Split],
    test: Images,
    *,
    keep: Callable[[Measurement], dict[str, np.ndarray]] = Measurement.arrays,
    more: Callable[[nn.Module, Split, Images], dict[str, float]] | None = None,
    attacks: bool = True,
) -> Callable[[list[int]], dict[str, np.ndarray]]:
    """Return the function that ``run_many`` calls: make a network for each seed and measure it.

    Args:
        make: ``make(seed)`` -> a network and the seconds that it took.
        split: ``split(seed)`` -> what that network was to retain and to forget.
        test: test images.
        keep: what is kept of a measurement, as arrays by name.
        more: ``more(model, split, test)`` -> further numbers of a network.
        attacks: as ``measure``.

    Returns:
        ``measure(seeds)`` -> {name: array (len(seeds), ...)}, among them "seconds", and "device"
        and "torch", which say what it was measured on.
    """

    def row(seed: int) -> dict[str, np.ndarray]:
        network, seconds = make(seed)
        own_split = split(seed)
        measured = measure(network, own_split, test, attacks=attacks)
        if more is not None:
            measured.numbers.update(more(network, own_split, test))
        texts = {name: np.array(text, "U64") for name, text in machine().items()}
        return {**keep(measured), "seconds": np.float64(seconds), **texts}

    def measured(seeds: list[int]) -> dict[str, np.ndarray]:
        rows = [row(seed) for seed in seeds]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    return measured


def _attacks(losses: dict[str, np.ndarray], attacked: int, seed: int) -> dict[str, float]:
    """The two membership attacks, from the cross-entropies of every part."""
    sides = losses["forget"], losses.get("test_forget", losses["test"])
    attackable = min(len(side) for side in sides) >= FEWEST_ATTACKED
    generator = np.random.default_rng(seed)
    known = [generator.permutation(np.exp(-losses[part]))[:attacked] for part in ("retain", "test")]
    return {
        "membership_attack": membership_attack(*sides, seed=seed) if attackable else np.nan,
        "confidence_attack": confidence_attack(*known, np.exp(-losses["forget"]), seed=seed),
    }
