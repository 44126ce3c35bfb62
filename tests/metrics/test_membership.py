"""Membership attacks: a guess where there is nothing to see, and their literal definitions."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.svm import SVC

from unlearning.metrics import confidence_attack, membership_attack


def test_membership_attack_has_its_known_values():
    generator = np.random.default_rng(0)
    guess = membership_attack(*generator.exponential(size=(2, 1000)))
    assert guess == pytest.approx(0.5, abs=0.05)
    forget, test = generator.uniform(0, 1, 300), generator.uniform(4, 5, 200)
    assert membership_attack(forget, torch.from_numpy(test)) == 1
    assert membership_attack(test, forget) == 1  # either side may be the larger one
    half = np.repeat([0.0, 10.0], 100)  # half as a member's loss, half as that of unseen images
    assert membership_attack(half, np.full(200, 10.0)) == pytest.approx(0.75, abs=0.04)


def attack_by_hand(x, y, seed):
    """Losses standardised by the fitted part alone; both sides weigh the same."""
    scores = []
    for fitted, held_out in StratifiedShuffleSplit(n_splits=10, random_state=seed).split(x, y):
        z = (x - x[fitted].mean()) / x[fitted].std()
        called = LogisticRegression().fit(z[fitted], y[fitted]).predict(z[held_out])
        scores.append(np.mean([np.mean(called[y[held_out] == side] == side) for side in (0, 1)]))
    return np.mean(scores)


@pytest.mark.parametrize("count", [40, 43])
def test_membership_attack_standardises_by_what_it_is_fitted_to(count):
    generator = np.random.default_rng(2)
    forget, test = generator.exponential(1, count), generator.exponential(2, count)
    draw = np.random.default_rng(7)
    drawn = [draw.choice(losses, count, replace=False) for losses in (forget, test)]
    x, y = np.concatenate(drawn[::-1])[:, None], np.repeat([0, 1], count)
    assert membership_attack(forget, test, seed=7) == pytest.approx(attack_by_hand(x, y, 7))


def test_membership_attack_does_not_depend_on_the_unit_of_the_losses():
    """From 1e-3 down, the starting kit's form guesses, though the losses hardly overlap."""
    generator = np.random.default_rng(0)
    forget, test = generator.uniform(0, 1, 200), generator.uniform(0.9, 2, 200)
    found = [membership_attack(scale * forget, scale * test) for scale in 10.0 ** -np.arange(13)]
    assert found == pytest.approx([found[0]] * 13, abs=1e-9) and found[0] > 0.9
    literal = membership_attack(1e-6 * forget, 1e-6 * test, standardised=False)
    assert literal == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("count", [10, 13, 25, 100])
@pytest.mark.parametrize("loss", [0.0, 1e-12, 0.1, 3e5])
def test_equal_losses_give_exactly_a_guess(count, loss):
    """In a held-out part of odd size, one side is larger: its accuracy would not be a half."""
    assert membership_attack(np.full(count, loss), np.full(2 * count, loss), seed=3) == 0.5


@pytest.mark.parametrize("sizes", [(40, 90), (90, 40)])
def test_membership_attack_is_its_literal_definition(sizes):
    generator = np.random.default_rng(1)
    forget, test = generator.exponential(1, sizes[0]), generator.exponential(2, sizes[1])
    draw = np.random.default_rng(7)
    drawn = [draw.choice(losses, min(sizes), replace=False) for losses in (forget, test)]
    x = np.concatenate([drawn[1], drawn[0]]).reshape(-1, 1)
    y = np.array([0] * min(sizes) + [1] * min(sizes))
    scores = []
    for fitted, held_out in StratifiedShuffleSplit(n_splits=10, random_state=7).split(x, y):
        attacker = LogisticRegression().fit(x[fitted], y[fitted])
        scores.append(np.mean(attacker.predict(x[held_out]) == y[held_out]))
    assert len(scores) == 10 and len(held_out) == round(0.2 * min(sizes))
    before = str(np.random.get_state())  # noqa: NPY002
    found = membership_attack(forget, test, standardised=False, seed=7)
    assert found == pytest.approx(np.mean(scores))
    assert str(np.random.get_state()) == before  # noqa: NPY002


def test_confidence_attack_calls_non_members_what_looks_like_test_images():
    retain, test = np.full(50, 0.99), np.full(50, 0.2)
    assert confidence_attack(retain, test, np.full(8, 0.2)) == 1
    assert confidence_attack(retain, test, np.full(8, 0.99)) == 0
    quarter = np.array([0.2, 0.99, 0.99, 0.99])
    assert confidence_attack(*(torch.from_numpy(x) for x in (retain, test, quarter))) == 0.25
    generator = np.random.default_rng(0)  # unbalanced, it would call everything a member
    retain, test, forget = (generator.uniform(size=count) for count in (5000, 50, 400))
    assert 0.2 < confidence_attack(retain, test, forget) < 0.8


@pytest.mark.parametrize("sizes", [(200, 50), (50, 200)])
def test_confidence_attack_is_its_literal_definition(sizes):
    generator = np.random.default_rng(0)
    retain, test = generator.beta(4, 1, sizes[0]), generator.beta(2, 2, sizes[1])
    forget, count = generator.beta(3, 2, 70), min(sizes)
    draw = np.random.default_rng(3)
    members = draw.choice(retain, count, replace=False)
    others = test if sizes[1] == count else draw.choice(test, count, replace=False)
    attacker = SVC(C=3, gamma="auto", kernel="rbf")
    attacker.fit(np.concatenate([members, others])[:, None], np.array([1] * count + [0] * count))
    wanted = np.mean(attacker.predict(forget[:, None]) == 0)
    assert 0 < wanted < 1
    assert confidence_attack(retain, test, forget, seed=3) == pytest.approx(wanted)
