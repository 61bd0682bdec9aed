# SPDX-License-Identifier: Apache-2.0
"""The jitted executor and its 32-bit requantisation equal Python integers and hw.execute."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hw.execute import run
from hw.ir import Conv, Graph, Input, IRError, Linear, Output, Requant, WeightFormat
from mixq_jax.integer import executor, requant_table, requantise
from tests.strategies import SUM_MAX, any_graph, any_pixels

PORTS = (((1 << 17) - 1, (1 << 26) - 1), ((1 << 24) - 1, (1 << 17) - 1))  # largest mul and acc


@st.composite
def edge_or_any(draw, limit: int) -> int:
    """Integers up to `limit` in size, the limits and their neighbours often among them."""
    edges = [s * v for s in (-1, 1) for v in (0, 1, limit - 1, limit, 1 << 13, (1 << 13) - 1)]
    near = [e for e in edges if abs(e) <= limit]
    return draw(st.one_of(st.sampled_from(near), st.integers(-limit, limit)))


@st.composite
def factors(draw) -> tuple[list[int], int]:
    """Eight accumulators and a multiplier that fit the ports of a DSP."""
    mul_max, acc_max = draw(st.sampled_from(PORTS))
    accs = draw(st.lists(edge_or_any(acc_max), min_size=8, max_size=8))
    return accs, draw(edge_or_any(mul_max))


@settings(max_examples=200)
@given(factors(), edge_or_any(SUM_MAX), st.integers(0, 43), st.integers(1, 16))
@example(([-1 << 26] * 8, -1 << 17), (1 << 43) - (1 << 42), 43, 8)
@example(([-1 << 17] * 8, -1 << 24), (1 << 43) - (1 << 42), 43, 8)
@example(([(1 << 26) - 1] * 8, (1 << 17) - 1), SUM_MAX, 0, 16)
@example(([(1 << 17) - 1] * 8, (1 << 24) - 1), SUM_MAX, 0, 16)
@example(([-1 << 26] * 8, (1 << 17) - 1), -SUM_MAX, 0, 16)
@example(([-1 << 17] * 8, (1 << 24) - 1), -SUM_MAX, 0, 16)
def test_requantise_equals_python_integers(operands, bias, shift, bits):
    accs, mul = operands
    half = (1 << shift) >> 1
    reach = max(map(abs, accs)) * abs(mul)
    bias = max(-(1 << 44) + reach, min(SUM_MAX - reach - half, bias))
    table = requant_table(Requant("r", "x", bits, shift, np.array([mul]), np.array([bias])))
    codes = requantise(jnp.array(accs, jnp.int32)[:, None], table)
    assert codes.dtype == jnp.int32
    top = 2**bits - 1
    expected = [min(max((a * mul + bias + half) // 2**shift, 0), top) for a in accs]
    assert codes[:, 0].tolist() == expected


@pytest.mark.parametrize("shift", [0, 1, 12, 13, 14, 26, 43])
def test_requantise_equals_python_integers_on_every_code_edge(shift):
    """Sums just below, at and just above every rounding boundary of a 3-bit code."""
    half = (1 << shift) >> 1
    edges = [(code << shift) - half + d for code in range(-1, 10) for d in (-2, -1, 0, 1)]
    edges = [edge for edge in edges if abs(edge + half) <= SUM_MAX]
    tables = [
        requant_table(Requant("r", "x", 3, shift, np.array([5]), np.array([edge - 35])))
        for edge in edges
    ]
    got = [int(requantise(jnp.array([7], jnp.int32), table)[0]) for table in tables]
    assert got == [min(max((edge + half) >> shift, 0), 7) for edge in edges]


def assert_equal(graph: Graph, pixels: np.ndarray) -> None:
    expected = run(graph, pixels)
    got = executor(graph)(jnp.asarray(pixels, jnp.int32))
    assert set(got) == set(expected)
    for name, values in expected.items():
        assert got[name].dtype == jnp.int32
        assert (np.asarray(got[name]) == values).all(), name


@settings(max_examples=12)
@given(any_graph(), st.integers(0, 99))
def test_executor_equals_hw_execute_on_every_node(graph, seed):
    assert_equal(graph, any_pixels(graph, 2, seed))


@pytest.mark.slow
@given(any_graph(max_ops=9, scale=2), st.integers(0, 99))
def test_executor_equals_hw_execute_on_larger_graphs(graph, seed):
    assert_equal(graph, any_pixels(graph, 2, seed))


def dense(weights: np.ndarray, bits: int, bias: np.ndarray | None = None) -> Graph:
    """Return a graph that multiplies `len(weights)` codes of `bits` bits by `weights`."""
    layer = Linear("dense", "image", weights.shape[1], WeightFormat(16), weights, bias)
    image = Input("image", 1, 1, len(weights), bits, bits)
    return Graph("g", (image, layer, Output("output", "dense")))


def test_sums_beyond_float32_are_exact():
    """8 x 8 bits x 576 products reach 18.6 million; odd ones above 2^24 exist only in integers."""
    rng = np.random.default_rng(0)
    graph = dense(np.where(np.arange(576) % 97, 127, 126)[:, None], 8)
    pixels = np.concatenate([np.full((1, 1, 1, 576), 255), rng.integers(240, 256, (9, 1, 1, 576))])
    sums = run(graph, pixels)["dense"]
    assert (sums > 1 << 24).any()
    assert (sums % 2).any()
    assert_equal(graph, pixels)


def test_grouped_sums_beyond_float32_are_exact():
    weights = np.random.default_rng(1).integers(-127, 128, (5, 5, 64, 4))
    weights[..., 1] = 127
    conv = Conv("conv", "image", 4, 5, WeightFormat(8), 1, 2, 2, weights, np.array([1, -1, 7, 0]))
    graph = Graph("g", (Input("image", 5, 5, 128, 8), conv, Output("output", "conv")))
    assert_equal(graph, np.full((1, 5, 5, 128), 255))


def shape_only() -> Graph:
    return dense(np.ones((2, 1), int), 8).with_node(Linear("dense", "image", 1, WeightFormat(2)))


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (shape_only(), "graph 'g' is shape-only; export it with parameters to run it"),
        (
            dense(np.ones((1, 1), int), 8, np.array([1 << 31])),
            "node 'dense': sums 0..2147483903 need more than int32",
        ),
        (
            dense(np.full((2, 1), -32767), 16),
            "node 'dense': sums -4294770690..0 need more than int32",
        ),
    ],
)
def test_graphs_beyond_32_bits_are_refused(graph, message):
    with pytest.raises(IRError, match=f"^{re.escape(message)}$"):
        executor(graph)


def test_half_words_beyond_float32_are_refused():
    graph = dense(np.full((5, 1), 32767), 13)
    message = (
        "node 'dense': sums over half of each code's bits reach 20970880, which float32 "
        "does not hold exactly; use hw.execute"
    )
    with pytest.raises(IRError, match=f"^{re.escape(message)}$"):
        executor(graph)


@pytest.mark.parametrize(
    ("mul", "bias"), [(1 << 24, 0), (-(1 << 24) - 1, 0), (1, (1 << 44) - 1), (1, -(1 << 44) - 1)]
)
def test_requantisers_that_break_the_dsp_rule_are_refused(mul, bias):
    layer = Linear("dense", "image", 1, WeightFormat(2), np.ones((1, 1), int))
    act = Requant("act", "dense", 8, 0, np.array([mul]), np.array([bias]))
    graph = Graph("g", (Input("image", 1, 1, 1, 8), layer, act, Output("output", "act")))
    message = (
        "requant 'act' breaks the DSP rule (mul and acc of 18 x 27 or 25 x 18 bits, 45-bit sum); "
        "use hw.execute or export with a smaller shift"
    )
    with pytest.raises(IRError, match=f"^{re.escape(message)}$"):
        executor(graph)
    assert run(graph, np.full((1, 1, 1, 1), 3))["act"].size == 1
