# SPDX-License-Identifier: Apache-2.0
"""The optimiser against brute force, within budgets, and its refusals."""

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.cycles import analyse, process_cycles
from hw.dataflow import build, follower_processes, input_processes, layer_processes
from hw.design import DesignError, Folding, LayerDesign
from hw.design_verify import (
    MAX_WORD_BITS,
    are_multiples,
    lane_choices,
    plan_fits,
    verify,
    window_channels,
    word_bits,
)
from hw.device import device, dsp
from hw.dse import Budget, check, manual, optimise
from hw.intmath import divisors
from hw.ir import Concat, Conv, Graph, Input, Output, Requant, WeightFormat
from hw.ir_verify import infer
from hw.lower import lower
from hw.packing.table import table
from hw.resources import dsp_cycles, estimate
from hw.stages import Stage, stages
from hw.usage import multipliers
from tests.strategies import branched_graph, shape_graph, ultranet_shape

ZU3 = device("xczu3eg")
ROOMY = replace(ZU3, lut=10**7, bram18=10**5)


def every_layer(stage: Stage) -> list[LayerDesign]:
    conv, source = stage.conv, stage.source
    plans = table(ZU3.dsp_type, conv.kernel).plans(conv.w_format.bits, source.bits)
    return [
        LayerDesign(conv.name, Folding(pe, simd, rows, lanes), plan)
        for plan in plans
        for pe in divisors(conv.out_channels)
        if plan_fits(plan, conv, source, pe)
        for simd in divisors(stage.fan_in)
        for rows in sorted({1, conv.kernel})
        for lanes in lane_choices(stage, pe * plan.groups, 64)
    ]


def layer_dsps(stage: Stage, layer: LayerDesign) -> int:
    folding = layer.folding
    requants = [(node, stage.acc) for node in stage.requants] + list(stage.sums)
    lane = sum(multipliers(*pair, dsp(ZU3.dsp_type)) for pair in requants)
    return folding.pe * folding.simd * folding.kernel_rows + folding.requant_lanes * lane


def brute_force_interval(graph: Graph, dsps: int) -> int | None:
    """Try every mapping of every layer with all mappings of all others; None if none fits."""
    graph = lower(graph)
    chain, types = stages(graph), infer(graph)

    @cache
    def mappings(index: int, in_parallel: int) -> list[tuple[int, int, int]]:
        """Return (out_parallel, DSPs, cycles) of a layer, no two of them with one better in all."""
        stage, found = chain[index], {}
        for layer in every_layer(stage):
            if not are_multiples(window_channels(stage, layer.folding), in_parallel):
                continue
            own = layer_processes(stage, layer, in_parallel, 64)
            rest = follower_processes(graph, stage, types, layer)
            key = layer.out_parallel, layer_dsps(stage, layer)
            cycles = max(map(process_cycles, (*own, *rest)))
            found[key] = min(cycles, found.get(key, cycles))
        return [(*key, cycles) for key, cycles in found.items()]

    def least(index: int, parallel: dict[str, int], left: int) -> int | None:
        if index == len(chain):
            return max(map(process_cycles, input_processes(graph, types, 64)))
        stage = chain[index]
        in_parallel, *others = {parallel[name] for name in stage.feeders}
        intervals = []
        for out_parallel, cost, cycles in () if others else mappings(index, in_parallel):
            if cost <= left:
                after = parallel | {stage.conv.name: out_parallel}
                rest = least(index + 1, after, left - cost)
                intervals += [] if rest is None else [max(cycles, rest)]
        return min(intervals, default=None)

    return least(0, {graph.input.name: graph.input.channels}, dsps)


def check_optimum(graph: Graph, dsps: int) -> None:
    part = replace(ROOMY, dsp=dsps)
    expected = brute_force_interval(graph, dsps)
    if expected is None:
        with pytest.raises(DesignError, match=r"dsp is the limit|no legal mapping"):
            optimise(graph, part)
    else:
        design = optimise(graph, part)
        assert analyse(build(design), 250.0).interval_cycles == expected
        assert estimate(design).total.dsp <= dsps


@st.composite
def two_layer_graph(draw) -> Graph:
    width, channels = draw(st.integers(3, 12)), draw(st.sampled_from((2, 4, 6)))
    w_bits, a_bits, out = (
        draw(st.integers(2, 5)),
        draw(st.integers(2, 5)),
        draw(st.sampled_from((1, 2, 4))),
    )
    return Graph(
        "two_layers",
        (
            Input("image", 6, width, draw(st.sampled_from((1, 3))), 8),
            Conv("conv0", "image", channels, 3, WeightFormat(w_bits), padding=1),
            Requant("act0", "conv0", a_bits),
            Conv("head", "act0", out, 1, WeightFormat(w_bits)),
            Output("output", "head"),
        ),
    )


@settings(max_examples=12)
@given(two_layer_graph(), st.integers(2, 40))
def test_optimum_equals_brute_force(graph, dsps):
    check_optimum(graph, dsps)


@settings(max_examples=12)
@given(branched_graph(), st.integers(3, 60))
def test_optimum_of_branches_equals_brute_force(graph, dsps):
    """Forks of codes and of sums, space to depth, pools, patches and concatenations."""
    check_optimum(graph, dsps)


@pytest.mark.parametrize("dsps", [8, 20, 50])
def test_optimum_of_a_strided_image_equals_brute_force(dsps):
    """Patches of the image, read by a 1x1 array, take the most cycles from some budget on."""
    graph = Graph(
        "strided",
        (
            Input("image", 8, 8, 3, 4),
            Conv("down", "image", 4, 3, WeightFormat(3), stride=2, padding=1),
            Requant("act0", "down", 4),
            Requant("twin0", "down", 3),
            Conv("conv1", "act0", 4, 3, WeightFormat(3), padding=1),
            Requant("act1", "conv1", 3),
            Concat("join", ("twin0", "act1")),
            Conv("head", "join", 2, 1, WeightFormat(3)),
            Output("output", "head"),
        ),
    )
    check_optimum(graph, dsps)


@pytest.mark.parametrize("dsps", [6, 9, 12, 15, 18, 24])
def test_words_of_neighbours_must_divide_each_other(dsps):
    """12 = 3 x 4 channels between the layers: most pairs of foldings do not fit together."""
    graph = Graph(
        "twelve",
        (
            Input("image", 4, 9, 2, 8),
            Conv("conv0", "image", 12, 3, WeightFormat(3), padding=1),
            Requant("act0", "conv0", 5),
            Conv("head", "act0", 9, 3, WeightFormat(3), padding=1),
            Output("output", "head"),
        ),
    )
    design = optimise(graph, replace(ROOMY, dsp=dsps))
    interval = analyse(build(design), 250.0).interval_cycles
    assert interval == brute_force_interval(graph, dsps)


@settings(max_examples=15)
@given(st.one_of(shape_graph(), branched_graph()), st.sampled_from(("xczu3eg", "xc7z020")))
def test_optimised_designs_are_legal_and_fit(graph, part):
    design = optimise(graph, device(part))
    verify(design)
    usage = estimate(design).total
    assert usage.dsp <= design.device.dsp
    assert usage.lut <= 0.85 * design.device.lut
    assert usage.bram18 <= design.device.bram18
    assert optimise(graph, device(part)).layers == design.layers


@settings(max_examples=10)
@given(shape_graph(max_layers=2), st.integers(8, 30))
def test_more_dsps_are_never_slower(graph, dsps):
    intervals = []
    for budget in (dsps, 2 * dsps, 4 * dsps):
        part = replace(ROOMY, dsp=budget)
        intervals.append(analyse(build(optimise(graph, part)), 250.0).interval_cycles)
    assert intervals == sorted(intervals, reverse=True)


def test_ultranet_fits_the_zu3():
    """DSP-cycles of the whole network spread over 360 DSPs cannot be beaten; twice that is near."""
    graph = ultranet_shape()
    design = optimise(graph, ZU3)
    interval = analyse(build(design), 250.0).interval_cycles
    assert interval <= 120_000  # 2 083 fps at 250 MHz: what the folding by divisors reaches
    assert interval >= 160 * 320
    usage = estimate(design).total
    assert (usage.dsp, usage.bram18) <= (360, 432)
    assert usage.lut <= 0.85 * 70_560


WIDE = Graph(
    "wide",
    (
        Input("image", 40, 320, 3, 8),
        Conv("conv0", "image", 64, 3, WeightFormat(4), padding=1),
        Requant("act0", "conv0", 4),
        Conv("head", "act0", 64, 3, WeightFormat(4), padding=1),
        Output("output", "head"),
    ),
)


def test_utilisation_shrinks_the_design():
    half = optimise(WIDE, ZU3, utilisation=Budget(dsp=0.5))
    assert estimate(half).total.dsp <= 180
    whole = optimise(WIDE, ZU3)
    intervals = [analyse(build(design), 250.0).interval_cycles for design in (whole, half)]
    assert intervals[0] < intervals[1]


@pytest.mark.parametrize("resource", ["dsp", "lut", "bram18"])
def test_the_limiting_resource_is_named(resource):
    poor = replace(ZU3, **{resource: 2})
    message = (
        rf"'wide' on xczu3eg: {resource} is the limit; the smallest mapping needs \d+, "
        r"the budget is [12]; use fewer bits or a larger device"
    )
    for refuse in (optimise, check):
        with pytest.raises(DesignError, match=message):
            refuse(WIDE, poor)
    check(WIDE, ZU3)


def test_manual_takes_the_best_plan_that_the_folding_allows():
    graph = ultranet_shape(40, 80)
    names = [stage.conv.name for stage in stages(graph)]
    foldings = {name: Folding(1, 1) for name in names} | {"conv3": Folding(64, 32, 3, 64)}
    design = manual(graph, ZU3, 200.0, foldings)
    assert [layer.folding for layer in design.layers] == [foldings[name] for name in names]
    assert design.clock_mhz == 200.0
    for stage, layer in zip(stages(graph), design.layers, strict=True):
        conv, source = stage.conv, stage.source
        cycles = [
            dsp_cycles(conv, source, plan)
            for plan in table("dsp48e2", conv.kernel).plans(conv.w_format.bits, source.bits)
            if plan_fits(plan, conv, source, layer.folding.pe)
            and max(word_bits(stage, replace(layer, plan=plan), 1).values()) <= MAX_WORD_BITS
        ]
        assert dsp_cycles(conv, source, layer.plan) == min(cycles)
    assert design.layer("conv3").plan.columns < design.layer("conv2").plan.columns


def test_manual_refuses_wrong_foldings():
    graph = ultranet_shape(40, 80)
    foldings = {stage.conv.name: Folding(1, 1) for stage in stages(graph)}
    with pytest.raises(DesignError, match="foldings are given for conv0; 'ultranet' has the layer"):
        manual(graph, ZU3, 250.0, {"conv0": Folding(1, 1)})
    with pytest.raises(DesignError, match="layer 'conv2': simd is 5; allowed: 1, 2, 4, 8, 16, 32"):
        manual(graph, ZU3, 250.0, foldings | {"conv2": Folding(1, 5)})
    with pytest.raises(DesignError, match="layer 'conv2': no packing plan of 4 x 4 bits runs on p"):
        manual(graph, ZU3, 250.0, foldings | {"conv2": Folding(5, 1)})
