"""Newton removal: equal to retraining for a squared loss, within its bound for a logistic one."""

import pytest
import torch
import torch.nn.functional as F

from unlearning.core.heads import fit_head
from unlearning.methods import BudgetExceeded, newton_removal, removals, removed_sum


@pytest.fixture(name="data")
def make_data():
    """300 examples of three classes in 10 dimensions, no row longer than 1."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(300) % 3
    means = 2 * torch.randn(3, 10, generator=generator, dtype=torch.float64)
    x = means[labels] + torch.randn(300, 10, generator=generator, dtype=torch.float64)
    return F.normalize(x), labels


def without(data, positions):
    left = torch.ones(len(data[0]), dtype=torch.bool)
    left[positions] = False
    return data[0][left], data[1][left]


def one_by_one(head, data, count):
    """Remove the first example so many times; the head and the data after each removal."""
    for _ in range(count):
        head, data = newton_removal(head, *data, [0]), without(data, [0])
        yield head, data


@pytest.mark.parametrize("sigma", [0.0, 1.0])
@pytest.mark.parametrize("positions", [[5], [0, 7, 8, 299], range(150)])
def test_ridge_is_retraining(data, positions, sigma):
    options = {"kind": "ridge", "lam": 1e-3, "sigma": sigma, "num_classes": 3}
    head = fit_head(*data, **options)
    found = newton_removal(head, *data, positions)
    rest = without(data, list(positions))
    wanted = fit_head(*rest, **options)
    torch.testing.assert_close(found.weight, wanted.weight, rtol=0, atol=1e-8)
    assert (head.weight - wanted.weight).abs().max() > 1e-4
    assert found.count == len(rest[0]) and not found.bound.any()


def test_ridge_is_retraining_after_many_requests_a_whole_class_included(data):
    options = {"kind": "ridge", "lam": 1e-3, "num_classes": 3}
    head, rest = fit_head(*data, **options), data
    for positions in ([3, 4], [0], (data[1][3:] == 2).nonzero().flatten()[:-3], [9]):
        head, rest = newton_removal(head, *rest, positions), without(rest, positions)
    wanted = fit_head(*rest, **options)
    torch.testing.assert_close(head.weight, wanted.weight, rtol=0, atol=1e-8)


def test_the_gradient_that_is_left_over_is_within_the_bound_of_every_class(data):
    head = fit_head(*data, lam=1e-3, sigma=0.1)
    previous = head.bound
    for found, rest in one_by_one(head, data, 20):
        left_over = found.gradient(*rest).norm(dim=1)
        assert (left_over <= found.bound).all() and (left_over > 1e-9).all()
        assert (found.bound > previous).all()  # it adds up
        previous = found.bound


def test_a_step_is_newtons_and_its_bound_is_worked_out_by_hand(data):
    head = fit_head(*data, lam=1e-2)
    found = newton_removal(head, *data, [1, 4])
    x, y = without(data, [1, 4])
    for k in range(3):
        p = torch.sigmoid(x @ head.weight[k])
        hessian = sum(s * (1 - s) * torch.outer(v, v) for s, v in zip(p, x, strict=True))
        hessian += 1e-2 * 298 * torch.eye(10)
        step = -torch.linalg.inv(hessian) @ head.gradient(x, y)[k]  # from where training ended
        torch.testing.assert_close(found.weight[k] - head.weight[k], step)
        norm = torch.linalg.svdvals(x)[0]
        bound = norm * step.norm() * (x @ step).norm() / 4
        torch.testing.assert_close(found.bound[k] - head.bound[k], bound)
    retrained = fit_head(x, y, lam=1e-2)
    far = (head.weight - retrained.weight).norm()
    assert (found.weight - retrained.weight).norm() < far / 50


def test_nothing_to_remove_changes_nothing(data):
    head = fit_head(*data)
    found = newton_removal(head, *data, [])
    assert torch.equal(found.weight, head.weight) and torch.equal(found.bound, head.bound)


def test_examples_that_are_alike_leave_less_over_one_by_one_than_at_once(data):
    """The norm of a step grows with their number, and the bound with its square."""
    alike = (
        torch.cat([data[0][:1].expand(12, -1), data[0]]),
        torch.cat([data[1][:1]] * 12 + [data[1]]),
    )
    head = fit_head(*alike)
    small, rest = list(one_by_one(head, alike, 12))[-1]
    large = newton_removal(head, *alike, range(12))
    assert (8 * small.bound < large.bound).all() and (large.bound < 16 * small.bound).all()
    assert (small.gradient(*rest).norm(dim=1) < large.gradient(*rest).norm(dim=1)).all()


def test_ridge_is_the_same_one_by_one_and_at_once(data):
    head = fit_head(*data, kind="ridge")
    small, _ = list(one_by_one(head, data, 12))[-1]
    large = newton_removal(head, *data, range(12))
    torch.testing.assert_close(small.weight, large.weight, rtol=0, atol=1e-10)


def test_a_removal_beyond_the_budget_is_refused_and_training_again_starts_anew(data):
    head = fit_head(*data, sigma=1.0)
    epsilons = [found.epsilon(1e-4) for found, _ in one_by_one(head, data, 6)]
    budget, rest = epsilons[3], data
    for _ in range(4):
        head, rest = newton_removal(head, *rest, [0], epsilon=budget), without(rest, [0])
    with pytest.raises(BudgetExceeded, match=r"epsilon would be .* train again by fit_head"):
        newton_removal(head, *rest, [0], epsilon=budget)
    assert head.epsilon(1e-4) == pytest.approx(epsilons[3])
    again = fit_head(*without(rest, [0]), sigma=1.0, seed=1)
    assert again.epsilon() < 1e-7


@pytest.mark.parametrize("kind", ["ridge", "logistic"])
@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_the_difference_of_two_heads_reveals_the_removed_example(data, kind, sigma):
    """The noise does not hide it: both heads have the same."""
    head = fit_head(*data, kind=kind, lam=1e-3, sigma=sigma)
    for position in (0, 10, 200):
        x = data[0][position]
        found = newton_removal(head, *data, [position])
        rest = without(data, [position])[0]
        revealed = removed_sum(head, found, rest)
        assert float(F.cosine_similarity(revealed, x[None]).abs().min()) == pytest.approx(1)
        slopes = head.slopes(x[None], 2 * F.one_hot(data[1], 3)[[position]].double() - 1)
        torch.testing.assert_close(revealed, slopes.T @ x[None])
        raw = F.cosine_similarity(found.weight - head.weight, x[None]).abs().max()
        assert raw < 0.99  # not without the Hessian
        estimated = removed_sum(head, found, data[0])  # of almost the same features
        assert float(F.cosine_similarity(estimated, x[None]).abs().max()) > 0.98


def test_removals_in_turn_end_where_the_budget_does(data):
    head = fit_head(*data, sigma=1.0)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))[:9]
    found = list(removals(head, *data, order))
    assert [len(labels) for _, _, labels in found] == list(range(299, 290, -1))
    rest = without(data, order)
    assert torch.equal(found[-1][1], rest[0]) and torch.equal(found[-1][2], rest[1])
    by_hand = newton_removal(head, *data, order[:1])
    place = int(order[1] - (order[1] > order[0]).long())
    by_hand = newton_removal(by_hand, *without(data, order[:1]), [place])
    assert torch.equal(found[1][0].weight, by_hand.weight)
    epsilons = [one.epsilon() for one, *_ in found]
    assert len(list(removals(head, *data, order, epsilon=epsilons[4]))) == 5
    assert len(list(removals(head, *data, order, epsilon=1e-9))) == 0


def test_what_cannot_be_removed_is_refused(data):
    head = fit_head(*data)
    with pytest.raises(ValueError, match="stands for 300 examples, but 299 are given"):
        newton_removal(head, *without(data, [0]), [0])
    with pytest.raises(ValueError, match="there is no image 300"):
        newton_removal(head, *data, [300])
    with pytest.raises(ValueError, match="nothing would be left"):
        newton_removal(head, *data, range(300))
    with pytest.raises(ValueError, match="has norm 3"):
        newton_removal(head, 3 * data[0], data[1], [0])
