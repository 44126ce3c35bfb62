"""Can an attacker tell forgotten examples from ones that were never seen?"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from .arrays import Array, as_numpy

FEWEST_ATTACKED = 10  # examples per side: a tenth of them is held out


def membership_attack(
    forget_losses: Array, test_losses: Array, *, splits: int = 10, seed: int = 0
) -> float:
    """Accuracy of telling forgotten from never-seen examples by their loss (simple MIA).

    The larger set is subsampled to the size of the smaller one. The attack is logistic regression
    on the cross-entropy, scored by its mean accuracy over stratified shuffle splits with a tenth
    held out. In [0, 1]; compare it with the retrained network's, about 0.5, a guess.

    Source: the starting kit of the NeurIPS 2023 unlearning challenge.

    Args:
        forget_losses: cross-entropy of each forgotten example, (S,).
        test_losses: the same of examples that were never trained on, (T,).
        splits: number of shuffle splits.
        seed: random seed for the subsample and the splits.

    Raises:
        ValueError: if a side has fewer than ten examples, or a value is not finite.
    """
    forget, test = (
        _check_values(losses, FEWEST_ATTACKED) for losses in (forget_losses, test_losses)
    )
    count, generator = min(len(forget), len(test)), np.random.default_rng(seed)
    forget = generator.choice(forget, count, replace=False)
    test = generator.choice(test, count, replace=False)
    losses = np.concatenate([test, forget])[:, None]
    members = np.repeat([0, 1], count)
    folds = StratifiedShuffleSplit(splits, random_state=seed)
    attack = LogisticRegression()
    with threadpool_limits(1, user_api="blas"):  # two threads on a busy machine: 25 times as long
        scores = cross_val_score(attack, losses, members, cv=folds, scoring="accuracy")
    return float(scores.mean())


def confidence_attack(
    retain_confidence: Array, test_confidence: Array, forget_confidence: Array, *, seed: int = 0
) -> float:
    """MIA efficacy: the fraction of the forget set that an attacker calls non-members.

    A support vector machine (C 3, RBF kernel, gamma "auto") on the confidence p_y is trained on
    the test set against as many members drawn from the retain set (the larger set is subsampled),
    and applied to the forget set. In [0, 1]; compare it with the retrained network's.

    Source: Fan et al., SalUn, ICLR 2024; Song and Mittal, USENIX Security 2021.

    Args:
        retain_confidence: p_y of retained training examples, (R,).
        test_confidence: of test examples, (T,).
        forget_confidence: of forgotten examples, (S,).
        seed: random seed for the subsample.

    Raises:
        ValueError: if a side is empty, or a value is not finite.
    """
    retain, test = _check_values(retain_confidence, 1), _check_values(test_confidence, 1)
    forget = _check_values(forget_confidence, 1)
    count, generator = min(len(retain), len(test)), np.random.default_rng(seed)
    members = generator.choice(retain, count, replace=False)
    others = test if len(test) == count else generator.choice(test, count, replace=False)
    attack = SVC(C=3, gamma="auto", kernel="rbf")
    attack.fit(np.concatenate([members, others])[:, None], np.repeat([1, 0], count))
    return float((attack.predict(forget[:, None]) == 0).mean())


def _check_values(values: Array, least: int) -> np.ndarray:
    values = as_numpy(values).astype(np.float64)
    if values.ndim != 1 or len(values) < least:
        raise ValueError(
            f"an attack needs one value per example and at least {least}, not {values.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError("an attack needs finite values: some are NaN or infinite")
    return values
