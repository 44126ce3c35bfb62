"""Images with a wrong label, of which a part is known: corrective unlearning."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ..core.images import Images
from ..core.randomness import order_of
from ..labelling import Corrupted, corrupt
from ..splitting import Split, forget_indices
from .base import Scenario, amount_of, class_number, in_words, several

SEED = 0  # of the wrong labels: they belong to the data set, as every seed finds it


@dataclass(frozen=True)
class Mislabelled(Scenario):
    """Training images with a wrong label; a known part of them is to be forgotten.

    - "mislabelled 10%": a tenth of all training images has a label drawn from the other classes.
    - "mislabelled 10% of 3, 8": a tenth of the images of each of two classes has the label of the
      other.
    - "mislabelled 10%, 50% known": half of those are known and forgotten, drawn by the seed; the
      others stay among the retained images. Without it, all are known.

    The wrong labels are the same for every seed, and the original is trained on them. The yardstick
    is retrained without the known ones. Where only a part is known it still learns the others, so
    it is no optimum: a method may be better.

    ``clean_accuracy`` is over all training images with a wrong label, known or not: the share that
    gets its true one. ``test_accuracy`` is by the true labels, ``test_forget_accuracy`` by wrong
    ones that all test images are given in the same way. The membership attack compares with these:
    any network tells a wrong label from a true one.

    The kind is "random": single images go, and their classes stay.

    Source: Goel et al., Corrective Machine Unlearning, TMLR 2024, arXiv 2402.14015, where the
    corrected accuracy is taken on test images.

    Args:
        share: of the labels that are wrong, a percentage.
        between: two classes whose labels are confused; None for labels of any class.
        known: share of the wrong ones that is forgotten, a percentage; None for all.
    """

    share: str
    between: str | None
    known: str | None

    reads = ("mislabelled 10%", "mislabelled 10% of 3, 8", "mislabelled 10%, 50% known")
    pattern = re.compile(
        r"mislabelled (?P<share>[\d.]+ ?%)(?: of (?P<between>.+?))?"
        r"(?:, (?P<known>[\d.]+ ?%) known)?"
    )

    def __post_init__(self):
        if not 0 < self._share(self.known) <= 1:
            raise ValueError(f"{self.name!r}: the known share must be above 0 and at most 100 %")
        self._share(self.share)

    def bound(self, images: Images) -> Scenario:
        if self.between is None:
            return self
        known = "" if self.known is None else f", {self.known} known"
        words = in_words(self.between, images)
        return replace(self, name=f"mislabelled {self.share} of {words}{known}")

    def labelled(self, images: Images) -> Images:
        return self._corrupted(images).images

    def tested_on(self, test: Images) -> Images | Split:
        between = self._between(test)
        if between and not all((test.labels == label).any() for label in between):
            return test
        noisy, wrong = corrupt(test, 1, seed=SEED, between=between)
        return Split(test, noisy.select(wrong))

    def also_read(self, images: Images) -> dict[str, Images]:
        return {"clean": images.select(self._corrupted(images).wrong)}

    def split(self, images: Images, seed: int) -> Split:
        noisy, wrong = self._corrupted(images)
        count = round(self._share(self.known) * len(wrong))
        return forget_indices(noisy, wrong[order_of(len(wrong), seed)[:count]])

    def _corrupted(self, images: Images) -> Corrupted:
        share, between = self._share(self.share), self._between(images)
        return corrupt(images, share, seed=SEED, between=between)

    def _between(self, images: Images) -> list[int] | None:
        words = several(self.between) if self.between else None
        return words and [class_number(word, images) for word in words]

    def _share(self, text: str | None) -> float:
        return amount_of(text, self.reads)["fraction"] if text else 1.0
