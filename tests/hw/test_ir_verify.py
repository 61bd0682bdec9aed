# SPDX-License-Identifier: Apache-2.0
"""Types of results against brute force, and one broken graph for every rule of docs/IR.md."""

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.execute import run
from hw.intmath import signed_bits
from hw.ir import (
    Add,
    Concat,
    Conv,
    Graph,
    Input,
    IRError,
    Linear,
    MaxPool,
    Output,
    Reorg,
    Requant,
    TensorType,
    WeightFormat,
)
from hw.ir_verify import infer, requant_fits_dsp, verify
from tests.strategies import any_graph, any_pixels, bit_widths

W2 = WeightFormat(2)
IMAGE = Input("image", 4, 6, 2, 3)
CONV = Conv("conv", "image", 2, 3, W2, padding=1)
ACT = Requant("act", "conv", 4)
OUTPUT = Output("output", "act")


def chain(*nodes, version: int = 1) -> Graph:
    return Graph("g", nodes, version)


def between(*nodes) -> Graph:
    """Return `nodes` behind an image, with the last one at the output."""
    return chain(IMAGE, *nodes, Output("output", nodes[-1].name))


def with_values(**values) -> Graph:
    """Return image, 1x1 convolution by one, requantiser with the given parameters."""
    conv = Conv(
        "conv", "image", 2, 1, WeightFormat(3), groups=2, weights=np.ones((1, 1, 1, 2), int)
    )
    given = {"shift": 0, "mul": np.array([1, 1]), "bias": np.array([0, 0]), **values}
    return between(conv, replace(ACT, **given))


@given(any_graph(), st.integers(0, 99))
def test_every_value_lies_in_its_type(graph, seed):
    types = verify(graph)
    for name, values in run(graph, any_pixels(graph, 2, seed)).items():
        found = types[name]
        assert values.shape == (2, found.height, found.width, found.channels)
        assert found.lo <= values.min()
        assert values.max() <= found.hi
        assert found.bits >= signed_bits(found.lo, found.hi) - (not found.signed)


@given(bit_widths(), bit_widths(), st.booleans(), st.booleans(), st.integers(0, 99))
def test_accumulator_bounds_are_reached(a_bits, w_bits, narrow, with_bias, seed):
    """The bounds are exact per channel: some input of a dense layer reaches each of them."""
    rng = np.random.default_rng(seed)
    lo, hi = (-(1 << (w_bits - 1)) + narrow), (1 << (w_bits - 1)) - 1
    weights = rng.integers(lo, hi, (3, 2), endpoint=True)
    bias = rng.integers(-9, 9, 2) if with_bias else None
    dense = Linear("dense", "image", 2, WeightFormat(w_bits, narrow), weights, bias)
    found = infer(chain(Input("image", 1, 1, 3, a_bits), dense, Output("output", "dense")))["dense"]
    top = (1 << a_bits) - 1
    sums = np.array([np.dot(x, weights) for x in product((0, top), repeat=3)])
    sums = sums + (0 if bias is None else bias)
    assert (found.lo, found.hi) == (min(0, sums.min()), max(0, sums.max()))
    assert found.bits == signed_bits(found.lo, found.hi)
    assert found.signed


def test_bounds_without_weights_are_those_of_the_format():
    narrow, full = (
        infer(between(replace(CONV, w_format=WeightFormat(4, narrow))))["conv"]
        for narrow in (True, False)
    )
    terms, top = 3 * 3 * 2, 7
    assert (narrow.lo, narrow.hi) == (-7 * top * terms, 7 * top * terms)
    assert (full.lo, full.hi) == (-8 * top * terms, 7 * top * terms)
    grouped = infer(between(replace(CONV, w_format=WeightFormat(4), groups=2)))["conv"]
    assert grouped.hi == narrow.hi // 2


def test_shapes_of_every_op():
    nodes = (
        replace(CONV, kernel=2, stride=2, padding=1),
        ACT,
        MaxPool("pool", "image", 2),
        Requant("low", "conv", 3),
        Reorg("reorg", "image", 2),
        Concat("join", ("reorg", "pool")),
        Linear("dense", "join", 5, W2),
    )
    types = infer(between(*nodes))
    shapes = {name: (t.height, t.width, t.channels) for name, t in types.items()}
    assert shapes == {
        "image": (4, 6, 2),
        "conv": (3, 4, 2),
        "act": (3, 4, 2),
        "pool": (2, 3, 2),
        "low": (3, 4, 2),
        "reorg": (2, 3, 8),
        "join": (2, 3, 10),
        "dense": (1, 1, 5),
        "output": (1, 1, 5),
    }
    assert types["act"] == TensorType(3, 4, 2, 0, 15, 4, False)
    assert infer(between(MaxPool("pool", "image", 3)))["pool"].width == 2


BROKEN = [
    (chain(IMAGE), "graph 'g' has 1 nodes; needs Input and Output"),
    (
        chain(IMAGE, Output("output", "image"), version=7),
        "graph 'g' has IR version 7, this program knows 1",
    ),
    (
        between(replace(CONV, name="a-b"), replace(ACT, source="a-b")),
        "node name 'a-b' is not an identifier; use letters, digits, _",
    ),
    (
        between(replace(CONV, name="image")),
        "node name 'image' is used twice; names must be unique",
    ),
    (chain(CONV, ACT, OUTPUT), "node 'conv': exactly the first node must be an Input"),
    (
        chain(IMAGE, replace(IMAGE, name="second"), Output("output", "second")),
        "node 'second': exactly the first node must be an Input",
    ),
    (chain(IMAGE, CONV, ACT), "node 'act': exactly the last node must be an Output"),
    (
        chain(IMAGE, Output("early", "image"), CONV, Output("output", "conv")),
        "node 'early': exactly the last node must be an Output",
    ),
    (chain(IMAGE, ACT, CONV, OUTPUT), "node 'act' reads 'conv', which is not an earlier node"),
    (
        between(CONV, MaxPool("p", "image")),
        "node 'conv' is read by no node; remove it or connect it",
    ),
    (
        chain(replace(IMAGE, height=0), CONV, ACT, OUTPUT),
        "node 'image': height is 0, must be at least 1",
    ),
    (
        chain(replace(IMAGE, bits=9), CONV, ACT, OUTPUT),
        "input 'image': bits 9 of 8-bit pixels; needs 1 <= bits <= port_bits <= 16",
    ),
    (
        chain(replace(IMAGE, port_bits=17), CONV, ACT, OUTPUT),
        "input 'image': bits 3 of 17-bit pixels; needs 1 <= bits <= port_bits <= 16",
    ),
    (between(replace(CONV, stride=0)), "node 'conv': stride is 0, must be at least 1"),
    (between(replace(CONV, kernel=0)), "node 'conv': kernel is 0, must be at least 1"),
    (between(replace(CONV, groups=0)), "node 'conv': groups is 0, must be at least 1"),
    (between(replace(CONV, out_channels=0)), "node 'conv': out_channels is 0, must be at least 1"),
    (between(replace(CONV, padding=-1)), "node 'conv': padding is -1, must be at least 0"),
    (
        between(replace(CONV, out_channels=3, groups=2)),
        "conv 'conv': groups 2 must divide 2 input and 3 output channels",
    ),
    (
        between(replace(CONV, groups=4, out_channels=4)),
        "conv 'conv': groups 4 must divide 2 input and 4 output channels",
    ),
    (
        between(replace(CONV, kernel=7, padding=1)),
        "node 'conv': kernel 7 does not fit 4x6 with padding 1",
    ),
    (
        between(CONV, replace(CONV, name="next", source="conv")),
        "node 'next' reads signed accumulators; put a Requant before it "
        "(8-bit signed values cannot be multiplied as codes)",
    ),
    (
        between(CONV, MaxPool("pool", "conv")),
        "node 'pool' reads signed accumulators; put a Requant before it "
        "(8-bit signed values cannot be multiplied as codes)",
    ),
    (
        between(replace(CONV, w_format=WeightFormat(17))),
        "node 'conv': weight format WeightFormat(bits=17, narrow=True, scheme='fixed') "
        "must be fixed, 1..16 bits",
    ),
    (
        between(replace(CONV, w_format=WeightFormat(4, True, "power_of_two"))),
        "node 'conv': weight format WeightFormat(bits=4, narrow=True, scheme='power_of_two') "
        "must be fixed, 1..16 bits",
    ),
    (
        between(replace(CONV, weights=np.zeros((3, 3, 1, 2), int))),
        "node 'conv': weights have shape (3, 3, 1, 2), need (3, 3, 2, 2)",
    ),
    (
        between(replace(CONV, weights=np.full((3, 3, 2, 2), -2))),
        "node 'conv': weights span -2..-2, outside the narrow 2-bit range -1..1",
    ),
    (
        between(replace(CONV, weights=np.full((3, 3, 2, 2), 2), w_format=WeightFormat(2, False))),
        "node 'conv': weights span 2..2, outside the full 2-bit range -2..1",
    ),
    (
        between(replace(CONV, weights=np.zeros((3, 3, 2, 2), int), bias=np.zeros(3, int))),
        "node 'conv': bias has shape (3,), need (2,)",
    ),
    (
        between(Linear("dense", "image", 3, W2, np.zeros((48, 2), int))),
        "node 'dense': weights have shape (48, 2), need (48, 3)",
    ),
    (
        chain(
            Input("image", 1 << 10, 1 << 10, 8, 16, 16),
            Linear("dense", "image", 1, WeightFormat(16)),
            Output("output", "dense"),
        ),
        "node 'dense': accumulator range -18013573884149760..18013573884149760 exceeds 2^53",
    ),
    (between(CONV, replace(ACT, bits=0)), "requant 'act': bits 0 must be in 1..16"),
    (between(CONV, replace(ACT, bits=17)), "requant 'act': bits 17 must be in 1..16"),
    (between(CONV, replace(ACT, shift=63)), "requant 'act': shift 63 must be in 0..62"),
    (between(CONV, replace(ACT, shift=-1)), "requant 'act': shift -1 must be in 0..62"),
    (with_values(mul=np.ones(3, int)), "node 'act': mul has shape (3,), need (2,)"),
    (with_values(bias=np.ones((2, 1), int)), "node 'act': bias has shape (2, 1), need (2,)"),
    (with_values(bias=None), "node 'act': bias is missing, need (2,) integers"),
    (
        with_values(mul=np.array([1, 1 << 61])),
        "requant 'act': acc * mul + bias spans 0..16140901064495857664, more than 64 bits; "
        "use a smaller shift",
    ),
    (between(MaxPool("pool", "image", 5)), "node 'pool': block 5 on 4x6"),
    (between(MaxPool("pool", "image", 0)), "node 'pool': block 0 on 4x6"),
    (between(Reorg("reorg", "image", 4)), "reorg 'reorg': block 4 must divide 4x6"),
    (between(Concat("join", ())), "node 'image' is read by no node; remove it or connect it"),
    (
        between(MaxPool("pool", "image"), Concat("join", ("image", "pool"))),
        "concat 'join': 'pool' is 2x3 of 3 bits, 'image' 4x6 of 3 bits",
    ),
    (
        between(CONV, ACT, Concat("join", ("act", "image"))),
        "concat 'join': 'image' is 4x6 of 3 bits, 'act' 4x6 of 4 bits",
    ),
    (
        between(CONV, Concat("join", ("image", "conv"))),
        "node 'join' reads signed accumulators; put a Requant before it "
        "(8-bit signed values cannot be multiplied as codes)",
    ),
    (
        between(CONV, ACT, Add("sum", ("act",))),
        "add 'sum' has 1 sources; it adds two",
    ),
    (
        between(CONV, ACT, MaxPool("pool", "image"), Add("sum", ("act", "pool"))),
        "add 'sum': 'act' is 4x6x2, 'pool' is 2x3x2; both must have one shape",
    ),
    (
        between(CONV, ACT, Add("sum", ("act", "conv"))),
        "node 'sum' reads signed accumulators; put a Requant before it "
        "(8-bit signed values cannot be multiplied as codes)",
    ),
    (
        between(CONV, ACT, Add("sum", ("act", "image")), Reorg("reorg", "sum")),
        "node 'reorg' reads signed accumulators; put a Requant before it "
        "(6-bit signed values cannot be multiplied as codes)",
    ),
    (
        chain(IMAGE, CONV, ACT, replace(OUTPUT, scale=np.ones(1))),
        "node 'output': scale has shape (1,), need (2,)",
    ),
]


@pytest.mark.parametrize(("graph", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_broken_rules_are_named(graph, message):
    with pytest.raises(IRError, match=f"^{re.escape(message)}$"):
        verify(graph)


def test_a_concat_without_sources_is_refused():
    graph = chain(IMAGE, MaxPool("pool", "image"), Concat("join", ()), Output("output", "join"))
    with pytest.raises(IRError, match=r"^concat 'join' has no sources; needs at least one$"):
        infer(graph)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sum_is_accepted_and_one_more_is_not(sign):
    """Sums are 64-bit integers: 7 + bias + half of the greatest one is 2^63 - 1."""
    edge = (1 << 63) - 1 - 7 if sign > 0 else -(1 << 63)
    verify(with_values(bias=np.array([edge, 0])))
    with pytest.raises(IRError, match="more than 64 bits"):
        verify(with_values(bias=np.array([edge, 0]), mul=np.array([sign * 2, 1])))
    if sign > 0:
        with pytest.raises(IRError, match="more than 64 bits"):
            verify(with_values(bias=np.array([edge, 0]), shift=1))


def source_of(lo: int, hi: int) -> TensorType:
    return TensorType(1, 1, 1, lo, hi, signed_bits(lo, hi), True)


@pytest.mark.parametrize(
    ("mul", "bias", "shift", "source", "fits"),
    [
        ((1 << 24) - 1, 0, 0, source_of(0, 1), True),
        (1 << 24, 0, 0, source_of(0, 1), False),
        (-(1 << 24) - 1, 0, 0, source_of(0, 1), False),
        ((1 << 24) - 1, 0, 0, source_of(-(1 << 17), (1 << 17) - 1), True),
        ((1 << 17) - 1, 0, 0, source_of(0, 1 << 17), True),
        (1 << 17, 0, 0, source_of(0, 1 << 17), False),
        (-(1 << 17) - 1, 0, 0, source_of(0, 1 << 17), False),
        (1, 0, 0, source_of(0, (1 << 26) - 1), True),
        (1, 0, 0, source_of(0, 1 << 26), False),
        (1, 0, 0, source_of(-(1 << 26) - 1, 0), False),
        (0, (1 << 44) - 1, 0, source_of(0, 1), True),
        (0, 1 << 44, 0, source_of(0, 1), False),
        (1, (1 << 44) - 1, 0, source_of(0, 1), False),
        (0, (1 << 44) - 1, 1, source_of(0, 1), False),
        (-1, -(1 << 44), 0, source_of(0, 1), False),
    ],
)
def test_dsp_rule_at_its_edges(mul, bias, shift, source, fits):
    node = Requant("r", "x", 8, shift, np.array([mul]), np.array([bias]))
    assert requant_fits_dsp(node, source) is fits


def test_a_shape_only_requantiser_is_taken_to_fit():
    assert requant_fits_dsp(ACT, source_of(-1 << 30, 1 << 30))
