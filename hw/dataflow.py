# SPDX-License-Identifier: Apache-2.0
"""Design -> Pipeline: the processes and streams that docs/cycles.md describes."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

from hw.chain import Stage
from hw.cycles import window_words
from hw.design import Design, DesignError, LayerDesign
from hw.design_verify import verify, window_channels
from hw.intmath import ceil_div
from hw.ir import Input
from hw.mac_words import decode_cycles, link_lanes
from hw.pipeline import (
    InputPort,
    MacArray,
    OutputPort,
    Pipeline,
    Pool,
    Process,
    Requantise,
    Stream,
    Window,
)

DEFAULT_DEPTH = 2  # the least with which a registered FIFO moves a word every cycle


def build(design: Design) -> Pipeline:
    """Return the processes of `design` in stream order and the FIFOs between them.

    Raise DesignError (design_verify.verify) for a design that the hardware cannot run, for two
    processes of one name and for a FIFO depth that names no FIFO.
    """
    chain = verify(design)
    processes: list[Process] = [input_port(design.graph.input, design.port_bits)]
    in_parallel = design.graph.input.channels
    for stage, layer in zip(chain, design.layers, strict=True):
        processes += layer_processes(stage, layer, in_parallel, design.port_bits)
        in_parallel = layer.out_parallel
    _check_names(processes)
    image_in, result_out = _ports(design, processes)
    fifos = tuple(_stream(*pair) for pair in pairwise(processes))
    return Pipeline(tuple(processes), (image_in, *_override(fifos, design.fifo_depths), result_out))


def input_port(image: Input, port_bits: int) -> InputPort:
    """Return the process that unpacks the beats of `image`."""
    return InputPort(
        "input",
        image.height,
        image.width,
        image.channels,
        pixel_bits=image.port_bits,
        bits=image.bits,
        port_bits=port_bits,
    )


def layer_processes(
    stage: Stage, layer: LayerDesign, in_parallel: int, port_bits: int
) -> tuple[Process, ...]:
    """Return the processes of one stage, fed with words of `in_parallel` channels."""
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
    return (window, mac, *_tail(stage, layer, mac, port_bits))


def _tail(stage: Stage, layer: LayerDesign, mac: MacArray, port_bits: int) -> tuple[Process, ...]:
    """Return what reads the accumulators: the output port, or requantisation and pooling."""
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
    if stage.requant is None:
        return (OutputPort("output", stage.conv.name, *geometry, port_bits),)
    name, bits = stage.requant.name, stage.requant.bits
    requant = Requantise(name, name, *geometry, bits)
    if stage.pool is None:
        return (requant,)
    shape = (mac.height, mac.width, mac.out_channels, layer.out_parallel)
    return requant, Pool(stage.pool.name, *shape, bits)


def input_beats(port: InputPort) -> int:
    """Return the beats of one frame at the input port."""
    return ceil_div(port.height * port.width * port.channels * port.pixel_bits, port.port_bits)


def output_words(process: Process) -> tuple[int, int]:
    """Return (width in bits, words per frame) of what `process` writes."""
    match process:
        case InputPort(height=H, width=W, channels=C, bits=bits):
            return C * bits, H * W
        case Window(height=H):
            width = process.kernel_rows * process.columns * process.simd * process.bits
            return width, H * window_words(process)[1]
        case MacArray(height=H, out_channels=M, pe=pe, groups=groups):
            parallel = pe * groups
            width = process.columns * parallel * process.acc_bits
            return width, H * (M // parallel) * process.column_steps
        case Requantise(height=H, width=W, out_channels=M, out_parallel=parallel):
            return parallel * process.bits, H * W * (M // parallel)
        case Pool(height=H, width=W, out_channels=M, parallel=parallel):
            return parallel * process.bits, (H // 2) * (W // 2) * (M // parallel)
        case OutputPort(height=H, width=W, out_channels=M, values_per_beat=values):
            return process.port_bits, H * W * (M // values)


def default_depth(consumer: Process) -> int:
    """Return the default depth of the FIFO into `consumer`: a row into a window, else two words."""
    if isinstance(consumer, Window):
        return max(DEFAULT_DEPTH, window_words(consumer)[0])
    return DEFAULT_DEPTH


def _stream(producer: Process, consumer: Process) -> Stream:
    name = f"{producer.name}_to_{consumer.name}"
    words = output_words(producer)
    return Stream(name, producer.name, consumer.name, *words, default_depth(consumer))


def _ports(design: Design, processes: list[Process]) -> tuple[Stream, Stream]:
    first, last = processes[0], processes[-1]
    width_bits, tokens = output_words(last)
    return (
        Stream("image_in", "", first.name, design.port_bits, input_beats(first), DEFAULT_DEPTH),
        Stream("result_out", last.name, "", width_bits, tokens, DEFAULT_DEPTH),
    )


def _override(fifos: tuple[Stream, ...], depths: tuple[tuple[str, int], ...]) -> tuple[Stream, ...]:
    known = {fifo.name: fifo for fifo in fifos}
    for name, depth in depths:
        if name not in known:
            raise DesignError(f"fifo_depths names '{name}'; the FIFOs are: {', '.join(known)}")
        if depth < DEFAULT_DEPTH:
            raise DesignError(
                f"fifo_depths gives '{name}' {depth} words; a registered FIFO needs at least "
                f"{DEFAULT_DEPTH} to move one every cycle"
            )
        known[name] = replace(known[name], depth=depth)
    return tuple(known.values())


def _check_names(processes: list[Process]) -> None:
    for name, count in Counter(process.name for process in processes).items():
        if count > 1:
            raise DesignError(
                f"{count} processes are called '{name}'; rename the graph's node of that name"
            )
