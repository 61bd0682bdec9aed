# SPDX-License-Identifier: Apache-2.0
"""Mappings of one convolution: every folding with every packing plan worth trying."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from operator import itemgetter, le

from hw.cycles import process_cycles
from hw.dataflow import follower_processes, layer_processes
from hw.design import Folding, LayerDesign
from hw.design_verify import MAX_WORD_BITS, lane_choices, plan_fits, window_channels, word_bits
from hw.device import Device
from hw.intmath import divisors
from hw.ir import Graph, TensorType
from hw.packing.plan import PackPlan
from hw.packing.table import table
from hw.pipeline import OutputPort, Requantise
from hw.resources import legal_plans
from hw.stages import Stage
from hw.usage import array_prices

PORT_BITS = 64


@dataclass(frozen=True, eq=False)
class OpenMapping:
    """A mapping of one stage whose lanes are still open.

    `cycles`: its slowest process but those with lanes, for the widest input word; `lane_cycles`:
    the slowest of these with a single lane.
    """

    layer: LayerDesign
    cycles: int
    lane_cycles: int
    lanes: tuple[int, ...]


def mappings(
    graph: Graph, stage: Stage, types: dict[str, TensorType], device: Device
) -> Iterator[OpenMapping]:
    """Yield all mappings of `stage` whose plan fits it and whose words are not too wide."""
    conv, source = stage.conv, stage.source
    cell = table(device.dsp_type, conv.kernel, conv.w_format.narrow)
    plans = cell.plans(conv.w_format.bits, source.bits)
    for simd, rows in product(divisors(stage.fan_in), sorted({1, conv.kernel})):
        for plan in _worthwhile(plans, simd * rows):
            for pe in divisors(conv.out_channels):
                layer = LayerDesign(conv.name, Folding(pe, simd, rows), plan)
                fits = plan_fits(plan, conv, source, pe)
                if fits and words_fit(stage, layer):
                    yield _mapping(graph, stage, types, layer)


def _worthwhile(plans: Iterable[PackPlan], lanes: int) -> list[PackPlan]:
    """Return the plans that no other of the same tile beats in speed and in every price."""
    kept: dict[tuple[int, int], list[tuple[tuple, PackPlan]]] = defaultdict(list)
    priced = [((plan.word_steps, *array_prices(plan, lanes)), plan) for plan in plans]
    for prices, plan in sorted(priced, key=itemgetter(0)):
        rivals = kept[plan.groups, plan.columns]
        if not any(all(map(le, other, prices)) for other, _ in rivals):
            rivals.append((prices, plan))
    return [plan for rivals in kept.values() for _, plan in rivals]


def _mapping(
    graph: Graph, stage: Stage, types: dict[str, TensorType], layer: LayerDesign
) -> OpenMapping:
    own = layer_processes(stage, layer, stage.source.channels, PORT_BITS)
    processes = (*own, *follower_processes(graph, stage, types, layer))
    lanes = [process for process in processes if isinstance(process, Requantise | OutputPort)]
    others = [process for process in processes if not isinstance(process, Requantise | OutputPort)]
    return OpenMapping(
        layer,
        max(map(process_cycles, others)),
        max(map(process_cycles, lanes)),
        lane_choices(stage, layer.out_parallel, PORT_BITS),
    )


def fastest(stage: Stage, device: Device, folding: Folding) -> LayerDesign:
    """Return the mapping with the fewest DSP-cycles whose words are not too wide.

    If all are, return one of those: `verify` names the word.
    """
    conv, source = stage.conv, stage.source
    plans = legal_plans(conv, source, device, conv.w_format.bits, source.bits, folding.pe)
    layers = [LayerDesign(conv.name, folding, plan) for plan in plans]
    return next((layer for layer in layers if words_fit(stage, layer)), layers[-1])


def words_fit(stage: Stage, layer: LayerDesign) -> bool:
    """Tell whether no word of `layer` is wider than MAX_WORD_BITS."""
    channels = window_channels(stage, layer.folding)
    return max(word_bits(stage, layer, channels).values()) <= MAX_WORD_BITS
