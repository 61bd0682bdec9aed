# SPDX-License-Identifier: Apache-2.0
"""Figures of a run as SVG text, drawn by matplotlib without its global state.

Long runs are thinned to `POINTS` points: losses by means of equal bins, states (probabilities,
entropy, cost) by every n-th step with the first and the last kept. Equal inputs give equal bytes.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from experiments.report import colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 240
AREA_POINTS = 90  # two polygons' edges a point, seven widths, two operands, every layer
SMOOTHED_SHARE = 0.05  # of a run: the window of the dark line in a loss figure
SIZE_INCHES = (3.9, 2.35)
AREA_INCHES = (2.05, 1.75)
LINES = (colours.BLUE, colours.VERMILION, colours.GREEN)
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.family": "sans-serif",
    "font.sans-serif": ["Segoe UI", "Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": colours.MUTED,
    "axes.linewidth": 0.6,
    "axes.labelcolor": colours.MUTED,
    "xtick.color": colours.MUTED,
    "ytick.color": colours.MUTED,
    "text.color": colours.INK,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
}


def loss_curves(step: np.ndarray, losses: Mapping[str, np.ndarray]) -> str:
    """Draw losses [T] against the step on a logarithmic axis: bin means and a moving mean."""
    with _drawing() as (axes, drawn):
        for (name, values), colour in zip(losses.items(), LINES, strict=False):
            x, means = binned(step, values)
            axes.plot(x, means, color=colour, alpha=0.3, linewidth=0.8)
            axes.plot(x, smoothed(means), color=colour, label=name)
        if all((values > 0).all() for values in losses.values()):
            _logarithmic(axes)
        _finish(axes, step, f"loss ({axes.get_yscale()} scale)")
    return drawn.getvalue()


def score_curve(step: np.ndarray, score: np.ndarray, name: str, lines: Mapping[str, float]) -> str:
    """Draw a score [E] in 0..1 against the step, and horizontal `lines` to compare with."""
    with _drawing() as (axes, drawn):
        points = {"marker": "o", "markersize": 3, "clip_on": False}
        axes.plot(step, score, color=colours.BLUE, label="training", **points)
        for (label, value), dash in zip(lines.items(), ("--", ":"), strict=False):
            axes.axhline(value, color=colours.VERMILION, linestyle=dash, linewidth=1, label=label)
        axes.set_ylim(0, 1)
        _finish(axes, np.append(0, step), name)
    return drawn.getvalue()


def cost_curve(
    step: np.ndarray, expected: np.ndarray, argmax: np.ndarray, reference: Mapping[str, float]
) -> str:
    """Draw a cost [T]: expected, at the likeliest widths, and horizontal reference lines."""
    kept = thinned(len(step))
    with _drawing() as (axes, drawn):
        axes.plot(step[kept], argmax[kept], color=colours.VERMILION, label="likeliest widths")
        axes.plot(step[kept], expected[kept], color=colours.BLUE, label="expected")
        for name, value in reference.items():
            axes.axhline(value, color=colours.MUTED, linestyle="--", linewidth=1, label=name)
        axes.set_ylim(bottom=0)
        _finish(axes, step, "64 × work / MACs of layer 0")
    return drawn.getvalue()


def width_shares(step: np.ndarray, weights: np.ndarray, activations: np.ndarray) -> str:
    """Draw the probabilities [T, 7] of the widths of one layer's weights and activations."""
    kept = thinned(len(step), AREA_POINTS)
    x = np.append(step[kept], step[-1] + 1)  # a single step has an extent too
    with _drawing(AREA_INCHES, rows=2) as (pair, drawn):
        for axes, shares, name in zip(
            pair, (weights, activations), ("weights", "activations"), strict=True
        ):
            bands = np.concatenate([shares[kept], shares[-1:]]).T
            axes.stackplot(x, bands, colors=colours.WIDTHS.values(), linewidth=0)
            axes.set_ylim(0, 1)
            axes.set_yticks([])
            axes.set_ylabel(name, fontsize=7)
            axes.spines[:].set_visible(False)
            _limit(axes, step)
        pair[0].set_xticks([])
    return drawn.getvalue()


def entropy_map(step: np.ndarray, entropy: np.ndarray, layers: tuple[str, ...]) -> str:
    """Draw entropies [T, L] in nats as a map of layer by step; full scale is ln 7."""
    kept = thinned(len(step))
    with _drawing() as (axes, drawn):
        image = axes.imshow(
            entropy[kept].T,
            aspect="auto",
            cmap="cividis_r",
            vmin=0,
            vmax=np.log(len(colours.WIDTHS)),
            interpolation="nearest",
            extent=(step[0], step[-1] + 1, len(layers) - 0.5, -0.5),
        )
        axes.set_yticks(range(len(layers)), layers)
        axes.tick_params(axis="y", length=0)
        scale = axes.figure.colorbar(image, ax=axes, pad=0.02, ticks=[0, 1, np.log(7)])
        scale.ax.set_yticklabels(["0", "1", "ln 7"])
        scale.outline.set_visible(False)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("step")
        _limit(axes, step)
    return drawn.getvalue()


def thinned(steps: int, points: int = POINTS) -> np.ndarray:
    """Return at most `points` of the row numbers below `steps`, evenly spread, with both ends."""
    return np.unique(np.linspace(0, steps - 1, min(steps, points)).round().astype(int))


def binned(step: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the means of `step` and `values` [T] over at most `POINTS` equal bins."""
    bins = np.array_split(np.arange(len(step)), min(len(step), POINTS))
    return (
        np.array([step[rows].mean() for rows in bins]),
        np.array([values[rows].mean() for rows in bins]),
    )


def smoothed(values: np.ndarray) -> np.ndarray:
    """Return the centred moving mean over `SMOOTHED_SHARE` of the values; shorter at the ends."""
    half = max(round(len(values) * SMOOTHED_SHARE / 2), 1)
    sums = np.cumsum(np.append(0.0, values))
    rows = np.arange(len(values))
    first, last = np.maximum(rows - half, 0), np.minimum(rows + half + 1, len(values))
    return (sums[last] - sums[first]) / (last - first)


@contextmanager
def _drawing(size: tuple[float, float] = SIZE_INCHES, rows: int = 1) -> Iterator[tuple]:
    """Yield (axes, buffer); the buffer holds the SVG text when the block has ended."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, hspace=0.03)
        drawn = io.StringIO()
        yield figure.subplots(rows), drawn
        # Neither date nor version: equal inputs give equal pages.
        empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(drawn, format="svg", transparent=True, metadata=empty)


def _finish(axes: "Axes", step: np.ndarray, label: str) -> None:
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.grid(axis="y", color=colours.RULE, linewidth=0.5)
    # Above the axes: nowhere inside is free for certain.
    place = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "borderaxespad": 0.2}
    axes.legend(ncols=4, fontsize=7.5, handlelength=1.4, columnspacing=1.2, **place)
    _limit(axes, step)


def _logarithmic(axes: "Axes") -> None:
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _limit(axes: "Axes", step: np.ndarray) -> None:
    """Span the steps; end the axis' labels with round numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(step[0], step[-1] + 1)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 5, 10), integer=True))
