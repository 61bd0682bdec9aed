# SPDX-License-Identifier: Apache-2.0
"""Small designs with parameters, and several of them compiled into one C simulation."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hw.design import Design, DesignError, Folding, LayerDesign
from hw.design_verify import check_layer, check_plan, in_parallel
from hw.device import device
from hw.hls import BuildPlan, emit, write
from hw.hls.beats import pack_frames, unpack_results
from hw.hls.csim import run_binary
from hw.hls.taps import decode_taps
from hw.hls.toolchain import compile_cpp
from hw.ir import (
    Add,
    Concat,
    Conv,
    Graph,
    Input,
    MaxPool,
    Output,
    Patches,
    Reorg,
    Requant,
    WeightFormat,
)
from hw.packing import table
from hw.stages import Stage, stages
from tests.packing_samples import sample_plans
from tests.strategies import with_parameters


def tiny_graph(seed: int = 0) -> Graph:
    """Three layers: K = 3 with padding and pool, K = 1, and a head with bias."""
    nodes = (
        Input("image", 6, 7, 3, 5),
        Conv("conv0", "image", 4, 3, WeightFormat(4), padding=1),
        Requant("act0", "conv0", 4),
        MaxPool("pool0", "act0"),
        Conv("conv1", "pool0", 4, 1, WeightFormat(3), padding=0),
        Requant("act1", "conv1", 3),
        Conv("conv2", "act1", 2, 3, WeightFormat(2, narrow=False), padding=1),
        Output("output", "conv2"),
    )
    return with_parameters(Graph("tiny", nodes), seed)


def tiny_design(seed: int = 0) -> Design:
    """The tiny graph with a different kind of folding and of packing plan in every layer."""
    graph, layers = tiny_graph(seed), []
    foldings = (Folding(2, 3, 3, 2), Folding(1, 2, 1, 1), Folding(1, 1, 1, 1))
    kinds = ("known chain", "groups", "canary")
    for stage, folding, kind in zip(stages(graph), foldings, kinds, strict=True):
        conv, w_format = stage.conv, stage.conv.w_format
        cell = (conv.kernel, w_format.bits, stage.source.bits, w_format.narrow, "dsp48e2")
        layers.append(LayerDesign(conv.name, folding, sample_plans(*cell)[kind]))
    return Design(graph, device("xczu3eg"), 250.0, tuple(layers))


def branched_design() -> Design:
    """A bypass: codes part, go through a layer or from space to depth, and are concatenated."""
    nodes = (
        Input("image", 6, 8, 3, 5),
        Conv("conv0", "image", 4, 3, WeightFormat(4), padding=1),
        Requant("act0", "conv0", 4),
        MaxPool("pool0", "act0"),
        Conv("conv1", "pool0", 8, 3, WeightFormat(3), padding=1),
        Requant("act1", "conv1", 4),
        Reorg("reorg0", "act0"),
        Patches("halved", "act0", 1, 2, 0),
        Concat("join", ("reorg0", "act1", "pool0", "halved")),
        Conv("conv2", "join", 2, 1, WeightFormat(2)),
        Output("output", "conv2"),
    )
    graph = with_parameters(Graph("branched", nodes), 3)
    return map_graph(graph, (Folding(2, 3, 3, 2), Folding(1, 2, 1, 1), Folding(2, 4, 1, 1)))


def residual_design() -> Design:
    """Two residual blocks: sums are read at two widths, and added again."""
    nodes = (
        Input("image", 5, 6, 3, 5),
        Conv("conv0", "image", 4, 3, WeightFormat(4), padding=1),
        Requant("act0", "conv0", 4),
        Conv("conv1", "act0", 4, 3, WeightFormat(3), padding=1),
        Requant("branch1", "conv1", 8),
        Add("sum1", ("act0", "branch1")),
        Requant("stream1", "sum1", 8),
        Requant("act1", "sum1", 3),
        Conv("conv2", "act1", 4, 1, WeightFormat(2)),
        Requant("branch2", "conv2", 8),
        Add("sum2", ("branch2", "stream1")),
        Requant("act2", "sum2", 5),
        Conv("conv3", "act2", 2, 1, WeightFormat(2)),
        Output("output", "conv3"),
    )
    graph = with_parameters(Graph("residual", nodes), 4)
    foldings = (Folding(2, 3, 3, 2), Folding(1, 2, 1, 1), Folding(2, 2, 1, 2), Folding(1, 1, 1, 1))
    return map_graph(graph, foldings)


def draw_designs(designs: st.SearchStrategy[Design], count: int) -> list[Design]:
    """Let hypothesis draw `count` designs, the first of them the simplest."""
    drawn = []

    @settings(
        max_examples=count,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
        database=None,
        derandomize=True,
    )
    @given(designs)
    def collect(design):
        drawn.append(design)

    collect()
    return drawn


def map_graph(graph: Graph, foldings: Sequence[Folding]) -> Design:
    """Map `graph` at the given foldings with the first plans of the tables that are legal."""
    inputs = {graph.input.name: graph.input.channels}
    layers = next(_mappings(stages(graph), foldings, inputs))
    return Design(graph, device("xczu3eg"), 250.0, layers)


def _mappings(
    chain: Sequence[Stage], foldings: Sequence[Folding], parallel: dict[str, int]
) -> Iterator[tuple[LayerDesign, ...]]:
    """Yield the legal mappings of `chain` behind stages (or an input) with words of such sizes."""
    if not chain:
        yield ()
        return
    stage, conv = chain[0], chain[0].conv
    cell = table("dsp48e2", conv.kernel, conv.w_format.narrow)
    for plan in cell.plans(conv.w_format.bits, stage.source.bits):
        layer = LayerDesign(conv.name, foldings[0], plan)
        try:
            check_plan(stage, layer, "dsp48e2")
            check_layer(stage, layer, in_parallel(stage, parallel), 64)
        except DesignError:
            continue
        after = parallel | {conv.name: layer.out_parallel}
        for rest in _mappings(chain[1:], foldings[1:], after):
            yield (layer, *rest)


def random_frames(graph: Graph, count: int, seed: int) -> np.ndarray:
    """Uniform pixels, the first frame half black and half white."""
    image = graph.input
    top = (1 << image.port_bits) - 1
    frames = np.random.default_rng(seed).integers(
        0, top, (count, image.height, image.width, image.channels), endpoint=True
    )
    frames[0] = np.where(frames[0] > top // 2, top, 0)
    return frames


def simulate_all(
    designs: Sequence[Design], frames: Sequence[np.ndarray], scratch: Path
) -> list[dict[str, np.ndarray]]:
    """Compile all designs into one program; return every node's integers of every design."""
    plans = [
        emit(replace(design, graph=replace(design.graph, name=f"net{index}")))
        for index, design in enumerate(designs)
    ]
    for index, plan in enumerate(plans):
        write(plan, scratch / str(index))
    main = scratch / "main.cpp"
    main.write_text(_main(plans))
    program = scratch / "program"
    include = [scratch / "0" / "include", scratch / "0" / "include" / "csim"]
    compile_cpp([main], program, include, ("MIXQ_TAP",))
    return [
        _simulate(plan, design.graph, pixels, [str(program), str(index)], scratch / str(index))
        for index, (plan, design, pixels) in enumerate(zip(plans, designs, frames, strict=True))
    ]


def _simulate(
    plan: BuildPlan, graph: Graph, frames: np.ndarray, command: list[str], folder: Path
) -> dict[str, np.ndarray]:
    first, last = plan.pipeline.processes[0], plan.pipeline.processes[-1]
    beats = run_binary(command, [pack_frames(first, frames)], [folder])
    values = decode_taps(plan.pipeline, graph, folder)
    return values | {graph.output.name: unpack_results(last, beats)}


def _main(plans: Sequence[BuildPlan]) -> str:
    """One program whose first argument chooses the design; the rest is the test bench's."""
    lines = ['#include "csim/testbench.hpp"']
    for index in range(len(plans)):
        lines.append(f'#include "{index}/src/top.cpp"')
    lines += ["int main(int argc, char** argv) {", "  switch (std::atoi(argv[1])) {"]
    for index, plan in enumerate(plans):
        streams = plan.pipeline.streams
        call = f"testbench<64>(argc - 1, argv + 1, {plan.top}"
        sizes = f"{streams[0].tokens}, {streams[-1].tokens}"
        lines.append(f"    case {index}: return mixq::csim::{call}, {sizes});")
    return "\n".join([*lines, "  }", "  return 2;", "}", ""])
