"""Several sets read one after another, or one for a number of steps; and how much is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice

import torch
from torch import Tensor, nn

from .batches import Batches, Rereadable, iterate_epochs, set_epoch
from .checks import check_pair


class Passes:
    """A sequence of passes over several sets, for ``minimise`` with ``epochs=1``.

    So one optimizer, one schedule and one stream of random numbers serve all passes. The n-th pass
    over a set is its epoch n, in the order that ``minimise`` would read it then.

    Each batch is (images, labels, the set's place among ``sets``, a tensor of one number).

    Args:
        sets: batches of each.
        order: place in ``sets`` of what is read first, second, and so on.
    """

    def __init__(self, sets: Sequence[Batches], order: Sequence[int]):
        self.inner = tuple(Rereadable(batches) for batches in sets)
        self.order = list(order)

    def set_epoch(self, epoch: int) -> None:
        """Nothing to do: every reading starts anew."""

    def __len__(self) -> int:
        return sum(len(self.inner[place]) for place in self.order)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        epochs = [0] * len(self.inner)
        for place in self.order:
            batches = self.inner[place]
            set_epoch(batches, epochs[place])
            epochs[place] += 1
            for batch in batches:
                yield (*check_pair(batch), torch.tensor([place]))


@contextmanager
def counting(model: nn.Module) -> Iterator[Callable[[], float]]:
    """Count the images that a network and its copies read in a block.

    Yields a function that says how many: a forward pass with gradients, which a backward pass
    usually follows, counts each image once; one without gradients counts a third.
    """
    total = 0.0

    def note(_: nn.Module, inputs: tuple) -> None:  # the hook of a copy notes in the same place
        nonlocal total
        total += len(inputs[0]) * (1 if torch.is_grad_enabled() else 1 / 3)

    hook = model.register_forward_pre_hook(note)
    try:
        yield lambda: total
    finally:
        hook.remove()


class FromEpoch:
    """Batches whose epoch 0 is epoch ``first`` of others, and so on.

    So several calls of ``minimise`` read one set in orders that go on from call to call.
    """

    def __init__(self, batches: Rereadable, first: int):
        self.inner, self.first = (batches,), first

    def set_epoch(self, epoch: int) -> None:
        set_epoch(self.inner[0], self.first + epoch)

    def __len__(self) -> int:
        return len(self.inner[0])

    def __iter__(self) -> Iterator:
        return iter(self.inner[0])


class Steps:
    """As many batches as some passes over a set have, for ``minimise`` with ``epochs=1``.

    So training can end within a pass, and its schedule with it. The batches are those that
    ``minimise`` would read in as many epochs.

    Args:
        batches: of the set.
        passes: a number, of which the nearest whole number of batches is taken, at least one.
    """

    def __init__(self, batches: Batches, passes: float):
        self.inner = (Rereadable(batches),)
        self.count = max(1, round(passes * len(self.inner[0])))
        self.read = 0  # images, so far

    def set_epoch(self, epoch: int) -> None:
        """Nothing to do: every reading starts anew."""

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in islice(iterate_epochs(self.inner[0], count()), self.count):
            self.read += len(labels)
            yield images, labels
