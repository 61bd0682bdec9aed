# SPDX-License-Identifier: Apache-2.0
"""Heat map of a table's rates beside the published ones (the one file of `hw` with figures)."""

import os
from errno import EISDIR
from pathlib import Path

import numpy as np

from hw.packing.listing import Cells, grid, title
from hw.packing.published import WIDTHS, mean_ratio, published

RATIO_LIMIT = 3  # colours of the ratio end there: no cell of ours lies beyond


def write_heatmap(path: Path, cells: Cells, mode: str) -> None:
    """Draw MACs per DSP over (w, a): ours, the published ones and their ratio, as one PNG.

    Colours are logarithmic; white is a ratio of 1. A kernel without published rates gives one
    panel. Raises ModuleNotFoundError without matplotlib, OSError for a path that cannot be written.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    kernel = cells[WIDTHS[0], WIDTHS[0]].kernel
    ours, theirs = np.array(grid(cells), float), published(kernel)
    panels = [("MACs per DSP and cycle", ours)]
    if theirs is not None:
        mean = mean_ratio(kernel, grid(cells))
        panels += [
            ("DeepBurning-MixQ (ICCAD'23, DSP48E2)", np.array(theirs)),
            (f"ratio, geometric mean {mean:.3f}", ours / np.array(theirs)),
        ]
    rates = LogNorm(1, max(values.max() for _, values in panels[:2]))
    ratios = LogNorm(1 / RATIO_LIMIT, RATIO_LIMIT)
    styles = [(rates, "viridis", "{:.3g}")] * 2 + [(ratios, "RdBu", "{:.2f}")]
    figure = Figure(figsize=(4.4 * len(panels), 4.9), layout="constrained")
    figure.suptitle(title(cells, mode), fontsize=12)
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel, style in zip(all_axes, panels, styles, strict=False):
        _draw(axes, *panel, *style)
    if path.is_dir():
        raise IsADirectoryError(EISDIR, "Is a directory", str(path))
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        figure.savefig(temporary, dpi=130, format="png")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _draw(axes, name: str, values: np.ndarray, norm, colours: str, form: str) -> None:
    image = axes.imshow(values, cmap=colours, norm=norm, origin="lower")
    for (row, column), value in np.ndenumerate(values):
        red, green, blue, _ = image.cmap(image.norm(value))
        dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
        colour = "white" if dark else "black"
        axes.text(column, row, form.format(value), ha="center", va="center", color=colour, size=9)
    axes.set_title(name, fontsize=10)
    axes.set_xticks(range(len(WIDTHS)), WIDTHS)
    axes.set_yticks(range(len(WIDTHS)), WIDTHS)
    axes.set_xlabel("activation bits")
    axes.set_ylabel("weight bits")
