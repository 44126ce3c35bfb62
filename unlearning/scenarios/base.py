"""What every scenario can do, and how one is read from its name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..core.images import Images
from ..splitting import Split

AMOUNT = re.compile(r"(\d+(?:\.\d+)?) ?%|(\d+)")  # a percentage or a count


@dataclass(frozen=True)
class Scenario:
    """What is to be forgotten: an object of one of the classes of this folder, read from its name.

    >>> scenario = Scenario.parse("random 10%")
    >>> scenario.name, scenario.kind
    ('random 10%', 'random')

    ``kind`` selects a method's tuned values, and says which methods can be used. It is "class"
    where the network is to lose whole classes, so that the goal is a forget accuracy near 0, and
    "random" where every class stays, so that the goal is what the network says of unseen images.

    Args:
        name: label in tables, unique in an experiment.
        by_number: its name as it was read, whatever words its classes have.
    """

    name: str
    by_number: str

    kind: ClassVar[Literal["random", "class"]] = "random"
    reads: ClassVar[tuple[str, ...]]  # examples, for messages, the plainest first
    pattern: ClassVar[re.Pattern]  # its groups are fields
    takes: ClassVar[tuple[str, ...]] = ()  # what else of parse's arguments
    _ways: ClassVar[list[type[Scenario]]] = []

    def __init_subclass__(cls) -> None:
        Scenario._ways.append(cls)

    @staticmethod
    def parse(
        text: str,
        *,
        scores: Any = None,
        groups: Any = None,
        superclasses: Mapping[str, Iterable[int]] | None = None,
    ) -> Scenario:
        """Read a scenario from its name. What the name does not need is left aside.

        Args:
            text: its name, as the table of ``unlearning.scenarios`` has them.
            scores: one number per training image, (N,), for "memorised ..." and "exposed ...".
            groups: one whole number per training image, (N,), for "group ...", where the images do
                not carry them.
            superclasses: name of each -> its classes, for "subclass ..."; by default CIFAR-20's.

        Raises:
            ValueError: if the text does not name one.
        """
        words = " ".join(text.split()) if isinstance(text, str) else ""
        given = {"scores": scores, "groups": groups, "superclasses": superclasses}
        for way in Scenario._ways:
            if found := way.pattern.fullmatch(words):
                own = {name: given[name] for name in way.takes}
                return way(text.strip(), words, **found.groupdict(), **own)
        raise ValueError(f"{reading(way.reads[0] for way in Scenario._ways)}, not {text!r}")

    @property
    def forgets_classes(self) -> bool:
        """Whether whole classes are forgotten."""
        return self.kind == "class"

    @property
    def complete(self) -> bool:
        """Whether it can split images as it is, without scores that are still to come."""
        return True

    @property
    def uneven(self) -> bool:
        """Whether seeds may forget different numbers of images."""
        return False

    @property
    def place(self) -> int | None:
        """Its place in a sequence of requests, from 1; None of any other."""
        return None

    @property
    def before(self) -> Scenario | None:
        """In a sequence, the request before this one, whose network a method starts from."""
        return None

    @property
    def about(self) -> dict[str, Any]:
        """What tells it from others of its name, as JSON."""
        return {}

    def parts(self) -> list[Scenario]:
        """The scenarios that it stands for, such as the requests of a sequence; else itself."""
        return [self]

    def bound(self, images: Images) -> Scenario:
        """The same for a training set: classes in words, "class dog" for "class 5" of CIFAR-10.

        Raises:
            ValueError: if a class does not exist.
        """
        return self

    def labelled(self, images: Images) -> Images:
        """The training images with the labels that networks are trained on."""
        return images

    def tested_on(self, test: Images) -> Images | Split:
        """The test images with the labels that networks are tested on.

        A ``Split`` where labels do not tell which are like the forgotten ones: (those for the
        test accuracy, unseen images that are like them).
        """
        return test

    def also_read(self, images: Images) -> dict[str, Images]:
        """Further images of the training set whose accuracy is of interest, by its name."""
        return {}

    def split(self, images: Images, seed: int) -> Split:
        """Split the training images into those to retain and those to forget, with their labels.

        Raises:
            ValueError: if something named does not exist, or nothing or everything would be
                forgotten.
        """
        raise NotImplementedError

    def request(self, images: Images, seed: int) -> Split:
        """What a method is given; other than ``split`` only in a sequence."""
        return self.split(images, seed)


def reading(examples: Iterable[str]) -> str:
    """How a scenario is written, to begin a message with."""
    *others, last = (f'"{one}"' for one in examples)
    return f"a scenario reads {', '.join(others)} or {last}"


def amount_of(text: str, reads: Iterable[str]) -> dict[str, float | int]:
    """A percentage as {"fraction": ...}, a whole number as {"count": ...}.

    Args:
        text: what a name has.
        reads: how it should read, for the message.

    Raises:
        ValueError: if it is neither.
    """
    found = AMOUNT.fullmatch(text)
    if not found:
        raise ValueError(f"{reading(reads)}: {text!r} is neither a whole number nor a percentage")
    percentage, count = found.groups()
    return {"fraction": float(percentage) / 100} if percentage else {"count": int(count)}


def several(text: str) -> list[str]:
    """The entries of a list in words, which commas part."""
    return [word.strip() for word in text.split(",")]


def class_number(word: str, images: Images) -> int:
    """The number of a class that is given by its number or its name.

    Raises:
        ValueError: if it does not exist.
    """
    if word in images.classes:
        return images.classes.index(word)
    if word.isdecimal() and int(word) < images.num_classes:
        return int(word)
    raise ValueError(
        f"class {word} does not exist: the classes are {', '.join(images.classes[:20])}"
        + (", …" if images.num_classes > 20 else "")
    )


def in_words(text: str, images: Images) -> str:
    """Classes that are named by number or name, by name.

    Raises:
        ValueError: if one does not exist.
    """
    return ", ".join(images.classes[class_number(word, images)] for word in several(text))
