# SPDX-License-Identifier: Apache-2.0
"""Resources of a design, and the cost table that a bit-width search minimises."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from hw.bypass import BranchRows
from hw.dataflow import build, layout
from hw.design import Design, DesignError, LayerDesign
from hw.design_verify import plan_fits
from hw.device import Device, Dsp, dsp
from hw.fifos import default_depth
from hw.intmath import ceil_div
from hw.ir import Conv, Graph, TensorType
from hw.ir_verify import infer
from hw.lower import lower
from hw.packing.plan import PackPlan
from hw.packing.table import table
from hw.pipeline import AddStreams, Concatenate, InputPort, Process, Requantise
from hw.stages import Stage, check_conv, stages
from hw.usage import Usage, fifo_usage, pass_usage, process_usage

SEARCHED_BITS = tuple(range(2, 9))
RESOURCES = ("dsp", "bitops", "bram")


@dataclass(frozen=True)
class LayerUsage:
    """Resources of one layer (its processes and the FIFOs they read) or of the "input" port."""

    name: str
    usage: Usage


@dataclass(frozen=True)
class Resources:
    """Resources of a design, layer by layer; `total` is their sum."""

    layers: tuple[LayerUsage, ...]

    @property
    def total(self) -> Usage:
        return sum_usage(layer.usage for layer in self.layers)


@dataclass(frozen=True, eq=False)
class CostTable:
    """Cost of every layer at every pair of bit-widths.

    `values[l, i, j, r]` (float64, exact integers) is the cost of layer `layers[l]` with
    `w_bits[i]`-bit weights and `a_bits[j]`-bit activations in `resources[r]`: "dsp" =
    DSP-cycles per frame, "bitops" = MACs x w_bits x a_bits, "bram" = bits of weights and of
    buffered rows.
    """

    layers: tuple[str, ...]
    w_bits: tuple[int, ...]
    a_bits: tuple[int, ...]
    resources: tuple[str, ...]
    values: np.ndarray


def estimate(design: Design) -> Resources:
    """Return the resources of every layer of `design`; raise DesignError if it is not legal."""
    pipeline, primitive = build(design), dsp(design.device.dsp_type)
    chain, layers = stages(design.graph), []
    for index, processes in layout(design):
        fifos = [fifo for process in processes for fifo in pipeline.inputs(process.name)]
        words = [(fifo.width_bits, fifo.depth) for fifo in fifos if fifo.producer]
        if index is None:
            parts = [*map(pass_usage, processes), *(fifo_usage(*word) for word in words)]
            layers.append(LayerUsage("input", sum_usage(parts)))
        else:
            layer = design.layers[index]
            usage = layer_usage(chain[index], layer, processes, words, primitive)
            layers.append(LayerUsage(layer.name, usage))
    return Resources(tuple(layers))


def passing_usage(
    processes: Iterable[Process], rows: BranchRows, price: Callable[[Process], Usage] = pass_usage
) -> Usage:
    """Return what processes take that pass codes on, with FIFOs of default depth before them."""
    parts = []
    for process in processes:
        parts.append(price(process))
        for index, width_bits in enumerate(_input_words(process)):
            parts.append(fifo_usage(width_bits, default_depth(process, index, rows)))
    return sum_usage(parts)


def _input_words(process: Process) -> tuple[int, ...]:
    """Return the bits of the words in every FIFO before a process that passes codes on."""
    match process:
        case InputPort():
            return ()
        case Concatenate(parallel=parallel, bits=bits):
            return (parallel * bits,) * 2
        case AddStreams(parallel=parallel, first_bits=first, second_bits=second):
            return parallel * first, parallel * second
        case Requantise(out_parallel=parallel, acc_bits=bits):
            return (parallel * bits,)
        case _:
            return (process.parallel * process.bits,)


def layer_usage(
    stage: Stage,
    layer: LayerDesign,
    processes: tuple[Process, ...],
    fifos: Iterable[tuple[int, int]],
    primitive: Dsp,
) -> Usage:
    """Return the resources of a layer's processes and of the FIFOs (width, depth) they read."""
    parts = [process_usage(process, stage, layer, primitive) for process in processes]
    return sum_usage([*parts, *(fifo_usage(width_bits, depth) for width_bits, depth in fifos)])


def sum_usage(parts: Iterable[Usage]) -> Usage:
    """Return the sum of some resources."""
    return reduce(add, parts, Usage())


def dsp_cycles(conv: Conv, source: TensorType, plan: PackPlan) -> int:
    """Return the DSP-cycles per frame of `conv` at pe = simd = kernel_rows = 1, row ends included.

    H (M / groups) S K C word_steps / multipliers, C = 1 if depthwise: what its array does, however
    it is folded.
    """
    column_steps = ceil_div(source.width + 2 * conv.padding, plan.columns)
    tiles = source.height * (conv.out_channels // plan.groups) * column_steps
    fan_in = source.channels // conv.groups
    return ceil_div(tiles * conv.kernel * fan_in * plan.word_steps, plan.multipliers)


def legal_plans(
    conv: Conv, source: TensorType, device: Device, w_bits: int, a_bits: int, pe: int = 1
) -> list[PackPlan]:
    """Return the plans that `pe` arrays can run on `conv`, fewest DSP-cycles (then LUT) first.

    `source` is the type of what `conv` reads. Raise DesignError if there are none.
    """
    cell = table(device.dsp_type, conv.kernel, conv.w_format.narrow)
    legal = [plan for plan in cell.plans(w_bits, a_bits) if plan_fits(plan, conv, source, pe)]
    if not legal:
        raise DesignError(
            f"layer '{conv.name}': no packing plan of {w_bits} x {a_bits} bits runs on pe = {pe} "
            f"for {conv.out_channels} output channels and {source.width} columns; change pe"
        )
    return sorted(legal, key=lambda plan: (dsp_cycles(conv, source, plan), plan.lut_per_mac))


def best_plan(conv: Conv, source: TensorType, device: Device, w_bits: int, a_bits: int) -> PackPlan:
    """Return the first of `legal_plans`: what the cost of a layer is counted with."""
    return legal_plans(conv, source, device, w_bits, a_bits)[0]


def layer_cost(
    graph: Graph, device: Device, conv_name: str, w_bits: int, a_bits: int
) -> tuple[int, ...]:
    """Return the cost of one layer at the given bit-widths, in the order of `RESOURCES`.

    Raise DesignError for a layer that the packed array does not support.
    """
    graph = lower(graph)
    types = infer(graph)
    conv = _supported(graph[conv_name], types)
    return _layer_cost(conv, types[conv.source], device, w_bits, a_bits)


def cost_table(graph: Graph, device: Device) -> CostTable:
    """Return the cost of every layer of `graph` (shape-only will do) at 2..8 x 2..8 bits."""
    graph = lower(graph)
    types = infer(graph)
    layers = [_supported(node, types) for node in graph.of_type(Conv)]
    values = [
        [
            [_layer_cost(conv, types[conv.source], device, w, a) for a in SEARCHED_BITS]
            for w in SEARCHED_BITS
        ]
        for conv in layers
    ]
    array = np.array(values, np.float64)
    array.setflags(write=False)
    names = tuple(conv.name for conv in layers)
    return CostTable(names, SEARCHED_BITS, SEARCHED_BITS, RESOURCES, array)


def work(graph: Graph, device: Device) -> dict[str, int]:
    """Return the cost of all layers at the bit-widths `graph` has, by name of `RESOURCES`."""
    graph = lower(graph)
    types = infer(graph)
    costs = [
        _layer_cost(conv, types[conv.source], device, conv.w_format.bits, types[conv.source].bits)
        for conv in (_supported(node, types) for node in graph.of_type(Conv))
    ]
    return dict(zip(RESOURCES, map(sum, zip(*costs, strict=True)), strict=True))


def _supported(layer: Conv, types: Mapping[str, TensorType]) -> Conv:
    check_conv(layer, types[layer.source])
    return layer


def _layer_cost(
    conv: Conv, source: TensorType, device: Device, w_bits: int, a_bits: int
) -> tuple[int, ...]:
    weights = conv.kernel**2 * (source.channels // conv.groups) * conv.out_channels
    macs = source.height * source.width * weights
    row_bits = (conv.kernel + 1) * source.width * source.channels * a_bits
    plan = best_plan(conv, source, device, w_bits, a_bits)
    return (
        dsp_cycles(conv, source, plan),
        macs * w_bits * a_bits,
        weights * w_bits + row_bits,
    )
