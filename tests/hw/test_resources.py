# SPDX-License-Identifier: Apache-2.0
"""Resources by rule, and the cost table that must equal the report."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.cycles import process_cycles
from hw.dataflow import build
from hw.design import Design, DesignError, Folding, LayerDesign
from hw.design_verify import plan_fits
from hw.device import device, dsp
from hw.ir import Conv, Graph, Input, Linear, Output, Requant, WeightFormat
from hw.ir_verify import infer, requant_fits_dsp
from hw.packing.table import table
from hw.pipeline import (
    AddStreams,
    Concatenate,
    Fork,
    MacArray,
    PatchBuffer,
    Process,
    SpaceToDepth,
    Window,
)
from hw.resources import (
    RESOURCES,
    SEARCHED_BITS,
    best_plan,
    cost_table,
    dsp_cycles,
    estimate,
    layer_cost,
    legal_plans,
    work,
)
from hw.stages import stages
from hw.usage import (
    Usage,
    array_prices,
    bram18,
    fifo_usage,
    memory_usage,
    multiplexer,
    multipliers,
    pass_usage,
    process_usage,
)
from tests.packing_samples import filter_plan, gapped_plan
from tests.strategies import (
    bare_plan,
    bit_widths,
    chain_design,
    shape_graph,
    small_graph,
    ultranet_shape,
)

ZU3 = device("xczu3eg")
W4 = WeightFormat(4)
GRAPH = Graph(
    "two_layers",
    (
        Input("image", 8, 80, 3, 8),
        Conv("conv0", "image", 12, 3, W4, padding=1),
        Requant("act0", "conv0", 4),
        Conv("head", "act0", 6, 1, W4),
        Output("output", "head"),
    ),
)
FIRST = LayerDesign("conv0", Folding(2, 3, 3, 2), bare_plan(3, 4, 8, groups=2, taps=3, columns=2))
HEAD = LayerDesign("head", Folding(2, 4, 1, 2), bare_plan(1, 4, 4))
DESIGN = Design(GRAPH, ZU3, 250.0, (FIRST, HEAD))


@pytest.mark.parametrize(
    ("width_bits", "depth", "blocks"),
    [(36, 512, 1), (37, 512, 2), (36, 513, 2), (18, 1024, 1), (1, 16384, 1), (72, 1024, 4)],
)
def test_bram18_takes_the_best_aspect_ratio(width_bits, depth, blocks):
    assert bram18(width_bits, depth) == blocks


def test_small_memories_stay_in_luts():
    assert memory_usage(40, 64) == Usage(lut=40)
    assert memory_usage(8, 128) == Usage(lut=16)
    assert memory_usage(40, 65) == Usage(bram18=2)


def test_fifos_leave_shift_registers_when_deep():
    shallow, deep = fifo_usage(24, 64), fifo_usage(24, 320)
    assert shallow.bram18 == 0
    assert shallow.lut >= 2 * 24
    assert deep.bram18 == 1
    assert deep.lut < shallow.lut + 24


def test_multiplexer_counts_lut6():
    assert [multiplexer(n) for n in (1, 2, 4, 5, 16)] == [0, 1, 1, 2, 5]


def test_dsps_by_hand():
    """conv0: 2 x 3 x 3 words and 2 requantiser lanes; head: 2 x 4 words, no requantiser."""
    report = estimate(DESIGN)
    assert [(layer.name, layer.usage.dsp) for layer in report.layers] == [
        ("input", 0),
        ("conv0", 18 + 2),
        ("head", 8),
    ]
    assert report.total.dsp == 28


def test_block_rams_by_hand():
    """Window: 4 banks x 2 columns of 24 bits x 40; ROMs 216 bits x 3; the FIFO 24 bits x 80."""
    (stage, _), pipeline = stages(GRAPH), build(DESIGN)
    window, mac = pipeline.processes[1:3]
    assert process_usage(window, stage, FIRST, dsp(ZU3.dsp_type)).bram18 == 0  # 40 words: LUTs
    assert process_usage(mac, stage, FIRST, dsp(ZU3.dsp_type)).bram18 == 0
    wide = replace(window, width=320)  # 24 bits x 160 words in each of the 8 memories
    assert process_usage(wide, stage, FIRST, dsp(ZU3.dsp_type)).bram18 == 8
    deep = replace(mac, out_channels=12 * 64)  # 216 bits x 192 words in each of the 2 ROMs
    assert process_usage(deep, stage, FIRST, dsp(ZU3.dsp_type)).bram18 == 2 * 6
    assert estimate(DESIGN).layers[1].usage.bram18 == 1  # what is left is the FIFO


def test_depthwise_pes_have_operands_of_their_own():
    """conv0 of two PEs of nine lanes, and the same numbers depthwise: operands twice, not once."""
    (stage, _), mac = stages(GRAPH), build(DESIGN).processes[2]
    layer = replace(FIRST, plan=gapped_plan())
    _, shared_luts, _, _ = array_prices(layer.plan, lanes=9)
    assert shared_luts == 18  # columns 0, 1, 3 or 2, 4, 5: one of two for every bit of the port
    dense, own = (
        process_usage(replace(mac, depthwise=depthwise), stage, layer, dsp(ZU3.dsp_type))
        for depthwise in (0, 1)
    )
    assert own.lut - dense.lut == 9 * shared_luts
    assert own.ff - dense.ff == 9 * mac.columns * 2


@pytest.mark.parametrize(
    ("w_port", "dsp_name", "luts"),
    [(27, "dsp48e2", 18), (18, "dsp48e2", 0), (19, "intel-18x19", 18), (18, "intel-18x19", 19)],
)
def test_centring_is_an_adder_where_the_port_has_none(w_port, dsp_name, luts):
    """Activations on the wide port of a DSP48E2 go through its pre-adder."""
    plain = filter_plan(columns=1, w_port=w_port, dsp_name=dsp_name)
    centred = filter_plan(columns=1, w_port=w_port, dsp_name=dsp_name, zero="centred")
    assert array_prices(plain, 4)[1] == 0
    assert array_prices(centred, 4)[1] == luts


@given(chain_design(small_graph()))
def test_estimate_sums_layers_and_bands(design):
    report = estimate(design)
    total = report.total
    for field in ("dsp", "lut", "ff", "bram18"):
        assert sum(getattr(layer.usage, field) for layer in report.layers) == getattr(total, field)
    assert total.lut_low == round(0.4 * total.lut)
    assert total.lut_high == round(1.6 * total.lut)
    assert total.ff_low < total.ff < total.ff_high
    for layer, usage in zip(design.layers, report.layers[1:], strict=True):
        folding = layer.folding
        multipliers_used = folding.pe * folding.simd * folding.kernel_rows
        stage = next(stage for stage in stages(design.graph) if stage.conv.name == layer.name)
        requants = [(node, stage.acc) for node in stage.requants] + list(stage.sums)
        lane = sum(multipliers(*pair, dsp(design.device.dsp_type)) for pair in requants)
        assert usage.usage.dsp == multipliers_used + folding.requant_lanes * lane


@settings(max_examples=60)
@given(small_graph())
def test_a_requantiser_that_keeps_the_rule_takes_one_dsp(graph):
    types = infer(graph)
    for stage in stages(graph):
        for node in stage.requants:
            if requant_fits_dsp(node, types[stage.conv.name]):
                assert multipliers(node, stage.acc, dsp("dsp48e2")) == 1


@pytest.mark.parametrize(
    ("mul", "dsps"), [((1 << 26) - 1, 1), (1 << 26, 2), (-(1 << 26), 1), (1 << 40, 2)]
)
def test_wide_multipliers_take_more_dsps(mul, dsps):
    requant = Requant("act0", "conv0", 4, 0, np.full(12, mul), np.zeros(12, int))
    graph = GRAPH.with_node(requant)
    assert multipliers(requant, stages(graph)[0].acc, dsp("dsp48e2")) == dsps
    assert estimate(replace(DESIGN, graph=graph)).layers[1].usage.dsp == 18 + 2 * dsps


@settings(max_examples=60)
@given(chain_design())
def test_array_spends_the_dsp_cycles_of_the_cost_model(design):
    """Folding moves work between cycles and DSPs but never changes their product."""
    arrays = [process for process in build(design).processes if isinstance(process, MacArray)]
    for stage, layer, array in zip(stages(design.graph), design.layers, arrays, strict=True):
        folding = layer.folding
        dsps = folding.pe * folding.simd * folding.kernel_rows
        assert process_cycles(array) * dsps == dsp_cycles(stage.conv, stage.source, layer.plan)


@given(shape_graph(), st.sampled_from(("xczu3eg", "xc7z020")))
def test_table_at_own_bits_equals_work(graph, part):
    costs = cost_table(graph, device(part))
    total = np.zeros(len(RESOURCES))
    for row, stage in enumerate(stages(graph)):
        assert costs.layers[row] == stage.conv.name
        w, a = stage.conv.w_format.bits, stage.source.bits
        cell = costs.values[row, costs.w_bits.index(w), costs.a_bits.index(a)]
        assert tuple(cell) == layer_cost(graph, device(part), stage.conv.name, w, a)
        total += cell
    assert dict(zip(costs.resources, total, strict=True)) == work(graph, device(part))
    assert costs.values.shape == (len(stages(graph)), 7, 7, 3)
    assert not costs.values.flags.writeable


@given(shape_graph(max_layers=1), bit_widths(), bit_widths())
def test_best_plan_has_the_fewest_dsp_cycles(graph, w_bits, a_bits):
    (stage,) = stages(graph)
    conv, source = stage.conv, stage.source
    best = best_plan(conv, source, ZU3, w_bits, a_bits)
    for plan in table("dsp48e2", conv.kernel).plans(w_bits, a_bits):
        if plan_fits(plan, conv, source):
            assert dsp_cycles(conv, source, best) <= dsp_cycles(conv, source, plan)


def test_row_ends_decide_the_plan():
    """A word of many columns is best on long rows only: 5 columns hold 22 in 5 steps, not 4.4."""
    short, long = Input("image", 10, 20, 64, 4), Input("image", 10, 2000, 64, 4)
    conv = Conv("conv", "image", 64, 3, W4, padding=1)
    rates = []
    for image in (short, long):
        graph = Graph("g", (image, conv, Output("output", "conv")))
        source = infer(graph)["image"]
        rates.append(
            source.width
            * source.height
            * 64
            * 64
            * 9
            / dsp_cycles(conv, source, best_plan(conv, source, ZU3, 4, 4))
        )
    assert rates[0] < rates[1]
    assert rates[1] == pytest.approx(
        float(table("dsp48e2", 3).best(4, 4, 64).macs_per_dsp), rel=0.01
    )


def test_ultranet_work():
    costs = work(ultranet_shape(), ZU3)
    first_macs = 160 * 320 * 27 * 16
    deep_macs = 9 * (20 * 40 + 4 * 10 * 20) * 64 * 64
    other_macs = 9 * (80 * 160 * 16 * 32 + 40 * 80 * 32 * 64) + deep_macs + 10 * 20 * 64 * 36
    assert costs["bitops"] == first_macs * 4 * 8 + other_macs * 4 * 4
    weights = 9 * (3 * 16 + 16 * 32 + 32 * 64 + 5 * 64 * 64) + 64 * 36
    rows = 160 * 16 + 80 * 32 + 40 * 64 + 4 * 20 * 64
    assert costs["bram"] == weights * 4 + 4 * (320 * 3 * 8 + rows * 4) + 2 * 20 * 64 * 4
    bound = table("dsp48e2", 3).best(4, 4).macs_per_dsp  # no layer is narrower
    assert 2 < (first_macs + other_macs) / costs["dsp"] < bound


def test_more_bits_never_cost_less_bitops_or_bram():
    values = cost_table(ultranet_shape(40, 80), ZU3).values
    for resource in (1, 2):
        assert (np.diff(values[..., resource], axis=1) > 0).all()
        assert (np.diff(values[..., resource], axis=2) > 0).all()
    assert SEARCHED_BITS == (2, 3, 4, 5, 6, 7, 8)


def test_unsupported_layers_are_named():
    linear = Graph("g", (GRAPH.input, Linear("dense", "image", 4, W4), Output("output", "dense")))
    with pytest.raises(
        DesignError,
        match="the accelerator flattens square ones",
    ):
        cost_table(linear, ZU3)
    wide = replace(GRAPH.input, channels=6)
    grouped = Graph(
        "g", (wide, Conv("gw", "image", 6, 3, W4, padding=1, groups=3), Output("output", "gw"))
    )
    with pytest.raises(DesignError, match="convolution 'gw' has groups 3; the packed array"):
        work(grouped, ZU3)


def test_no_plan_for_that_many_arrays():
    (stage, _) = stages(GRAPH)
    with pytest.raises(DesignError, match="layer 'conv0': no packing plan of 4 x 8 bits runs on p"):
        legal_plans(stage.conv, stage.source, ZU3, 4, 8, pe=5)


def test_window_memories_follow_the_template():
    """in_parallel 4 and simd 2: two lanes of 2-channel atoms; 3 columns; K + 1 = 4 banks."""
    window = Window("w", 8, 90, 8, 4, 3, 1, 4, 2, 1, 3, groups_out=2, column_steps=31, word_steps=1)
    (stage, _) = stages(GRAPH)
    small = process_usage(window, stage, FIRST, dsp("dsp48e2"))  # 24 memories of 8 bits x 60
    large = process_usage(replace(window, channels=24), stage, FIRST, dsp("dsp48e2"))  # x 180
    assert small.bram18 == 0
    assert large.bram18 == 24


# Height, width, channels, channels per word, bits of a code.
MAP = (8, 16, 8, 4, 5)
WIDE_MAP = (8, 64, 8, 4, 5)


@pytest.mark.parametrize(
    ("process", "usage"),
    [
        # 20 bits of registers; of sums, three columns of as many
        (Fork("f", *MAP), Usage(lut=120, ff=100 + 20)),
        (Fork("f", *MAP, columns=3), Usage(lut=120, ff=100 + 60)),
        # one word of either stream is chosen and kept
        (Concatenate("c", 8, 16, 8, 24, 4, 5), Usage(lut=120 + 20, ff=100 + 20)),
        # four adders of 8 bits and their registers
        (AddStreams("a", 8, 16, 8, 4, 7, 5, 8), Usage(lut=120 + 32, ff=100 + 32)),
        # two memories of 2 rows: 64 words of 20 bits are in LUTs, 256 words in a block RAM each
        (SpaceToDepth("s", *MAP, block=2), Usage(lut=120 + 20 + 2 * 20, ff=100)),
        (SpaceToDepth("s", *WIDE_MAP, block=2), Usage(lut=120 + 20, ff=100, bram18=2)),
        # 4 rows of 128 words: 512 words of 20 bits
        (SpaceToDepth("s", *WIDE_MAP, block=4), Usage(lut=120 + 20, ff=100, bram18=2)),
        (SpaceToDepth("s", *WIDE_MAP, block=8), Usage(lut=120 + 20, ff=100, bram18=4)),
        # a ring of 2 (0 + 2) + 1 = 5 rows of 32 words; of 2 (1 + 2) + 3 = 9 rows of 128 words
        (PatchBuffer("p", *MAP, 3, 2, 1), Usage(lut=2 * 120 + 40, ff=100, bram18=1)),
        (PatchBuffer("p", *WIDE_MAP, 7, 2, 3), Usage(lut=2 * 120 + 40, ff=100, bram18=3)),
        # 3 (0 + 2) + 0 rows of 9 words
        (PatchBuffer("p", 9, 9, 4, 4, 5, 1, 3, 0), Usage(lut=2 * 120 + 40 + 20, ff=100)),
    ],
)
def test_processes_that_pass_codes_on_by_hand(process, usage):
    assert pass_usage(process) == usage


@st.composite
def passing_process(draw) -> Process:
    """A process that forks, joins, adds or reorders codes."""
    bits, parallel, groups = draw(bit_widths()), draw(st.integers(1, 8)), draw(st.integers(1, 8))
    step = draw(st.integers(2, 4))
    sides = step * draw(st.integers(1, 6)), step * draw(st.integers(1, 40))
    shape = (*sides, parallel * groups, parallel, bits)
    kernel = draw(st.sampled_from((1, 3, 5, 7)))
    made = (
        Fork("p", *shape, columns=draw(st.integers(0, 4))),
        SpaceToDepth("p", *shape, step),
        PatchBuffer("p", *shape, kernel, step, kernel // 2),
        Concatenate("p", *sides, parallel * groups, parallel, parallel, bits),
        AddStreams("p", *shape, bits, bits + 1),
    )
    return draw(st.sampled_from(made))


@given(passing_process(), st.sampled_from(("height", "width", "channels", "parallel", "bits")))
def test_larger_buffers_never_take_less(process, what):
    """A memory that leaves the LUTs takes block RAM: then LUTs fall, by less than it held."""
    if what == "parallel":  # wider words, as many of them
        names = ("parallel", "channels", "first_channels", "second_channels")
    elif what == "channels":
        names = ("channels", "first_channels")
    elif what == "bits":
        names = ("bits", "acc_bits")
    else:
        names = (what,)
    doubled = {name: 2 * getattr(process, name) for name in names if hasattr(process, name)}
    small, large = pass_usage(process), pass_usage(replace(process, **doubled))
    assert large.bram18 >= small.bram18
    assert large.ff >= small.ff
    assert large.lut >= small.lut or large.bram18 > small.bram18 == 0


@given(passing_process())
def test_buffers_hold_their_words(process):
    """As many bits of LUT memory or block RAM as the rows that must be there at once have."""
    if isinstance(process, Fork | Concatenate | AddStreams):
        return
    rows = 2 * process.block if isinstance(process, SpaceToDepth) else process.kernel
    held_bits = rows * process.width * process.channels * process.bits
    usage = pass_usage(process)
    assert 64 * usage.lut + 18 * 1024 * usage.bram18 >= held_bits
    assert usage.dsp == 0
