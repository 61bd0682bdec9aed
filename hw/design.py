# SPDX-License-Identifier: Apache-2.0
"""Design: a graph mapped on a device with a folding and a packing plan for every layer."""

from dataclasses import dataclass

from hw.device import Device
from hw.ir import Graph
from hw.packing.plan import PackPlan


class DesignError(ValueError):
    """A mapping that the hardware cannot run; the message names the layer and the rule."""


@dataclass(frozen=True)
class Folding:
    """Parallelism of one layer's array.

    `pe` packed words along output channels, `simd` along input channels, `kernel_rows` along kernel
    rows (1 or K): pe * simd * kernel_rows words are multiplied every cycle.
    `requant_lanes` accumulators are requantised every cycle.
    """

    pe: int
    simd: int
    kernel_rows: int = 1
    requant_lanes: int = 1


@dataclass(frozen=True)
class LayerDesign:
    """Folding and plan of the convolution `name`."""

    name: str
    folding: Folding
    plan: PackPlan

    @property
    def out_parallel(self) -> int:
        """Output channels that leave the array together (one stream word): pe * groups."""
        return self.folding.pe * self.plan.groups


@dataclass(frozen=True)
class Design:
    """Everything that simulation, emission and reports need.

    `fifo_depths`: (stream name, words) pairs that override the default depth of a stream.
    `port_bits`: width of the input and of the output AXI-stream port.
    """

    graph: Graph
    device: Device
    clock_mhz: float
    layers: tuple[LayerDesign, ...]
    fifo_depths: tuple[tuple[str, int], ...] = ()
    port_bits: int = 64

    def layer(self, name: str) -> LayerDesign:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise DesignError(
            f"design of '{self.graph.name}' maps no layer '{name}'; "
            f"it maps: {', '.join(layer.name for layer in self.layers)}"
        )
