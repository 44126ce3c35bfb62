"""U-LiRA, RMIA and KLOM against slow loops and cases worked out by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.special import expit
from scipy.stats import entropy, norm
from sklearn.metrics import roc_auc_score

from unlearning.metrics import klom, rmia, roc, u_lira


def test_roc_by_hand():
    """Of 3 x 4 pairs of a member and an other, 9 are in order and one is a tie."""
    found = roc(np.array([4.0, 2, 1]), torch.tensor([[3.0, 1], [0, -1]]))
    assert found.auc == pytest.approx((9 + 0.5) / 12)
    assert found.tpr_at_1_percent_fpr == pytest.approx(1 / 3)  # one of three is above all others
    assert found.fpr == pytest.approx([0, 0, 1 / 4, 1 / 4, 1 / 2, 3 / 4, 1])
    assert found.tpr == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3, 1, 1, 1])
    for sides in (([], [1.0]), ([1.0], []), ([math.nan], [1.0]), ([1], [math.inf])):
        with pytest.raises(ValueError, match=r"at least one score|finite scores"):
            roc(*sides)


def test_one_percent_of_the_others_may_be_called_members_and_no_more():
    others, members = np.arange(200.0), np.array([197.5, 198.5, 300, 196.5])  # below 2, 1, 0 and 3
    assert roc(members[:3], others).tpr_at_1_percent_fpr == pytest.approx(1)
    assert roc(members, others).tpr_at_1_percent_fpr == pytest.approx(3 / 4)
    assert roc(members, others[1:]).tpr_at_1_percent_fpr == pytest.approx(2 / 4)  # 2/199 > 1 %


def literal_u_lira(forgotten, unseen):
    """Leave out every network in turn, with densities from scipy: log p_f - log p_o per side."""

    def ratio(value, forgotten, unseen):
        log_f, log_o = (norm(side.mean(), side.std()).logpdf(value) for side in (forgotten, unseen))
        return log_f - log_o

    pairs = list(zip(forgotten.T, unseen.T, strict=True))
    of_forgotten = [[ratio(v, np.delete(f, i), o) for i, v in enumerate(f)] for f, o in pairs]
    of_unseen = [[ratio(v, f, np.delete(o, i)) for i, v in enumerate(o)] for f, o in pairs]
    return np.transpose(of_forgotten), np.transpose(of_unseen)


@pytest.mark.parametrize("sizes", [(3, 3), (20, 31)])
def test_u_lira_is_its_literal_definition(sizes):
    generator = np.random.default_rng(0)
    forgotten = generator.normal([5, 0, 2], [1, 2, 1], (sizes[0], 3))
    unseen = generator.normal([5, 1, 0], [1, 1, 0.5], (sizes[1], 3))
    result = u_lira(torch.from_numpy(forgotten), unseen)
    wanted = literal_u_lira(forgotten, unseen)
    for found, ratios in zip(result[:2], wanted, strict=True):
        np.testing.assert_allclose(found, expit(ratios), rtol=0, atol=1e-9)
    members = np.repeat([1, 0], [wanted[0].size, wanted[1].size])
    pooled = np.concatenate([side.ravel() for side in wanted])
    assert result.auc == pytest.approx(roc_auc_score(members, pooled))
    assert result.tpr_at_1_percent_fpr == result.tpr[result.fpr <= 0.01].max()


def test_u_lira_guesses_tells_apart_and_survives_copies_of_one_network():
    forgotten, unseen = np.random.default_rng(0).normal(0, 1, (2, 64, 300))
    assert u_lira(forgotten, unseen)[2:4] == pytest.approx((0.5, 0.01), abs=0.01)
    assert u_lira(forgotten - 6, unseen).tpr_at_1_percent_fpr > 0.97
    # N(0, 1) against N(0, 100^2): no threshold on f would do
    assert u_lira(forgotten, 100 * unseen).auc > 0.97
    assert roc(forgotten, 100 * unseen).auc == pytest.approx(0.5, abs=0.03)
    copies = np.full((5, 2), 3.0)
    assert u_lira(copies, copies).auc == 0.5
    apart = u_lira(copies, copies + 1e4)
    assert apart.forgotten_scores.min() == 1 and apart.unseen_scores.max() == 0
    assert apart.auc == apart.tpr_at_1_percent_fpr == 1
    outlier = 1e3 * np.eye(5)[:, :1]
    assert np.isfinite(u_lira(outlier, np.arange(5.0)[:, None]).forgotten_scores).all()


def test_rmia_by_hand():
    """At gamma 1.5, 0.5 and 0.25, a ratio equals gamma: not greater, so not counted."""
    x = np.array([0.75, 0.25]), np.array([[0.5, 0.5]])  # favoured 1.5 and 0.5 times
    z = np.array([0.5, 0.25]), np.array([[0.5, 0.125]])  # 1 and 2 times
    for gamma, wanted in ((1, [0.5, 0]), (0.5, [1, 0]), (1.5, [0, 0]), (0.25, [1, 0.5])):
        assert rmia(*x, *z, gamma=gamma).tolist() == wanted
    with pytest.raises(ValueError, match=r"examples must be .* not \(3,\) and \(1, 2\)"):
        rmia(np.ones(3), x[1], *z)
    with pytest.raises(ValueError, match=r"gamma must be one number in \(0, inf\), not 0"):
        rmia(*x, *z, gamma=0)


def test_rmia_is_its_literal_definition():
    draw = np.random.default_rng(0).uniform
    x, x_references, z, z_references = (draw(size=s) for s in [(4, 5), (3, 5), (4, 7), (3, 7)])
    x_prior, z_prior = (0.5 * (1.3 * side.mean(0) + 0.7) for side in (x_references, z_references))
    wanted = np.zeros((4, 5))
    for m, s, k in np.ndindex(4, 5, 7):
        wanted[m, s] += (x[m, s] / x_prior[s]) / (z[m, k] / z_prior[k]) > 1.1
    tensors = [torch.from_numpy(side) for side in (x, x_references, z, z_references)]
    found = rmia(*tensors, gamma=1.1, offline_a=0.3)
    np.testing.assert_allclose(found, wanted / 7)
    assert 0 < found.mean() < 1


def test_klom_by_hand():
    """Two bins: 3/4 and 1/4 against 1/4 and 3/4; the largest margin is in the last bin."""
    unlearned, retrained = np.array([[0.0], [0], [0], [1]]), np.array([[0.0], [1], [1], [1]])
    assert klom(unlearned, retrained, bins=2) == pytest.approx(math.log(3) / 2)
    assert klom(unlearned, retrained, bins=1) == 0
    found, total = klom(unlearned, retrained[1:], bins=2)[0], 1 + 1e-5  # 0 is raised to 1e-5
    wanted = 0.75 * math.log(0.75 / (1e-5 / total)) + 0.25 * math.log(0.25 * total)
    assert found == pytest.approx(wanted)
    point, other = np.zeros((9, 1)), np.ones((4, 1))
    assert klom(point, other)[0] == pytest.approx(math.log(1 + 1e5))
    far = np.array([[1e6, -1e6, 3], [250, -101, 3], [100, -100, 3]])
    assert klom(np.clip(far, -100, 100), far[::-1]).tolist() == [0, 0, 0]
    below = klom(far, far + 300, clip=2)  # the middle one: all at -2, against one of three
    assert below == pytest.approx([0, math.log(3), 0])
    with pytest.raises(ValueError, match=r"floor must be one number in \(0, 1\), not 0"):
        klom(point, other, floor=0)


@pytest.mark.parametrize("rounded, sizes", [(False, (30, 30)), (True, (100, 41))])
def test_klom_is_its_literal_definition(rounded, sizes):
    generator = np.random.default_rng(sizes[1])
    sides = [generator.normal(i, 3, (size, 10)) for i, size in enumerate(sizes)]
    unlearned, retrained = (np.round(side) for side in sides) if rounded else sides
    wanted = []
    for u, r in zip(unlearned.T, retrained.T, strict=True):
        joint = np.concatenate([u, r])
        counted = [np.histogram(side, 20, (joint.min(), joint.max()))[0] for side in (u, r)]
        p, q = (counts / counts.sum() for counts in counted)
        wanted.append(entropy(p, np.where(p > 0, np.maximum(q, 1e-5), q)))
    np.testing.assert_allclose(klom(unlearned, retrained), wanted, atol=1e-12)
