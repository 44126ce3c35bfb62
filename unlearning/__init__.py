"""Machine unlearning for image classifiers, measured against retraining from scratch.

    data             where do images come from
    labelling        what other labels can images have
    splitting        what is to be forgotten
    scenarios        ways of splitting, by name, for every seed
    models           which network
    training         train, predict, load_or_train
    curvature        how much does a weight matter
    curriculum       in what order are examples shown
    methods          one published unlearning method per file
    metrics          one question about a network's outputs per file
    measurement      one way from a network to numbers
    probing          what is left inside a network
    report           what does the table say
    claims           what may be claimed of it
    asked            what do people ask to forget, and where is it hard
    inside           what is left in a network of what it no longer answers
    proofs           what does forgetting with a proof cost, and what does it not hide
    traps            what do slips of released code change
    many             hundreds of networks, made, measured and resumed
    halves           what does a network learn by heart
    hyperparameters  what is a method given
    parameters       can a notebook's parameters be used
    store            the networks of an experiment: made once, measured once
    experiment       method x scenario x seed
    challenge        the NeurIPS 2023 challenge: its data, a submission, its score
    plots            one style for every figure
    core             the engine room under all of them: files, devices, batches, losses, the loop

Imports run one way, in that order, ``core`` first.
"""

from .data import Images, load
from .experiment import Experiment, prepare
from .many import run_many
from .measurement import Measurement, measure
from .methods import METHODS
from .models import build
from .report import table
from .scenarios import Scenario
from .splitting import Split
from .training import Diverged, load_or_train, predict, train

__all__ = [
    "METHODS",
    "Diverged",
    "Experiment",
    "Images",
    "Measurement",
    "Scenario",
    "Split",
    "build",
    "load",
    "load_or_train",
    "measure",
    "predict",
    "prepare",
    "run_many",
    "table",
    "train",
]
