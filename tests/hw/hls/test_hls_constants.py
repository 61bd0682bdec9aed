# SPDX-License-Identifier: Apache-2.0
"""Tables of the C++ hold what docs/cycles.md and docs/IR.md say."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from hw.hls import HlsError, emit
from hw.hls.constants import head_bias, requant_constants, start_rom, weight_rom
from hw.hls.cpp import constant, lookup, table
from hw.intmath import ceil_div
from hw.mac_words import bias_bits, slice_bits, weight_lanes
from hw.packing.plan import PackPlan
from hw.pipeline import MacArray, OutputPort, Requantise
from hw.stages import stages
from tests.hw.hls.networks import tiny_design
from tests.strategies import chain_design, small_graph


def element(chunks: np.ndarray, index: int, bits: int, signed: bool) -> int:
    """Return element `index` of a list cut into 64-bit chunks."""
    per_chunk = 64 // bits
    value = int(chunks[index // per_chunk]) >> (index % per_chunk * bits) & (1 << bits) - 1
    return value - (value >> (bits - 1) << bits) if signed else value


def rom_words(mac: MacArray):
    """Yield (PE, out group, word step, row group, channel group, address) as the text has it."""
    row_groups, channel_groups = mac.kernel // mac.kernel_rows, mac.in_channels // mac.simd
    groups_out = mac.out_channels // (mac.pe * mac.groups)
    for n, og, ws, krg, ig in np.ndindex(
        mac.pe, groups_out, mac.word_steps, row_groups, channel_groups
    ):
        address = ((og * mac.word_steps + ws) * row_groups + krg) * channel_groups + ig
        yield n, og, ws, krg, ig, address


def arrays(design):
    macs = [p for p in emit(design).pipeline.processes if isinstance(p, MacArray)]
    return zip(macs, stages(design.graph), design.layers, strict=True)


def stored_slices(mac: MacArray, plan: PackPlan, rom: np.ndarray):
    """Return {(kernel row, kernel column, channel in, channel out): {part: slice}} of a ROM.

    The order of docs/cycles.md, written as the loops that it describes. A slice that is stored for
    several words must be the same.
    """
    rows, simd, widest = mac.kernel_rows, mac.simd, weight_lanes(plan)
    found: dict[tuple[int, ...], dict[int, int]] = {}
    for n, og, ws, krg, ig, address in rom_words(mac):
        word = plan.words[ws]
        signed = plan.parts[word.part].w_lo < 0
        for e, (kr, c, i) in enumerate(np.ndindex(rows, simd, widest)):
            value = element(rom[n, address], e, slice_bits(plan), signed)
            if i >= len(word.weights):
                assert value == 0
                continue
            lane = word.weights[i]
            channel = (og * mac.pe + n) * mac.groups + lane.group
            place = (krg * rows + kr, lane.tap, ig * simd + c, channel)
            assert found.setdefault(place, {}).setdefault(word.part, value) == value
    return found


@given(chain_design(small_graph()))
def test_stored_slices_add_up_to_the_weights(design):
    for mac, stage, layer in arrays(design):
        parts = layer.plan.parts
        rom = weight_rom(stage.conv.weights, mac, layer.plan)
        found = stored_slices(mac, layer.plan, rom)
        assert len(found) == stage.conv.weights.size
        for place, slices in found.items():
            assert slices.keys() == set(range(len(parts)))
            assert all(parts[p].w_lo <= value <= parts[p].w_hi for p, value in slices.items())
            by_place = {parts[p].w_low: value for p, value in slices.items()}
            assert sum(v << low for low, v in by_place.items()) == stage.conv.weights[place]


@given(chain_design(small_graph()))
def test_biases_follow_the_weights_of_their_link(design):
    """C of equation (P), summed over the lanes of a link, from the slices in the same ROM word."""
    for mac, stage, layer in arrays(design):
        plan, lanes = layer.plan, mac.simd * mac.kernel_rows
        rom, bits, widest = (
            weight_rom(stage.conv.weights, mac, plan),
            slice_bits(plan),
            weight_lanes(plan),
        )
        first = ceil_div(lanes * widest, 64 // bits)
        if not plan.biased:
            assert rom.shape[-1] == first
            continue
        for n, _, ws, _, _, address in rom_words(mac):
            word = plan.words[ws]
            part = plan.parts[word.part]
            ones = sum(1 << lane.offset for lane in word.acts)
            for link, start in enumerate(range(0, lanes, mac.link)):
                wanted = 0
                for lane in range(start, min(start + mac.link, lanes)):
                    for i, weight in enumerate(word.weights):
                        w = element(rom[n, address], lane * widest + i, bits, part.w_lo < 0)
                        c = word.a_sub * w - part.zero_point(plan.zero, w) * ones
                        wanted += c << weight.offset
                got = element(rom[n, address, first:], link, bias_bits(plan, lanes), True)
                assert got == wanted


@given(chain_design(small_graph()))
def test_partial_sums_start_from_what_the_fields_lack(design):
    """The least product of every stored slice, at its place, summed by output channel."""
    for mac, stage, layer in arrays(design):
        plan, weights, parallel = layer.plan, stage.conv.weights, mac.pe * mac.groups
        lacking = [0] * mac.out_channels
        stored = stored_slices(mac, plan, weight_rom(weights, mac, plan))
        for (_, _, _, channel), slices in stored.items():
            for index, value in slices.items():
                part = plan.parts[index]
                lacking[channel] += part.zero_point(plan.zero, value) << part.w_low + part.a_low
        start = start_rom(weights, mac, plan)
        assert start.shape == (parallel, mac.out_channels // parallel)
        assert start.T.ravel().tolist() == lacking


def processes(design, kind):
    return [process for process in emit(design).pipeline.processes if isinstance(process, kind)]


@given(chain_design(small_graph()))
def test_requantisation_folds_bias_and_rounding(design):
    chain = [stage for stage in stages(design.graph) if stage.requants]
    for stage, process in zip(chain, processes(design, Requantise), strict=True):
        constants = requant_constants(stage, process)
        node, conv = stage.requants[0], stage.conv
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
    large = replace(stage, requants=(replace(stage.requants[0], bias=bias),))
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
    assert constant("bias", -(1 << 31)) == "static constexpr long long bias = -2147483648LL;"
    assert constant("w_signed", True) == "static constexpr bool w_signed = true;"
    assert "constexpr int values[] = {0, 11};" in lookup("w_offset", [0, 11])
