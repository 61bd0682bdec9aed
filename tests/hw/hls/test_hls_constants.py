# SPDX-License-Identifier: Apache-2.0
"""Tables of the C++ hold what docs/cycles.md and docs/IR.md say."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from hw.chain import stages
from hw.hls import HlsError, emit
from hw.hls.constants import head_bias, requant_constants, weight_rom
from hw.hls.cpp import constant, lookup, table
from hw.pipeline import MacArray, OutputPort, Requantise
from tests.hw.hls.networks import tiny_design
from tests.strategies import chain_design, small_graph


@given(chain_design(small_graph()))
def test_weight_rom_word_by_word(design):
    """The order of docs/cycles.md, written as the loops that it describes."""
    macs = [p for p in emit(design).pipeline.processes if isinstance(p, MacArray)]
    for mac, stage, layer in zip(macs, stages(design.graph), design.layers, strict=True):
        bits = layer.plan.w_bits
        rom = weight_rom(stage.conv.weights, mac, bits)
        rows, simd, G, taps = mac.kernel_rows, mac.simd, mac.groups, mac.taps
        row_groups, channel_groups = mac.kernel // rows, mac.in_channels // simd
        for n, og, krg, ig, tg in np.ndindex(
            mac.pe,
            mac.out_channels // (mac.pe * G),
            row_groups,
            channel_groups,
            mac.tap_steps,
        ):
            address = ((og * row_groups + krg) * channel_groups + ig) * mac.tap_steps + tg
            for e, (kr, c, g, tap) in enumerate(np.ndindex(rows, simd, G, taps)):
                column = tg * taps + tap
                place = (krg * rows + kr, column, ig * simd + c, (og * mac.pe + n) * G + g)
                wanted = stage.conv.weights[place] if column < mac.kernel else 0
                chunk = int(rom[n, address, e // (64 // bits)]) >> (e % (64 // bits) * bits)
                assert chunk % (1 << bits) == wanted % (1 << bits)


def processes(design, kind):
    return [process for process in emit(design).pipeline.processes if isinstance(process, kind)]


@given(chain_design(small_graph()))
def test_requantisation_folds_bias_and_rounding(design):
    chain = [stage for stage in stages(design.graph) if stage.requant is not None]
    for stage, process in zip(chain, processes(design, Requantise), strict=True):
        constants = requant_constants(stage, process)
        node, conv = stage.requant, stage.conv
        for channel in range(conv.out_channels):
            lane = channel % process.lanes, channel // process.lanes
            for acc in (stage.acc.lo, 0, stage.acc.hi):
                code = (acc + conv.bias[channel]) * node.mul[channel] + node.bias[channel]
                got = acc * constants.mul[lane] + constants.bias[lane]
                assert got == code + ((1 << node.shift) >> 1)
                assert -(1 << constants.sum_bits - 1) <= got < 1 << constants.sum_bits - 1


def test_head_must_fit_32_bits():
    design = tiny_design()
    (port,) = processes(design, OutputPort)
    stage = stages(design.graph)[-1]
    conv = replace(stage.conv, bias=np.array([(1 << 31) - 1 - stage.acc.hi, 0]))
    assert head_bias(replace(stage, conv=conv), port)[0, 0] == conv.bias[0]
    conv = replace(conv, bias=conv.bias + np.array([1, 0]))
    with pytest.raises(HlsError, match="head 'conv2' can reach 33-bit results, the output port"):
        head_bias(replace(stage, conv=conv), port)


def test_requantisation_must_fit_64_bits():
    design = tiny_design()
    stage, process = stages(design.graph)[0], processes(design, Requantise)[0]
    bias = np.full(4, (1 << 63) - 1)
    large = replace(stage, requant=replace(stage.requant, bias=bias))
    with pytest.raises(HlsError, match=r"requant 'act0': (bias|sum) needs 65 bits"):
        requant_constants(large, process)


def test_tables_as_text():
    assert table("int", "t", np.array([[1, -2], [3, 4]])) == (
        "static const int t[2][2] = {\n{1, -2},\n{3, 4}};"
    )
    assert table("u", "t", np.array([255], np.uint64)) == "static const u t[1] = {0xff};"
    lowest = table("long long", "t", np.array([-(1 << 63)]))
    assert lowest == "static const long long t[1] = {-9223372036854775807 - 1};"
    long = table("int", "t", np.arange(1000))
    assert max(map(len, long.splitlines())) <= 110
    assert eval(long.split("=")[1].strip(" ;").replace("{", "[").replace("}", "]")) == [
        *range(1000)
    ]


def test_members_as_text():
    assert constant("pe", 3) == "static constexpr int pe = 3;"
    assert constant("w_signed", True) == "static constexpr bool w_signed = true;"
    assert "constexpr int values[] = {0, 11};" in lookup("w_offset", [0, 11])
