"""Draw README's figure and write all tables, from what the notebooks saved.

  python notebooks/summary.py

Reads results/<notebook>/<dataset>-<model>/*.csv. Writes results/summary.png, README.md between the
lines <!-- results --> and <!-- /results -->, and results/README.md. No number is written by hand.
"""

import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from unlearning.claims import against_original, at_the_floor, claims
from unlearning.core.files import ROOT, SAVED, atomic_write, slug
from unlearning.inside import LIKENESS, QUESTIONS
from unlearning.plots import trade_off
from unlearning.report import STANDARD, heading, readable, setting_name, table

RESULTS = SAVED
COMPARED = "08_all_methods"
ALL = f"{COMPARED}/cifar10-airbench"
RANDOM, CLASS = SCENARIOS = ["random 10%", "class dog"]  # in README
SHORT = {  # column in README -> scenario, number
    "random 10%: forget (%)": (RANDOM, "forget_accuracy"),
    "test (%)": (RANDOM, "test_accuracy"),
    "attack (%)": (RANDOM, "membership_attack"),
    "JS to retrained": (RANDOM, "js_to_retrained"),
    "class dog: forget (%)": (CLASS, "forget_accuracy"),
    "test (%) ": (CLASS, "test_accuracy"),
    "JS to retrained ": (CLASS, "js_to_retrained"),
    "time (%)": (CLASS, "share_of_time"),
}
CAPTION = (
    "CIFAR-10, all 50,000 images, half-width airbench network, notebook 08: a tenth of them "
    "forgotten at random, or all dogs (*test* is then over the other nine classes); mean ± "
    "standard deviation over {seeds} seeds. *Attack*: membership told from the loss, where 50 % is "
    "a guess. *Time*: share of retraining's, for the class."
)
BESIDE = (
    "**Beside published runs** of ResNet-18 that forget a random tenth, ours in brackets. Saved in "
    "the challenge's [starting kit](https://github.com/unlearning-challenge/starting-kit): "
    "original test 88.3 ({original_test}), attack 57.9 ({original_attack}); retrained forget 88.2 "
    "({retrained_forget}), attack 50.2 ({retrained_attack}). A user's SalUn "
    "([issue 7](https://github.com/OPTML-Group/Unlearn-Saliency/issues/7)): forget 96.91 "
    "({salun_forget}), retain 99.86 ({salun_retain}), test 94.1 ({salun_test}), confidence "
    "attack 16.36 ({salun_confidence}), original test 94.69 ({original_test})."
)
TOLD = ["js_to_retrained", "average_gap", "membership_attack"]  # distances that are tested
SALIENCY = ["saliency_distance_to_retrained", "saliency_distance_to_original"]
MORE = ["all_test_accuracy", "zrf", "relearn_steps", *SALIENCY]  # numbers that some notebooks add
MORE += [name for names in QUESTIONS.values() for name in names if name not in STANDARD] + LIKENESS
FIGURE = RESULTS / "summary.png"


def runs_of(folder: str, scenario: str) -> pd.DataFrame:
    """All runs that a notebook saved of a scenario, and the time of each beside retraining's."""
    runs = pd.read_csv(RESULTS / folder / f"{slug(scenario)}_runs.csv")
    retraining = runs[runs["method"] == "retrained"].set_index("seed")["seconds"]
    return runs.assign(share_of_time=runs["seconds"] / runs["seed"].map(retraining))


def table_of(runs: pd.DataFrame) -> pd.DataFrame:
    return table(runs.to_dict("records"))


def closest(scenario: str) -> str:
    """Which methods cannot be told from the noise floor, or are closer to retraining."""
    found = claims(runs_of(ALL, scenario).to_dict("records"), "js_to_retrained")
    return f"{scenario}, {', '.join(at_the_floor(found)) or 'none'}"


def told(runs: pd.DataFrame) -> pd.DataFrame:
    """Distance from retraining by several numbers, and its verdict; in order of the first."""
    rows, shown = runs.to_dict("records"), {}
    for number in TOLD:
        found, name = claims(rows, number), heading(number)
        shown[name] = found.iloc[:, 0] + ", " + found.iloc[:, 1]
        shown[f"{name}: against the original"] = against_original(rows, number)
    return pd.concat(shown, axis=1).fillna("–")


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
    shown = pd.DataFrame(columns).reindex(tables[CLASS].index).fillna("–")  # UNSIR: classes
    return markdown(shown)


def beside() -> str:
    """Published runs with our numbers beside theirs."""
    means = table_of(runs_of(ALL, RANDOM)).xs("mean", axis=1, level=1)
    numbers = {"forget": "forget_accuracy", "retain": "retain_accuracy", "test": "test_accuracy"}
    numbers |= {"attack": "membership_attack", "confidence": "confidence_attack"}
    ours = {
        f"{name.lower()}_{short}": f"{100 * means.loc[name, number]:.1f}"
        for name in ("original", "retrained", "SalUn")
        for short, number in numbers.items()
    }
    return BESIDE.format(**ours)


def results() -> str:
    """What stands in README between its marks."""
    seeds = runs_of(ALL, SCENARIOS[0])["seed"].nunique()
    alt = "JS divergence to the retrained network against time, for every method"
    picture = f"![{alt}](results/{FIGURE.name})"
    return "\n\n".join([picture, CAPTION.format(seeds=seeds), short_table(), beside()])


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
        if where.startswith(COMPARED):
            parts += ["Distance from retraining, and whether seeds tell it:", markdown(told(runs))]
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
