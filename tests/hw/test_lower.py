# SPDX-License-Identifier: Apache-2.0
"""Lowered graphs compute the same and can be built; maps that are not square are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.design import DesignError
from hw.device import device
from hw.dse import optimise
from hw.execute import run
from hw.hls import csim
from hw.ir import Conv, Graph, Input, Linear, Output, Reorg, Requant, WeightFormat
from hw.lower import lower
from tests.strategies import any_graph, any_pixels


def classifier(side: int = 4, seed: int = 0, width: int | None = None) -> Graph:
    """Return convolution, dense layer, dense head."""
    rng = np.random.default_rng(seed)
    channels, hidden, flat = 4, 6, 4 * side * (width or side)
    return Graph(
        "classifier",
        (
            Input("image", side, width or side, 2, 5),
            Conv(
                "conv",
                "image",
                channels,
                3,
                WeightFormat(3),
                padding=1,
                weights=rng.integers(-3, 4, (3, 3, 2, channels)),
            ),
            Requant("act", "conv", 4, 5, np.full(channels, 3), rng.integers(0, 200, channels)),
            Linear("dense", "act", hidden, WeightFormat(4), rng.integers(-7, 8, (flat, hidden))),
            Requant("act2", "dense", 3, 8, np.full(hidden, 5), rng.integers(0, 900, hidden)),
            Linear(
                "head",
                "act2",
                10,
                WeightFormat(4),
                rng.integers(-7, 8, (hidden, 10)),
                rng.integers(-9, 9, 10),
            ),
            Output("output", "head"),
        ),
    )


@settings(max_examples=25)
@given(any_graph(), st.integers(0, 99))
def test_lowered_graphs_compute_the_same(graph, seed):
    if any(
        run(graph, any_pixels(graph, 1, 0))[node.source].shape[1]
        != run(graph, any_pixels(graph, 1, 0))[node.source].shape[2]
        for node in graph.of_type(Linear)
    ):
        with pytest.raises(DesignError, match="the accelerator flattens square ones only"):
            lower(graph)
        return
    pixels, found = any_pixels(graph, 2, seed), lower(graph)
    assert not found.of_type(Linear)
    got = run(found, pixels)
    for name, values in run(graph, pixels).items():
        assert np.array_equal(got[name], values), name


def test_a_graph_without_dense_layers_is_left_alone():
    graph = classifier()
    assert lower(lower(graph)) is not graph
    lowered = lower(graph)
    assert lower(lowered) is lowered
    assert [node.name for node in lowered.of_type(Reorg)] == ["dense_flat"]  # not of a 1x1 map


def test_maps_that_are_not_square_are_refused():
    with pytest.raises(DesignError, match="dense layer 'dense' reads a 4x6 map"):
        lower(classifier(width=6))


@pytest.mark.csim
@pytest.mark.parametrize("side", [1, 2, 4])
def test_dense_layers_equal_the_integer_network_in_c(side):
    graph = classifier(side, seed=side)
    design = optimise(graph, device("xczu3eg"))
    frames = np.random.default_rng(side).integers(0, 256, (3, side, side, 2))
    comparison = csim.compare(graph, design, frames)
    assert comparison.mismatches == 0
    assert comparison.values > 30
