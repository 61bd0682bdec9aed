# SPDX-License-Identifier: Apache-2.0
"""Folding and packing of every layer for a device: the shortest frame interval that fits.

Bisection on the interval. For one interval a dynamic programme runs along the chain: its state is
the number of channels per word that a layer hands on, its value the cheapest resources so far.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from operator import itemgetter

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
from hw.usage import Usage, array_dsps, input_usage, multipliers

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
    """A mapping of one stage whose lanes are still open.

    `cycles`: its slowest process but the one with lanes, for the widest input word; `lane_cycles`:
    that one with a single lane; `array_dsps`: DSPs without those of the lanes.
    """

    layer: LayerDesign
    cycles: int
    lane_cycles: int
    lanes: tuple[int, ...]
    array_dsps: int


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
    utilisation: Budget = Budget(),
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
            for simd in divisors(source.channels):
                for rows in sorted({1, conv.kernel}):
                    layer = LayerDesign(conv.name, Folding(pe, simd, rows), plan)
                    if max(word_bits(stage, layer, simd).values()) <= MAX_WORD_BITS:
                        yield _option(stage, layer)


def _option(stage: Stage, layer: LayerDesign) -> _Option:
    window, mac, lanes, *pool = layer_processes(stage, layer, stage.source.channels, PORT_BITS)
    return _Option(
        layer,
        max(map(process_cycles, (window, mac, *pool))),
        process_cycles(lanes),
        lane_choices(stage, layer.out_parallel, PORT_BITS),
        array_dsps(mac, layer.plan),
    )


def _intervals(space: _Space) -> list[int]:
    """Return every number of cycles that some process may take and all processes may keep to."""
    image = process_cycles(input_port(space.graph.input, PORT_BITS))
    cycles = {image}
    for options in space.options:
        cycles.update(option.cycles for option in options)
        cycles.update(option.lane_cycles // n for option in options for n in option.lanes)
    return sorted(interval for interval in cycles if interval >= image)


def _fit(space: _Space, interval: int, limit: Usage) -> tuple[LayerDesign, ...] | None:
    """Return layers that keep to `interval` and `limit`: cheapest in DSP, else LUT, else BRAM."""
    for objective in _OBJECTIVES.values():
        found = _cheapest(space, interval, objective)
        if found is None:
            return None
        usage, layers = found
        if usage.dsp <= limit.dsp and usage.lut <= limit.lut and usage.bram18 <= limit.bram18:
            return layers
    return None


def _cheapest(
    space: _Space, interval: int, objective: Objective
) -> tuple[Usage, tuple[LayerDesign, ...]] | None:
    """Return the least `objective` over all mappings that keep to `interval`, and the mapping.

    What a window writes needs no check: its producer takes a cycle for each of these words.
    """
    image = input_port(space.graph.input, PORT_BITS)
    states = {space.graph.input.channels: (input_usage(image), ())}
    for index, stage in enumerate(space.chain):
        choices = _choices(space, index, interval, objective)
        reached: dict[int, tuple[Usage, tuple[LayerDesign, ...]]] = {}
        for in_parallel, (before, path) in states.items():
            if in_parallel * stage.source.bits > MAX_WORD_BITS:
                continue
            for layer in choices:
                simd = layer.folding.simd
                if simd % in_parallel and in_parallel % simd:
                    continue
                usage = before + _usage(space, index, layer, in_parallel)
                best = reached.get(layer.out_parallel)
                if best is None or objective(usage) < objective(best[0]):
                    reached[layer.out_parallel] = (usage, (*path, layer))
        states = reached
    return min(states.values(), key=lambda state: objective(state[0]), default=None)


def _choices(space: _Space, index: int, interval: int, objective: Objective) -> list[LayerDesign]:
    """Return the layers that keep to `interval` and may be cheapest, with the fewest lanes each.

    Two layers of one shape differ by the same amount whatever feeds them: the dearer one goes.
    """
    widest = space.chain[index].source.channels
    best: dict[tuple[int, ...], tuple[tuple[int, ...], LayerDesign]] = {}
    for layer in _within(space, index, interval, objective):
        folding = layer.folding
        shape = (layer.out_parallel, folding.simd, folding.kernel_rows, layer.plan.columns)
        cost = objective(_usage(space, index, layer, widest))
        if shape not in best or cost < best[shape][0]:
            best[shape] = (cost, layer)
    return [layer for _, layer in best.values()]


def _within(space: _Space, index: int, interval: int, objective: Objective) -> list[LayerDesign]:
    """Return the layers that keep to `interval`; if DSPs count first, those with the fewest.

    DSPs do not depend on what feeds a layer, so among layers that take and give the same words
    only those with the fewest can win.
    """
    stage = space.chain[index]
    lane_dsps = multipliers(stage, dsp(space.device.dsp_type)) if stage.requant else 0
    found: dict[tuple[int, int], list[tuple[int, _Option, int]]] = defaultdict(list)
    for option in space.options[index]:
        lanes = next((n for n in option.lanes if option.lane_cycles // n <= interval), None)
        if lanes is not None and option.cycles <= interval:
            dsps = option.array_dsps + lanes * lane_dsps
            ends = (option.layer.folding.simd, option.layer.out_parallel)
            found[ends].append((dsps, option, lanes))
    return [
        replace(option.layer, folding=replace(option.layer.folding, requant_lanes=lanes))
        for rivals in found.values()
        for dsps, option, lanes in rivals
        if objective is not _OBJECTIVES["dsp"] or dsps == min(rivals, key=itemgetter(0))[0]
    ]


def _usage(space: _Space, index: int, layer: LayerDesign, in_parallel: int) -> Usage:
    key = (index, layer.folding, id(layer.plan), in_parallel)
    if key not in space.usages:
        stage = space.chain[index]
        processes = layer_processes(stage, layer, in_parallel, PORT_BITS)
        widths = [in_parallel * stage.source.bits]
        widths += [output_words(process)[0] for process in processes[:-1]]
        fifos = zip(widths, map(default_depth, processes), strict=True)
        primitive = dsp(space.device.dsp_type)
        space.usages[key] = layer_usage(stage, layer, processes, fifos, primitive)
    return space.usages[key]


def _infeasible(space: _Space, interval: int, limit: Usage) -> DesignError:
    where = f"'{space.graph.name}' on {space.device.name}"
    for resource, objective in _OBJECTIVES.items():
        found = _cheapest(space, interval, objective)
        if found is None:
            return DesignError(
                f"{where}: no legal mapping moves words of at most {MAX_WORD_BITS} bits"
            )
        least, allowed = getattr(found[0], resource), getattr(limit, resource)
        if least > allowed:
            return DesignError(
                f"{where}: {resource} is the limit; the smallest mapping needs {least}, the "
                f"budget is {allowed}; use fewer bits or a larger device"
            )
    return DesignError(
        f"{where}: dsp {limit.dsp}, lut {limit.lut} and bram18 {limit.bram18} suffice one by one, "
        "but no mapping was found that keeps to all three; use a larger device"
    )
