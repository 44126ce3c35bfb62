"""Images by a score: thirds by memorisation, and those that are the most exposed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..core.identity import identity_of
from ..core.images import Images
from ..core.own_images import as_tensor
from ..core.randomness import order_of
from ..splitting import Split, forget_indices, size_of
from .base import Scenario, amount_of

THIRDS = ("low", "middle", "high")


@dataclass(frozen=True)
class Scored(Scenario):
    """Images by their score, such as ``halves.memorisation_on_halves(images, ...).scores``.

    - "memorised high 10%", "middle" or "low": a tenth of all images, drawn from that third of all
      by score, others for every seed; "memorised high" is the whole third.
    - "exposed 5%": the images with the highest scores, whatever is scored.

    ``Scenario.parse("memorised high 10%", scores=scores)`` makes it complete. Images without a
    score (NaN) are never forgotten. Equal scores are put in an order that is drawn once, the same
    for every seed: where most are 0, the low and the middle third hardly differ.

    The kind is "random": single images go, of every class.

    Source: Zhao et al., What Makes Unlearning Hard and What to Do About It, NeurIPS 2024, arXiv
    2406.01257, by memorisation; there the images with the lowest and the highest scores and those
    nearest to 0.5 are forgotten, of equal number.

    Args:
        third: "low", "middle" or "high"; None for the most exposed.
        amount: how many; None for a whole third.
        scores: one number per training image, (N,).
    """

    third: str | None
    amount: str | None
    exposed: str | None
    scores: Any = field(default=None, compare=False, repr=False)

    reads = ("memorised high 10%", "exposed 5%")
    pattern = re.compile(
        r"memorised (?P<third>low|middle|high)(?: (?P<amount>.+))?|exposed (?P<exposed>.+)"
    )

    takes = ("scores",)

    def __post_init__(self):
        self._amount()

    @property
    def complete(self) -> bool:
        return self.scores is not None

    @property
    def about(self) -> dict[str, Any]:
        return {"scores": identity_of(as_tensor(self.scores, "scores"))}

    def split(self, images: Images, seed: int) -> Split:
        if not self.complete:
            raise ValueError(
                f"{self.name!r} needs a score for every training image: give "
                f"Scenario.parse({self.name!r}, scores=...) in its place"
            )
        order, amount = by_score(images, self.scores), self._amount()
        if self.third:
            order = order.tensor_split(len(THIRDS))[THIRDS.index(self.third)]
        count = size_of(images, **amount) if amount else len(order)
        if count > len(order):
            raise ValueError(f"{self.name!r} is {count} images, but there are {len(order)} of them")
        order = order[order_of(len(order), seed)] if self.third else order.flip(0)
        return forget_indices(images, order[:count])

    def _amount(self) -> dict[str, float | int]:
        text = self.amount or self.exposed
        return amount_of(text, self.reads) if text else {}


def by_score(images: Images, scores: Any) -> Tensor:
    """Positions of the images that have a score, the lowest first.

    Raises:
        ValueError: if there is not one number per image, or fewer than three have one.
    """
    found = as_tensor(scores, "scores").cpu().double()
    if found.shape != (len(images),):
        raise ValueError(
            f"scores must be of shape ({len(images)},), one per image, not {tuple(found.shape)}"
        )
    order = order_of(len(images), 0)
    order = order[~found[order].isnan()]
    if len(order) < len(THIRDS):
        raise ValueError(f"{len(order)} images have a score: at least {len(THIRDS)} must")
    return order[found[order].argsort(stable=True)]
