"""Groups of images: of a writer or an identity, or clusters of images that look alike."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from ..core.checks import check_whole
from ..core.identity import identity_of
from ..core.images import Images, checked_groups
from ..core.randomness import order_of
from ..labelling import clusters
from ..splitting import Split, forget_groups
from .base import Scenario, reading, several


def _pattern(word: str) -> re.Pattern:
    return re.compile(rf"(?:(?P<count>\d+) )?{word}s?(?: (?P<chosen>.+))?")


@dataclass(frozen=True)
class Groups(Scenario):
    """All images of a group: "group 3", "group 3, 7", or "2 groups", drawn at random.

    The images carry their groups, ``Images(groups=...)``, or ``Scenario.parse`` is given them.

    There are no unseen images of a group, so the membership attack compares with all test images,
    which may differ from it in more than membership: read it beside the retrained network's.

    The kind is "random": a group spans classes, of which others' images stay.

    Args:
        count: how many are drawn; None if they are named.
        chosen: numbers of the groups, which commas part; None if they are drawn.
        groups: group of each training image, (N,); by default those that the images carry.
    """

    count: str | None
    chosen: str | None
    groups: Any = field(default=None, compare=False, repr=False)

    reads = ("group 3", "group 3, 7", "2 groups")
    pattern = _pattern("group")
    takes = ("groups",)

    def __post_init__(self):
        numbers = [] if self.chosen is None else several(self.chosen)
        if (self.count is None) != bool(numbers) or not all(map(str.isdecimal, numbers)):
            raise ValueError(f"{reading(self.reads)}, not {self.name!r}")

    @property
    def uneven(self) -> bool:
        return self.count is not None

    @property
    def about(self) -> dict[str, Any]:
        return {"groups": identity_of(self.groups)}

    def bound(self, images: Images) -> Scenario:
        return replace(self, groups=self._groups(images))

    def split(self, images: Images, seed: int) -> Split:
        groups = self._groups(images)
        if self.count is None:
            return forget_groups(images, map(int, several(self.chosen)), groups=groups)
        found, count = groups.unique(), check_whole("count", int(self.count), least=1)
        if count >= len(found):
            raise ValueError(
                f"{self.name!r} would forget {count} of {len(found)}: at least one must stay"
            )
        return forget_groups(images, found[order_of(len(found), seed)[:count]], groups=groups)

    def _groups(self, images: Images) -> Tensor:
        groups = images.groups if self.groups is None else self.groups
        if groups is None:
            raise ValueError(
                f"the images have no groups, which {self.name!r} needs: give Images groups=, one "
                'whole number per image, or forget "cluster 3", of images that look alike'
            )
        return checked_groups(groups, len(images))


@dataclass(frozen=True)
class Clusters(Groups):
    """All images of a cluster: "cluster 3", "cluster 3, 7", or "2 clusters", drawn at random.

    These are the twenty ``labelling.clusters`` of images that look alike, a stand-in where nobody
    noted who wrote an image or who is shown on it.

    The kind is "random", as that of groups, though a cluster can hold most of a class.
    """

    reads = ("cluster 3", "cluster 3, 7", "2 clusters")
    pattern = _pattern("cluster")
    takes = ()

    def _groups(self, images: Images) -> Tensor:
        return clusters(images) if self.groups is None else checked_groups(self.groups, len(images))
