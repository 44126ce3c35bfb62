"""The score of a submission: what is kept of a network, of many, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from ..core.devices import pick_device
from ..core.images import Images
from ..core.progress import Progress
from ..core.workers import imap_unordered
from ..measurement import Measurement, measure
from ..metrics.forgetting_quality import (
    ForgettingQuality,
    challenge_score,
    forgetting_quality,
    logit_scaled_confidence,
)
from ..splitting import Split
from .submission import checkpoint_names, load_weights

READ_TOGETHER = 16  # checkpoints that one process measures at a time
UNSEEN = 200  # test images whose confidences are kept
ACCURACIES = ("retain_accuracy", "forget_accuracy", "test_accuracy")

Arrays = Mapping[str, np.ndarray]
"""What ``score_arrays`` keeps of N networks, stacked: confidences (N, S), accuracies (N,)."""


class Score(NamedTuple):
    """A submission's score and what it consists of.

    ``score`` is ``quality`` (F) x ``retain_ratio`` x ``test_ratio``, or 0 if too slow. ``ceiling``
    is F of a second set of retrained networks, ``floor`` F of the original.
    """

    score: float
    quality: float
    retain_ratio: float
    test_ratio: float
    ceiling: float | None
    floor: float | None
    retain_accuracy: float
    test_accuracy: float
    retrained_retain_accuracy: float
    retrained_test_accuracy: float
    details: ForgettingQuality


def score_arrays(measured: Measurement) -> dict[str, np.ndarray]:
    """What the score needs of one network's measurement, for ``measure_seeds(keep=score_arrays)``.

    Returns:
        ``confidences`` (S,) on the forget set; ``retain_accuracy``, ``forget_accuracy`` and
        ``test_accuracy``; ``unseen_confidences`` (200,), float16, on the first test images.
    """
    losses = np.maximum(measured.test_losses[:UNSEEN], np.finfo(np.float64).tiny)
    unseen = -losses - np.log(-np.expm1(-losses))  # the logit of p_y = exp(-loss)
    numbers = {name: np.float64(measured.numbers[name]) for name in ACCURACIES}
    confidences = logit_scaled_confidence(measured.forget_logits, measured.forget_labels)
    largest = np.finfo(np.float16).max
    unseen = np.clip(unseen, -largest, largest).astype(np.float16)
    return {"confidences": confidences, **numbers, "unseen_confidences": unseen}


def score_submission(
    submission: Path | str | Arrays,
    retrained: Path | str | Arrays,
    build: Callable[[], nn.Module],
    *,
    retain: Images,
    forget: Images,
    test: Images,
    second_retrained: Path | str | Arrays | None = None,
    original: nn.Module | None = None,
    seconds: float | None = None,
    retraining_seconds: float | None = None,
    delta: float = 1e-5,
    bins: int = 13,
    device: torch.device | str | None = None,
    n_jobs: int | None = None,
) -> Score:
    """Score a submission as the challenge does: F x RA_u / RA_r x TA_u / TA_r.

    F is ``forgetting_quality`` on the forget set, RA and TA are mean accuracies on the retain and
    the test set. Print F next to the ceiling and the floor.

    Args:
        submission: a folder or zip of checkpoints, or what ``measure_checkpoints`` returned for it.
        retrained: the same for networks trained from scratch without the forget set.
        build: ``build() -> network`` that the checkpoints fit.
        retain, forget, test: the sets, in the normalisation that the networks were trained with.
        second_retrained: other networks trained from scratch, for the ceiling.
        original: the network before unlearning, for the floor: N copies of it.
        seconds, retraining_seconds: for one network; above 20 % of retraining's, the score is 0.
        delta, bins: as ``forgetting_quality``.
        device, n_jobs: as ``measure_checkpoints``.

    Raises:
        ValueError, FileNotFoundError: as ``measure_checkpoints`` and ``forgetting_quality``.
    """
    sets = {"retain": retain, "forget": forget, "test": test}

    def read(networks: Path | str | Arrays) -> Arrays:
        if isinstance(networks, Mapping):
            return networks
        return measure_checkpoints(networks, build, **sets, device=device, n_jobs=n_jobs)

    def quality(confidences: np.ndarray) -> ForgettingQuality:
        return forgetting_quality(confidences, theirs["confidences"], delta=delta, bins=bins)

    ours, theirs = read(submission), read(retrained)
    details, ceiling, floor = quality(ours["confidences"]), None, None
    if second_retrained is not None:
        ceiling = quality(read(second_retrained)["confidences"]).quality
    if original is not None:
        one = score_arrays(measure(original, Split(retain, forget), test, attacks=False))
        copies = np.tile(one["confidences"], (len(ours["confidences"]), 1))
        floor = quality(copies).quality
    means = {name: float(values.mean()) for name, values in utility(ours, theirs).items()}
    times = {"seconds": seconds, "retraining_seconds": retraining_seconds}
    score = challenge_score(details.quality, **means, **times)
    ratios = (means[f"{p}_accuracy"] / means[f"retrained_{p}_accuracy"] for p in ("retain", "test"))
    return Score(score, details.quality, *ratios, ceiling, floor, **means, details=details)


def utility(ours: Arrays, theirs: Arrays) -> dict[str, np.ndarray]:
    """The four accuracies that ``challenge_score`` takes, by the names of its arguments."""
    names = ("retain_accuracy", "test_accuracy")
    return {name: ours[name] for name in names} | {f"retrained_{n}": theirs[n] for n in names}


def measure_checkpoints(
    source: Path | str,
    build: Callable[[], nn.Module],
    *,
    retain: Images,
    forget: Images,
    test: Images,
    device: torch.device | str | None = None,
    n_jobs: int | None = None,
) -> dict[str, np.ndarray]:
    """Measure every checkpoint and keep ``score_arrays``, in the order of their numbers.

    Keep the result for the retrained networks: they are the same for every submission.

    Args:
        source: folder or zip whose ``.pth`` files are state dicts; a zip may hold them in folders.
        build: ``build() -> network`` that they fit.
        retain, forget, test: as ``score_submission``.
        device: where to predict; by default the best there is.
        n_jobs: as ``run_many``.

    Raises:
        FileNotFoundError: if the folder or zip does not exist.
        ValueError: if it holds no checkpoints, or one cannot be read or does not fit; names it.
    """
    source = Path(source)
    device = pick_device() if device is None else torch.device(device)
    names = checkpoint_names(source)
    starts = range(0, len(names), READ_TOGETHER)
    groups = [tuple(names[start : start + READ_TOGETHER]) for start in starts]
    split, test = Split(retain.to(device), forget.to(device)), test.to(device)

    def measure_group(group: tuple[str, ...]) -> list[dict[str, np.ndarray]]:
        network = build().to(device)
        loaded = (load_weights(network, source, name) for name in group)
        return [score_arrays(measure(own, split, test, attacks=False)) for own in loaded]

    rows = {}
    bar = Progress("measuring", len(names), unit="networks")
    with bar, closing(imap_unordered(measure_group, groups, n_jobs=n_jobs)) as finished:
        for group, measured in finished:
            rows.update(zip(group, measured, strict=True))
            bar.update(len(group))
    return {key: np.stack([rows[name][key] for name in names]) for key in rows[names[0]]}
