"""Tables of hundreds of networks of each kind beside retrained ones: F, scores, other attacks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from scipy.special import expit

from ..metrics.example_attacks import NARROW
from ..metrics.forgetting_quality import (
    SLOWEST,
    ForgettingQuality,
    challenge_score,
    forgetting_quality,
)
from ..metrics.memorisation import memorisation_of_set
from ..metrics.per_example import klom, rmia, roc, u_lira
from .costs import TIME
from .scoring import Arrays, utility

EXPOSED = 0.1  # share of the images, those that are memorised most
KLOM = "KLOM (unlearned || retrained), mean"
OFFLINE_A = 0.3  # RMIA's default in its authors' code, for want of a network to choose it on

# Scores on the leaderboards of kaggle.com/competitions/neurips-2023-machine-unlearning
PRIZES = {3: 0.0885, 4: 0.0863, 5: 0.0785, 6: 0.0783}  # private, of the third to the sixth prize
RANDOM_MASK = {"public": 0.0795, "private": 0.0937}  # of the entry that notebook 04 follows


def quality_table(
    measured: Mapping[str, Arrays],
    times: pd.DataFrame,
    *,
    retrained: str = "retrained",
    ceiling: str = "retrained again",
) -> tuple[pd.DataFrame, dict[str, ForgettingQuality]]:
    """F of every kind of network against the retrained ones, its part of the ceiling, and scores.

    Args:
        measured: name -> what ``score_arrays`` keeps of N networks.
        times: as ``cost_table`` returns it; the median decides the 20 % rule.
        retrained: name of the yardstick, which has no row.
        ceiling: name of a second set of retrained networks.

    Returns:
        The table, one row per name: F, F / ceiling, the score without and with the 20 % rule,
        accuracies and times, device and version of torch; and name -> ``ForgettingQuality``.
    """
    theirs, rows, found = measured[retrained], {}, {}
    for name, ours in measured.items():
        if name == retrained:
            continue
        found[name] = forgetting_quality(ours["confidences"], theirs["confidences"])
        quality, accuracies = found[name].quality, utility(ours, theirs)
        rule = {"seconds": times.loc[name, TIME], "retraining_seconds": 100.0}
        rows[name] = {
            "F": quality,
            "score": challenge_score(quality, **accuracies),
            "score, 20 % rule": challenge_score(quality, **accuracies, **rule),
            "retain accuracy (%)": 100 * float(ours["retain_accuracy"].mean()),
            "test accuracy (%)": 100 * float(ours["test_accuracy"].mean()),
            **times.loc[name],
            **recorded(ours),
        }
    numbers = pd.DataFrame.from_dict(rows, "index")
    numbers.insert(1, "F / ceiling", numbers["F"] / numbers.loc[ceiling, "F"])
    return numbers, found


def recorded(arrays: Arrays) -> dict[str, str]:
    """Device and version of torch that arrays were measured with, several if they differ.

    >>> recorded({"device": np.array(["cpu", "cpu"])})
    {'device': 'cpu', 'torch': 'not recorded'}
    """
    texts = {name: sorted(set(arrays.get(name, ["not recorded"]))) for name in ("device", "torch")}
    return {name: "; ".join(map(str, found)) for name, found in texts.items()}


def beside_prizes(numbers: pd.DataFrame, *, ceiling: str = "retrained again") -> str:
    """Say how much of a ceiling the published scores of the challenge are.

    Args:
        numbers: as ``quality_table`` returns it.
        ceiling: as ``quality_table``.
    """
    ceiling = numbers.loc[ceiling, "F"]
    if not ceiling > 0:
        return "The ceiling is 0: no score can be compared with it."
    won = PRIZES.values()
    return (
        f"Prizes {min(PRIZES)} to {max(PRIZES)} of the challenge went to scores of {max(won):.4f} "
        f"to {min(won):.4f} (private leaderboard), {max(won) / ceiling:.0%} to "
        f"{min(won) / ceiling:.0%} of this ceiling, {ceiling:.3f}. The random-mask entry that "
        f"notebook 04 follows scored {RANDOM_MASK['public']:.4f} (public) and "
        f"{RANDOM_MASK['private']:.4f} (private), {RANDOM_MASK['private'] / ceiling:.0%} of it. "
        "The challenge's own ceiling is not known."
    )


def attack_table(
    measured: Mapping[str, Arrays],
    *,
    retrained: str = "retrained",
    original: str = "original",
    references: int = 4,
) -> pd.DataFrame:
    """Other measures of the same networks: U-LiRA, RMIA and KLOM, see ``metrics.per_example``.

    RMIA is offline. The first half of the unseen images is its population, the second half are the
    non-members. "Most exposed" is the tenth of the images that is memorised most, if there are
    originals to tell: see ``memorisation_of_set``.

    Args:
        measured: as ``quality_table``.
        retrained: name of the networks that never saw the forget set; they have no row.
        original: name of the networks that were trained on it.
        references: number of networks that RMIA knows.
    """
    theirs, rows = measured[retrained], {}
    exposed = most_exposed(measured[original], theirs) if original in measured else None
    *known_sides, known_population = (part[:references] for part in _rmia_parts(theirs))
    for name, ours in measured.items():
        if name == retrained:
            continue
        pair = ours["confidences"], theirs["confidences"]
        lira, distances = u_lira(*pair), klom(*pair)
        *sides, population = _rmia_parts(ours)
        scores = [
            rmia(side, known, population, known_population, offline_a=OFFLINE_A)
            for side, known in zip(sides, known_sides, strict=True)
        ]
        rows[name] = {
            "U-LiRA AUC": lira.auc,
            "U-LiRA TPR at 1 % FPR": lira.tpr_at_1_percent_fpr,
            "RMIA AUC": roc(*scores).auc,
            KLOM: distances.mean(),
            "KLOM, 95th percentile": np.percentile(distances, 95),
        }
        if exposed is not None:
            lira = u_lira(*(side[:, exposed] for side in pair))
            rows[name]["TPR at 1 % FPR, most exposed"] = lira.tpr_at_1_percent_fpr
    return pd.DataFrame(rows).T


def most_exposed(trained: Arrays, retrained: Arrays) -> np.ndarray:
    """The places of the tenth of the forgotten images that is memorised most, the first the most.

    Args:
        trained, retrained: what ``score_arrays`` keeps of networks with and without them.
    """
    memorised = memorisation_of_set(trained["confidences"], retrained["confidences"])
    return np.argsort(-memorised, kind="stable")[: math.ceil(EXPOSED * len(memorised))]


def _rmia_parts(of: Arrays) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """p_y of forgotten images, of the second half of the unseen ones, and of the first half."""
    forgotten, unseen = (
        expit(of[part].astype(np.float64)) for part in ("confidences", "unseen_confidences")
    )
    half = unseen.shape[1] // 2
    return forgotten, unseen[:, half:], unseen[:, :half]


def agreement(numbers: pd.DataFrame) -> str:
    """Say how alike F and two other measures order the kinds of networks: Spearman's rho.

    Args:
        numbers: ``quality_table``, joined with ``attack_table``.
    """
    rho = numbers[["F", "U-LiRA AUC", KLOM]].corr("spearman")["F"]
    texts = [f"{rho[name]:.2f} with {name}" for name in rho.index[1:]]
    return f"Spearman's rank correlation of F over {len(numbers)} kinds: {', '.join(texts)}."


def rule_undecided(numbers: pd.DataFrame) -> str:
    """Say for which kinds the 20 % rule depends on the round of timing.

    Args:
        numbers: as ``quality_table`` returns it.
    """
    limit = 100 * SLOWEST
    both = (numbers["time, lowest"] <= limit) & (numbers["time, highest"] > limit)
    names = ", ".join(numbers.index[both]) or "none"
    return f"On either side of 20 % of retraining's time, depending on the round: {names}."


def remarks(numbers: pd.DataFrame) -> str:
    """``rule_undecided``, ``beside_prizes`` and ``agreement``, one line each."""
    return "\n".join(say(numbers) for say in (rule_undecided, beside_prizes, agreement))


def copies_of_one(measured: Mapping[str, Arrays], name: str = "original") -> str:
    """Say which F copies of one network get, with the guard and without."""
    theirs = measured["retrained"]["confidences"]
    copies = np.broadcast_to(measured[name]["confidences"][0], theirs.shape)
    guarded, bare = (forgetting_quality(copies, theirs, narrow=n).quality for n in (NARROW, 0))
    return f"{len(copies)} copies of one {name}: F {guarded:.3f}, {bare:.3f} without the guard."


def quality_curves(
    measured: Mapping[str, Arrays], sizes: Iterable[int] = tuple(2**n for n in range(3, 20))
) -> pd.DataFrame:
    """F against the number of networks per side: the first N of each kind, and all of them.

    Args:
        measured: as ``quality_table``.
        sizes: numbers of networks, by default 8, 16, 32, ...; those that there are not are left
            out.

    Returns:
        One row per number, one column per name but "retrained".
    """
    f = {name: arrays["confidences"] for name, arrays in measured.items()}
    theirs = f.pop("retrained")
    counts = sorted({len(theirs), *(size for size in sizes if 1 < size < len(theirs))})
    curves = {
        name: [forgetting_quality(ours[:n], theirs[:n]).quality for n in counts]
        for name, ours in f.items()
    }
    return pd.DataFrame(curves, index=counts)
