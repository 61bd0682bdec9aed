# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies shared by the tests."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from hw.chain import stages
from hw.design import Design, Folding, LayerDesign
from hw.design_verify import lane_choices, plan_fits
from hw.device import device
from hw.intmath import divisors, weight_range
from hw.ir import Conv, Graph, Input, MaxPool, Output, Requant, WeightFormat
from hw.packing.table import table

CHANNELS = (1, 2, 3, 4, 6)


@st.composite
def shape_graph(draw, max_layers: int = 3, max_size: int = 7) -> Graph:
    """Shape-only chains: up to `max_layers` convolutions on maps up to `max_size` wide and high."""
    height, width = draw(st.integers(2, max_size)), draw(st.integers(2, max_size))
    nodes = [Input("image", height, width, draw(st.sampled_from((1, 2, 3))), draw(bit_widths()))]
    layers = draw(st.integers(1, max_layers))
    for index in range(layers):
        kernel = draw(st.sampled_from((1, 3)))
        out_channels, w_format = draw(st.sampled_from(CHANNELS)), WeightFormat(draw(bit_widths()))
        conv = Conv(
            f"conv{index}", nodes[-1].name, out_channels, kernel, w_format, padding=kernel // 2
        )
        nodes.append(conv)
        if index == layers - 1:
            break
        nodes.append(Requant(f"act{index}", conv.name, draw(bit_widths())))
        if min(height, width) >= 4 and draw(st.booleans()):
            nodes.append(MaxPool(f"pool{index}", nodes[-1].name))
            height, width = height // 2, width // 2
    return Graph("random_chain", (*nodes, Output("output", nodes[-1].name)))


@st.composite
def small_graph(draw, max_layers: int = 3, max_size: int = 7) -> Graph:
    """Chains of `shape_graph` with seeded random parameters, ready to execute."""
    graph = draw(shape_graph(max_layers, max_size))
    return with_parameters(graph, draw(st.integers(0, 2**32 - 1)))


@st.composite
def chain_design(draw, graphs: st.SearchStrategy[Graph] | None = None) -> Design:
    """Legal designs: any plan, folding and FIFO depth that a chain allows."""
    graph = draw(graphs if graphs is not None else shape_graph())
    part = device(draw(st.sampled_from(("xczu3eg", "xc7z020"))))
    layers, in_parallel = [], graph.input.channels
    for stage in stages(graph):
        layers.append(draw(legal_layer(stage, part.dsp_type, in_parallel)))
        in_parallel = layers[-1].out_parallel
    return Design(graph, part, 250.0, tuple(layers))


@st.composite
def legal_layer(draw, stage, dsp_type: str, in_parallel: int, port_bits: int = 64) -> LayerDesign:
    """Any plan and folding that `stage` may have behind words of `in_parallel` channels."""
    conv, source = stage.conv, stage.source
    plans = table(dsp_type, conv.kernel, conv.w_format.narrow).plans(
        conv.w_format.bits, source.bits
    )
    mappings = [
        (plan, pe)
        for plan in plans
        for pe in divisors(conv.out_channels)
        if plan_fits(plan, conv.out_channels, source.width, pe)
    ]
    plan, pe = draw(st.sampled_from(mappings))
    simd = draw(
        st.sampled_from(
            [d for d in divisors(source.channels) if d % in_parallel == 0 or in_parallel % d == 0]
        )
    )
    kernel_rows = draw(st.sampled_from(sorted({1, conv.kernel})))
    lanes = draw(st.sampled_from(lane_choices(stage, pe * plan.groups, port_bits)))
    return LayerDesign(conv.name, Folding(pe, simd, kernel_rows, lanes), plan)


def bit_widths() -> st.SearchStrategy[int]:
    """Widths that a search chooses from."""
    return st.integers(2, 8)


def with_parameters(graph: Graph, seed: int) -> Graph:
    """Return `graph` with random weights and biases, and requantisation that uses every code."""
    rng = np.random.default_rng(seed)
    for stage in stages(graph):
        conv, requant, channels = stage.conv, stage.requant, stage.conv.out_channels
        low, high = weight_range(conv.w_format.bits, conv.w_format.narrow)
        shape = (conv.kernel, conv.kernel, stage.source.channels, channels)
        weights = rng.integers(low, high, shape, endpoint=True)
        bias = rng.integers(-50, 50, channels, endpoint=True)
        graph = graph.with_node(replace(conv, weights=weights, bias=bias))
        if requant is not None:
            largest = int(np.abs(weights).sum((0, 1, 2)).max()) * stage.source.hi + 1
            shift = max(0, 10 + largest.bit_length() - requant.bits)
            mul = rng.integers(512, 1024, channels) * rng.choice((-1, 1), channels)
            offset = rng.integers(-1, 1 << (shift + requant.bits), channels)
            graph = graph.with_node(replace(requant, shift=shift, mul=mul, bias=offset))
    return graph
