"""One style: a method looks the same everywhere, files are whole, notebooks get alt text."""

import base64
from io import BytesIO

import matplotlib.pyplot as plt
import nbformat
import numpy as np
from IPython.core.formatters import DisplayFormatter
from nbconvert import HTMLExporter
from PIL import Image

from unlearning import METHODS, plots
from unlearning.plots import style

OTHERS = [f"method {n}" for n in range(60)]


def drawn():
    figure, axis = plt.subplots(figsize=(4, 3))
    axis.plot([1, 2], color="#D55E00", linewidth=20)
    axis.set(title="class 5", xlabel="epochs", ylabel="gap (%)")
    figure.suptitle("3 epochs\nare enough")
    return figure


def test_methods_look_different_and_each_has_one_colour_in_every_figure(monkeypatch):
    registered, own = ({n: plots.method_style(n) for n in s} for s in (METHODS, OTHERS))
    first = list(registered.values())[:8]
    assert [len(set(kind)) for kind in zip(*first, strict=True)] == [8, 8]
    assert not set(registered.values()) & set(own.values())
    assert own["method 1"] == ("#CC79A7", "v")  # by a checksum: the same in every process
    together = style.method_styles(OTHERS[::-1])
    assert all(together[name][0] == own[name][0] for name in OTHERS)
    reserved = [plots.method_style(n)[0] for n in ("original", "retrained", "retrained again")]
    assert reserved == [style.BLACK, style.GREY, style.GREY] and not {*reserved} & {*style.PALETTE}
    monkeypatch.setattr(style, "METHODS", dict.fromkeys([*METHODS, *OTHERS]))
    assert {name: plots.method_style(name) for name in METHODS} == registered
    assert len({plots.method_style(name) for name in style.METHODS}) == len(METHODS) + 60


def test_a_figure_is_saved_at_200_dpi_in_its_colours_and_the_same_each_time(tmp_path):
    for name in ("one.png", "two.png", "three.svg"):
        plots.save_and_close(drawn(), tmp_path / "new" / name)
    one, three, two = sorted((tmp_path / "new").iterdir())  # and no temporary file
    assert one.read_bytes() == two.read_bytes() and "<svg" in three.read_text()
    pixels = np.asarray(Image.open(one).convert("RGB")).astype(int)
    assert pixels.shape == (600, 800, 3)
    assert (abs(pixels - (0xD5, 0x5E, 0x00)).max(-1) <= 4).mean() > 0.02


def test_a_notebook_shows_the_figure_with_alt_text_and_so_does_its_html():
    data, metadata = DisplayFormatter().format(plots.save_and_close(drawn()))
    alt = "3 epochs are enough. Panels: class 5. Horizontal: epochs. Vertical: gap (%)."
    assert metadata["image/png"]["alt"] == data["text/plain"] == alt
    assert Image.open(BytesIO(data["image/png"])).size == (400, 300)
    data["image/png"] = base64.b64encode(data["image/png"]).decode()
    output = nbformat.v4.new_output("display_data", data, metadata=metadata)
    cell = nbformat.v4.new_code_cell("figure", outputs=[output])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    html, _ = HTMLExporter(template_name="classic").from_notebook_node(notebook)
    assert f'alt="{alt}"' in html
    own = plots.save_and_close(drawn(), alt="a line")._repr_mimebundle_()
    assert own[1]["image/png"]["alt"] == "a line"
