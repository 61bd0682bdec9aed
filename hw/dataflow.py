# SPDX-License-Identifier: Apache-2.0
"""Design -> Pipeline: the processes and streams that docs/cycles.md describes."""

from collections import Counter
from collections.abc import Iterator

from hw.bypass import concat_link
from hw.design import Design, DesignError, LayerDesign
from hw.design_verify import verify, window_channels
from hw.fifos import DEFAULT_DEPTH, input_beats, output_words, streams, with_depths
from hw.intmath import ceil_div
from hw.ir import (
    Add,
    Concat,
    Graph,
    MaxPool,
    Patches,
    Reorg,
    Requant,
    TensorType,
)
from hw.ir_verify import infer
from hw.mac_words import decode_cycles, link_lanes
from hw.pipeline import (
    AddStreams,
    Concatenate,
    Fork,
    InputPort,
    MacArray,
    OutputPort,
    PatchBuffer,
    Pipeline,
    Pool,
    Process,
    Requantise,
    SpaceToDepth,
    Stream,
    Window,
)
from hw.stages import Follower, Stage, image_followers


def build(design: Design) -> Pipeline:
    """Return the processes of `design` in stream order and the FIFOs between them.

    Raise DesignError (design_verify.verify) for a design that the hardware cannot run, for two
    processes of one name and for a FIFO depth that names no FIFO.
    """
    groups = layout(design)
    processes = tuple(process for _, group in groups for process in group)
    _check_names(processes)
    fifos = tuple(streams(design.graph, processes))
    image_in, result_out = _ports(design, processes)
    return Pipeline(processes, (image_in, *with_depths(fifos, design.fifo_depths), result_out))


def layout(design: Design) -> list[tuple[int | None, tuple[Process, ...]]]:
    """Return the processes of `design` layer by layer, with its index; those of the input first."""
    graph, chain = design.graph, verify(design)
    types, parallel = infer(graph), {graph.input.name: graph.input.channels}
    groups: list[tuple[int | None, tuple[Process, ...]]] = [
        (None, input_processes(graph, types, design.port_bits))
    ]
    for index, (stage, layer) in enumerate(zip(chain, design.layers, strict=True)):
        parallel[layer.name] = layer.out_parallel
        own = layer_processes(stage, layer, parallel[stage.feeders[0]], design.port_bits)
        rest = follower_processes(graph, stage, types, layer)
        groups.append((index, (*own, *rest)))
    return groups


def input_processes(
    graph: Graph, types: dict[str, TensorType], port_bits: int
) -> tuple[Process, ...]:
    """Return the process that unpacks the beats of the image, its patches and the forks behind."""
    image = graph.input
    port = InputPort(
        "input",
        image.height,
        image.width,
        image.channels,
        pixel_bits=image.port_bits,
        bits=image.bits,
        port_bits=port_bits,
    )
    processes: list[Process] = [port, *_forks(graph, image.name, types, image.channels)]
    for node in image_followers(graph):
        processes += _follower(node, types, image.channels, lanes=1)
        processes += _forks(graph, node.name, types, image.channels)
    return tuple(processes)


def layer_processes(
    stage: Stage, layer: LayerDesign, in_parallel: int, port_bits: int
) -> tuple[Process, ...]:
    """Return the processes of one convolution, fed with words of `in_parallel` channels.

    First its window and its array, last the output port or its requantisers.
    """
    conv, source, folding, plan = stage.conv, stage.source, layer.folding, layer.plan
    H, W = source.height, source.width
    column_steps = ceil_div(W + 2 * conv.padding, plan.columns)
    window = Window(
        f"{conv.name}_window",
        H,
        W,
        source.channels,
        source.bits,
        conv.kernel,
        conv.padding,
        in_parallel,
        window_channels(stage, layer.folding),
        folding.kernel_rows,
        plan.columns,
        groups_out=conv.out_channels // layer.out_parallel,
        column_steps=column_steps,
        word_steps=plan.word_steps,
        depthwise=int(stage.depthwise),
    )
    lanes = folding.simd * folding.kernel_rows
    steps = stage.fan_in * conv.kernel // lanes
    mac = MacArray(
        f"{conv.name}_mac",
        conv.name,
        H,
        W,
        stage.fan_in,
        conv.out_channels,
        conv.kernel,
        folding.pe,
        folding.simd,
        folding.kernel_rows,
        plan.groups,
        plan.columns,
        column_steps,
        plan.word_steps,
        link_lanes(plan, lanes),
        decode_cycles(plan, lanes, steps),
        stage.acc.bits,
        int(stage.depthwise),
    )
    return window, mac, *_sum_forks(stage, layer, mac), *_tails(stage, layer, mac, port_bits)


def _sum_forks(stage: Stage, layer: LayerDesign, mac: MacArray) -> tuple[Process, ...]:
    """Return the forks of accumulators that are requantised more than once."""
    size = mac.height, mac.column_steps, mac.out_channels, layer.out_parallel
    return tuple(
        Fork(f"{mac.layer}_fork{index}", *size, mac.acc_bits, mac.columns)
        for index in range(len(stage.requants) - 1)
    )


def _tails(
    stage: Stage, layer: LayerDesign, mac: MacArray, port_bits: int
) -> tuple[OutputPort | Requantise, ...]:
    """Return what reads the accumulators: the output port, or requantisation to every width."""
    geometry = (
        mac.height,
        mac.width,
        mac.out_channels,
        layer.out_parallel,
        layer.folding.requant_lanes,
        mac.kernel,
        mac.columns,
        mac.column_steps,
        mac.acc_bits,
    )
    if not stage.requants:
        return (OutputPort("output", stage.conv.name, *geometry, port_bits),)
    return tuple(Requantise(node.name, node.name, *geometry, node.bits) for node in stage.requants)


def follower_processes(
    graph: Graph, stage: Stage, types: dict[str, TensorType], layer: LayerDesign
) -> tuple[Process, ...]:
    """Return what passes on the codes of a stage, in words as wide as its own; with forks."""
    processes: list[Process] = []
    parallel, lanes = layer.out_parallel, layer.folding.requant_lanes
    for node in stage.requants:
        processes += _forks(graph, node.name, types, parallel)
    for node in stage.followers:
        processes += _follower(node, types, parallel, lanes)
        processes += _forks(graph, node.name, types, parallel)
    return tuple(processes)


def _follower(
    node: Follower, types: dict[str, TensorType], parallel: int, lanes: int
) -> Iterator[Process]:
    match node:
        case MaxPool(name=name, source=source):
            shape = types[source]
            yield Pool(name, shape.height, shape.width, shape.channels, parallel, shape.bits)
        case Reorg(name=name, source=source, block=block):
            shape = types[source]
            size = shape.height, shape.width, shape.channels
            yield SpaceToDepth(name, *size, parallel, shape.bits, block)
        case Patches(name=name, source=source):
            shape = types[source]
            size = shape.height, shape.width, shape.channels
            steps = node.kernel, node.stride, node.padding
            yield PatchBuffer(name, *size, parallel, shape.bits, *steps)
        case Concat(name=name, sources=joined):
            shape, before = types[name], types[joined[0]].channels
            for index, source in enumerate(joined[1:], 2):
                channels = types[source].channels
                yield Concatenate(
                    concat_link(node, index),
                    shape.height,
                    shape.width,
                    before,
                    channels,
                    parallel,
                    shape.bits,
                )
                before += channels
        case Add(name=name, sources=added):
            shape, bits = types[name], [types[source].bits for source in added]
            size = shape.height, shape.width, shape.channels
            yield AddStreams(name, *size, parallel, *bits, shape.bits)
        case Requant(name=name, source=source):
            shape = types[source]
            size = shape.height, shape.width, shape.channels
            words = {"kernel": 1, "columns": 1, "column_steps": shape.width}
            yield Requantise(
                name, name, *size, parallel, lanes, **words, acc_bits=shape.bits, bits=node.bits
            )


def _forks(
    graph: Graph, name: str, types: dict[str, TensorType], parallel: int
) -> tuple[Process, ...]:
    """Return the forks behind a node that several others read: one for each reader but one."""
    shape = types[name]
    size = shape.height, shape.width, shape.channels
    forks = (f"{name}_fork{index}" for index in range(len(graph.consumers(name)) - 1))
    columns = int(isinstance(graph[name], Add))
    return tuple(Fork(fork, *size, parallel, shape.bits, columns) for fork in forks)


def _ports(design: Design, processes: tuple[Process, ...]) -> tuple[Stream, Stream]:
    first, last = processes[0], processes[-1]
    width_bits, tokens = output_words(last)
    return (
        Stream("image_in", "", first.name, design.port_bits, input_beats(first), DEFAULT_DEPTH),
        Stream("result_out", last.name, "", width_bits, tokens, DEFAULT_DEPTH),
    )


def _check_names(processes: tuple[Process, ...]) -> None:
    for name, count in Counter(process.name for process in processes).items():
        if count > 1:
            raise DesignError(
                f"{count} processes are called '{name}'; rename the graph's node of that name"
            )
