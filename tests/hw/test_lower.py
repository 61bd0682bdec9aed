# SPDX-License-Identifier: Apache-2.0
"""Lowered graphs compute the same and can be built; maps that are not square are refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.cycles import analyse, extra_iterations
from hw.dataflow import build
from hw.design import DesignError
from hw.device import device
from hw.dse import optimise
from hw.execute import run
from hw.hls import csim, emit
from hw.ir import Conv, Graph, Input, Linear, Node, Output, Reorg, Requant, WeightFormat
from hw.lower import lower
from hw.pipeline import PatchBuffer
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


@pytest.mark.slow
@pytest.mark.csim
@pytest.mark.parametrize("side", [1, 2, 4])
def test_dense_layers_equal_the_integer_network_in_c(side):
    graph = classifier(side, seed=side)
    design = optimise(graph, device("xczu3eg"))
    frames = np.random.default_rng(side).integers(0, 256, (3, side, side, 2))
    comparison = csim.compare(graph, design, frames)
    assert comparison.mismatches == 0
    assert comparison.values > 30


def strided(kernel: int, stride: int, seed: int, first: bool) -> Graph:
    """Return a strided convolution, on the image or behind another, and a head."""
    rng = np.random.default_rng(seed)
    nodes: list[Node] = [Input("image", 4 * stride, 2 * stride, 2, 5)]
    if not first:
        weights = rng.integers(-3, 4, (1, 1, 2, 2))
        nodes += [Conv("point", "image", 2, 1, WeightFormat(3), weights=weights)]
        nodes += [Requant("act0", "point", 5, 3, np.array([3, 2]), rng.integers(0, 99, 2))]
    return Graph(
        "strided",
        (
            *nodes,
            Conv(
                "down",
                nodes[-1].name,
                6,
                kernel,
                WeightFormat(4),
                stride,
                kernel // 2,
                weights=rng.integers(-7, 8, (kernel, kernel, 2, 6)),
            ),
            Requant("act", "down", 4, 6, np.full(6, 5), rng.integers(0, 400, 6)),
            Conv("head", "act", 2, 1, WeightFormat(3), weights=rng.integers(-3, 4, (1, 1, 6, 2))),
            Output("output", "head"),
        ),
    )


@pytest.mark.slow  # random branched graphs have patches too, in fast tests
@pytest.mark.csim
@pytest.mark.parametrize(
    ("kernel", "stride", "first"),
    [(3, 2, True), (3, 2, False), (1, 2, False), (5, 2, True), (3, 3, False), (7, 4, True)],
)
def test_strided_convolutions_equal_the_integer_network_in_c(kernel, stride, first):
    graph = strided(kernel, stride, kernel, first)
    design = optimise(graph, device("xczu3eg"))
    frames = np.random.default_rng(1).integers(0, 256, (3, 4 * stride, 2 * stride, 2))
    assert csim.compare(graph, design, frames).mismatches == 0
    counts = csim.count(emit(design), frames[:2])
    pipeline = build(design)
    for stream in pipeline.streams:
        assert counts.streams.get(stream.name, 2 * stream.tokens) == 2 * stream.tokens
    closed = {process.name: process.cycles for process in analyse(pipeline, 250.0).processes}
    patches = next(p for p in pipeline.processes if isinstance(p, PatchBuffer))
    extra = extra_iterations(patches)
    assert counts.processes[patches.name] == 2 * closed[patches.name] + extra


def test_strides_that_leave_pixels_over_are_refused():
    graph = strided(3, 2, 0, True)
    odd = graph.with_node(replace(graph.input, width=5))
    with pytest.raises(
        DesignError, match="'down_patches' takes 3x3 patches with padding 1 at stride 2 of a 8x5"
    ):
        optimise(odd, device("xczu3eg"))
