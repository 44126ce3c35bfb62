"""The NeurIPS 2023 machine unlearning challenge: its data, a submission, and its score.

The task: faces in ten age groups, a ResNet-18 trained on all of them, and a forget set. A
submission is a zip of 512 checkpoints: the original network, unlearned with 512 seeds.

Source: the organisers' notebook (kaggle.com/code/eleni30fillou/run-unlearn-finetune), from which
layout, file names and number format are taken, and the scorer that they released
(github.com/google-deepmind/unlearning_evaluation).
"""

from .data import Challenge, load_challenge
from .scoring import (
    Score,
    attack_table,
    measure_checkpoints,
    quality_table,
    score_arrays,
    score_submission,
)
from .submission import write_checkpoints, zip_submission

__all__ = [
    "Challenge",
    "Score",
    "attack_table",
    "load_challenge",
    "measure_checkpoints",
    "quality_table",
    "score_arrays",
    "score_submission",
    "write_checkpoints",
    "zip_submission",
]
