"""Whole classes, and classes within the superclasses that a network is trained on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..core.checks import class_list
from ..core.images import Images
from ..data import SOURCES
from ..labelling import CIFAR20, superclasses
from ..splitting import Split, forget_classes, forget_subclass
from .base import Scenario, class_number, in_words, several


@dataclass(frozen=True)
class Classes(Scenario):
    """All images of one class or of several: "class 5", "class 3, 8", "class dog"."""

    classes: str

    kind = "class"
    reads = ("class 5", "class 3, 8")
    pattern = re.compile(r"class (?P<classes>.+)")

    def bound(self, images: Images) -> Scenario:
        return replace(self, name=f"class {in_words(self.classes, images)}")

    def split(self, images: Images, seed: int) -> Split:
        return forget_classes(images, [class_number(w, images) for w in several(self.classes)])


@dataclass(frozen=True)
class Subclass(Scenario):
    """All images of a class, or of several, by a network that is trained on superclasses.

    "subclass 69" or "subclass rocket", the rocket of CIFAR-100 among the vehicles 2 of CIFAR-20.
    Training and test images are labelled by superclass. The unseen images of what is forgotten are
    the test images of the same class, and "test accuracy" is over the others.

    The kind is "random": the superclass stays, and a retrained network still recognises many of the
    forgotten images by it, so values tuned to bring a class to 0 go too far.

    Args:
        classes: to forget.
        superclasses: name of each -> its classes; by default CIFAR-20's, for CIFAR-100.
    """

    classes: str
    superclasses: Mapping[str, Iterable[int]] | None = field(default=None, compare=False)

    reads = ("subclass 69", "subclass 69, 81")
    pattern = re.compile(r"subclass (?P<classes>.+)")
    takes = ("superclasses",)

    def __post_init__(self):
        given = self.superclasses and {n: class_list(own) for n, own in self.superclasses.items()}
        object.__setattr__(self, "superclasses", given)

    @property
    def about(self) -> dict[str, Any]:
        return {"superclasses": [*(self.superclasses or {}).items()]}  # their order numbers them

    def bound(self, images: Images) -> Scenario:
        self.labelled(images)
        name, given = f"subclass {in_words(self.classes, images)}", self._superclasses(images)
        return replace(self, name=name, superclasses=given)

    def labelled(self, images: Images) -> Images:
        return superclasses(images, self._superclasses(images))

    def tested_on(self, test: Images) -> Images | Split:
        forgotten = torch.isin(test.labels.cpu(), torch.tensor(self._numbers(test)))
        return self.split(test, 0) if forgotten.unique().numel() > 1 else self.labelled(test)

    def split(self, images: Images, seed: int) -> Split:
        groups = self._superclasses(images)
        return forget_subclass(images, self._numbers(images), groups=groups)

    def _numbers(self, images: Images) -> list[int]:
        return [class_number(word, images) for word in several(self.classes)]

    def _superclasses(self, images: Images) -> Mapping[str, Iterable[int]]:
        if self.superclasses is None and images.classes != SOURCES["cifar100"].classes:
            raise ValueError(
                f"{self.name!r} needs superclasses, and only those of CIFAR-100 are known: give "
                f'Scenario.parse({self.name!r}, superclasses={{"odd": [1, 3], "even": [0, 2]}})'
            )
        return CIFAR20 if self.superclasses is None else self.superclasses
