"""Can an attacker tell forgotten examples from ones that were never seen?"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from ..core.checks import check_seed, check_whole
from .arrays import Array, as_floats, check_examples, check_fractions

FEWEST_ATTACKED = 10  # examples per side: a tenth of them is held out


def membership_attack(
    forget_losses: Array,
    test_losses: Array,
    *,
    splits: int = 10,
    standardised: bool = True,
    seed: int = 0,
) -> float:
    """Accuracy of telling forgotten from never-seen examples by their loss (simple MIA).

    The larger set is subsampled to the size of the smaller one. The attack is logistic regression
    on the cross-entropy, scored by its mean accuracy over stratified shuffle splits with a tenth
    held out. In [0, 1]; compare it with the retrained network's, about 0.5, a guess.

    The losses are standardised, by the mean and deviation of those that the attack is fitted to,
    and both sides weigh the same where the held-out tenth has one example more of one side.

    Source: the starting kit of the NeurIPS 2023 unlearning challenge, which does neither. Its
    regression has an L2 penalty, so that on losses that are small as a whole it guesses however far
    apart the two sides are; without equal weights, equal losses do not give 0.5.

    Args:
        forget_losses: cross-entropy of each forgotten example, (S,).
        test_losses: the same of examples that were never trained on, (T,).
        splits: number of shuffle splits.
        standardised: False is the starting kit's literal form.
        seed: random seed for the subsample and the splits.

    Raises:
        ValueError: if a side has fewer than ten examples, a loss is negative or not finite,
            ``splits`` is no whole number of at least 1, or ``seed`` none of at least 0.
    """
    splits, seed = check_whole("splits", splits, least=1), check_seed(seed)
    forget, test = _losses(forget_losses, "forget_losses"), _losses(test_losses, "test_losses")
    count, generator = min(len(forget), len(test)), np.random.default_rng(seed)
    forget = generator.choice(forget, count, replace=False)
    test = generator.choice(test, count, replace=False)
    losses = np.concatenate([test, forget])[:, None]
    members = np.repeat([0, 1], count)
    folds = StratifiedShuffleSplit(splits, random_state=seed)
    attack, scoring = LogisticRegression(), "accuracy"
    if standardised:
        attack, scoring = make_pipeline(StandardScaler(), attack), "balanced_accuracy"
    with threadpool_limits(1, user_api="blas"):  # two threads on a busy machine: 25 times as long
        scores = cross_val_score(attack, losses, members, cv=folds, scoring=scoring)
    return float(scores.mean())


def _losses(values: Array, name: str) -> np.ndarray:
    values = check_examples(as_floats(values, name), name, least=FEWEST_ATTACKED)
    if (values < 0).any():
        raise ValueError(f"{name} must be cross-entropies, at least 0, not {values.min():g}")
    return values


def confidence_attack(
    retain_confidence: Array, test_confidence: Array, forget_confidence: Array, *, seed: int = 0
) -> float:
    """MIA efficacy: the fraction of the forget set that an attacker calls non-members.

    A support vector machine (C 3, RBF kernel, gamma "auto") on the confidence p_y is trained on
    the test set against as many members drawn from the retain set (the larger set is subsampled),
    and applied to the forget set. In [0, 1]; compare it with the retrained network's.

    This is "confidence" of ``svc_attacks``, from probabilities instead of logits.

    Source: Fan et al., SalUn, ICLR 2024; Song and Mittal, USENIX Security 2021. The differences are
    those of ``svc_attacks``.

    Args:
        retain_confidence: p_y of retained training examples, (R,).
        test_confidence: of test examples, (T,).
        forget_confidence: of forgotten examples, (S,).
        seed: random seed for the subsample.

    Raises:
        ValueError: if a side is empty, a confidence is outside [0, 1], such as a loss, or ``seed``
            is no whole number of at least 0.
    """
    sides = {"retain": retain_confidence, "test": test_confidence, "forget": forget_confidence}
    return called_unseen(*(_confidences(side, name) for name, side in sides.items()), seed)


def _confidences(values: Array, part: str) -> np.ndarray:
    """One probability per example, (S, 1)."""
    name = f"{part}_confidence"
    return check_examples(check_fractions(values, name), name)[:, None]


def called_unseen(retain: np.ndarray, test: np.ndarray, forget: np.ndarray, seed: int) -> float:
    """Fraction of the forget set that the SVM calls non-members, from features (examples, D)."""
    count, generator = min(len(retain), len(test)), np.random.default_rng(check_seed(seed))
    members = generator.choice(retain, count, replace=False)
    others = test if len(test) == count else generator.choice(test, count, replace=False)
    attack = _fitted(np.concatenate([members, others]), np.repeat([1, 0], count))
    return float((attack.predict(forget) == 0).mean())


def _fitted(x: np.ndarray, y: np.ndarray) -> SVC:
    """The SVM of examples x (N, D) and their sides y (N,).

    Where most are alike, as in correctness, each is given once, with their number as its weight:
    the same machine, 25 times as fast.
    """
    attack = SVC(C=3, gamma="auto", kernel="rbf")
    alike, counts = np.unique(np.column_stack([x, y]), axis=0, return_counts=True)
    if len(alike) < len(x) / 2:
        return attack.fit(alike[:, :-1], alike[:, -1], counts)
    return attack.fit(x, y)
