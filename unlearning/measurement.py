"""One way from a network to numbers: read it once, then compare it with the retrained one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from .core.batches import Batches
from .core.checks import check_seed
from .core.devices import machine
from .core.images import Images
from .core.layers import copy_of, reinitialise
from .core.loop import Timed
from .core.own_sets import batches_of
from .metrics import (
    accuracy,
    activation_distance,
    average_gap,
    cross_entropies,
    js_divergence,
    membership_attack,
    svc_attacks,
    tug_of_war,
    zero_retrain_forgetting,
)
from .metrics.membership import FEWEST_ATTACKED
from .splitting import Split, forgotten_classes
from .training import predict

Readable = Images | Dataset | Batches
Predicted = tuple[Tensor, Tensor]  # logits (S, K) and labels (S,)
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

        Raises:
            ValueError: if the two were measured on other forget sets, or in another order.
        """
        if not np.array_equal(self.forget_labels, retrained.forget_labels):
            raise ValueError("both networks must be measured on one forget set in the same order")
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
        """All of it as arrays by name, to be kept in a file; logits and losses as float16.

        Half precision changes a logit by a thousandth of it at most, and a JS divergence in its
        sixth digit.
        """
        halves = {name: _half(getattr(self, name)) for name in ("forget_logits", "test_losses")}
        numbers = {name: np.float64(number) for name, number in self.numbers.items()}
        return {**numbers, **halves, "forget_labels": self.forget_labels}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Measurement:
        """The inverse of ``arrays``; scalars that are not floats are left out."""
        numbers = {
            name: float(array)
            for name, array in arrays.items()
            if np.ndim(array) == 0 and np.asarray(array).dtype.kind == "f"
        }
        single = {np.dtype(np.float16): np.float32}
        kept = (arrays[name] for name in ARRAYS)
        return cls(numbers, *(array.astype(single.get(array.dtype, array.dtype)) for array in kept))


def _half(array: np.ndarray) -> np.ndarray:
    """As float16; larger numbers become the largest one."""
    largest = np.finfo(np.float16).max
    return np.clip(array, -largest, largest).astype(np.float16)


def measure(
    model: nn.Module,
    split: Split,
    test: Readable | Split,
    *,
    attacks: bool = True,
    attacked: int = 1000,
    seed: int = 0,
    untrained: nn.Module | None = None,
) -> Measurement:
    """Read a network once on every set, and compute all metrics that need no other network.

    - ``retain_accuracy``, ``forget_accuracy``: on the two parts of the training set.
    - ``test_accuracy``: on the test images of retained classes; if classes are forgotten,
      ``test_forget_accuracy`` on those of the forgotten classes. A ``Split`` says which are which.
    - ``membership_attack``: the simple attack, on the losses of test images. If classes are
      forgotten, these are of the same classes, since others differ in more than membership; it is
      NaN if fewer than ten images would have to be told apart.
    - ``confidence_attack``, ``correctness_attack``, ``entropy_attack``,
      ``modified_entropy_attack``, ``probability_attack``: as ``svc_attacks``.
    - ``zrf``: against an untrained network of the same shape, on the forget set.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        split: what it was to retain and to forget, each as ``test``.
        test: test images of all classes: ``Images``, or a data set or batches of (images, labels),
            normalised, that can be read again in the same order, such as a DataLoader. Or a
            ``Split`` of them, where labels do not tell which are like the forgotten ones.
        attacks: whether to compute the attacks and ZRF, which take most of the time.
        attacked: largest number of examples per side that the attacks by feature are fitted to: the
            time of an SVM grows with their square.
        seed: random seed for the attacks' draws and the untrained network.
        untrained: the network that ZRF compares with; by default ``model`` with its weights drawn
            again. ZRF is NaN if a layer cannot do that, as in a vision transformer.

    Raises:
        ValueError: if a set cannot be read again, or the test set has forgotten classes alone.
    """
    seed, (retain, forget) = check_seed(seed), split
    read = {
        "retain": predict(model, batches_of(retain)),
        "forget": predict(model, batches_of(forget)),
    }
    forgotten = forgotten_classes(read["retain"][1], read["forget"][1])
    if isinstance(test, Split):
        parts = {"test": test.retain, "test_forget": test.forget}
        read |= {part: predict(model, batches_of(own)) for part, own in parts.items()}
    else:
        read |= _by_class(*predict(model, batches_of(test)), forgotten)
    numbers = {f"{part}_accuracy": accuracy(*read[part]) for part in read}
    losses = {part: cross_entropies(*read[part]) for part in read}
    if attacks:
        numbers |= _attacks(read, losses, attacked, seed)
        untrained = _drawn_again(model, seed) if untrained is None else untrained
        numbers["zrf"] = _zrf(untrained, forget, *read["forget"])
    forget_logits, forget_labels = read["forget"]
    return Measurement(numbers, forget_logits.numpy(), forget_labels.numpy(), losses["test"])


def measure_seeds(
    make: Callable[[int], Timed],
    split: Callable[[int], Split],
    test: Images | Split,
    *,
    keep: Callable[[Measurement], dict[str, np.ndarray]] = Measurement.arrays,
    more: Callable[[nn.Module, Split, Images, int], dict[str, float]] | None = None,
    attacks: bool = True,
    untrained: Callable[[], nn.Module | None] = lambda: None,
) -> Callable[[list[int]], dict[str, np.ndarray]]:
    """Return the function that ``run_many`` calls: make a network for each seed and measure it.

    Args:
        make: ``make(seed)`` -> a network and the seconds that it took.
        split: ``split(seed)`` -> what that network was to retain and to forget.
        test: test images, as ``measure``.
        keep: what is kept of a measurement, as arrays by name.
        more: ``more(model, split, test, seed)`` -> further numbers of a network.
        attacks: as ``measure``.
        untrained: makes the network that ``measure`` is given by this name.

    Returns:
        ``measure(seeds)`` -> {name: array (len(seeds), ...)}, among them "seconds", and "device"
        and "torch", which say what it was measured on.
    """

    def row(seed: int) -> dict[str, np.ndarray]:
        network, seconds = make(seed)
        own_split = split(seed)
        measured = measure(network, own_split, test, attacks=attacks, untrained=untrained())
        if more is not None:
            measured.numbers.update(more(network, own_split, test, seed))
        texts = {name: np.array(text, "U64") for name, text in machine().items()}
        return {**keep(measured), "seconds": np.float64(seconds), **texts}

    def measured(seeds: list[int]) -> dict[str, np.ndarray]:
        rows = [row(seed) for seed in seeds]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    return measured


def compared(
    rows: Sequence[Mapping[str, np.ndarray]], goals: Sequence[Measurement | None]
) -> Iterator[tuple[dict[str, Any], Measurement]]:
    """Numbers of each row of what ``measure_seeds`` gives, and the measurement they are taken from.

    Args:
        rows: for each network, its row of every array.
        goals: measurement of the retrained network of each row; None stands for the row's own.
    """
    for row, goal in zip(rows, goals, strict=True):
        own = dict(row)
        seconds, texts = float(own.pop("seconds")), {name: str(own.pop(name)) for name in machine()}
        measured = Measurement.from_arrays(own)
        numbers = measured.compare_to(measured if goal is None else goal)
        yield {"seconds": seconds, **numbers, **texts}, measured


def _by_class(logits: Tensor, labels: Tensor, forgotten: tuple[int, ...]) -> dict[str, Predicted]:
    """What was read of the test set: of retained classes and, if there are any, of forgotten ones.

    Raises:
        ValueError: if there is nothing of retained classes.
    """
    of_forgotten = torch.isin(labels, torch.tensor(forgotten, dtype=labels.dtype))
    if of_forgotten.all():
        raise ValueError(
            f"the test set holds nothing but the forgotten classes {forgotten}: give test images "
            "of retained classes, too"
        )
    parts = {"test": ~of_forgotten, "test_forget": of_forgotten}
    return {name: (logits[own], labels[own]) for name, own in parts.items() if own.any()}


def _drawn_again(model: nn.Module, seed: int) -> nn.Module | None:
    """The network untrained; None if one of its layers cannot draw its weights again."""
    network = copy_of(model)
    try:
        return reinitialise(network, seed=seed)
    except ValueError:
        return None


def _zrf(untrained: nn.Module | None, forget: Readable, logits: Tensor, labels: Tensor) -> float:
    if untrained is None:
        return np.nan
    untrained_logits, again = predict(untrained, batches_of(forget))
    if not torch.equal(labels, again):
        raise ValueError("the forget set came in another order the second time: do not shuffle it")
    return zero_retrain_forgetting(logits, untrained_logits)


def _attacks(
    read: Mapping[str, Predicted], losses: Mapping[str, np.ndarray], attacked: int, seed: int
) -> dict[str, float]:
    """The simple attack on the losses, and those by each feature of the outputs."""
    sides = losses["forget"], losses.get("test_forget", losses["test"])
    attackable = min(len(side) for side in sides) >= FEWEST_ATTACKED
    generator = np.random.default_rng(seed)
    known = []
    for logits, labels in (read["retain"], read["test"]):
        chosen = generator.permutation(len(labels))[:attacked]
        known += logits[chosen], labels[chosen]
    by_feature = svc_attacks(*known, *read["forget"], seed=seed)
    return {
        "membership_attack": membership_attack(*sides, seed=seed) if attackable else np.nan,
        **{f"{feature}_attack": share for feature, share in by_feature.items()},
    }
