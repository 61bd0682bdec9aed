# SPDX-License-Identifier: Apache-2.0
"""Figures: thinning, well-formed SVG, no trace in matplotlib's global state."""

import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.report import figures
from experiments.report.colours import MUTED, WIDTHS

SVG = "{http://www.w3.org/2000/svg}"

SCORES = {"integer": 0.5, "constant box": 0.1}


def words(svg: str) -> set[str]:
    """Return the texts of a drawing; fails if it is not XML."""
    root = ElementTree.fromstring(svg)
    return {"".join(node.itertext()).strip() for node in root.iter(f"{SVG}text")}


def shares(steps: int) -> np.ndarray:
    logits = np.linspace(0, 3, steps)[:, None] * np.arange(7)
    powers = np.exp(logits)
    return powers / powers.sum(-1, keepdims=True)


def drawings(steps: int) -> dict[str, str]:
    step = np.arange(steps, dtype=float)
    falling = {name: 3 / (step + 1) + level for level, name in enumerate(("total", "box"))}
    return {
        "loss": figures.loss_curves(step, falling),
        "score": figures.score_curve(
            step, step / steps, "IoU", {"integer": 0.5, "constant box": 0.1}
        ),
        "cost": figures.cost_curve(step, 9 - step / steps, step * 0 + 8, {"all four": 6.0}),
        "shares": figures.width_shares(step, shares(steps), shares(steps)),
        "entropy": figures.entropy_map(step, np.ones((steps, 3)), ("conv0", "conv1", "conv2")),
    }


@given(st.integers(1, 5000), st.integers(2, 300))
def test_thinning_keeps_both_ends_and_the_limit(steps, points):
    rows = figures.thinned(steps, points)
    assert rows[0] == 0
    assert rows[-1] == steps - 1
    assert len(rows) == min(steps, points)
    assert (np.diff(rows) >= 1).all()


@given(st.integers(1, 2000), st.integers(0, 9))
def test_bins_cover_every_value_once(steps, seed):
    values = np.random.default_rng(seed).integers(0, 100, steps).astype(float)
    x, means = figures.binned(np.arange(steps, dtype=float), values)
    assert len(x) == len(means) == min(steps, figures.POINTS)
    sizes = [len(rows) for rows in np.array_split(values, len(means))]
    assert np.dot(means, sizes) == pytest.approx(values.sum())  # sums of rounded means
    if steps <= figures.POINTS:
        assert (means == values).all()


@given(st.integers(1, 300), st.integers(0, 9))
def test_smoothing_is_a_moving_mean(count, seed):
    values = np.random.default_rng(seed).normal(size=count)
    half = max(round(count * figures.SMOOTHED_SHARE / 2), 1)
    wanted = [values[max(i - half, 0) : i + half + 1].mean() for i in range(count)]
    np.testing.assert_allclose(figures.smoothed(values), wanted, atol=1e-12)  # order of summing


def test_figures_are_labelled():
    drawn = drawings(30)
    assert {"total", "box", "step", "loss (log scale)"} <= words(drawn["loss"])
    assert {"training", "integer", "constant box", "IoU"} <= words(drawn["score"])
    assert {"expected", "likeliest widths", "all four"} <= words(drawn["cost"])
    assert {"weights", "activations"} <= words(drawn["shares"])
    assert {"conv0", "conv1", "conv2", "ln 7"} <= words(drawn["entropy"])


def test_a_band_is_as_high_as_its_probability():
    step, certain = np.arange(4.0), np.eye(7)[[1, 1, 1, 1]]
    even = np.full((4, 7), 1 / 7)
    weights, activations = np.split(np.array(band_heights(certain, even, step)), 2)
    full = weights.sum()
    np.testing.assert_allclose(weights / full, certain[0], atol=1e-4)  # SVG has six decimals
    np.testing.assert_allclose(activations / full, even[0], atol=1e-4)


def band_heights(weights: np.ndarray, activations: np.ndarray, step: np.ndarray) -> list[float]:
    """Return the heights of the drawn bands in the order of the widths; checks their colours."""
    root = ElementTree.fromstring(figures.width_shares(step, weights, activations))
    bands = [path for path in root.iter(f"{SVG}path") if "clip-path" in path.attrib]
    colours = [path.get("style").removeprefix("fill: ") for path in bands]
    assert colours == [*WIDTHS.values()] * 2
    heights = [[float(y) for y in re.findall(r"[\d.]+", path.get("d"))[1::2]] for path in bands]
    return [max(ys) - min(ys) for ys in heights]


def test_the_reference_is_a_dashed_line():
    svg = drawings(30)["cost"]
    assert "stroke-dasharray" in svg
    assert MUTED in svg
    without = figures.cost_curve(np.arange(3.0), np.ones(3), np.ones(3), {})
    assert "stroke-dasharray" not in without


def test_a_loss_that_is_not_positive_is_drawn_on_a_linear_axis():
    svg = figures.loss_curves(np.arange(3.0), {"total": np.array([2.0, 0.0, -2.0])})
    assert "−1" in words(svg) or "-1" in words(svg)


@pytest.mark.parametrize("steps", [1, 2])
def test_short_runs_can_be_drawn(steps):
    for svg in drawings(steps).values():
        assert words(svg)


def test_long_runs_do_not_grow_the_figures():
    short, long = drawings(600), drawings(20_000)
    for name in set(long) - {"score"}:  # that one has a dozen points, however long the run
        assert len(long[name]) < 1.3 * len(short[name]), name


def test_drawing_is_deterministic_and_leaves_no_trace():
    with matplotlib.rc_context({"font.size": 17, "svg.fonttype": "path"}):
        before = dict(matplotlib.rcParams)
        first, second = drawings(20), drawings(20)
        assert dict(matplotlib.rcParams) == before
    assert first == second
