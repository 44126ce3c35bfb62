"""Every figure: one is returned, the same one is saved, none is left open."""

from collections import Counter
from io import BytesIO

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from unlearning import Images, plots, table
from unlearning.report import differences

matplotlib.use("Agg")
COLUMNS = ["retain_accuracy", "forget_accuracy", "test_accuracy", "test_forget_accuracy"]
MORE = [*COLUMNS, "confidence_attack", "js_to_retrained"]
TITLE = "What was forgotten"


def measured(generator):
    return dict(zip(MORE, generator.uniform(size=len(MORE)), strict=True))


def records():
    generator = np.random.default_rng(0)
    return [
        {"method": method, "seed": seed, **measured(generator)}
        for method in ("original", "fine-tuned", "retrained")
        for seed in (0, 1)
    ]


def timed_records():
    """Records with seconds and gaps: retraining takes 10 s, fine-tuning 5 s."""
    seconds = {"original": 11.0, "fine-tuned": 5.0, "retrained": 10.0}
    gaps = {"original": 0.2, "fine-tuned": 0.1, "retrained": 0.0}
    times = [{**row, "seconds": seconds[row["method"]]} for row in records()]
    return [{**row, "average_gap": gaps[row["method"]]} for row in times]


def swept():
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {"setting": setting, "lr": lr, **measured(generator)}
        for setting in ("examples", "a class")
        for lr in (1e-4, 1e-3, 1e-2)
        for _ in range(2)
    )


def losses():
    forget, test = np.random.default_rng(0).exponential(size=(2, 50))
    return {"original": (forget * 0, test), "retrained": (forget, test)}


TABLES = {"examples": table(records()), "a class": table(records())}
PAIRS = {"fine-tuning": ("fine-tuned", "original")}
CLAIMS = {"test_accuracy": 0.05}
SAMPLES = {name: np.random.default_rng(0).normal(size=(2, 50)) for name in ("easy", "hard")}
CURVES = pd.DataFrame({"masked": [0.1, 0.2], "again": [0.3, 0.4]}, index=[16, 512])
FIGURES = {
    "example_images": lambda tiny, **k: plots.example_images(tiny, title=TITLE, **k),
    "comparison": lambda tiny, **k: plots.comparison(TABLES, MORE, title=TITLE, **k),
    "differences": lambda tiny, **k: plots.differences(
        differences(records(), PAIRS), COLUMNS[2:], claims=CLAIMS, title=TITLE, **k
    ),
    "trade_off": lambda tiny, **k: plots.trade_off(
        {"examples": table(timed_records()), "a class": table(timed_records())}, title=TITLE, **k
    ),
    "sweep": lambda tiny, **k: plots.sweep(
        swept(), "lr", MORE, title=TITLE, xlabel="learning rate", tables=TABLES, log=True, **k
    ),
    "loss_histograms": lambda tiny, **k: plots.loss_histograms(losses(), title=TITLE, **k),
    "per_class": lambda tiny, **k: plots.per_class(
        {"original": np.array([1, 0.5, 0.25, np.nan]), "retrained": np.ones(4)},
        tiny.classes,
        title=TITLE,
        **k,
    ),
    "eps_histograms": lambda tiny, **k: plots.eps_histograms(
        {f"method {n}": np.array([0, 0.2, 3, 50.0]) for n in range(5)}, title=TITLE, **k
    ),
    "densities": lambda tiny, **k: plots.densities(
        SAMPLES, thresholds={"easy": 0.5, "hard": 1.5}, title=TITLE, **k
    ),
    "lines": lambda tiny, **k: plots.lines(
        CURVES, xlabel="networks", ylabel="F", goal="again", title=TITLE, **k
    ),
    "stages": lambda tiny, **k: plots.stages(table(records()), COLUMNS, title=TITLE, **k),
}


def words(figure):
    """All texts of a figure, and how often each is there."""
    return Counter(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def test_every_figure_of_the_module_is_tested_here():
    made = {
        name
        for name, value in vars(plots).items()
        if getattr(value, "__module__", None) == plots.__name__
        and value.__annotations__.get("return") == "Figure"
    }
    assert made == FIGURES.keys() | {"finished"}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_returned_with_its_title_and_none_is_left_open(name, tiny):
    figure = FIGURES[name](tiny)
    assert isinstance(figure, Figure)
    assert figure.axes
    assert sum(count for text, count in words(figure).items() if TITLE in text) == 1
    assert plt.get_fignums() == []


def test_the_runs_of_a_sweep_are_saved_beside_its_figure(tiny, tmp_path):
    FIGURES["sweep"](tiny, path=tmp_path / "knob.png")
    saved = pd.read_csv(tmp_path / "knob.csv")
    assert len(saved) > 1
    assert saved.select_dtypes("number").notna().all().all()


@pytest.mark.parametrize("name", FIGURES)
def test_the_figure_is_saved_where_told_and_the_same_bytes_each_time(name, tiny, tmp_path):
    path = tmp_path / "new" / f"{name}.png"
    figure = FIGURES[name](tiny, path=path)
    saved = {path.name, "sweep.csv"} if name == "sweep" else {path.name}
    assert {file.name for file in path.parent.iterdir()} == saved
    pixels = plt.imread(path)
    width, height = figure.get_size_inches() * 100
    assert pixels.shape[:2] == (pytest.approx(height, abs=1), pytest.approx(width, abs=1))
    assert float(pixels[..., :3].std()) > 0.02  # something is drawn
    again = FIGURES[name](tiny, path=tmp_path / "again.png")
    assert again is not figure
    assert (tmp_path / "again.png").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", FIGURES)
def test_the_style_does_not_leak_into_the_readers_own_figures(name, tiny):
    with plt.rc_context():
        plt.rcdefaults()
        before = dict(plt.rcParams)
        FIGURES[name](tiny)
        assert dict(plt.rcParams) == before


@pytest.mark.parametrize("name", FIGURES)
def test_no_figure_is_too_wide_for_a_page(name, tiny):
    width, height = FIGURES[name](tiny).get_size_inches()
    assert 1 < height < 12 and 1 < width < 21


def test_example_images_are_the_first_ones_under_their_class(tiny):
    figure = plots.example_images(tiny, count=5)
    assert [axis.get_title() for axis in figure.axes] == [tiny.classes[i] for i in tiny.labels[:5]]
    shown = figure.axes[3].get_images()[0].get_array()
    np.testing.assert_array_equal(shown, tiny.images[3, 0])


def test_example_images_come_in_colour_and_may_be_few():
    pixels = torch.randint(0, 256, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    images = Images(pixels.to(torch.uint8), torch.tensor([0, 1]), classes=("cat", "dog"))
    figure = plots.example_images(images)
    assert [axis.get_title() for axis in figure.axes] == ["cat", "dog"]
    shown = figure.axes[0].get_images()[0].get_array()
    np.testing.assert_array_equal(shown, images.images[0].permute(1, 2, 0))


def test_comparison_draws_means_in_per_cent_beside_their_method_and_the_goal_dashed():
    numbers = TABLES["examples"]
    columns = ["retain_accuracy", "js_to_retrained"]
    figure = plots.comparison({"examples": numbers}, columns, title="t")
    for axis, name, scale in zip(figure.axes, columns, [100, 1], strict=True):
        means, goal = axis.containers[0].lines[0], axis.lines[-1]
        np.testing.assert_allclose(means.get_xdata(), numbers[name, "mean"] * scale)
        there = numbers.loc["retrained", (name, "mean")] * scale
        np.testing.assert_allclose(goal.get_xdata(), there)
        assert goal.get_linestyle() == "--"
        ticks = dict(zip(figure.axes[0].get_yticks(), numbers.index, strict=True))
        assert [ticks[place] for place in means.get_ydata()] == list(numbers.index)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == list(numbers.index)
    assert [axis.get_xlabel() for axis in figure.axes] == ["retain accuracy (%)", "JS to retrained"]


def test_comparison_of_one_seed_has_no_spread_and_no_warning():
    numbers = table([row for row in records() if row["seed"] == 0])
    figure = plots.comparison({"examples": numbers}, COLUMNS, title="t")
    figure.savefig(BytesIO())
    assert len(figure.axes) == len(COLUMNS)


def test_differences_are_drawn_in_points_with_their_interval_and_the_claim_dotted():
    numbers = differences(records(), PAIRS)
    axes = FIGURES["differences"](None).axes
    for axis, name in zip(axes, COLUMNS[2:], strict=True):
        ((x, _),) = axis.containers[0].lines[0].get_xydata()
        assert x == pytest.approx(100 * numbers.loc["fine-tuning", (name, "mean")])
        bar = axis.containers[0].lines[2][0].get_segments()[0]
        half = 100 * numbers.loc["fine-tuning", (name, "half95")]
        assert bar[:, 0] == pytest.approx([x - half, x + half])
        assert axis.get_xlabel().endswith("(percentage points)")
    dotted = [[line.get_xdata()[0] for line in a.lines if line.get_ls() == ":"] for a in axes]
    assert dotted == [[pytest.approx(5)], []]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["fine-tuning"]


def test_sweep_draws_the_mean_over_seeds_against_the_knob():
    runs, columns = swept(), ["retain_accuracy", "js_to_retrained"]
    figure = plots.sweep(
        runs, "lr", columns, title="t", xlabel="learning rate", tables=TABLES, log=True
    )
    axes = iter(figure.axes)
    for setting in ("examples", "a class"):
        for name, scale in zip(columns, (100, 1), strict=True):
            axis, some = next(axes), runs[runs["setting"] == setting]
            curve, goal = axis.lines
            assert curve.get_xdata().tolist() == [1e-4, 1e-3, 1e-2]
            wanted = [some.loc[some["lr"] == lr, name].mean() * scale for lr in (1e-4, 1e-3, 1e-2)]
            np.testing.assert_allclose(curve.get_ydata(), wanted)
            there = TABLES[setting].loc["retrained", (name, "mean")] * scale
            np.testing.assert_allclose(goal.get_ydata(), there)
            assert axis.get_xscale() == "log"
    assert words(figure)["learning rate"] == 1


def test_loss_histograms_show_every_image_even_far_out():
    forget, test = np.array([0.0, 1e-30, 1e9, 1.0]), np.array([0.5, 2.0])
    figure = plots.loss_histograms({"original": (forget, test)}, title="t")
    polygons = figure.axes[0].patches
    assert len(polygons) == 2
    for polygon in polygons:  # outlines of steps: the heights over the edges sum to 100 %
        heights = polygon.get_xy()[1:-1:2, 1]
        assert heights.sum() == pytest.approx(100)


def test_per_class_writes_each_accuracy_in_its_cell(tiny):
    figure = FIGURES["per_class"](tiny)
    cells = [text.get_text() for text in figure.axes[0].texts]
    assert cells[:3] == ["100", "50", "25"] and cells[4:] == ["100"] * 4
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == list(tiny.classes)


def test_per_class_takes_long_names_of_classes():
    names = ("T-shirt", "trouser", "ankle boot")
    figure = plots.per_class({"original": np.ones(3)}, names, title="t")
    assert {label.get_rotation() for label in figure.axes[0].get_xticklabels()} == {30}


def test_stages_draw_a_bar_a_number_and_write_its_value():
    numbers = table(records())
    figure = plots.stages(numbers, COLUMNS, title="t")
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    wanted = [100 * numbers[name, "mean"].to_numpy() for name in COLUMNS]
    np.testing.assert_allclose(heights, np.concatenate(wanted))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == [f"{height:.1f}" for height in heights]


def test_one_part_of_the_data_has_one_colour_in_all_figures():
    numbers = table(records())
    bars = plots.stages(numbers, COLUMNS, title="t").axes[0].patches
    lines = plots.comparison({"s": numbers}, COLUMNS, title="t").axes
    for place, axis in enumerate(lines):
        dots = axis.containers[0].lines[0].get_color()
        assert matplotlib.colors.to_hex(bars[3 * place].get_facecolor()) == dots.lower()
    colours = {axis.containers[0].lines[0].get_color() for axis in lines}
    assert len(colours) == len(COLUMNS)


def test_images_come_in_rows_of_twelve_at_most_under_their_captions(tiny):
    figure = plots.example_images(tiny, count=20, captions=[f"no {n}" for n in range(20)])
    shown = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in shown] == [f"no {n}" for n in range(20)]
    rows = Counter(round(axis.get_position().y0, 2) for axis in shown)
    assert sorted(rows.values()) == [10, 10]


def test_eps_histograms_count_every_example_and_those_beyond_7_at_7():
    axes = [axis for axis in FIGURES["eps_histograms"](None).axes if axis.get_visible()]
    assert len(axes) == 5
    heights = {round(bar.get_x(), 1): bar.get_height() for bar in axes[0].patches}
    assert {x: height for x, height in heights.items() if height} == {0.0: 50, 3.0: 25, 7.0: 25}
    assert axes[0].get_title() == "method 0: median 1.6"


def test_densities_show_every_network_and_the_threshold_dotted():
    figure = FIGURES["densities"](None)
    assert [axis.get_title() for axis in figure.axes] == ["easy", "hard"]
    for axis, threshold in zip(figure.axes, (0.5, 1.5), strict=True):
        assert [line.get_xdata()[0] for line in axis.lines] == [threshold]
        for outline in axis.patches:  # two histograms drawn as steps
            (x, y), closed = outline.get_xy().T, outline.get_xy()
            assert np.isfinite(closed).all() and x.min() >= -4 and y.max() <= 100
    assert {"unlearned", "retrained"} <= set(words(figure))


def test_lines_are_drawn_at_their_values_and_the_goal_dashed():
    (axis,) = FIGURES["lines"](None).axes
    found = {line.get_label(): (list(line.get_ydata()), line.get_ls()) for line in axis.lines}
    assert found == {"masked": ([0.1, 0.2], "-"), "again": ([0.3, 0.4], "--")}
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["16", "512"]


def test_time_is_drawn_against_that_of_retraining_and_gaps_in_per_cent():
    figure = plots.trade_off({"examples": table(timed_records())}, title=TITLE)
    (axis,) = figure.axes
    (point,) = [bars.lines[0] for bars in axis.containers]
    assert (point.get_xdata(), point.get_ydata()) == ([50.0], pytest.approx([10.0]))
    (dashed,) = [line for line in axis.lines if line.get_linestyle() == "--"]
    assert set(dashed.get_ydata()) == {20.0}


@pytest.mark.parametrize("log", [False, True])
def test_numbers_far_apart_may_be_drawn_on_a_logarithmic_axis(log):
    figure = plots.lines(CURVES, xlabel="networks", ylabel="F", title=TITLE, log=log)
    assert figure.axes[0].get_yscale() == ("log" if log else "linear")
