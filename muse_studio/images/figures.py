"""Figures of pictures, tokens and what is known of each place: for lessons, papers and slides."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from PIL import Image
from torch import Tensor

from muse_studio.contracts import MASK
from muse_studio.images.pixels import to_images

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Shown: TypeAlias = Tensor | Sequence[Image.Image]
"""Pictures float[B, 3, H, W] in 0..1, or uint8, or B of pillow's."""

INK, LINE, HIDDEN = "#222222", "#8a8a8a", "#d9d9d9"
DPI = 110
TITLE = 0.3
"""Inches above a panel that one line of a title takes."""


def pictures(
    shown: Shown,
    titles: Sequence[str] = (),
    *,
    columns: int = 8,
    side: float = 1.3,
    lattice: int = 0,
    heading: str = "",
) -> Image.Image:
    """Pictures side by side, in rows of so many columns.

    titles: above each, as many as there are; none by default. side: inches a picture. lattice: draws lines at every so
    many pixels, the borders of tokens; 0 draws none.
    """
    images = _images(shown)

    def draw(panel: Axes, index: int) -> None:
        image = images[index]
        panel.imshow(image, interpolation="nearest" if image.width < DPI * side else "antialiased")
        if lattice:
            rows, columns = (range(0, side + 1, lattice) for side in (image.height, image.width))
            _lines(panel, [row - 0.5 for row in rows], [column - 0.5 for column in columns], INK)

    return _panels(len(images), draw, titles, columns, side, heading)


def tokens(
    grids: Tensor, over: Shown | None = None, titles: Sequence[str] = (), *, columns: int = 4, side: float = 3.2
) -> Image.Image:
    """Grids int64[B, h, w] as the numbers that they are, each in its cell; MASK is a grey cell with a question mark.

    over: B pictures that shine through the cells.
    """
    count, height, width = grids.shape
    behind = [None] * count if over is None else _images(over)
    size = 72 * side / width / 3.4  # points: room for four digits

    def draw(panel: Axes, index: int) -> None:
        extent = (0, width, height, 0)
        panel.imshow(behind[index] or Image.new("RGB", (1, 1), "white"), extent=extent, interpolation="nearest")
        panel.imshow(Image.new("RGBA", (1, 1), (255, 255, 255, 140)), extent=extent)
        for row, line in enumerate(grids[index].tolist()):
            for column, code in enumerate(line):
                if code == MASK:
                    panel.fill([column, column + 1, column + 1, column], [row, row, row + 1, row + 1], color=HIDDEN)
                label = "?" if code == MASK else str(code)
                panel.text(column + 0.5, row + 0.5, label, ha="center", va="center", fontsize=size, color=INK)
        _lines(panel, range(height + 1), range(width + 1), LINE)

    return _panels(count, draw, titles, columns, side, "")


def maps(
    values: Tensor,
    titles: Sequence[str] = (),
    label: str = "",
    *,
    bounds: tuple[float, float] | None = None,
    columns: int = 8,
    side: float = 1.3,
    heading: str = "",
) -> Image.Image:
    """Numbers of every place, float[B, h, w], as B heat maps with one scale, which `label` names; NaN is grey.

    bounds: of the scale, by default the least and the greatest number.
    """
    grids = values.detach().float().cpu()
    known = grids[~grids.isnan()]
    if not known.numel():
        raise ValueError("values holds no number, only NaN")
    low, high = bounds or (float(known.min()), float(known.max()))

    def draw(panel: Axes, index: int) -> Any:
        panel.set_facecolor(HIDDEN)
        height, width = grids[index].shape
        image = panel.imshow(grids[index].numpy(), cmap="viridis", vmin=low, vmax=high, interpolation="nearest")
        if max(height, width) <= 16:
            rows, columns = ([place - 0.5 for place in range(side + 1)] for side in (height, width))
            _lines(panel, rows, columns, "white")
        return image

    return _panels(len(grids), draw, titles, columns, side, heading, label)


def _images(shown: Shown) -> list[Image.Image]:
    return to_images(shown.detach()) if isinstance(shown, Tensor) else list(shown)


def _panels(
    count: int,
    draw: Callable[[Axes, int], Any],
    titles: Sequence[str],
    columns: int,
    side: float,
    heading: str,
    label: str | None = None,
) -> Image.Image:
    """`count` panels in rows; `label` stands at a colour bar of what the last one drew."""
    # Imported here, as it takes a second; a Figure of its own touches no state that a notebook's plots may have.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if not count:
        raise ValueError("there is nothing to show; give at least one")
    if titles and len(titles) != count:
        raise ValueError(f"there are {len(titles)} titles for {count} panels; give one each, or none")
    columns = min(columns, count)
    rows = -(-count // columns)
    lines = max((title.count("\n") + 1 for title in titles), default=0)
    above = TITLE * (0.3 + 0.65 * lines)
    width = columns * (side + 0.12) + (0.0 if label is None else 0.75)
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.02, hspace=0.02)
    figure = Figure(figsize=(width, rows * (side + above) + TITLE * bool(heading)), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    drawn: Any = None
    for index, panel in enumerate(axes.flat):
        panel.set_xticks([])
        panel.set_yticks([])
        if index >= count:
            panel.axis("off")
            continue
        panel.spines[:].set(color=LINE, linewidth=0.6)
        drawn = draw(panel, index)
        if titles:
            panel.set_title(titles[index], fontsize=8, color=INK)
    if label is not None:
        bar = figure.colorbar(drawn, ax=axes, shrink=0.9, aspect=18, pad=0.01)
        bar.ax.tick_params(labelsize=7)
        bar.set_label(label, size=8)
        bar.outline.set_visible(False)
    if heading:
        figure.suptitle(heading, fontsize=9, color=INK, x=0.01, ha="left", weight="bold")
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight", pad_inches=0.04, metadata={"Software": None})
    return Image.open(file).convert("RGB")


def _lines(panel: Axes, rows: Sequence[float], columns: Sequence[float], colour: str) -> None:
    """A lattice over a panel, in its own coordinates."""
    panel.hlines(rows, columns[0], columns[-1], color=colour, linewidth=0.5, alpha=0.6)
    panel.vlines(columns, rows[0], rows[-1], color=colour, linewidth=0.5, alpha=0.6)
