"""Draw README's figure and write all tables, from what the notebooks saved.

  python notebooks/summary.py

Reads results/<notebook>/<dataset>-<model>/*.csv. Writes results/summary.png, README.md between the
lines <!-- results --> and <!-- /results -->, and results/README.md. No number is written by hand.
"""

import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from unlearning.claims import at_the_floor, claims
from unlearning.core.files import ROOT, SAVED, atomic_write, slug
from unlearning.inside import LIKENESS, QUESTIONS
from unlearning.plots import trade_off
from unlearning.report import STANDARD, readable, setting_name, table

RESULTS = SAVED
ALL = "08_all_methods/mnist-cnn"
SCENARIOS = ["random 10%", "class 5"]  # in README
SHORT = {  # column in README -> scenario, number
    "random 10%: forget (%)": ("random 10%", "forget_accuracy"),
    "test (%)": ("random 10%", "test_accuracy"),
    "JS to retrained": ("random 10%", "js_to_retrained"),
    "class 5: forget (%)": ("class 5", "forget_accuracy"),
    "test (%) ": ("class 5", "test_accuracy"),
    "JS to retrained ": ("class 5", "js_to_retrained"),
    "seconds": ("class 5", "seconds"),
}
CAPTION = (
    "MNIST, 5,000 images, CNN, notebook 08: a tenth of the images forgotten at random, or all of "
    "class 5 (*test* is then over the other nine); mean ± standard deviation over {seeds} seeds."
)
SALIENCY = ["saliency_distance_to_retrained", "saliency_distance_to_original"]
MORE = ["all_test_accuracy", "zrf", "relearn_steps", *SALIENCY]  # numbers that some notebooks add
MORE += [name for names in QUESTIONS.values() for name in names if name not in STANDARD] + LIKENESS
FIGURE = RESULTS / "summary.png"


def runs_of(folder: str, scenario: str) -> pd.DataFrame:
    """All runs that a notebook saved of a scenario."""
    return pd.read_csv(RESULTS / folder / f"{slug(scenario)}_runs.csv")


def table_of(runs: pd.DataFrame) -> pd.DataFrame:
    return table(runs.to_dict("records"))


def closest(scenario: str) -> str:
    """Which methods cannot be told from the noise floor, or are closer to retraining."""
    found = claims(runs_of(ALL, scenario).to_dict("records"), "js_to_retrained")
    return f"{scenario}, {', '.join(at_the_floor(found)) or 'none'}"


def markdown(shown: pd.DataFrame) -> str:
    """A table of texts as GitHub draws it."""
    rows = [["", *shown.columns], ["---", *["---:"] * len(shown.columns)]]
    rows += [[name, *cells] for name, cells in zip(shown.index, shown.to_numpy(), strict=True)]
    return "\n".join(f"|{'|'.join(map(str, row))}|" for row in rows)


def short_table() -> str:
    """README's table: both scenarios side by side."""
    tables = {scenario: table_of(runs_of(ALL, scenario)) for scenario in SCENARIOS}
    columns = {
        heading: readable(tables[scenario], [name]).iloc[:, 0].str.replace(" ± ", "±")
        for heading, (scenario, name) in SHORT.items()
    }
    shown = pd.DataFrame(columns).reindex(tables["class 5"].index).fillna("–")  # UNSIR: classes
    return markdown(shown)


def results() -> str:
    """What stands in README between its marks."""
    seeds = runs_of(ALL, SCENARIOS[0])["seed"].nunique()
    alt = "JS divergence to the retrained network against time, for every method"
    picture = f"![{alt}](results/{FIGURE.name})"
    return "\n\n".join([picture, CAPTION.format(seeds=seeds), short_table()])


def all_tables() -> str:
    """results/README.md: the tables of every notebook."""
    parts = [
        "# All tables",
        "Written by `notebooks/summary.py` from the CSV files in these folders.",
    ]
    for path in sorted(RESULTS.glob("[01]*/*/*_runs.csv")):
        runs = pd.read_csv(path)
        columns = [name for name in (*STANDARD, *MORE) if name in runs]
        columns = [name for name in columns if runs[name].notna().any()]
        where = path.parent.relative_to(RESULTS).as_posix()
        parts += [f"## {where}: {runs['scenario'][0]}", f"{runs['seed'].nunique()} seeds."]
        parts.append(markdown(readable(table_of(runs), columns)))
    for name in ("forgetting_quality", "intervals"):
        for path in sorted(RESULTS.glob(f"[01]*/*/{name}.csv")):
            numbers = pd.read_csv(path).set_index("method").rename_axis(None)
            where = path.parent.relative_to(RESULTS).as_posix()
            parts.append(f"## {where}: {name.replace('_', ' ')}")
            parts.append(markdown(numbers.select_dtypes("number").map("{:.3f}".format)))
    return "\n\n".join(parts) + "\n"


def write(path: Path, text: str) -> None:
    with atomic_write(path) as tmp_path:
        tmp_path.write_text(text, encoding="utf-8", newline="\n")


def main() -> None:
    tables = {scenario: table_of(runs_of(ALL, scenario)) for scenario in SCENARIOS}
    title = f"{setting_name(*ALL.rpartition('/')[2].split('-'))}, as close as a second retraining: "
    title += "; ".join(map(closest, SCENARIOS))
    trade_off(tables, title=title, column="js_to_retrained", path=FIGURE)
    readme = ROOT / "README.md"
    before, mark, rest = readme.read_text(encoding="utf-8").partition("<!-- results -->")
    after = rest.partition("<!-- /results -->")[2]
    write(readme, f"{before}{mark}\n{results()}\n<!-- /results -->{after}")
    write(RESULTS / "README.md", all_tables())
    print("written: results/summary.png, results/README.md and the table of README.md")


if __name__ == "__main__":
    main()
