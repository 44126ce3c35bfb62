"""Draw the README's figure and write its tables, from what the notebooks saved.

  python notebooks/summary.py

Reads results/<notebook>/<dataset>-<model>/*_runs.csv; writes results/summary.png, and README.md
between the lines <!-- results --> and <!-- /results -->. No number there is written by hand.
"""

import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from unlearning.core.files import RESULTS, ROOT, atomic_write, slug
from unlearning.plots import comparison
from unlearning.report import readable, table

COLUMNS = ["retain_accuracy", "forget_accuracy", "test_accuracy", "membership_attack"]
ALL = "08_all_methods/mnist-cnn"
SHOWN = {"random 10%": "**500 random images of 5,000 forgotten** (MNIST, CNN, notebook 08)"}
SHOWN["class 5"] = "**Class 5 forgotten** (same networks; *test* is over the other nine classes)"
QUALITY = RESULTS / "07_forgetting_quality" / "mnist-mlp" / "forgetting_quality.csv"
QUALITY_DIGITS = {  # column -> digits after the point
    "F / ceiling": 2,
    "score": 3,
    "score, 20 % rule": 3,
    "retain accuracy (%)": 1,
    "test accuracy (%)": 1,
    "time (% of retraining)": 1,
}
FIGURE = RESULTS / "summary.png"


def runs_of(folder: str, scenario: str) -> pd.DataFrame:
    """The table of the runs that a notebook saved of a scenario."""
    path = RESULTS / folder / f"{slug(scenario)}_runs.csv"
    return table(pd.read_csv(path).to_dict("records"))


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
    digit = runs_of("05_uniform_target/mnist-mlp", "class 5")
    chain = runs_of("06_student_teacher/mnist-cnn", "class 0")
    columns = ["test_accuracy", "test_forget_accuracy"]
    more = [*COLUMNS, "confidence_attack", "js_to_retrained", "average_gap", "seconds"]
    parts = ["![All methods beside the retrained network](results/summary.png)"]
    for scenario, caption in SHOWN.items():
        parts += [caption, markdown(readable(runs_of(ALL, scenario), more))]
    parts += [
        "**Digit 5 forgotten from all of MNIST by a uniform target** (MLP, notebook 05; *test* is "
        "over the other nine digits, *test forget* over digit 5)",
        markdown(readable(digit, [*columns, "all_test_accuracy", "js_to_retrained", "seconds"])),
        "**Digit 0 forgotten from all of MNIST by noise, a curriculum and teachers** (CNN, "
        "notebook 06; *relearn steps* are batches until digit 0 is known again)",
        markdown(readable(chain, [*columns, "zrf", "js_to_retrained", "relearn_steps"])),
        "**Can 512 unlearned networks be told from 512 retrained ones?** (100 random images of "
        "5,000, MLP, notebook 07; F of the NeurIPS 2023 challenge, whose ceiling is the row "
        "*retrained again*; ± 95 % over networks)",
        markdown(quality()),
    ]
    return "\n\n".join(parts)


def main() -> None:
    tables = {scenario: runs_of(ALL, scenario) for scenario in SHOWN}
    title = "MNIST, CNN: a tenth of 5,000 images forgotten at random, or class 5"
    comparison(tables, [*COLUMNS, "average_gap"], title=title, path=FIGURE)
    readme = ROOT / "README.md"
    before, mark, rest = readme.read_text(encoding="utf-8").partition("<!-- results -->")
    after = rest.partition("<!-- /results -->")[2]
    text = f"{before}{mark}\n{results()}\n<!-- /results -->{after}"
    with atomic_write(readme) as tmp_path:
        tmp_path.write_text(text, encoding="utf-8", newline="\n")
    print(f"written: {FIGURE.relative_to(ROOT)} and the tables of README.md")


if __name__ == "__main__":
    main()
