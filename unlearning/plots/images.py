"""Images as they are, under their captions."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.figure import Figure

from ..core.images import Images
from .style import MaybePath, finish, panels, styled


@styled
def example_images(
    images: Images,
    *,
    count: int = 12,
    captions: Sequence[str] | None = None,
    title: str = "",
    path: MaybePath = None,
) -> Figure:
    """Rows of up to twelve images, the first ``count``, each under its caption: its class.

    Raises:
        ValueError: if there is not one caption for each image.
    """
    count = min(count, len(images))
    if captions is None:
        captions = [images.classes[label] for label in images.labels[:count]]
    if len(captions) != count:
        raise ValueError(f"give one caption for each of the {count} images, not {len(captions)}")
    rows = -(-count // 12)
    figure, axes = panels(count, -(-count // rows), (0.85, 1.1))
    figure.set_figheight(0.4 + 1.1 * rows)
    for axis, pixels, caption in zip(axes, images.images[:count], captions, strict=True):
        shown = pixels.permute(1, 2, 0).squeeze(-1).cpu().numpy()
        axis.imshow(shown, cmap="gray_r", vmin=0, vmax=255)
        axis.set_title(textwrap.fill(caption, 12), fontsize=8)
        axis.axis("off")
    return finish(figure, title, path)
