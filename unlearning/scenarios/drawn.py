"""Images drawn at random: at once, or by requests, one after the other."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..core.images import Images
from ..splitting import Split, forget_random, sequence, size_of
from .base import Scenario, amount_of


@dataclass(frozen=True)
class Random(Scenario):
    """Images drawn at random, others for every seed: "random 10%", "random 100"."""

    amount: str

    reads = ("random 10%", "random 100")
    pattern = re.compile(r"random (?P<amount>.+)")

    def __post_init__(self):
        amount_of(self.amount, self.reads)

    def split(self, images: Images, seed: int) -> Split:
        return forget_random(images, **amount_of(self.amount, self.reads), seed=seed)


@dataclass(frozen=True)
class Request(Scenario):
    """A request of a sequence: "request 3 of 2%"; "5 requests of 2%" stands for the first five.

    Every request is a random draw among the images that are left, as many each time. A method is
    given this request's images alone, and what was retained so far; it starts from the network that
    it made of the request before, the first from the original. It is measured on all images
    forgotten by then, and compared with a network retrained without them. The first request is
    "random 2%".

    The draws are random, so the kind is "random".
    """

    number: str | None
    requests: str | None
    amount: str

    reads = ("5 requests of 2%", "request 3 of 2%")
    pattern = re.compile(
        r"(?:request (?P<number>\d+)|(?P<requests>\d+) requests?) of (?P<amount>.+)"
    )

    def __post_init__(self):
        amount_of(self.amount, self.reads)
        if self.place < 1:
            raise ValueError(f"requests are numbered from 1, so there is no {self.name!r}")

    @property
    def place(self) -> int:
        """Its place in the sequence; that of the last if it stands for several."""
        return int(self.number or self.requests)

    @property
    def before(self) -> Request | None:
        return self._at(self.place - 1) if self.place > 1 else None

    def parts(self) -> list[Scenario]:
        if self.number:
            return [self]
        return [self._at(place) for place in range(1, self.place + 1)]

    def _at(self, place: int) -> Request:
        name = f"request {place} of {self.amount}"
        return Request(name, name, str(place), None, self.amount)

    def split(self, images: Images, seed: int) -> Split:
        size = size_of(images, **amount_of(self.amount, self.reads))
        return forget_random(images, count=self.place * size, seed=seed)

    def request(self, images: Images, seed: int) -> Split:
        amount = amount_of(self.amount, self.reads)
        return sequence(images, requests=self.place, **amount, seed=seed)[-1]
