# SPDX-License-Identifier: Apache-2.0
"""Folding and packing of every layer for a device: the shortest frame interval that fits.

Bisection on the interval. For one interval and one price per resource a dynamic programme runs
along the chain: its state is the number of channels per word that a layer hands on, its value the
least cost so far. Prices rise with the resources that are short until a mapping fits, or until the
cheapest mapping costs more than the whole budget: then none fits (Lagrangian relaxation).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from operator import itemgetter

from hw.bypass import BranchRows, branch_rows
from hw.cycles import process_cycles
from hw.dataflow import (
    follower_processes,
    input_processes,
    layer_processes,
)
from hw.design import Design, DesignError, Folding, LayerDesign
from hw.design_verify import (
    MAX_WORD_BITS,
    are_multiples,
    verify,
    window_channels,
)
from hw.device import Device, dsp
from hw.fifos import default_depth, output_words
from hw.ir import Graph, TensorType
from hw.ir_verify import infer
from hw.lower import lower
from hw.mappings import PORT_BITS, OpenMapping, fastest, mappings
from hw.resources import layer_usage, passing_usage
from hw.stages import Stage, equal_words, stages
from hw.usage import Usage, process_usage


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


Prices = tuple[int, int, int]  # of a DSP, a LUT and a block RAM
_FIRST: dict[str, Prices] = {  # one resource counts, the others where it is equal
    "dsp": (1 << 48, 1 << 24, 1),
    "lut": (1 << 24, 1 << 48, 1),
    "bram18": (1 << 24, 1, 1 << 48),
}
_DEVICE_PRICE = 1 << 60  # of all DSPs, LUTs or block RAMs together
_PRICE_ROUNDS = 8


@dataclass(frozen=True, eq=False)
class _Step:
    """A mapping of one stage, and what it takes beside its window."""

    usage: Usage
    layer: LayerDesign


# By (out_parallel, window channels, kernel_rows, columns).
_Front = dict[tuple[int, ...], list[_Step]]


@dataclass(frozen=True, eq=False)
class _Space:
    """Everything that does not depend on the interval, and the resources computed so far.

    `tied`: stages that hand on equal words. `steps`: of an option (its id) and a number of lanes.
    `feeds`: of windows.
    """

    graph: Graph
    device: Device
    chain: tuple[Stage, ...]
    types: dict[str, TensorType]
    rows: BranchRows
    tied: tuple[frozenset[str], ...]
    options: tuple[tuple[OpenMapping, ...], ...]
    steps: dict[tuple[int, int], _Step] = field(default_factory=dict)
    feeds: dict[tuple[int, ...], Usage] = field(default_factory=dict)


def optimise(
    graph: Graph,
    device: Device,
    clock_mhz: float = 250.0,
    utilisation: Budget = Budget(),
) -> Design:
    """Return the legal design of `graph` with the shortest frame interval found within budget.

    Deterministic. Raise DesignError naming the limiting resource if not even the slowest fits.
    """
    space, limit = _space(graph, device), utilisation.of(device)
    intervals = _intervals(space)
    best = _slowest(space, intervals[-1], limit)
    low, high = 0, len(intervals) - 1
    while low < high:
        middle = (low + high) // 2
        found = _fit(space, intervals[middle], limit)
        if found is None:
            low = middle + 1
        else:
            best, high = found, middle
    design = Design(space.graph, device, clock_mhz, best, port_bits=PORT_BITS)
    verify(design)
    return design


def check(graph: Graph, device: Device, utilisation: Budget = Budget()) -> None:
    """Raise DesignError naming the limiting resource if not even the slowest design fits.

    Much quicker than `optimise`, which raises the same.
    """
    space = _space(graph, device)
    _slowest(space, _intervals(space)[-1], utilisation.of(device))


def _space(graph: Graph, device: Device) -> _Space:
    graph = lower(graph)
    chain, types = stages(graph), infer(graph)
    options = tuple(tuple(mappings(graph, stage, types, device)) for stage in chain)
    rows, tied = branch_rows(graph), equal_words(chain)
    return _Space(graph, device, chain, types, rows, tied, options)


def _slowest(space: _Space, interval: int, limit: Usage) -> tuple[LayerDesign, ...]:
    """Return the layers of a design of the longest interval; DesignError if none fits."""
    layers = _fit(space, interval, limit)
    if layers is None:
        raise _infeasible(space, interval, limit)
    return layers


def manual(
    graph: Graph, device: Device, clock_mhz: float, foldings: Mapping[str, Folding]
) -> Design:
    """Return the design with the given folding per convolution and the best plan for each.

    Raise DesignError for a layer without a folding, a folding without a layer or an illegal one.
    """
    graph = lower(graph)
    chain = stages(graph)
    names = [stage.conv.name for stage in chain]
    if set(names) != set(foldings):
        raise DesignError(
            f"foldings are given for {', '.join(sorted(foldings))}; "
            f"'{graph.name}' has the layers {', '.join(names)}"
        )
    layers = tuple(fastest(stage, device, foldings[stage.conv.name]) for stage in chain)
    design = Design(graph, device, clock_mhz, layers, port_bits=PORT_BITS)
    verify(design)
    return design


def _intervals(space: _Space) -> list[int]:
    """Return every number of cycles that some process may take and all processes may keep to."""
    image = max(map(process_cycles, input_processes(space.graph, space.types, PORT_BITS)))
    cycles = {image}
    for options in space.options:
        cycles.update(option.cycles for option in options)
        cycles.update(option.lane_cycles // n for option in options for n in option.lanes)
    return sorted(interval for interval in cycles if interval >= image)


def _fit(space: _Space, interval: int, limit: Usage) -> tuple[LayerDesign, ...] | None:
    """Return layers that keep to `interval` and `limit`, None if none were found.

    The cheapest in DSP, LUT or BRAM come first, then a balance of all three.
    """
    fronts = [_front(space, index, interval) for index in range(len(space.chain))]
    balance = tuple(_DEVICE_PRICE // max(allowed, 1) for allowed in _amounts(limit))
    for turn in range(len(_FIRST) + _PRICE_ROUNDS):
        prices = [*_FIRST.values(), balance][min(turn, len(_FIRST))]
        found = _cheapest(space, fronts, prices)
        if found is None:
            return None
        usage, layers = found
        pairs = list(zip(_amounts(usage), _amounts(limit), strict=True))
        if all(used <= allowed for used, allowed in pairs):
            return layers
        if _cost(prices, usage) > _cost(prices, limit):
            return None
        if turn >= len(_FIRST):
            balance = tuple(
                max(price * used // max(allowed, 1), 1)
                for price, (used, allowed) in zip(balance, pairs, strict=True)
            )
    return None


def _amounts(usage: Usage) -> tuple[int, int, int]:
    return usage.dsp, usage.lut, usage.bram18


def _cost(prices: Prices, usage: Usage) -> int:
    return prices[0] * usage.dsp + prices[1] * usage.lut + prices[2] * usage.bram18


def _cheapest(
    space: _Space, fronts: list[_Front], prices: Prices
) -> tuple[Usage, tuple[LayerDesign, ...]] | None:
    """Return the cheapest of all mappings made of `fronts`, and what it takes.

    What a window writes needs no check: its producer takes a cycle for each of these words.
    """
    found = []
    for parallel in _tied_parallels(space, fronts):
        path = _cheapest_path(space, fronts, prices, parallel)
        if path is not None:
            found.append(path)
    if not found:
        return None
    steps = min(found, key=itemgetter(0))[1]
    return _total(space, steps), tuple(step.layer for step in steps)


def _tied_parallels(space: _Space, fronts: list[_Front]) -> Iterator[dict[str, int]]:
    """Yield the channels of the words of all stages that are tied to others, and of the input."""
    fixed = {space.graph.input.name: space.graph.input.channels}
    names = [stage.conv.name for stage in space.chain]
    offered = []
    for group in space.tied:
        sizes = [{shape[0] for shape in fronts[names.index(name)]} for name in group]
        offered.append(sorted(set.intersection(*sizes)))
    for sizes in product(*offered):
        tied = (
            (name, size) for group, size in zip(space.tied, sizes, strict=True) for name in group
        )
        yield fixed | dict(tied)


def _cheapest_path(
    space: _Space, fronts: list[_Front], prices: Prices, parallels: Mapping[str, int]
) -> tuple[int, tuple[_Step, ...]] | None:
    """Return cost and steps of the cheapest mapping whose tied stages hand on such words.

    A stage reads what the one before it hands on or, if that is not its feeder, a tied one.
    """
    states: dict[int, tuple[int, tuple[_Step, ...]]] = {space.graph.input.channels: (0, ())}
    for index, (stage, front) in enumerate(zip(space.chain, fronts, strict=True)):
        size = parallels.get(stage.conv.name)
        choices = [
            (shape, *min(((_cost(prices, step.usage), step) for step in steps), key=itemgetter(0)))
            for shape, steps in front.items()
            if size in (None, shape[0])
        ]
        if (known := parallels.get(stage.feeders[0])) is not None and states:
            states = {known: min(states.values(), key=itemgetter(0))}
        windows = {shape[1:]: step.layer for shape, _, step in choices}
        reached: dict[int, tuple[int, tuple[_Step, ...]]] = {}
        for in_parallel, (before, path) in states.items():
            if in_parallel * stage.source.bits > MAX_WORD_BITS:
                continue
            feeds = {
                window: before + _cost(prices, _feed(space, index, layer, in_parallel))
                for window, layer in windows.items()
                if are_multiples(window[0], in_parallel)
            }
            for (parallel, *window), cost, step in choices:
                feed = feeds.get(tuple(window))
                if feed is None:
                    continue
                if parallel not in reached or feed + cost < reached[parallel][0]:
                    reached[parallel] = (feed + cost, (*path, step))
        states = reached
    return min(states.values(), key=itemgetter(0)) if states else None


def _total(space: _Space, steps: tuple[_Step, ...]) -> Usage:
    usage = passing_usage(input_processes(space.graph, space.types, PORT_BITS), space.rows)
    parallel = {space.graph.input.name: space.graph.input.channels}
    for index, (stage, step) in enumerate(zip(space.chain, steps, strict=True)):
        in_parallel = parallel[stage.feeders[0]]
        usage += _feed(space, index, step.layer, in_parallel) + step.usage
        parallel[step.layer.name] = step.layer.out_parallel
    return usage


def _front(space: _Space, index: int, interval: int) -> _Front:
    """Return the layers that keep to `interval`, with the fewest lanes each, by their shape.

    Layers of one shape take the same window and hand on the same words, so that of two of them the
    one that takes more of everything goes.
    """
    rivals: _Front = defaultdict(list)
    for option in space.options[index]:
        if option.cycles > interval:
            continue
        lanes = next((n for n in option.lanes if option.lane_cycles // n <= interval), None)
        if lanes is not None:
            step = _step(space, index, option, lanes)
            folding, columns = step.layer.folding, step.layer.plan.columns
            channels = window_channels(space.chain[index], folding)
            shape = (step.layer.out_parallel, channels, folding.kernel_rows, columns)
            rivals[shape].append(step)
    return {shape: _undominated(found) for shape, found in rivals.items()}


def _undominated(found: list[_Step]) -> list[_Step]:
    kept: list[_Step] = []
    for step in sorted(found, key=lambda step: _amounts(step.usage)):
        lut, bram18 = step.usage.lut, step.usage.bram18
        if not any(k.usage.lut <= lut and k.usage.bram18 <= bram18 for k in kept):
            kept.append(step)  # sorted: none of those kept takes more DSPs
    return kept


def _feed(space: _Space, index: int, layer: LayerDesign, in_parallel: int) -> Usage:
    """Return what the window of `layer` and the FIFO into it take."""
    folding = layer.folding
    stage = space.chain[index]
    channels = window_channels(stage, folding)
    key = (index, in_parallel, channels, folding.kernel_rows, layer.plan.columns)
    if key not in space.feeds:
        window = layer_processes(stage, layer, in_parallel, PORT_BITS)[0]
        fifo = (in_parallel * stage.source.bits, default_depth(window))
        space.feeds[key] = layer_usage(stage, layer, (window,), [fifo], dsp(layer.plan.dsp))
    return space.feeds[key]


def _step(space: _Space, index: int, option: OpenMapping, lanes: int) -> _Step:
    key = (id(option), lanes)
    if key not in space.steps:
        stage = space.chain[index]
        folding = replace(option.layer.folding, requant_lanes=lanes)
        layer = replace(option.layer, folding=folding)
        window, mac, *rest = layer_processes(stage, layer, stage.source.channels, PORT_BITS)
        sums_bits = output_words(mac)[0]
        fifos = [(output_words(window)[0], default_depth(mac))]
        fifos += [(sums_bits, default_depth(process)) for process in rest]
        primitive = dsp(layer.plan.dsp)
        usage = layer_usage(stage, layer, (mac, *rest), fifos, primitive)
        followers = follower_processes(space.graph, stage, space.types, layer)
        price = partial(process_usage, stage=stage, layer=layer, dsp=primitive)
        space.steps[key] = _Step(usage + passing_usage(followers, space.rows, price), layer)
    return space.steps[key]


def _infeasible(space: _Space, interval: int, limit: Usage) -> DesignError:
    where = f"'{space.graph.name}' on {space.device.name}"
    fronts = [_front(space, index, interval) for index in range(len(space.chain))]
    for resource, prices in _FIRST.items():
        found = _cheapest(space, fronts, prices)
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
