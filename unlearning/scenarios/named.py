"""The scenarios of an experiment, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..core.images import Images
from .base import Scenario


def scenarios_of(
    given: str | Scenario | Iterable[str | Scenario], images: Images
) -> dict[str, Scenario]:
    """Scenarios by name, from one or several texts or ``Scenario`` objects.

    Args:
        given: scenarios, or their names; one that stands for several is replaced by these.
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
        given = [given]  # which parse refuses
    read = [one if isinstance(one, Scenario) else Scenario.parse(one) for one in given]
    scenarios = [part.bound(images) for one in read for part in one.parts()]
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
