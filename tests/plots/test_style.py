"""One style: a method looks the same everywhere, files are whole, notebooks get alt text."""

import pickle
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from unlearning import METHODS, plots


def test_methods_look_different_and_each_has_one_colour_in_every_figure():
    names = [f"method {n}" for n in range(60)]
    registered, own = ([plots.method_style(n) for n in s] for s in (list(METHODS)[:8], names))
    assert [colour for colour, _ in registered] == [*plots.style.PALETTE]  # as in METHODS
    assert len({marker for _, marker in registered}) == 8 and not set(registered) & set(own)
    assert own[0] == ("#56B4E9", "v")  # by a checksum: the same in every process
    together = plots.style.method_styles([*METHODS, *names])
    assert [together[name][0] for name in names] == [colour for colour, _ in own]
    assert len({*list(together.values())[:28]}) == 28


def test_a_figure_is_saved_whole_and_shown_with_alt_text_even_when_it_was_pickled(tmp_path):
    figure, axis = plt.subplots(figsize=(4, 3))
    axis.plot([1, 2], color=plots.style.RED, linewidth=20)
    axis.set(title="class 5", xlabel="epochs", ylabel="gap (%)")
    figure.suptitle("3 epochs\nare enough")
    plots.save_and_close(figure, tmp_path / "new" / "figure.pdf")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["figure.png"]
    pixels = np.asarray(Image.open(tmp_path / "new" / "figure.png").convert("RGB")).astype(int)
    assert pixels.shape == (600, 800, 3)  # 200 dpi
    assert (abs(pixels - (0xD5, 0x5E, 0x00)).max(-1) <= 4).mean() > 0.02
    data, metadata = DisplayFormatter().format(pickle.loads(pickle.dumps(figure)))
    alt = "3 epochs are enough. Panels: class 5. Horizontal: epochs. Vertical: gap (%)."
    assert metadata["image/png"]["alt"] == data["text/plain"] == alt
    assert Image.open(BytesIO(data["image/png"])).size == (400, 300)
