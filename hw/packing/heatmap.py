# SPDX-License-Identifier: Apache-2.0
"""Heat map of a table's rates beside the published ones (the one file of `hw` with figures)."""

from pathlib import Path

import numpy as np

from hw.packing.listing import Cells, grid
from hw.packing.published import WIDTHS, mean_ratio, published


def write_heatmap(path: Path, title: str, kernel: int, cells: Cells) -> None:
    """Draw MACs per DSP over (w, a): ours, the published ones and their ratio, as one PNG.

    A kernel without published rates gives one panel. Raises ModuleNotFoundError without matplotlib.
    """
    from matplotlib.figure import Figure

    ours = np.array([[float(rate) for rate in row] for row in grid(cells)])
    panels = [(f"{title}\nMACs per DSP and cycle", ours, "viridis", (1, ours.max()), "{:.3g}")]
    theirs = published(kernel)
    if theirs is not None:
        ratio = ours / np.array(theirs)
        mean = mean_ratio(kernel, grid(cells))
        panels += [
            (
                "DeepBurning-MixQ (ICCAD'23)\nMACs per DSP and cycle",
                np.array(theirs),
                *panels[0][2:],
            ),
            (f"ratio\ngeometric mean {mean:.3f}", ratio, "RdBu", (0.4, 1.6), "{:.2f}"),
        ]
    figure = Figure(figsize=(4.6 * len(panels), 4.6), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw(axes, *panel)
    figure.savefig(path, dpi=130)


def _draw(axes, title: str, values: np.ndarray, colours: str, limits, form: str) -> None:
    image = axes.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1], origin="lower")
    for (row, column), value in np.ndenumerate(values):
        red, green, blue, _ = image.cmap(image.norm(value))
        dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
        colour = "white" if dark else "black"
        axes.text(column, row, form.format(value), ha="center", va="center", color=colour, size=9)
    axes.set_title(title, fontsize=10)
    axes.set_xticks(range(len(WIDTHS)), WIDTHS)
    axes.set_yticks(range(len(WIDTHS)), WIDTHS)
    axes.set_xlabel("activation bits")
    axes.set_ylabel("weight bits")
