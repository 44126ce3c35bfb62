"""Draw the README's figure and write its tables, from what the notebooks saved.

  python notebooks/summary.py

Reads results/<notebook>/<dataset>-<model>/*_runs.csv; writes results/summary.png, and README.md
between the lines <!-- results --> and <!-- /results -->. No number there is written by hand.
"""

import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from unlearning.files import RESULTS, ROOT, whole
from unlearning.plots import comparison
from unlearning.report import readable, table

ALL = RESULTS / "08_all_methods"
SHOWN = {  # data set and network -> {setting: what is forgotten}
    "mnist-cnn": {
        "random": "**500 random images of 5,000 forgotten** (MNIST, CNN, notebook 08)",
        "class": "**Class 5 forgotten** (same networks; *test* is over the other nine classes)",
    },
    "cifar10-resnet20": {
        "random": "**200 random images of 2,000 forgotten** (CIFAR-10, ResNet-20, notebook 08; the "
        "methods' values were tuned for [another recipe](#cifar-10-and-resnet-18))",
        "few": "**40 random images of 2,000 forgotten** (CIFAR-10, same networks)",
        "class": "**Class 5, dogs, forgotten** (CIFAR-10, same networks)",
    },
}
WHOLE = RESULTS / "05_uniform_target" / "mnist-mlp" / "one_runs.csv"
CHAIN = RESULTS / "06_student_teacher" / "mnist-cnn" / "ablation_runs.csv"
QUALITY = RESULTS / "07_forgetting_quality" / "mnist-mlp" / "forgetting_quality.csv"
FIGURE = RESULTS / "summary.png"
COLUMNS = ["retain_accuracy", "forget_accuracy", "test_accuracy", "membership_attack"]
QUALITY_DIGITS = {  # column -> digits after the point
    "F / ceiling": 2,
    "score": 3,
    "score, 20 % rule": 3,
    "retain accuracy (%)": 1,
    "test accuracy (%)": 1,
    "time (% of retraining)": 1,
}
MORE = [*COLUMNS, "confidence_attack", "average_gap", "seconds"]


def runs_of(path: Path) -> pd.DataFrame:
    """The table of the runs that a notebook saved."""
    return table(pd.read_csv(path).to_dict("records"))


def all_methods(where: str, setting: str) -> pd.DataFrame:
    """What notebook 08 measured on one data set in one setting."""
    return runs_of(ALL / where / f"{setting}_runs.csv")


def markdown(shown: pd.DataFrame) -> str:
    """A table of texts as GitHub draws it."""
    rows = [["", *shown.columns], ["---", *["---:"] * len(shown.columns)]]
    rows += [[name, *cells] for name, cells in zip(shown.index, shown.to_numpy(), strict=True)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def quality() -> pd.DataFrame:
    """Forgetting quality as people read it."""
    numbers = pd.read_csv(QUALITY).set_index("method").rename_axis(None)
    pairs = zip(numbers["F"], numbers["F, half width"], strict=True)
    shown = pd.DataFrame({"F": [f"{mean:.3f} ± {half:.3f}" for mean, half in pairs]}, numbers.index)
    for name, digits in QUALITY_DIGITS.items():
        shown[name] = numbers[name].map(f"{{:.{digits}f}}".format)
    return shown


def results() -> str:
    """What stands in the README between its marks."""
    digit, chain = runs_of(WHOLE), runs_of(CHAIN)
    columns = ["test_accuracy", "test_forget_accuracy", "all_test_accuracy"]
    parts = [
        "![All methods beside the retrained network](results/summary.png)",
        *(
            text
            for where, headings in SHOWN.items()
            for setting, heading in headings.items()
            for text in (heading, markdown(readable(all_methods(where, setting), MORE)))
        ),
        "**Digit 5 forgotten from all of MNIST by a uniform target** (MLP, notebook 05; *test* is "
        "over the other nine digits, *test forget* over digit 5)",
        markdown(readable(digit, [*columns, "membership_attack", "js_to_retrained", "seconds"])),
        "**Digit 0 forgotten from all of MNIST by noise, a curriculum and teachers** (CNN, "
        "notebook 06; *relearn steps* are batches until digit 0 is known again)",
        markdown(readable(chain, [*columns[:2], "zrf", "js_to_retrained", "relearn_steps"])),
        "**Can 512 unlearned networks be told from 512 retrained ones?** (100 random images of "
        "5,000, MLP, notebook 07; F of the NeurIPS 2023 challenge, whose ceiling is the row "
        "*retrained again*; ± 95 % over networks)",
        markdown(quality()),
    ]
    return "\n\n".join(parts)


def main() -> None:
    settings = {
        f"{where.split('-')[0]}, {setting}": all_methods(where, setting)
        for where in SHOWN
        for setting in ("random", "class")
    }
    title = "A tenth of the images forgotten at random, or class 5"
    comparison(settings, [*COLUMNS, "average_gap"], title=title, path=FIGURE)
    readme = ROOT / "README.md"
    before, mark, rest = readme.read_text(encoding="utf-8").partition("<!-- results -->")
    after = rest.partition("<!-- /results -->")[2]
    with whole(readme) as beside:
        beside.write_text(
            f"{before}{mark}\n{results()}\n<!-- /results -->{after}", encoding="utf-8", newline="\n"
        )
    print(f"written: {FIGURE.relative_to(ROOT)} and the tables of README.md")


if __name__ == "__main__":
    main()
