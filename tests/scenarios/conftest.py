"""A set with names and groups, and what is forgotten of it."""

import pytest
import torch

from unlearning import Images, Scenario

PETS = Images(  # 20 images of 4 classes with names, five of each, by 5 photographers
    torch.arange(80).view(20, 1, 2, 2).to(torch.uint8),
    torch.arange(20) % 4,
    classes=("cat", "dog", "ankle boot", "0"),
    groups=torch.arange(20) // 4 + 10,
)


@pytest.fixture
def pets() -> Images:
    return PETS


@pytest.fixture
def forgotten():
    """Positions that a scenario forgets: the two parts are checked to be disjoint and all."""

    def positions(text, seed=0, images=PETS, **options):
        retain, forget = Scenario.parse(text, **options).split(images, seed)
        both = torch.cat([retain.indices, forget.indices])
        assert sorted(both.tolist()) == list(range(len(images)))
        return forget.indices.tolist()

    return positions
