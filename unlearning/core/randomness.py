"""Random state: seeds for a block of code, and the generators that a loader draws from."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .checks import check_whole

Generator = torch.Generator | np.random.Generator | random.Random
DEPTH = 6  # of objects within a loader in which generators are looked for
FEW = 100  # entries of a list or a dict in which they are


def generator_from(seed: int) -> torch.Generator:
    """A generator on the CPU with this seed.

    Raises:
        ValueError: if the seed is not a whole number.
    """
    return torch.Generator().manual_seed(_within_64_bits(check_whole("seed", seed, least=None)))


def order_of(count: int, seed: int) -> Tensor:
    """The numbers from 0 to ``count - 1`` in a random order."""
    return torch.randperm(count, generator=generator_from(seed))


def derived_seed(seed: int, *place: int) -> int:
    """A seed of its own for a place, such as (shard, slice); that of (0, 0, ...) is ``seed``.

    >>> derived_seed(7, 0, 0), derived_seed(7, 0, 1) == derived_seed(7, 1, 0)
    (7, False)
    """
    first = bool(place) and not any(place)
    return seed if first else int(np.random.SeedSequence((seed, *place)).generate_state(1)[0])


def _within_64_bits(seed: int) -> int:
    """The seed, or for one that torch cannot hold, one that it can."""
    return seed if -(2**63) <= seed < 2**64 else seed % 2**63


@contextmanager
def seeded(seed: int, device: torch.device, generators: Iterable[Generator] = ()) -> Iterator[None]:
    """Seed all that may draw in a block, and restore it afterwards.

    That is the global generators of torch, NumPy and Python, and these ``generators``.

    Raises:
        ValueError: if the seed is not a whole number.
    """
    seed = _within_64_bits(check_whole("seed", seed, least=None))
    generators = list(generators)
    states = [_state_of(generator) for generator in generators]
    of_numpy, of_python = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for generator in generators:
            _seed(generator, seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(of_numpy)  # noqa: NPY002
            random.setstate(of_python)
            for generator, state in zip(generators, states, strict=True):
                _restore(generator, state)


def _state_of(generator: Generator) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.get_state() if isinstance(generator, torch.Generator) else generator.getstate()


def _seed(generator: Generator, seed: int) -> None:
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif isinstance(generator, random.Random):
        generator.seed(seed)
    else:
        bits = generator.bit_generator
        bits.state = type(bits)(seed % 2**32).state


def _restore(generator: Generator, state: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.bit_generator.state = state


def generators_of(batches: Any) -> list[Generator]:
    """The generators that a loader, its samplers and its data set hold, or those inside ``inner``.

    Of objects that hold others they are found some levels deep, in attributes and short lists.
    """
    found = {}
    _look(batches, found, set(), 0)
    return list(found.values())


def _look(value: Any, found: dict[int, Generator], seen: set[int], depth: int) -> None:
    if (
        depth > DEPTH
        or id(value) in seen
        or isinstance(value, Tensor | np.ndarray | nn.Module | type)
    ):
        return
    seen.add(id(value))
    if isinstance(value, Generator):
        found[id(value)] = value
        return
    inner = getattr(value, "inner", None)
    if isinstance(inner, tuple):  # batches of ours, whose own generators start anew by themselves
        parts, depth = inner, depth - 1  # so that wrappers, however many, are no level
    elif type(value) in (list, tuple, dict):  # nothing that counts how often it is read
        parts = list(value.values() if isinstance(value, dict) else value)[: FEW + 1]
        parts = parts if len(parts) <= FEW else []
    else:
        parts = [one for name, one in getattr(value, "__dict__", {}).items() if name != "_iterator"]
    for part in parts:
        _look(part, found, seen, depth + 1)
