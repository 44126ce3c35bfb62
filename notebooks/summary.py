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

SMALL = "mnist-cnn"  # 5,000 images of MNIST, CNN: notebooks 01 to 04
METHODS = {  # notebook -> {name of a row there: name in the README}
    "01_fine_tuning": {"original": "original", "tuned": "fine-tuning", "EU-2": "EU-2"},
    "02_negative_gradient": {"tuned": "negative gradient", "NegGrad+": "NegGrad+"},
    "03_selective_forgetting": {"tuned": "selective forgetting"},
    "04_random_mask": {"tuned": "random mask", "retrained": "retrained"},
}
WHOLE = RESULTS / "05_uniform_target" / "mnist-mlp" / "one_runs.csv"
FIGURE = RESULTS / "summary.png"
COLUMNS = ["retain_accuracy", "forget_accuracy", "test_accuracy", "membership_attack"]
MORE = [*COLUMNS, "confidence_attack", "average_gap", "seconds"]


def joined(setting: str) -> pd.DataFrame:
    """The rows of all notebooks in one setting, as a table."""
    parts = []
    for notebook, names in METHODS.items():
        runs = pd.read_csv(RESULTS / notebook / SMALL / f"{setting}_runs.csv")
        runs = runs[runs["method"].isin(names)]
        parts.append(runs.assign(method=runs["method"].map(names)))
    return table(pd.concat(parts).to_dict("records"))


def joined_settings() -> dict[str, pd.DataFrame]:
    return {setting: joined(setting) for setting in ("random", "class")}


def markdown(numbers: pd.DataFrame, columns: list[str]) -> str:
    """A table as GitHub draws it."""
    shown = readable(numbers, columns)
    rows = [["", *shown.columns], ["---", *["---:"] * len(columns)]]
    rows += [[name, *cells] for name, cells in zip(shown.index, shown.to_numpy(), strict=True)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def results() -> str:
    """What stands in the README between its marks."""
    settings = joined_settings()
    digit = table(pd.read_csv(WHOLE).to_dict("records"))
    columns = ["test_accuracy", "test_forget_accuracy", "all_test_accuracy"]
    parts = [
        "![All methods beside the retrained network](results/summary.png)",
        "**500 random images of 5,000 forgotten** (MNIST, CNN, notebooks 01 to 04)",
        markdown(settings["random"], MORE),
        "**Class 5 forgotten** (same networks; *test* is over the other nine classes)",
        markdown(settings["class"], MORE),
        "**Digit 5 forgotten from all of MNIST by a uniform target** (MLP, notebook 05; *test* is "
        "over the other nine digits, *test forget* over digit 5)",
        markdown(digit, [*columns, "membership_attack", "js_to_retrained", "seconds"]),
    ]
    return "\n\n".join(parts)


def main() -> None:
    title = "Unlearning 500 random images, or class 5, of 5,000 MNIST images (CNN)"
    comparison(joined_settings(), COLUMNS, title=title, path=FIGURE)
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
