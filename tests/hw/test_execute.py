# SPDX-License-Identifier: Apache-2.0
"""The executor against loops over Python integers written from docs/IR.md, and by hand."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.execute import execute, run
from hw.ir import (
    Add,
    Concat,
    Conv,
    Graph,
    Input,
    IRError,
    Linear,
    MaxPool,
    Node,
    Output,
    Reorg,
    Requant,
    WeightFormat,
    sources,
)
from hw.ir_verify import infer
from tests.strategies import any_graph, any_pixels

W8 = WeightFormat(8)


def naive_run(graph: Graph, frame: np.ndarray) -> dict[str, np.ndarray]:
    """Return every node's `[H, W, C]` integers for one frame, one value at a time."""
    types, values = infer(graph), {}
    for node in graph.nodes:
        found = types[node.name]
        inputs = [values[name] for name in sources(node)] or [frame]
        values[node.name] = np.array(
            [
                [
                    [naive_value(node, inputs, row, column, c) for c in range(found.channels)]
                    for column in range(found.width)
                ]
                for row in range(found.height)
            ],
            object,
        )
    return values


def naive_value(node: Node, inputs: list[np.ndarray], row: int, column: int, channel: int) -> int:
    x = inputs[0]
    match node:
        case Input():
            return int(x[row, column, channel]) >> (node.port_bits - node.bits)
        case Conv():
            return naive_conv(node, x, row, column, channel)
        case Linear():
            bias = 0 if node.bias is None else int(node.bias[channel])
            return bias + sum(
                int(v) * int(w[channel]) for v, w in zip(x.flat, node.weights, strict=True)
            )
        case Requant():
            half = 2 ** (node.shift - 1) if node.shift else 0
            total = int(x[row, column, channel]) * int(node.mul[channel])
            total = (total + int(node.bias[channel]) + half) // 2**node.shift
            return min(max(total, 0), 2**node.bits - 1)
        case MaxPool(size=s):
            return max(x[s * row + i, s * column + j, channel] for i in range(s) for j in range(s))
        case Reorg(block=b):
            place, c = divmod(channel, x.shape[2])
            dy, dx = divmod(place, b)
            return x[b * row + dy, b * column + dx, c]
        case Concat():
            for part in inputs:
                if channel < part.shape[2]:
                    return part[row, column, channel]
                channel -= part.shape[2]
        case Add():
            return int(x[row, column, channel]) + int(inputs[1][row, column, channel])
        case Output():
            return x[row, column, channel]
    raise AssertionError(f"{node.name}: channel {channel} belongs to no source")


def naive_conv(node: Conv, x: np.ndarray, row: int, column: int, channel: int) -> int:
    height, width, channels = x.shape
    fan_in, fan_out = channels // node.groups, node.out_channels // node.groups
    first = channel // fan_out * fan_in
    total = 0 if node.bias is None else int(node.bias[channel])
    for dy in range(node.kernel):
        for dx in range(node.kernel):
            r = row * node.stride + dy - node.padding
            c = column * node.stride + dx - node.padding
            if 0 <= r < height and 0 <= c < width:
                for i in range(fan_in):
                    total += int(x[r, c, first + i]) * int(node.weights[dy, dx, i, channel])
    return total


@settings(max_examples=100)
@given(any_graph(), st.integers(0, 99))
def test_run_equals_loops_over_python_integers(graph, seed):
    pixels = any_pixels(graph, 2, seed)
    values = run(graph, pixels)
    assert list(values) == [node.name for node in graph.nodes]
    for index, frame in enumerate(pixels):
        for name, expected in naive_run(graph, frame).items():
            assert values[name].dtype == np.int64
            assert (values[name][index] == expected).all(), name
    assert (execute(graph, pixels) == values["output"]).all()


def requantise(acc: list[int], bits: int, shift: int, mul: int, bias: int) -> list[int]:
    """Return the codes of accumulators that a 1x1 convolution of +1 and -1 makes of pixels."""
    graph = Graph(
        "g",
        (
            Input("image", 1, len(acc), 2, 8),
            Conv("conv", "image", 1, 1, W8, weights=np.array([1, -1]).reshape(1, 1, 2, 1)),
            Requant("act", "conv", bits, shift, np.array([mul]), np.array([bias])),
            Output("output", "act"),
        ),
    )
    pixels = np.array([[max(a, 0), max(-a, 0)] for a in acc]).reshape(1, 1, -1, 2)
    return execute(graph, pixels).ravel().tolist()


def test_requantisation_rounds_halves_up_and_clips():
    assert requantise([0, 1, 2, 3, 5, 6, 7, 255], 2, 1, 1, 0) == [0, 1, 1, 2, 3, 3, 3, 3]
    assert requantise([-1, -2, -3, 4], 3, 1, -3, 0) == [2, 3, 5, 0]
    # Half-up also below zero: -1/2 becomes 0 and, one bias unit later, is seen as such.
    assert requantise([-3, -2, -1], 3, 2, 1, 8) == [1, 2, 2]
    assert requantise([9], 8, 0, 5, -3) == [42]


def test_requantisation_of_sums_close_to_64_bits():
    mul, bias = (1 << 54) - 1, -(1 << 61)
    expected = [((a * mul + bias + (1 << 54)) >> 55) for a in (255, 200, 0)]
    assert requantise([255, 200, 0], 8, 55, mul, bias) == [max(0, e) for e in expected]
    assert expected == [63, 36, -64]


def test_large_sums_are_exact_beyond_float32():
    """2^16 products of 16-bit codes and weights: odd sums above 2^47."""
    rng = np.random.default_rng(0)
    weights = rng.integers(-(2**15) + 1, 2**15, (1 << 16, 1))
    graph = Graph(
        "g",
        (
            Input("image", 1, 1 << 10, 1 << 6, 16, 16),
            Linear("dense", "image", 1, WeightFormat(16), np.abs(weights)),
            Output("output", "dense"),
        ),
    )
    pixels = rng.integers(0, 1 << 16, (1, 1, 1 << 10, 1 << 6))
    expected = sum(int(x) * abs(int(w)) for x, w in zip(pixels.flat, weights.flat, strict=True))
    assert expected > 1 << 45
    assert int(execute(graph, pixels)[0, 0, 0, 0]) == expected


def test_reorg_and_concat_order_by_hand():
    graph = Graph(
        "g",
        (
            Input("image", 2, 2, 2, 8),
            Reorg("reorg", "image"),
            MaxPool("pool", "image"),
            Concat("join", ("pool", "reorg")),
            Output("output", "join"),
        ),
    )
    #   pixel (y, x) channel c holds 10 (2 y + x) + c
    pixels = np.array([[[[0, 1], [10, 11]], [[20, 21], [30, 31]]]])
    assert execute(graph, pixels).ravel().tolist() == [30, 31, 0, 1, 10, 11, 20, 21, 30, 31]


def test_no_frames_give_no_results():
    graph = Graph("g", (Input("image", 2, 2, 1, 8), MaxPool("p", "image"), Output("output", "p")))
    assert execute(graph, np.zeros((0, 2, 2, 1), np.uint8)).shape == (0, 1, 1, 1)


SMALL = Graph(
    "g",
    (
        Input("image", 2, 3, 1, 2, 4),
        Conv("conv", "image", 1, 1, W8, weights=np.ones((1, 1, 1, 1), int)),
        Output("output", "conv"),
    ),
)
BAD_PIXELS = [
    (np.zeros((1, 2, 3, 1)), "pixels are float64 (1, 2, 3, 1), need integers [N, 2, 3, 1]"),
    (np.zeros((2, 3, 1), int), "pixels are int64 (2, 3, 1), need integers [N, 2, 3, 1]"),
    (np.zeros((1, 3, 2, 1), int), "pixels are int64 (1, 3, 2, 1), need integers [N, 2, 3, 1]"),
    (np.full((1, 2, 3, 1), 16), "pixels must be in 0..15"),
    (np.full((1, 2, 3, 1), -1), "pixels must be in 0..15"),
]


@pytest.mark.parametrize(("pixels", "message"), BAD_PIXELS, ids=[m for _, m in BAD_PIXELS])
def test_bad_pixels_are_refused(pixels, message):
    with pytest.raises(IRError, match=f"^input 'image': {re.escape(message)}$"):
        run(SMALL, pixels)


def test_shape_only_graphs_are_refused():
    graph = SMALL.with_node(Conv("conv", "image", 1, 1, W8))
    message = "graph 'g' is shape-only; export it with parameters to run it"
    with pytest.raises(IRError, match=f"^{message}$"):
        run(graph, np.zeros((1, 2, 3, 1), int))


def test_broken_graphs_are_refused():
    with pytest.raises(IRError, match="read by no node"):
        run(Graph("g", (SMALL.input, SMALL.nodes[1], Output("output", "image"))), np.zeros(1))
