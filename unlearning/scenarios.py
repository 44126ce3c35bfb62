"""Scenarios name what is to be forgotten, and split a training set accordingly for any seed.

=====================  ===================================================================
``"random 10%"``       a tenth of the images, drawn at random, others for every seed
``"random 100"``       a hundred images, drawn at random
``"class 5"``          all images of class 5; ``"class dog"`` names it in words
``"class 3, 8"``       all images of two classes at once
=====================  ===================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from .core.images import Images
from .splitting import Split, forget_classes, forget_random

READS = 'a scenario reads "random 10%", "random 100", "class 5" or "class 3, 8"'
AMOUNT = re.compile(r"(\d+(?:\.\d+)?) ?%|(\d+)")  # a percentage or a count


@dataclass(frozen=True)
class Scenario:
    """What is to be forgotten.

    >>> scenario = Scenario.parse("random 10%")
    >>> scenario.kind, scenario.what
    ('random', '10%')

    Args:
        name: label in tables, unique in an experiment.
        kind: "random" or "class", which selects a method's tuned values.
        what: how many random images, or which classes.
    """

    name: str
    kind: str
    what: str

    @classmethod
    def parse(cls, text: str) -> Scenario:
        """Read a scenario from its name.

        Raises:
            ValueError: if the text does not name one.
        """
        kind, _, what = text.strip().partition(" ") if isinstance(text, str) else ("", "", "")
        what = what.strip()
        if kind not in ("random", "class") or not what:
            raise ValueError(f"{READS}, not {text!r}")
        if kind == "random" and not AMOUNT.fullmatch(what):
            raise ValueError(f"{READS}; {what!r} is neither a whole number nor a percentage")
        return cls(text.strip(), kind, what)

    def in_words(self, images: Images) -> Scenario:
        """The same with classes named in words: "class 5" of CIFAR-10 is "class dog".

        Raises:
            ValueError: if a class does not exist.
        """
        if not self.forgets_classes:
            return self
        names = [images.classes[_class_number(word, images)] for word in self._words()]
        return replace(self, name=f"class {', '.join(names)}")

    @property
    def by_number(self) -> str:
        """Its name as it was read, whatever words its classes have."""
        return f"{self.kind} {self.what}"

    @property
    def forgets_classes(self) -> bool:
        """Whether whole classes are forgotten."""
        return self.kind == "class"

    def split(self, images: Images, seed: int) -> Split:
        """Split the images into those to retain and those to forget.

        Raises:
            ValueError: if a class does not exist, or nothing or everything would be forgotten.
        """
        if self.forgets_classes:
            return forget_classes(images, [_class_number(word, images) for word in self._words()])
        percentage, count = AMOUNT.fullmatch(self.what).groups()
        if percentage:
            return forget_random(images, fraction=float(percentage) / 100, seed=seed)
        return forget_random(images, count=int(count), seed=seed)

    def _words(self) -> list[str]:
        return [word.strip() for word in self.what.split(",")]


def scenarios_of(
    given: str | Scenario | Iterable[str | Scenario], images: Images
) -> dict[str, Scenario]:
    """Scenarios by name, from one or several texts or ``Scenario`` objects.

    Args:
        given: scenarios, or their names.
        images: what is to be split; its classes are named in words.

    Raises:
        ValueError: if there are none, one is not a scenario, a class does not exist, or two have
            the same name.
    """
    if isinstance(given, str | Scenario):
        given = [given]
    try:
        given = list(given)
    except TypeError:
        raise ValueError(f"{READS}, not {given!r}") from None
    scenarios = [one if isinstance(one, Scenario) else Scenario.parse(one) for one in given]
    scenarios = [scenario.in_words(images) for scenario in scenarios]
    names = [scenario.name for scenario in scenarios]
    twice = [name for name in names if names.count(name) > 1]
    if not names or twice:
        raise ValueError(
            f"the scenario {twice[0]!r} is named twice"
            if twice
            else "there is nothing to forget: name at least one scenario"
        )
    return dict(zip(names, scenarios, strict=True))


def choose(named: str | Iterable[str] | None, scenarios: Mapping[str, Scenario]) -> list[str]:
    """The names of these scenarios that are asked for; None asks for all.

    Raises:
        ValueError: if one does not exist.
    """
    if named is None:
        return list(scenarios)
    by_number = {one.by_number: name for name, one in scenarios.items()}
    found = [by_number.get(name, name) for name in ([named] if isinstance(named, str) else named)]
    unknown = [name for name in found if name not in scenarios]
    if unknown:
        known = ", ".join(map(repr, scenarios))
        raise ValueError(f"there is no scenario {unknown[0]!r} here: there are {known}")
    return found


def _class_number(word: str, images: Images) -> int:
    """The number of a class that is given by its number or its name."""
    if word in images.classes:
        return images.classes.index(word)
    if word.isdecimal() and int(word) < images.num_classes:
        return int(word)
    raise ValueError(
        f"class {word} does not exist: the classes are {', '.join(images.classes[:20])}"
        + (", …" if images.num_classes > 20 else "")
    )
