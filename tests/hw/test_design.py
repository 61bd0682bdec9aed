# SPDX-License-Identifier: Apache-2.0
"""Rules of a legal design: every one is broken once."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from hw.design import Design, DesignError, Folding, LayerDesign
from hw.design_verify import verify
from hw.device import device
from hw.ir import Conv, Graph, Input, Output, Requant, WeightFormat
from hw.packing.plan import ActLane
from tests.strategies import bare_plan, chain_design

W4 = WeightFormat(4)
GRAPH = Graph(
    "two_layers",
    (
        Input("image", 8, 12, 3, 8),
        Conv("conv0", "image", 12, 3, W4, padding=1),
        Requant("act0", "conv0", 4),
        Conv("head", "act0", 6, 1, W4),
        Output("output", "head"),
    ),
)
FIRST = LayerDesign("conv0", Folding(2, 3, 3, 2), bare_plan(3, 4, 8, groups=2, taps=2, columns=2))
HEAD = LayerDesign("head", Folding(2, 4, 1, 2), bare_plan(1, 4, 4))
DESIGN = Design(GRAPH, device("xczu3eg"), 250.0, (FIRST, HEAD))


def folded(layer: LayerDesign, **changes: int) -> LayerDesign:
    return replace(layer, folding=replace(layer.folding, **changes))


def planned(layer: LayerDesign, **changes) -> LayerDesign:
    return replace(layer, plan=replace(layer.plan, **changes))


def two_rows(layer: LayerDesign) -> LayerDesign:
    first, *others = layer.plan.words
    tall = replace(first, acts=(*first.acts, ActLane(9, 1, 0)))
    return planned(layer, words=(tall, *others))


BROKEN = {
    "pe": ((folded(FIRST, pe=4), HEAD), "layer 'conv0': pe is 4; allowed: 1, 2, 3, 6"),
    "pe 0": ((folded(FIRST, pe=0), HEAD), "layer 'conv0': pe is 0; allowed: 1, 2, 3, 6"),
    "simd": ((folded(FIRST, simd=2), HEAD), "layer 'conv0': simd is 2; allowed: 1, 3"),
    "simd behind 4 channels": (
        (FIRST, folded(HEAD, simd=6)),
        r"layer 'head': simd \(behind 4 channels per word\) is 6; allowed: 1, 2, 4, 12",
    ),
    "kernel_rows": (
        (folded(FIRST, kernel_rows=2), HEAD),
        "layer 'conv0': kernel_rows is 2; allowed: 1, 3",
    ),
    "requant_lanes": (
        (folded(FIRST, requant_lanes=3), HEAD),
        "layer 'conv0': requant_lanes is 3; allowed: 1, 2, 4",
    ),
    "head lanes": (
        (FIRST, folded(HEAD, pe=6, requant_lanes=3)),
        "layer 'head': requant_lanes is 3; allowed: 1, 2$",
    ),
    "no layer": ((FIRST,), "maps layers conv0; it must map, in this order, conv0, head"),
    "order": ((HEAD, FIRST), "maps layers head, conv0; it must map, in this order, conv0, head"),
    "dsp": ((planned(FIRST, dsp="dsp48e1"), HEAD), "plan has DSP dsp48e1, the layer needs dsp48e2"),
    "kernel": ((planned(FIRST, kernel=5), HEAD), "plan has kernel 5, the layer needs 3"),
    "w_bits": ((planned(FIRST, w_bits=5), HEAD), "plan has weight bits 5, the layer needs 4"),
    "a_bits": ((planned(FIRST, a_bits=7), HEAD), "plan has activation bits 7, the layer needs 8"),
    "columns": (
        (replace(FIRST, plan=bare_plan(3, 4, 8, columns=13)), HEAD),
        "plan packs 1 output channels, 13 columns and 1 rows per tile; 12 output channels and 12",
    ),
    "groups": (
        (replace(FIRST, plan=bare_plan(3, 4, 8, groups=5)), HEAD),
        "plan packs 5 output channels, 1 columns",
    ),
    "rows": ((two_rows(FIRST), HEAD), "2 columns and 2 rows per tile"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_rule_is_named(case):
    layers, message = BROKEN[case]
    with pytest.raises(DesignError, match=message):
        verify(replace(DESIGN, layers=layers))


def test_narrow_plan_needs_narrow_weights():
    full = replace(GRAPH["conv0"], w_format=WeightFormat(4, narrow=False))
    with pytest.raises(DesignError, match="plan has narrow weights True, the layer needs False"):
        verify(replace(DESIGN, graph=GRAPH.with_node(full)))
    verify(replace(DESIGN, layers=(planned(FIRST, narrow=False), HEAD)))  # wider than needed


DEPTHWISE = Graph(
    "depthwise",
    (
        Input("image", 6, 12, 3, 8),
        Conv("conv0", "image", 6, 1, W4),
        Requant("act0", "conv0", 4),
        Conv("conv1", "act0", 6, 3, W4, padding=1, groups=6),
        Requant("act1", "conv1", 4),
        Conv("head", "act1", 2, 1, W4),
        Output("output", "head"),
    ),
)


@pytest.mark.parametrize(
    ("folding", "groups", "message"),
    [
        (Folding(2, 1), 1, None),
        (Folding(2, 3), 1, "layer 'conv1': simd is 3; allowed: 1$"),
        (
            Folding(3, 1),
            1,
            r"layer 'conv1': pe \(behind 2 channels per word\) is 3; allowed: 1, 2, 6",
        ),
        (Folding(1, 1), 2, "its plan packs 2 output channels, .* 6 depthwise output channels"),
    ],
)
def test_a_depthwise_array_takes_one_channel_a_pe(folding, groups, message):
    layers = (
        LayerDesign("conv0", Folding(2, 3), bare_plan(1, 4, 8)),
        LayerDesign("conv1", folding, bare_plan(3, 4, 4, groups=groups)),
        LayerDesign("head", Folding(1, 2), bare_plan(1, 4, 4)),
    )
    design = Design(DEPTHWISE, device("xczu3eg"), 250.0, layers)
    if message is None:
        assert verify(design)[1].depthwise
    else:
        with pytest.raises(DesignError, match=message):
            verify(design)


def test_words_are_at_most_4096_bits_wide():
    wide = Graph(
        "wide",
        (
            Input("image", 4, 4, 3, 8),
            Conv("conv0", "image", 256, 1, W4),
            Requant("act0", "conv0", 8),
            Conv("head", "act0", 256, 1, W4),
            Output("output", "head"),
        ),
    )
    first = LayerDesign("conv0", Folding(64, 3), bare_plan(1, 4, 8, columns=4))
    head = LayerDesign("head", Folding(1, 256), bare_plan(1, 4, 8, columns=4))
    design = Design(wide, device("xczu3eg"), 250.0, (first, head))
    with pytest.raises(DesignError, match="'head': its window word is 8192 bits wide, at most 409"):
        verify(design)
    verify(replace(design, layers=(first, folded(head, simd=128))))  # exactly 4096
    with pytest.raises(DesignError, match="'conv0': its accumulator word is 14336 bits wide"):
        verify(replace(design, layers=(folded(first, pe=256), head)))


def test_ports_must_carry_a_pixel():
    with pytest.raises(DesignError, match="'image': port_bits is 48; allowed: 32, 64"):
        verify(replace(DESIGN, port_bits=48))
    deep = replace(GRAPH["image"], channels=9)
    with pytest.raises(DesignError, match="a pixel of 9 x 8 bits must fit one beat of the 64-bit"):
        verify(replace(DESIGN, graph=GRAPH.with_node(deep)))


def test_results_must_fit_the_output_port():
    """The bias alone needs a 33rd bit."""
    graph = Graph(
        "large",
        (
            Input("image", 4, 4, 3, 8),
            Conv(
                "head",
                "image",
                2,
                1,
                W4,
                weights=np.ones((1, 1, 3, 2), int),
                bias=np.full(2, 1 << 31),
            ),
            Output("output", "head"),
        ),
    )
    head = LayerDesign("head", Folding(2, 3), bare_plan(1, 4, 8))
    with pytest.raises(DesignError, match="head 'head': its results have 33 bits"):
        verify(Design(graph, device("xczu3eg"), 250.0, (head,)))


@given(chain_design())
def test_random_legal_designs_pass(design):
    assert [stage.conv.name for stage in verify(design)] == [layer.name for layer in design.layers]
