"""The NeurIPS 2023 machine unlearning challenge: its data, a submission, and its score.

The task: faces in ten age groups, a ResNet-18 trained on all of them, and a forget set. A
submission is a zip of 512 checkpoints: the original network, unlearned with 512 seeds.

Source: the organisers' notebook (kaggle.com/code/eleni30fillou/run-unlearn-finetune), from which
layout, file names and number format are taken, and the scorer that they released
(github.com/google-deepmind/unlearning_evaluation).
"""

from .costs import cost_table, costs
from .data import Challenge, load_challenge
from .networks import Networks
from .replicates import blocks, conclusions, interval_table, replicates
from .scoring import Score, measure_checkpoints, score_arrays, score_submission
from .submission import write_checkpoints, zip_submission
from .tables import attack_table, copies_of_one, quality_curves, quality_table, remarks

__all__ = [
    "Challenge",
    "Networks",
    "Score",
    "attack_table",
    "blocks",
    "conclusions",
    "copies_of_one",
    "cost_table",
    "costs",
    "interval_table",
    "load_challenge",
    "measure_checkpoints",
    "quality_curves",
    "quality_table",
    "remarks",
    "replicates",
    "score_arrays",
    "score_submission",
    "write_checkpoints",
    "zip_submission",
]
