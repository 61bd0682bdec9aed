# SPDX-License-Identifier: Apache-2.0
"""Folding and packing of every layer for a device: the shortest frame interval that fits.

Bisection on the interval. For one interval a dynamic programme runs along the chain: its state is
the number of channels per word that a layer hands on, its value the cheapest resources so far.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from hw.chain import Stage, stages
from hw.cycles import process_cycles
from hw.dataflow import default_depth, input_port, layer_processes, output_words
from hw.design import Design, DesignError, Folding, LayerDesign
from hw.design_verify import MAX_WORD_BITS, lane_choices, plan_fits, verify, word_bits
from hw.device import Device, dsp
from hw.intmath import divisors
from hw.ir import Graph
from hw.packing.table import table
from hw.resources import best_plan, layer_usage
from hw.usage import Usage, input_usage

PORT_BITS = 64


@dataclass(frozen=True)
class Budget:
    """Fraction of each resource of a device that a design may take."""

    dsp: float = 1.0  # hard macros in fixed columns: every one can be placed
    lut: float = 0.85  # fuller devices fail to route
    bram18: float = 1.0

    def of(self, device: Device) -> Usage:
        """Return what may be used of `device` (FF are twice the LUT and never the limit)."""
        return Usage(
            int(self.dsp * device.dsp),
            int(self.lut * device.lut),
            device.ff,
            int(self.bram18 * device.bram18),
        )


Objective = Callable[[Usage], tuple[int, ...]]
_OBJECTIVES: dict[str, Objective] = {
    "dsp": lambda usage: (usage.dsp, usage.lut, usage.bram18),
    "lut": lambda usage: (usage.lut, usage.dsp, usage.bram18),
    "bram18": lambda usage: (usage.bram18, usage.dsp, usage.lut),
}


@dataclass(frozen=True, eq=False)
class _Option:
    """A mapping of one stage with its lanes still open.

    `cycles`: slowest process with the widest input word and the most lanes. `shape`: what, beside
    the input word, decides the resources of its window and its legality.
    """

    layer: LayerDesign
    cycles: int
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Space:
    """Everything that does not depend on the interval, and the resources computed so far."""

    graph: Graph
    device: Device
    chain: tuple[Stage, ...]
    options: tuple[tuple[_Option, ...], ...]
    usages: dict[tuple, Usage] = field(default_factory=dict)


def optimise(
    graph: Graph,
    device: Device,
    clock_mhz: float = 250.0,
    utilisation: Budget = Budget(),  # noqa: B008 - frozen
) -> Design:
    """Return the legal design of `graph` with the shortest frame interval found within budget.

    Deterministic. Raise DesignError naming the limiting resource if not even the slowest fits.
    """
    chain = stages(graph)
    options = tuple(tuple(_options(stage, device)) for stage in chain)
    space = _Space(graph, device, chain, options)
    limit = utilisation.of(device)
    intervals = _intervals(space)
    best = _fit(space, intervals[-1], limit)
    if best is None:
        raise _infeasible(space, intervals[-1], limit)
    low, high = 0, len(intervals) - 1
    while low < high:
        middle = (low + high) // 2
        found = _fit(space, intervals[middle], limit)
        if found is None:
            low = middle + 1
        else:
            best, high = found, middle
    design = Design(graph, device, clock_mhz, best, port_bits=PORT_BITS)
    verify(design)
    return design


def manual(
    graph: Graph, device: Device, clock_mhz: float, foldings: Mapping[str, Folding]
) -> Design:
    """Return the design with the given folding per convolution and the best plan for each.

    Raise DesignError for a layer without a folding, a folding without a layer or an illegal one.
    """
    chain = stages(graph)
    names = [stage.conv.name for stage in chain]
    if set(names) != set(foldings):
        raise DesignError(
            f"foldings are given for {', '.join(sorted(foldings))}; "
            f"'{graph.name}' has the layers {', '.join(names)}"
        )
    layers = []
    for stage in chain:
        conv, folding = stage.conv, foldings[stage.conv.name]
        bits = (conv.w_format.bits, stage.source.bits)
        plan = best_plan(conv, stage.source, device, *bits, pe=folding.pe)
        layers.append(LayerDesign(conv.name, folding, plan))
    design = Design(graph, device, clock_mhz, tuple(layers), port_bits=PORT_BITS)
    verify(design)
    return design


def _options(stage: Stage, device: Device) -> Iterator[_Option]:
    conv, source = stage.conv, stage.source
    cell = table(device.dsp_type, conv.kernel, conv.w_format.narrow)
    for plan in cell.plans(conv.w_format.bits, source.bits):
        for pe in divisors(conv.out_channels):
            if not plan_fits(plan, conv.out_channels, source.width, pe):
                continue
            lanes = lane_choices(stage, pe * plan.groups, PORT_BITS)[-1]
            for simd in divisors(source.channels):
                for rows in sorted({1, conv.kernel}):
                    layer = LayerDesign(conv.name, Folding(pe, simd, rows, lanes), plan)
                    if max(word_bits(stage, layer, simd).values()) > MAX_WORD_BITS:
                        continue
                    processes = layer_processes(stage, layer, source.channels, PORT_BITS)
                    cycles = max(map(process_cycles, processes))
                    yield _Option(layer, cycles, (layer.out_parallel, simd, rows, plan.columns))
