# SPDX-License-Identifier: Apache-2.0
"""Folding of a trained fixed-bit network into an integer Graph (docs/IR.md)."""

import math
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from hw.intmath import activation_range
from hw.ir import (
    Add,
    Concat,
    Conv,
    Graph,
    Input,
    MaxPool,
    Node,
    Output,
    Reorg,
    Requant,
    WeightFormat,
)
from hw.ir_verify import DSP_PORTS, SUM_BITS, mul_port_bits, verify
from mixq_jax import quant
from mixq_jax.bits import WIDTHS, FixedBits
from mixq_jax.integer import F32_EXACT, requant_table
from mixq_jax.model import HALF_CODE_BITS, CodeFormat, IntegerBits, check_bits
from mixq_jax.norm import EPS
from mixq_jax.spec import (
    INPUT,
    AddSpec,
    ConcatSpec,
    ConvSpec,
    Grid,
    NetSpec,
    PoolSpec,
    ReorgSpec,
    conv_groups,
    infer_shapes,
)

MAX_EXACT_RATIO = 1 << 16  # of two steps; larger ones fit no port
MAX_SHIFT = 40  # mul <= 2^17 keeps sums below 2^44 long before


class ExportError(ValueError):
    """Parameters that cannot be folded; the message names the layer."""


def to_graph(spec: NetSpec, bits: FixedBits, variables: Mapping | None = None) -> Graph:
    """Return the integer network of `spec` at `bits`; shape-only without `variables`.

    Batch norm and the consumer's activation step become one Requant for each layer and width at
    which its result is read: with m = gamma s_in s_w / (sigma s_out) and
    b = (beta - gamma mu / sigma) / s_out, mul = round(m 2^T), bias = round(b 2^T), T the largest
    shift that keeps the DSP rule. An operand of a sum that may be negative has the zero point
    2^(bits-1) in b, taken back behind it. Raises ExportError for parameters that are not finite or
    do not fit.
    """
    folder = _fold(spec, bits, variables)
    scale = (
        None
        if variables is None
        else np.full(spec.head.channels, folder.acc_scale(spec.output.name))
    )
    folder.nodes.append(Output("output", spec.output.name, scale))
    graph = Graph(spec.name, tuple(folder.nodes))
    verify(graph)
    return graph


def integer_bits(spec: NetSpec, bits: FixedBits, variables: Mapping) -> IntegerBits:
    """Return the Bits that run the Flax network on the very integers of `to_graph`."""
    folder = _fold(spec, bits, variables)
    reach = {name: int(np.maximum(-lo, hi).max()) for name, (lo, hi) in folder.bounds.items()}
    for name, most in reach.items():
        if most >= F32_EXACT << HALF_CODE_BITS:
            raise ExportError(
                f"layer '{name}': sums reach {most}, beyond 2^{24 + HALF_CODE_BITS}, where float32 "
                "is not exact even for half of a code; run its graph with hw.execute instead"
            )
    tables = {pair: requant_table(node) for pair, node in folder.requants.items()}
    steps = {name: float(step) for name, step in folder.steps.items()}
    wide = frozenset(name for name, most in reach.items() if most >= F32_EXACT)
    weights = {node.name: node.weights for node in folder.nodes if isinstance(node, Conv)}
    return IntegerBits(bits, weights, steps, tables, wide)


def weight_codes(spec: NetSpec, kernel: np.ndarray, width: int) -> tuple[np.ndarray, np.float32]:
    """Return a layer's integer weights at `width` bits and their float32 step."""
    table = quant.WEIGHT_STEPS[spec.quant.weight_steps, spec.quant.narrow]
    normal, unit = quant.normalise(jnp.asarray(kernel), spec.quant.weight_steps)
    step = np.float32(table[WIDTHS.index(width)]) * np.float32(unit)
    codes = quant.weight_code(normal, step, width, spec.quant.narrow)
    return np.asarray(codes), step


def _fold(spec: NetSpec, bits: FixedBits, variables: Mapping | None) -> "_Folder":
    check_bits(spec, bits)
    folder = _Folder(spec, bits, variables)
    for layer in spec.convs:
        folder.add_conv(layer)
    return folder


class _Folder:
    """Accumulates nodes while walking the convolutions of a spec."""

    def __init__(self, spec: NetSpec, bits: FixedBits, variables: Mapping | None):
        self.spec, self.bits, self.variables = spec, bits, variables
        self.shapes = infer_shapes(spec)
        self.order = {layer.name: index for index, layer in enumerate(spec.convs)}
        self.steps: dict[str, np.float32] = {}
        self.requants: dict[tuple[str, CodeFormat], Requant] = {}
        self.codes: dict[tuple[str, CodeFormat], str] = {}  # -> node of the codes
        first = next(layer for layer in spec.convs if spec.reads_image(layer))
        image = Input(INPUT, spec.height, spec.width, spec.channels, self.width(first, 1))
        self.nodes: list[Node] = [image]
        self.bounds: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def width(self, layer: ConvSpec, operand: int) -> int:
        return (self.bits.w, self.bits.a)[operand][self.order[layer.name]]

    def act_step(self, layer: ConvSpec) -> float:
        """Return the input step of `layer` in real units."""
        choice = WIDTHS.index(self.width(layer, 1))
        if self.spec.reads_image(layer):
            return quant.image_steps(self.spec.quant.pixel_levels)[choice]
        return quant.ACT_STEPS[self.spec.quant.act_steps][choice]

    def acc_scale(self, name: str) -> float:
        """Return the real value of one accumulator unit of convolution `name`."""
        return self.act_step(self.spec[name]) * float(self.steps[name])

    def add_conv(self, layer: ConvSpec) -> None:
        if layer.pooled:
            raise ExportError(
                f"layer '{layer.name}' of '{self.spec.name}' is pooled before its norm; the "
                "accelerator pools codes, so take the network that pools behind the norm"
            )
        source = self._input(layer)
        channels = self.shapes[layer.source][2]
        weights = bias = None
        if self.variables is not None:
            weights = self._weights(layer)
            if layer.bias:
                bias = self._round(layer, self._param(layer, "bias") / self.acc_scale(layer.name))
        self.nodes.append(
            Conv(
                layer.name,
                source,
                layer.out_channels,
                layer.kernel,
                WeightFormat(self.width(layer, 0), self.spec.quant.narrow),
                layer.stride,
                layer.kernel // 2,
                conv_groups(layer, channels),
                weights,
                bias,
            )
        )

    def _input(self, layer: ConvSpec) -> str:
        """Append what makes the codes that `layer` reads; return their node."""
        if self.spec.reads_image(layer):
            self._check_image(layer)
            return INPUT
        return self._codes(layer.source, self.width(layer, 1), layer.name)

    def _codes(self, name: str, wanted: CodeFormat, reader: str) -> str:
        """Append what turns the result of `name` into the codes `reader` wants; return the node."""
        if (name, wanted) in self.codes:
            return self.codes[name, wanted]
        layer = self.spec[name]
        match layer:
            case ConvSpec():
                node = self.requants[name, wanted] = self._requant(layer, wanted, reader)
            case AddSpec():
                self._add_sum(layer)
                node = self.requants[name, wanted] = self._requant_sum(layer, wanted, reader)
            case PoolSpec():
                source = self._codes(layer.source, wanted, reader)
                node = MaxPool(self._name(layer.name, reader), source)
            case ReorgSpec():
                source = self._codes(layer.source, wanted, reader)
                node = Reorg(self._name(layer.name, reader), source, layer.block)
            case ConcatSpec():
                sources = tuple(self._codes(source, wanted, reader) for source in layer.sources)
                node = Concat(self._name(layer.name, reader), sources)
        self.nodes.append(node)
        self.codes[name, wanted] = node.name
        return node.name

    def _add_sum(self, layer: AddSpec) -> None:
        """Append the sum itself, once for all that read it."""
        if layer.name in self.bounds:
            return
        pairs = zip(layer.sources, layer.grids, strict=True)
        sources = tuple(self._codes(name, grid, layer.name) for name, grid in pairs)
        self.nodes.append(Add(layer.name, sources))
        top = sum(grid.hi - grid.lo for grid in layer.grids)
        channels = self.shapes[layer.name][2]
        self.bounds[layer.name] = np.zeros(channels, np.int64), np.full(channels, top)

    def _check_image(self, consumer: ConvSpec) -> None:
        width = self.width(consumer, 1)
        if width != self.nodes[0].bits:
            raise ExportError(
                f"layer '{consumer.name}' reads the image with {width} bits, another one with "
                f"{self.nodes[0].bits}; choose one width for both"
            )

    def _name(self, name: str, reader: str) -> str:
        """Return `name`, or if an earlier reader took it, a name with the reader's."""
        taken = {node.name for node in self.nodes}
        return f"{name}_for_{reader}" if name in taken else name

    def _format(self, wanted: CodeFormat) -> tuple[int, float, int]:
        """Return bits, step and zero point of codes."""
        match wanted:
            case Grid(bits=bits, step=step, lo=lo):
                return bits, step, -lo
            case width:
                return width, quant.ACT_STEPS[self.spec.quant.act_steps][WIDTHS.index(width)], 0

    def _requant(self, layer: ConvSpec, wanted: CodeFormat, reader: str) -> Requant:
        name, (bits, out_step, zero) = (
            self._name(f"{layer.name}_quant", reader),
            self._format(wanted),
        )
        if self.variables is None:
            return Requant(name, layer.name, bits)
        stats = self.variables["batch_stats"][layer.name]
        mean, var = (np.asarray(v, np.float64) for v in stats)
        slope = self._param(layer, "gamma") / np.sqrt(var + EPS)
        mul = slope * self.acc_scale(layer.name) / out_step
        bias = (self._param(layer, "beta") - slope * mean) / out_step + zero
        shift = self._shift(layer, mul, bias)
        scaled = (self._round(layer, np.ldexp(v, shift)) for v in (mul, bias))
        return Requant(name, layer.name, bits, shift, *scaled)

    def _requant_sum(self, layer: AddSpec, wanted: CodeFormat, reader: str) -> Requant:
        """Return what reads a sum: value = step (sum - the zero points of both operands)."""
        name, (bits, out_step, zero) = (
            self._name(f"{layer.name}_quant", reader),
            self._format(wanted),
        )
        if self.variables is None:
            return Requant(name, layer.name, bits)
        ratio, zeros = layer.step / out_step, sum(grid.lo for grid in layer.grids)
        gain = np.full(self.shapes[layer.name][2], ratio)
        exact = ratio.is_integer() and ratio <= MAX_EXACT_RATIO
        shift = 0 if exact else self._shift(layer, gain, ratio * zeros + zero + 0 * gain)
        mul = self._round(layer, np.ldexp(gain, shift))
        bias = mul * zeros + (zero << shift)  # of the rounded gain: no value stays no value
        return Requant(name, layer.name, bits, shift, mul, bias)

    def _shift(self, layer: ConvSpec | AddSpec, mul: np.ndarray, bias: np.ndarray) -> int:
        """Return the largest shift for which multiplier and sum keep the DSP rule."""
        lo, hi = self.bounds[layer.name]
        reach = np.maximum(-lo, hi)
        mul_bits = mul_port_bits(int(lo.min()), int(hi.max()))
        if mul_bits is None:
            raise ExportError(
                f"layer '{layer.name}': sums up to {reach.max()} exceed {DSP_PORTS[-1][1]} bits"
            )
        sums = np.abs(mul).max() * reach.max() + np.abs(bias).max() + 1
        if not np.isfinite(sums):
            raise ExportError(f"layer '{layer.name}': batch norm is not finite; train it again")
        for shift in range(MAX_SHIFT, -1, -1):
            fits_port = np.abs(np.ldexp(mul, shift)).max() < (1 << (mul_bits - 1)) - 1
            if fits_port and math.ldexp(sums, shift) < 1 << (SUM_BITS - 1):
                return shift
        raise ExportError(
            f"layer '{layer.name}': requantiser gain {np.abs(mul).max():g} or bias "
            f"{np.abs(bias).max():g} is too large for the DSP; train longer or lower the rate"
        )

    def _weights(self, layer: ConvSpec) -> np.ndarray:
        kernel = np.asarray(self.variables["params"][f"{layer.name}_kernel"], np.float32)
        if not np.isfinite(kernel).all():
            raise ExportError(f"layer '{layer.name}': weights are not finite; train it again")
        width = self.width(layer, 0)
        codes, step = weight_codes(self.spec, kernel, width)
        self.steps[layer.name] = step
        if step <= 0 or not np.isfinite(codes).all():
            raise ExportError(f"layer '{layer.name}': all weights are equal; train it again")
        codes = codes.astype(np.int64)
        flat = codes.reshape(-1, codes.shape[-1]) * activation_range(self.width(layer, 1))[1]
        self.bounds[layer.name] = np.minimum(flat, 0).sum(0), np.maximum(flat, 0).sum(0)
        return codes

    def _param(self, layer: ConvSpec, kind: str) -> np.ndarray:
        return np.asarray(self.variables["params"][f"{layer.name}_{kind}"], np.float64)

    def _round(self, layer: ConvSpec | AddSpec, values: np.ndarray) -> np.ndarray:
        if not np.isfinite(values).all():
            raise ExportError(f"layer '{layer.name}': parameters are not finite; train it again")
        return np.rint(values).astype(np.int64)
