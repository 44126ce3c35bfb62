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


@dataclass(frozen=True)
class Groups(Scenario):
    """All images of a group: "group 3", "group 3, 7", or "2 groups", drawn at random.

    The images carry their groups, ``Images(groups=...)``. Where nobody noted who wrote or is shown
    on an image, "cluster 3", "cluster 3, 7" and "2 clusters" forget one of the twenty
    ``labelling.clusters``, which are a stand-in.

    The kind is "random": a group spans classes, of which others' images stay.

    Args:
        count: how many are drawn; None if they are named.
        of: "group" or "cluster".
        chosen: numbers of the groups, which commas part; None if they are drawn.
        groups: group of each training image, (N,); by default those that the images carry.
    """

    count: str | None
    of: str
    chosen: str | None
    groups: Tensor | None = field(default=None, compare=False, repr=False)

    reads = ("group 3", "2 groups", "cluster 3, 7", "2 clusters")
    pattern = re.compile(r"(?:(?P<count>\d+) )?(?P<of>group|cluster)s?(?: (?P<chosen>.+))?")

    def __post_init__(self):
        numbers = [] if self.chosen is None else several(self.chosen)
        if (self.count is None) != bool(numbers) or not all(map(str.isdecimal, numbers)):
            raise ValueError(f"{reading(self.reads)}, not {self.name!r}")

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
        if self.of == "cluster":
            return clusters(images) if self.groups is None else self.groups
        groups = images.groups if self.groups is None else self.groups
        if groups is None:
            raise ValueError(
                f"the images have no groups, which {self.name!r} needs: give Images groups=, one "
                'whole number per image, or forget "cluster 3", of images that look alike'
            )
        return checked_groups(groups, len(images))
