# SPDX-License-Identifier: Apache-2.0
"""Design -> Pipeline: names, words, FIFOs, and the graphs that are refused."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given

from hw.dataflow import build
from hw.design import Design, DesignError, Folding, LayerDesign
from hw.device import device
from hw.ir import (
    Add,
    Concat,
    Conv,
    Graph,
    Input,
    Linear,
    MaxPool,
    Output,
    Patches,
    Reorg,
    Requant,
    WeightFormat,
    sources,
)
from hw.pipeline import AddStreams, Concatenate, Fork
from tests.strategies import bare_plan, branched_graph, chain_design, shape_graph

W4 = WeightFormat(4)
IMAGE = Input("image", 8, 12, 3, 8)
CONV0 = Conv("conv0", "image", 8, 3, W4, padding=1)
ACT0 = Requant("act0", "conv0", 4)
POOL0 = MaxPool("pool0", "act0")
CONV1 = Conv("conv1", "pool0", 4, 1, W4)
OUTPUT = Output("output", "conv1")
GRAPH = Graph("two_layers", (IMAGE, CONV0, ACT0, POOL0, CONV1, OUTPUT))
DESIGN = Design(
    GRAPH,
    device("xczu3eg"),
    250.0,
    (
        LayerDesign("conv0", Folding(2, 3, 3, 2), bare_plan(3, 4, 8, groups=2, taps=2, columns=2)),
        LayerDesign("conv1", Folding(2, 2, 1, 2), bare_plan(1, 4, 4)),
    ),
)


def test_processes_are_named_after_the_nodes():
    names = [process.name for process in build(DESIGN).processes]
    assert names == [
        "input",
        "conv0_window",
        "conv0_mac",
        "act0",
        "pool0",
        "conv1_window",
        "conv1_mac",
        "output",
    ]


def test_streams_carry_the_words_of_the_text():
    """Widths and tokens worked out by hand from docs/cycles.md."""
    rows = [(s.name, s.width_bits, s.tokens, s.depth) for s in build(DESIGN).streams]
    assert rows == [
        ("image_in", 64, 8 * 12 * 24 // 64, 2),
        ("input_to_conv0_window", 3 * 8, 8 * 12, 12),
        ("conv0_window_to_conv0_mac", 3 * 2 * 3 * 8, 8 * 2 * 7 * 2, 2),
        ("conv0_mac_to_act0", 2 * 4 * 17, 8 * 2 * 7, 2),
        ("act0_to_pool0", 4 * 4, 8 * 2 * 12, 2),
        ("pool0_to_conv1_window", 4 * 4, 4 * 2 * 6, 6 * 8 // 4),
        ("conv1_window_to_conv1_mac", 2 * 4, 4 * 2 * 6 * 4, 2),
        ("conv1_mac_to_output", 2 * 11, 4 * 2 * 6, 2),
        ("result_out", 64, 4 * 6 * 4 // 2, 2),
    ]


def test_accumulators_are_as_wide_as_sums_without_bias():
    """A bias of the opposite sign narrows the result, not the sums inside the array."""
    weights = np.full((1, 1, 8, 4), -7)
    biased = replace(CONV1, weights=weights, bias=np.full(4, 400))
    plain = build(replace(DESIGN, graph=GRAPH.with_node(replace(CONV1, weights=weights))))
    shifted = build(replace(DESIGN, graph=GRAPH.with_node(biased)))
    assert plain == shifted
    assert plain.processes[-1].acc_bits == 11  # -840 = 8 x 15 x -7


@given(chain_design(branched_graph()))
def test_branches_part_and_meet(design):
    pipeline = build(design)
    order = {process.name: index for index, process in enumerate(pipeline.processes)}
    for process in pipeline.processes:
        inputs, outputs = pipeline.inputs(process.name), pipeline.outputs(process.name)
        assert len(inputs) == 1 + isinstance(process, Concatenate | AddStreams)
        assert len(outputs) == 1 + isinstance(process, Fork)
        for stream in inputs:
            assert not stream.producer or order[stream.producer] < order[process.name]
    assert len({stream.name for stream in pipeline.streams}) == len(pipeline.streams)
    for node in design.graph.of_type(Concat, Reorg, Add):
        assert node.name in order or len(sources(node)) == 1


@given(chain_design(shape_graph()))
def test_pipeline_is_one_chain_from_port_to_port(design):
    pipeline = build(design)
    names = [process.name for process in pipeline.processes]
    ends = [(stream.producer, stream.consumer) for stream in pipeline.streams]
    assert ends == list(pairwise(["", *names, ""]))
    assert all(re.fullmatch(r"[A-Za-z]\w*", s.name, re.ASCII) for s in pipeline.streams)
    assert len({s.name for s in pipeline.streams}) == len(pipeline.streams)
    assert [s.name for s in pipeline.streams][:: len(names)] == ["image_in", "result_out"]


def test_fifo_depths_can_be_given():
    pipeline = build(replace(DESIGN, fifo_depths=(("act0_to_pool0", 9),)))
    depths = {stream.name: stream.depth for stream in pipeline.streams}
    assert depths["act0_to_pool0"] == 9
    assert depths["conv0_mac_to_act0"] == 2


@pytest.mark.parametrize(
    ("depths", "message"),
    [
        (("act0_to_pool1", 9), "fifo_depths names 'act0_to_pool1'; the FIFOs are: input_to_conv0"),
        (("image_in", 9), "fifo_depths names 'image_in'; the FIFOs are: input_to_conv0"),
        (("act0_to_pool0", 1), "gives 'act0_to_pool0' 1 words; a registered FIFO needs at least 2"),
    ],
)
def test_wrong_fifo_depths_are_refused(depths, message):
    with pytest.raises(DesignError, match=message):
        build(replace(DESIGN, fifo_depths=(depths,)))


def chain(*nodes) -> Graph:
    return Graph("refused", (*nodes, Output("output", nodes[-1].name)))


CONV_ACT = (IMAGE, CONV0, ACT0)
WIDE = (replace(IMAGE, channels=8), CONV0, ACT0)
BEHIND_SUM = (Requant("act1", "sum", 4), Conv("head", "act1", 4, 1, W4))
REFUSED = {
    "stride": (
        chain(IMAGE, replace(CONV0, stride=2)),
        r"convolution 'conv0' has stride 2; the packed array supports 1 \(stride 1, dense or",
    ),
    "groups": (
        chain(replace(IMAGE, channels=4), replace(CONV0, groups=2)),
        "convolution 'conv0' has groups 2; the packed array supports 1",
    ),
    "even kernel": (
        chain(IMAGE, replace(CONV0, kernel=2)),
        "convolution 'conv0' has kernel 2; the packed array supports 3",
    ),
    "padding": (
        chain(IMAGE, replace(CONV0, padding=0)),
        "convolution 'conv0' has padding 0; the packed array supports 1",
    ),
    "pool": (
        chain(*CONV_ACT, replace(POOL0, size=4), CONV1),
        "pool 'pool0' takes 4x4 blocks of a 8x12 map; supported are 2x2",
    ),
    "linear": (
        chain(*CONV_ACT, Linear("dense", "act0", 4, W4)),
        "node 'dense' is a Linear; the accelerator maps convolutions",
    ),
    "no head": (
        chain(*CONV_ACT),
        r"node 'output' \(Output\) reads 'act0' \(Requant\); the accelerator maps convolutions",
    ),
    "pooled image": (
        chain(IMAGE, MaxPool("pool", "image"), replace(CONV0, source="pool")),
        r"node 'pool' \(MaxPool\) reads 'image' \(Input\); the accelerator maps convolutions",
    ),
    "twice": (
        chain(*CONV_ACT, Concat("join", ("act0", "act0")), Conv("head", "join", 8, 1, W4)),
        "concat 'join' reads a node twice: act0, act0",
    ),
    "added twice": (
        chain(*CONV_ACT, Add("sum", ("act0", "act0")), *BEHIND_SUM),
        "add 'sum' reads a node twice: act0, act0",
    ),
    "added image": (
        chain(*WIDE, Add("sum", ("image", "act0")), *BEHIND_SUM),
        r"node 'sum' \(Add\) reads 'image' \(Input\); the accelerator maps convolutions",
    ),
    "added patches": (
        chain(
            *WIDE,
            Patches("part", "image", 1, 1, 0),
            Add("sum", ("part", "act0")),
            *BEHIND_SUM,
        ),
        "add 'sum' adds pixels of the image; only codes of convolutions are added",
    ),
    "name": (
        chain(replace(IMAGE, name="bild\u00e9"), replace(CONV0, source="bild\u00e9")),
        "node name 'bild\u00e9' must be a C identifier",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_graphs_are_refused(case):
    graph, message = REFUSED[case]
    with pytest.raises(DesignError, match=message):
        build(replace(DESIGN, graph=graph))


def test_two_processes_of_one_name_are_refused():
    graph = chain(
        IMAGE,
        CONV0,
        Requant("output", "conv0", 4),
        Conv("conv1", "output", 4, 1, W4),
    )
    graph = replace(graph, nodes=(*graph.nodes[:-1], Output("end", "conv1")))
    layers = (DESIGN.layers[0], replace(DESIGN.layers[1], folding=Folding(2, 4, 1, 2)))
    with pytest.raises(DesignError, match="2 processes are called 'output'; rename the graph's"):
        build(replace(DESIGN, graph=graph, layers=layers))
