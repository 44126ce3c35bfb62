"""U-LiRA, RMIA and KLOM against slow loops and cases worked out by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy, norm
from sklearn.metrics import roc_auc_score

from unlearning.metrics.per_example import klom, rmia, roc, u_lira

# ------------------------------------------------------------------------------------------------
# ROC


def test_roc_by_hand():
    """Of 3 x 4 pairs of a member and an other, 9 are in order and one is a tie."""
    found = roc(np.array([4.0, 2, 1]), np.array([[3.0, 1], [0, -1]]))
    assert found.auc == pytest.approx((9 + 0.5) / 12)
    assert found.tpr_at_1_percent_fpr == pytest.approx(1 / 3)  # above every other: one of three
    assert found.fpr == pytest.approx([0, 0, 1 / 4, 1 / 4, 1 / 2, 3 / 4, 1])
    assert found.tpr == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3, 1, 1, 1])


def test_one_percent_of_the_others_may_be_called_members_and_no_more():
    others = np.arange(200.0)
    members = np.array([197.5, 198.5, 300, 196.5])  # above 2, 1, 0 and 3 of the 200
    assert roc(members[:3], others).tpr_at_1_percent_fpr == pytest.approx(1)
    assert roc(members, others).tpr_at_1_percent_fpr == pytest.approx(3 / 4)
    assert roc(members, others[1:]).tpr_at_1_percent_fpr == pytest.approx(
        2 / 4
    )  # 2 of 199: 1.005 %


@pytest.mark.parametrize(
    "members, others, sentence",
    [
        ([], [1.0], "at least one score of members and one of others"),
        ([1.0], [], "at least one score of members and one of others"),
        ([1.0, math.nan], [1.0], "needs finite scores"),
        ([1.0], [math.inf], "needs finite scores"),
    ],
)
def test_roc_refuses_bad_scores_in_a_sentence(members, others, sentence):
    with pytest.raises(ValueError, match=sentence):
        roc(members, others)


# ------------------------------------------------------------------------------------------------
# U-LiRA


def literal_u_lira(forgotten, unseen):
    """Every network left out in turn, the densities from scipy: log p_f - log p_o of each side."""

    def ratio(value, forgotten, unseen):
        log_f, log_o = (norm(side.mean(), side.std()).logpdf(value) for side in (forgotten, unseen))
        return log_f - log_o

    ratios = np.empty_like(forgotten), np.empty_like(unseen)
    for s in range(forgotten.shape[1]):
        f, o = forgotten[:, s], unseen[:, s]
        for i, value in enumerate(f):
            ratios[0][i, s] = ratio(value, np.delete(f, i), o)
        for i, value in enumerate(o):
            ratios[1][i, s] = ratio(value, f, np.delete(o, i))
    return ratios


@pytest.mark.parametrize("sizes", [(3, 3), (8, 5), (20, 31)])
def test_u_lira_is_its_literal_definition(sizes):
    generator = np.random.default_rng(0)
    forgotten = generator.normal([5, 0, 2], [1, 2, 1], (sizes[0], 3))
    unseen = generator.normal([5, 1, 0], [1, 1, 0.5], (sizes[1], 3))
    result = u_lira(torch.from_numpy(forgotten), unseen)
    wanted = literal_u_lira(forgotten, unseen)
    for found, ratios in zip(result[:2], wanted, strict=True):
        odds = np.exp(np.minimum(ratios, 50))
        np.testing.assert_allclose(found, odds / (odds + 1), rtol=0, atol=1e-9)
    members = np.repeat([1, 0], [wanted[0].size, wanted[1].size])
    everyone = np.concatenate([side.ravel() for side in wanted])
    assert result.auc == pytest.approx(roc_auc_score(members, everyone))
    assert np.trapezoid(result.tpr, result.fpr) == pytest.approx(result.auc)
    assert result.tpr_at_1_percent_fpr == result.tpr[result.fpr <= 0.01].max()


def test_u_lira_guesses_where_there_is_nothing_to_tell():
    forgotten, unseen = np.random.default_rng(0).normal(5, 2, (2, 64, 300))
    result = u_lira(forgotten, unseen)
    assert result.auc == pytest.approx(0.5, abs=0.01)
    assert result.tpr_at_1_percent_fpr == pytest.approx(0.01, abs=0.004)


def test_u_lira_without_leaving_the_scored_network_out_would_not_guess():
    """4 networks a side: the ones that a density was fitted to look as if it were theirs."""
    forgotten, unseen = np.random.default_rng(0).normal(0, 1, (2, 4, 2000))
    densities = [
        [norm(fitted.mean(0), fitted.std(0)).logpdf(side) for fitted in (forgotten, unseen)]
        for side in (forgotten, unseen)
    ]
    assert roc(*(f - o for f, o in densities)).auc > 0.6
    assert 0.4 < u_lira(forgotten, unseen).auc < 0.5


def test_u_lira_tells_apart_what_is_apart_by_mean_or_by_spread():
    forgotten, unseen = np.random.default_rng(0).normal(0, 1, (2, 64, 50))
    assert u_lira(forgotten + 6, unseen).auc > 0.999
    assert u_lira(forgotten - 6, unseen).tpr_at_1_percent_fpr > 0.97
    # N(0, 1) against N(0, 100^2): no threshold on f would do
    assert u_lira(forgotten, 100 * unseen).auc > 0.97
    assert roc(forgotten, 100 * unseen).auc == pytest.approx(0.5, abs=0.03)


def test_u_lira_attacks_each_example_by_itself():
    """Told apart one by one; taken together the two sides are the same numbers."""
    levels = np.array([0.0, 10, 20, 30])
    generator = np.random.default_rng(0)
    forgotten = levels + generator.normal(0, 1, (30, 4))
    unseen = levels[::-1] + generator.normal(0, 1, (30, 4))
    assert roc(forgotten, unseen).auc == pytest.approx(0.5, abs=0.05)
    assert u_lira(forgotten, unseen).auc == 1


def test_u_lira_survives_copies_of_one_network_and_samples_far_apart():
    copies = np.full((5, 2), 3.0)
    same = u_lira(copies, copies)
    assert set(same.forgotten_scores.ravel()) == set(same.unseen_scores.ravel()) == {0.5}
    assert same.auc == 0.5
    apart = u_lira(copies, copies + 1e4)
    assert apart.forgotten_scores.min() == 1
    assert apart.unseen_scores.max() == 0
    assert apart.auc == apart.tpr_at_1_percent_fpr == 1
    outlier = np.zeros((5, 1))
    outlier[0] = 1e3
    assert np.isfinite(u_lira(outlier, np.arange(5.0)[:, None]).forgotten_scores).all()


@pytest.mark.parametrize(
    "forgotten, unseen, sentence",
    [
        (np.ones((2, 4)), np.ones((3, 4)), r"at least 3 networks a side .* \(2, 4\) and \(3, 4\)"),
        (np.ones((3, 4)), np.ones((3, 5)), r"the same examples in columns .* and \(3, 5\)"),
        (np.ones((3, 0)), np.ones((3, 0)), "there are no examples"),
        (np.ones((3, 4)) * np.nan, np.ones((3, 4)), "NaN or infinite"),
    ],
)
def test_u_lira_refuses_bad_arrays_in_a_sentence(forgotten, unseen, sentence):
    with pytest.raises(ValueError, match=sentence):
        u_lira(forgotten, unseen)


# ------------------------------------------------------------------------------------------------
# RMIA: two examples, two of a population, one reference and two

X, X_REFERENCES = np.array([0.75, 0.25]), np.array([[0.5, 0.5]])  # favoured 1.5 and 0.5 times
Z, Z_REFERENCES = np.array([0.5, 0.25]), np.array([[0.5, 0.125]])  # 1 and 2 times


@pytest.mark.parametrize(
    "gamma, wanted",
    [(1.0, [0.5, 0]), (0.5, [1, 0]), (1.5, [0, 0]), (1.25, [0.5, 0]), (0.25, [1, 0.5])],
)
def test_rmia_by_hand(gamma, wanted):
    """At gamma 1.5 and 0.5 and 0.25 a ratio equals gamma: not greater, so not counted."""
    assert rmia(X, X_REFERENCES, Z, Z_REFERENCES, gamma=gamma).tolist() == wanted


def test_rmia_takes_the_mean_over_references():
    """p(x) is (0.5, 0.125) and p(z) (0.5, 0.25): x is favoured 1.5 and 2 times, z 1 and 1."""
    x_references, z_references = (
        np.array([[0.75, 0], [0.25, 0.25]]),
        np.array([[0.5, 0], [0.5, 0.5]]),
    )
    assert rmia(X, x_references, Z, z_references).tolist() == [1, 1]
    assert rmia(X, x_references, Z, z_references, gamma=1.75).tolist() == [0, 1]


def test_rmia_offline_by_hand():
    """a = 0: p is (p + 1) / 2: x 0.75 and 0.75, z 0.75 and 0.5625; x 1 and 1/3, z 2/3 and 4/9."""
    assert rmia(X, X_REFERENCES, Z, Z_REFERENCES, offline_a=0).tolist() == [1, 0]
    third = rmia(X, X_REFERENCES, Z, Z_REFERENCES, offline_a=0, gamma=0.6)
    assert third.tolist() == [1, 0.5]  # 1/3 > 0.6 x 4/9, not 0.6 x 2/3


def test_rmia_is_its_literal_definition_for_one_network_and_for_many():
    generator = np.random.default_rng(0)
    x, x_references = generator.uniform(size=(4, 5)), generator.uniform(size=(3, 5))
    z, z_references = generator.uniform(size=(4, 7)), generator.uniform(size=(3, 7))

    def prior(references, a=0.3):
        return 0.5 * ((1 + a) * references.mean() + (1 - a))

    wanted = np.zeros((4, 5))
    for m in range(4):
        for s in range(5):
            favoured = x[m, s] / prior(x_references[:, s])
            ratios = [favoured / (z[m, k] / prior(z_references[:, k])) for k in range(7)]
            wanted[m, s] = sum(ratio > 1.1 for ratio in ratios) / 7
    assert 0 < wanted.mean() < 1
    options = {"gamma": 1.1, "offline_a": 0.3}
    tensors = [torch.from_numpy(side) for side in (x, x_references, z, z_references)]
    np.testing.assert_allclose(rmia(*tensors, **options), wanted)
    one = rmia(x[1], x_references, z[1], z_references, **options)
    np.testing.assert_allclose(one, wanted[1])


def test_rmia_guesses_on_examples_like_the_population_and_finds_members_among_hard_ones():
    """Hard examples have a low p_y even as members: p_y alone cannot tell them, the ratio can."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, 900)  # of the references: how easy an example is
    attacked = logits + generator.normal(0, 0.1, 900) + np.where(np.arange(900) < 300, 1, 0)
    p, references = (1 / (1 + np.exp(-values)) for values in (attacked, logits[None]))
    population = p[600:], references[:, 600:]
    scores = rmia(p[:600], references[:, :600], *population)
    alone = roc(p[:300], p[300:600]).auc
    assert roc(scores[:300], scores[300:]).auc > alone + 0.2
    guess = rmia(p[300:600], references[:, 300:600], *population)
    assert guess.mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    "position, replacement, sentence",
    [
        (0, np.ones((1, 1, 2)), "examples must be"),
        (0, np.ones(3), r"examples must be \(S,\) or \(N, S\), .* not \(3,\) and \(1, 2\)"),
        (1, np.ones(2), r"examples must be .* not \(2,\) and \(2,\)"),
        (1, np.ones((0, 2)), r"examples must be .* not \(2,\) and \(0, 2\)"),
        (2, np.ones(0), r"population must be .* not \(0,\) and \(1, 2\)"),
        (2, np.ones((3, 2)), "the same networks must be read"),
        (3, np.ones((3, 2)), "the same networks must be read"),
        (0, np.array([0.5, 1.5]), r"examples: probabilities must be in \[0, 1\]"),
        (3, np.array([[0.5, math.nan]]), r"population: probabilities must be in \[0, 1\]"),
        (1, np.array([[0.5, 0]]), "examples: all references give one probability 0"),
    ],
)
def test_rmia_refuses_bad_arrays_in_a_sentence(position, replacement, sentence):
    given = [X, X_REFERENCES, Z, Z_REFERENCES]
    given[position] = replacement
    with pytest.raises(ValueError, match=sentence):
        rmia(*given)


@pytest.mark.parametrize("options", [{"gamma": 0}, {"gamma": math.nan}, {"offline_a": 1.1}])
def test_rmia_refuses_bad_options_in_a_sentence(options):
    with pytest.raises(ValueError, match=r"gamma must be positive, offline_a in \[0, 1\]"):
        rmia(X, X_REFERENCES, Z, Z_REFERENCES, **options)


# ------------------------------------------------------------------------------------------------
# KLOM


def test_klom_by_hand():
    """Two bins: 3/4 and 1/4 against 1/4 and 3/4, in which the largest margin is in the last."""
    unlearned, retrained = np.array([[0.0], [0], [0], [1]]), np.array([[0.0], [1], [1], [1]])
    assert klom(unlearned, retrained, bins=2) == pytest.approx(math.log(3) / 2)
    assert klom(unlearned, retrained, bins=1) == 0
    assert klom(unlearned, retrained[1:], bins=2)[0] == pytest.approx(
        0.75 * math.log(0.75 / (1e-5 / (1 + 1e-5))) + 0.25 * math.log(0.25 * (1 + 1e-5))
    )


def test_klom_is_zero_for_equal_margins_in_any_order_and_bounded_for_disjoint_ones():
    generator = np.random.default_rng(0)
    margins = generator.normal(5, 2, (50, 8))
    assert klom(margins, generator.permutation(margins)).tolist() == [0] * 8
    disjoint = klom(torch.from_numpy(margins), margins + 50)
    np.testing.assert_array_less(disjoint, math.log(1 + 1e5) + 1e-9)
    point, other = np.zeros((9, 1)), np.ones((4, 1))
    assert klom(point, other)[0] == pytest.approx(math.log(1 + 1e5))
    assert klom(point, other, floor=0.1)[0] == pytest.approx(math.log(11))
    assert klom(point, point).tolist() == [0]


def test_klom_clips_margins():
    far = np.array([[1e6, -1e6, 3], [250, -101, 3], [100, -100, 3]])
    wanted = klom(np.clip(far, -100, 100), far[::-1])
    assert wanted.tolist() == [0, 0, 0]
    assert klom(far, far[::-1][:2], clip=1e7)[0] > 0.1
    below = klom(far, far + 300, clip=2)  # the middle one: all at -2, against one of three
    assert below == pytest.approx([0, math.log(3), 0])


@pytest.mark.parametrize("kind", ["normal", "whole"])
@pytest.mark.parametrize("sizes", [(30, 30), (100, 41)])
def test_klom_is_its_literal_definition(kind, sizes):
    generator = np.random.default_rng(sizes[1])
    sides = [
        generator.normal(shift, 3, (size, 10)) for shift, size in zip((0, 1), sizes, strict=True)
    ]
    unlearned, retrained = (np.round(side) for side in sides) if kind == "whole" else sides
    wanted = []
    for u, r in zip(unlearned.T, retrained.T, strict=True):
        joint = np.concatenate([u, r])
        counted = [np.histogram(side, 20, (joint.min(), joint.max()))[0] for side in (u, r)]
        p, q = (counts / counts.sum() for counts in counted)
        wanted.append(entropy(p, np.where(p > 0, np.maximum(q, 1e-5), q)))
    np.testing.assert_allclose(klom(unlearned, retrained), wanted, atol=1e-12)


@pytest.mark.parametrize(
    "unlearned, retrained, options, sentence",
    [
        (np.ones((0, 2)), np.ones((3, 2)), {}, r"at least 1 networks a side .* \(0, 2\)"),
        (np.ones((3, 2)), np.ones((3, 1)), {}, "the same examples in columns"),
        (np.ones((3, 2)), np.full((3, 2), np.inf), {}, "NaN or infinite"),
        (np.ones((3, 2)), np.ones((3, 2)), {"bins": 0}, "bins must be at least 1"),
        (np.ones((3, 2)), np.ones((3, 2)), {"clip": 0}, "clip positive"),
        (np.ones((3, 2)), np.ones((3, 2)), {"floor": 0}, r"floor in \(0, 1\)"),
    ],
)
def test_klom_refuses_bad_arguments_in_a_sentence(unlearned, retrained, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        klom(unlearned, retrained, **options)
