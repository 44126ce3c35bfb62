"""Groups that images carry, groups that are given, and clusters."""

from dataclasses import replace

import pytest
import torch

from unlearning import Scenario
from unlearning.labelling import clusters


def test_groups_are_named_or_drawn(pets, forgotten):
    assert forgotten("group 12") == [8, 9, 10, 11]
    assert forgotten("group 10, 14") == forgotten("groups 10,14") == [0, 1, 2, 3, 16, 17, 18, 19]
    drawn = {tuple(forgotten("2 groups", seed)) for seed in range(8)}
    assert {len(own) for own in drawn} == {8} and len(drawn) > 3
    assert all(pets.groups[list(own)].unique().numel() == 2 for own in drawn)
    given = [0] * 19 + [5]
    assert forgotten("group 5", groups=given) == [19]
    assert {len(forgotten("1 group", seed, groups=given)) for seed in range(9)} == {1, 19}


def test_clusters_stand_in_for_groups(pets, forgotten):
    with pytest.raises(ValueError, match=r'have no groups, which .group 3. needs: .*"cluster 3"'):
        forgotten("group 3", images=replace(pets, groups=None))
    found = clusters(pets)
    assert forgotten("cluster 3") == forgotten("cluster 3", groups=[0] * 20)
    two = [forgotten("2 clusters", seed) for seed in range(3)]
    assert two == [forgotten("2 clusters", seed, groups=[0] * 20) for seed in range(3)]
    assert (
        forgotten("cluster 3, 7")
        == torch.isin(found, torch.tensor([3, 7])).nonzero()[:, 0].tolist()
    )


def test_other_groups_are_another_scenario(pets):
    one, other = (Scenario.parse("group 1", groups=[0] * k + [1] * (20 - k)) for k in (3, 4))
    assert one.bound(pets).about != other.bound(pets).about
    assert Scenario.parse("group 12").bound(pets).about == {
        **Scenario.parse("group 12", groups=pets.groups.tolist()).bound(pets).about
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("group", 'a scenario reads "group 3", "group 3, 7" or "2 groups", not .group.'),
        ("clusters", 'a scenario reads "cluster 3", .* not .clusters.'),
        ("group x", 'a scenario reads "group 3"'),
        ("2 groups 3", 'a scenario reads "group 3"'),
        ("group 3", "there is no group 3: the groups are 10, 11, 12, 13, 14$"),
        ("group 10, 11, 12, 13, 14", "nothing would be retained"),
        ("5 groups", "would forget 5 of 5: at least one must stay"),
        ("0 groups", "count must be a whole number, at least 1, not 0"),
        ("cluster 20", "there is no group 20"),
    ],
)
def test_groups_that_cannot_be_forgotten_are_refused(forgotten, text, words):
    with pytest.raises(ValueError, match=words):
        forgotten(text)


def test_groups_of_another_set_are_refused(pets):
    with pytest.raises(ValueError, match=r"groups must be integers of shape \(20,\)"):
        Scenario.parse("group 1", groups=[0, 1]).bound(pets)
