"""SISA: an ensemble on disjoint shards, of which only those that held forgotten images train."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..core.batches import Batches
from ..core.checks import check_number, check_positions, check_seed, check_whole
from ..core.devices import device_of
from ..core.images import Images
from ..core.layers import same_modes
from ..core.passes import Steps
from ..core.randomness import derived_seed, order_of
from ..training import fresh_network, pick_device, predict, train


def train_shards(
    images: Images,
    *,
    model: str | Callable[[], nn.Module],
    shards: int = 5,
    slices: int = 5,
    epochs: float = 15,
    lr: float = 0.1,
    weight_decay: float = 5e-4,
    batch_size: int = 64,
    augment: bool | str = False,
    without: Tensor | Iterable[int] = (),
    seed: int = 0,
    **options: Any,
) -> Sisa:
    """Train one network per shard, slice by slice, so that forgetting repeats a part of the work.

    Each image has one shard and one slice in it, drawn from ``seed`` alone. A shard's network
    trains on slice 1, then on slices 1 and 2, and so on; its weights before each slice are kept.
    Each stage makes 2 epochs / (slices + 1) passes over its images, to the nearest step, so that
    together they cost as much as ``epochs`` passes over the whole shard.

    What is drawn depends on seed, shard, slice and epoch, the order of images also on how many are
    left. So on a CPU, the weights of ``train_shards(images, ...).forget(S)`` are bit by bit those
    of ``train_shards(images, ..., without=S)``: forgetting is exact. The price is accuracy.

    Source: Bourtoule et al., Machine Unlearning, IEEE S&P 2021, arXiv 1912.03817. Three differences
    from the released code: images are placed and shuffled at random, there in the order of the data
    set; each stage has a new optimizer, there its state is carried on; answers are averaged by
    default, there the networks vote.

    Args:
        images: training set.
        model, batch_size, augment: as ``load_or_train``, whose network one shard of one slice is.
        shards: number of networks.
        slices: stages per network. More make a request cheaper and take more memory.
        epochs: passes over a shard that all its stages together are worth.
        lr, weight_decay, options: as ``train``; a stage's learning rate falls from ``lr`` to 0.
        without: positions of images that are left out, in a placement of all.
        seed: random seed for placement, initialisation, order and augmentation.

    Raises:
        Diverged: if a loss is no longer finite; names the step and the learning rate.
        ValueError: if slices outnumber images, a position does not exist or a shard is left empty.
    """
    shards, slices = check_whole("shards", shards, least=1), check_whole("slices", slices, least=1)
    passes, found = 2 * check_number("epochs", epochs, "(0, inf)") / (slices + 1), len(images)
    if shards * slices > found:
        raise ValueError(f"{found} images are too few for {shards} shards of {slices} slices")
    rank = order_of(found, derived_seed(check_seed(seed)))
    places = torch.stack([torch.arange(found), rank % shards, rank // shards % slices], 1)
    batches = {"batch_size": batch_size, "shuffle": True, "augment": augment}
    sgd = {"lr": lr, "weight_decay": weight_decay, **options}
    options = {"batches": batches, "passes": passes, "train": sgd}
    new = (Shard(None, (None,) * slices, ()),) * shards
    untrained = Sisa(images, found, places, new, model, options, seed)
    return untrained._trained(untrained._left(without), dict.fromkeys(range(shards), 0))


def expected_share(count: int, shards: int, slices: int) -> float:
    """The share of all training that ``count`` images, placed at random, make necessary again.

    sum_r 2r / (R (R + 1)) (1 - (1 - r / (S R))^count), over the stages r = 1 to R of S shards: a
    stage's share of the work times the probability that it holds one of the images. For one image
    it is (2R + 1) / (3 R S). For R = 1, S times it is the number of shards touched.
    """
    r = np.arange(1, slices + 1)
    touched = 1 - (1 - r / (shards * slices)) ** count
    return float((2 * r * touched).sum() / (slices * (slices + 1)))


class Shard(NamedTuple):
    """A shard's network, its weights before each slice, and the images read in each stage."""

    network: nn.Module
    checkpoints: tuple[dict[str, Tensor], ...]
    reads: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Sisa:
    """An ensemble that can forget exactly, of which nothing is changed: see ``train_shards``."""

    images: Images  # those that are left; nothing of the forgotten ones is kept
    count: int  # of images in the first training set
    places: Tensor  # of each image that is left: position in that set, shard and slice, (N, 3)
    shards: tuple[Shard, ...]
    model: str | Callable[[], nn.Module]
    options: dict[str, Any]  # of a stage: "batches", "passes" and "train"
    seed: int
    images_read: int = 0  # images x epochs of the training or request that made this ensemble

    def forget(self, positions: Tensor | Iterable[int]) -> Sisa:
        """An ensemble that never saw the images at these positions of the first training set.

        This one stays as it is, forgotten images included: drop it. Shards that held none of the
        images are the same objects in both. What is forgotten already stays so, at no cost.
        """
        left = self._left(positions)
        return self._trained(left, self._touched(~left))

    def share(self, positions: Tensor | Iterable[int]) -> float:
        """What forgetting these would train again, as a share of all that was trained."""
        touched = self._touched(~self._left(positions)).items()
        again = sum(sum(self.shards[shard].reads[first:]) for shard, first in touched)
        return again / sum(sum(shard.reads) for shard in self.shards)

    def predict(self, batches: Images | Batches, *, vote: bool = False) -> tuple[Tensor, Tensor]:
        """Scores (N, K), the largest at the answer, and labels (N,).

        Logits: the logarithm of the networks' mean softmax. With ``vote``, the number of networks
        whose answer a class is plus that mean, which decides between ties.
        """
        batches = batches.sequential_batches() if isinstance(batches, Images) else batches
        found = [predict(shard.network, batches) for shard in self.shards]
        logits = torch.stack([one for one, _ in found]).double()
        mean = logits.log_softmax(-1).logsumexp(0) - np.log(len(found))
        votes = nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).sum(0)
        return (votes + mean.exp() if vote else mean).float(), found[0][1]

    def _left(self, positions: Tensor | Iterable[int]) -> Tensor:
        """Which of the images are left without those at ``positions``, (N,)."""
        positions = check_positions(positions, self.count)
        left = ~torch.isin(self.places[:, 0], positions)
        if empty := set(range(len(self.shards))) - set(self.places[left, 1].tolist()):
            which = "all shards" if len(empty) == len(self.shards) else f"shard {min(empty)}"
            raise ValueError(f"{which} would be left without images: forget fewer, or train anew")
        return left

    def _touched(self, gone: Tensor) -> dict[int, int]:
        """For each shard that holds some of these images, the first slice that does."""
        return dict(sorted(self.places[gone, 1:].tolist(), reverse=True))

    def _trained(self, left: Tensor, touched: dict[int, int]) -> Sisa:
        """Train the touched shards again on what is left, from their first touched slice on."""
        images, shards = self.images.select(left.nonzero().flatten()), list(self.shards)
        rest = replace(self, images=images, places=self.places[left])
        for shard, first in touched.items():
            shards[shard] = rest._train(shard, first)
        read = sum(sum(shards[shard].reads[first:]) for shard, first in touched.items())
        return replace(rest, shards=tuple(shards), images_read=read)

    def _train(self, shard: int, first: int) -> Shard:
        """Train a shard's network from its slice ``first`` on, on the images that it holds here."""
        old, (_, of, part) = self.shards[shard], self.places.T
        start = int(part[of == shard].min())  # first weights may depend on this slice alone
        first = first if start < first else 0
        seen = self.images.select(((of == shard) & (part == start)).nonzero())
        network = fresh_network(self.model, seen, derived_seed(self.seed, shard, 0))
        network.to(pick_device())
        if first:
            network.load_state_dict(old.checkpoints[first])
        checkpoints, reads = list(old.checkpoints[:first]), list(old.reads[:first])
        for last in range(first, len(old.checkpoints)):
            state = network.state_dict().items()
            checkpoints.append({name: value.cpu().clone() for name, value in state})
            rows = ((of == shard) & (part <= last)).nonzero()
            seed = derived_seed(self.seed, shard, last)
            reads.append(self._stage(network, rows, seed) if len(rows) else 0)
        return Shard(network.eval(), tuple(checkpoints), tuple(reads))

    def _stage(self, network: nn.Module, rows: Tensor, seed: int) -> int:
        """Train on the images in these rows; return how many were read."""
        images = self.images.select(rows).to(device_of(network))
        steps = Steps(images.batches(seed=seed, **self.options["batches"]), self.options["passes"])
        with same_modes(network):
            train(network, steps, epochs=1, seed=seed, **self.options["train"])
        return steps.read
