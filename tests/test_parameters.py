"""A notebook's parameters: refused in one sentence, before anything is trained."""

import ast

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell

from notebooks import run
from unlearning import parameters
from unlearning.parameters import ParameterError, _rule_for, check_parameters

GOOD = {"DATASET": "mnist", "MODEL": "mlp", "TRAIN_SIZE": 500, "FORGET": ["class 5", "random 5%"]}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (
            "SEEDS",
            3,
            r"SEEDS must be a list of different whole numbers, such as \[0, 1, 2\], not 3",
        ),
        ("SEEDS", [], "SEEDS must be a list"),
        ("SEEDS", [0, 0], "SEEDS must be a list"),
        ("SEEDS", [0, 0.5], "SEEDS must be a list"),
        ("SEEDS", "012", "SEEDS must be a list"),
        ("TRAIN_SIZE", "abc", "TRAIN_SIZE must be a whole number of images, .* not 'abc'"),
        ("TRAIN_SIZE", 0, "TRAIN_SIZE must be"),
        ("TRAIN_SIZE", 10**6, "train_size must be between 1 and 54210"),
        ("TEST_SIZE", 0.5, "TEST_SIZE must be a whole number of images, .* not 0.5"),
        ("TEST_SIZE", 9_000, "test_size must be between 1 and 8920"),
        ("MODEL", "torchvision/vit_b_16", "the network cannot read images of 1 x 28 x 28"),
        ("DATASET", "nope", "DATASET must be one of mnist, .* not 'nope'"),
        ("DATASET", ["mnist"], "DATASET must be one of"),
        ("MODEL", "lenet", "there is no network 'lenet'"),
        ("MODEL", 7, "MODEL must be mlp"),
        ("FORGET", ["class 77"], "class 77 does not exist: the classes are 0, 1"),
        ("FORGET", [], "name at least one scenario"),
        ("FORGET", 5, "a scenario reads"),
        ("FORGET", ["class 5", "class 5"], "named twice"),
        ("FORGET", "random 100%", "."),
        ("FORGET", ["group 3"], "the images have no groups"),
        ("FORGET", ["subclass 3"], "needs superclasses"),
        ("FORGET", ["mislabelled 0.01%"], "makes none of 500 labels wrong"),
        ("FORGET", ["50 requests of 2%"], "500 of 500 images cannot be forgotten"),
        ("TRAIN_EPOCHS", 1.5, "TRAIN_EPOCHS must be a whole number above 0"),
        ("TRAIN_LR", float("nan"), "TRAIN_LR must be a number above 0, not nan"),
        ("PUBLISHED_LR", "0.1", "PUBLISHED_LR must be a number above 0, not '0.1'"),
        ("PUBLISHED_RATIO", 2, "PUBLISHED_RATIO must be a number from 0 to 1"),
        ("SWEPT_LR", 0.1, "SWEPT_LR must be a list, each entry a number above 0"),
        ("SWEPT_EPOCHS", [1, True], "SWEPT_EPOCHS must be a list, each entry a whole number"),
        ("BATCH_SIZE", 0, "BATCH_SIZE must be a whole number above 0"),
        ("REQUESTS", 0, "REQUESTS must be a whole number above 0"),
        ("SLICES", 0, "SLICES must be a whole number above 0"),
        ("SHARDS", 5, "SHARDS must be a list, each entry a whole number above 0"),
        ("SWEPT_SIGMA", [0.0], "SWEPT_SIGMA must be a list, each entry a number above 0"),
        ("AUGMENT", "no", "AUGMENT must be True, False or"),
        ("JOBS", 0, "JOBS must be a whole number above 0, or None"),
        ("SHOWN", "test_accuracy", "SHOWN must be a list of names"),
        ("TWEAKS", [1], "TWEAKS must be values by name"),
    ],
)
def test_what_cannot_be_used_is_named(name, value, words):
    with pytest.raises(ParameterError, match=words):
        check_parameters({**GOOD, name: value})


def test_every_kind_of_scenario_can_be_named():
    names = ["random 5%", "class 5", "class 3, 8", "5 requests of 2%", "cluster 3", "2 clusters"]
    names += ["mislabelled 10%", "mislabelled 10% of 3, 8", "mislabelled 10%, 50% known"]
    needing_scores = ["memorised high 10%", "memorised low", "exposed 5%"]
    check_parameters({**GOOD, "FORGET": names + needing_scores})


def test_a_notebook_can_be_limited_to_classes():
    with pytest.raises(ParameterError, match="cannot forget 'random 5%'"):
        check_parameters(GOOD, kinds=("class",))
    check_parameters({**GOOD, "FORGET": "class 3, 8"}, kinds=("class",))


def test_a_set_that_cannot_be_downloaded_is_one_sentence_too(monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("svhn could not be downloaded: connect to the network")

    monkeypatch.setattr(parameters, "load", refuse)
    with pytest.raises(ParameterError, match="svhn could not be downloaded"):
        check_parameters({**GOOD, "DATASET": "svhn"})


def test_a_notebook_shows_the_sentence_alone(capsys):
    shell = InteractiveShell()
    shell.run_cell(f"from unlearning.parameters import *\ncheck_parameters({GOOD | {'SEEDS': 3}})")
    shown = capsys.readouterr().out.strip().splitlines()
    assert len(shown) == 1 and shown[0].startswith("ParameterError: SEEDS must be")


@pytest.mark.parametrize("path", run.find([]), ids=lambda path: path.stem)
def test_every_parameter_of_a_notebook_is_checked_in_the_cell_after_them(path):
    notebook = nbformat.read(path, as_version=4)
    place = next(i for i, cell in enumerate(notebook.cells) if run.tagged(cell, "parameters"))
    assert notebook.cells[place + 1].source.startswith("check_parameters(globals()")
    tree = ast.parse(notebook.cells[place].source)
    values = {node.targets[0].id: ast.literal_eval(node.value) for node in tree.body}
    together = {"FORGET"}  # checked with the data
    unchecked = [name for name in values if not (_rule_for(name) or name in together)]
    assert unchecked == []
    check_parameters(values)
