# SPDX-License-Identifier: Apache-2.0
"""Checks a graph against docs/IR.md and infers the shape and exact range of every result."""

import numpy as np

from hw.intmath import activation_range, signed_bits, weight_range
from hw.ir import (
    VERSION,
    Add,
    Concat,
    Conv,
    Graph,
    Input,
    IRError,
    Linear,
    MaxPool,
    Node,
    Output,
    Patches,
    Reorg,
    Requant,
    TensorType,
    sources,
)

GEMM_EXACT = 1 << 53  # integers below are exact in the float64 products of the executor
MAX_CODE_BITS = 16  # of activations; two limbs of them fit the products of the jitted executor
# Bits of mul and of acc on the two ports of a DSP, either way round: 18 x 27 of a DSP48E2; 25, not
# 27, so that a DSP48E1 takes it too.
DSP_PORTS = ((25, 18), (18, 27))
SUM_BITS = 45


def verify(graph: Graph) -> dict[str, TensorType]:
    """Check topology, shapes, widths and bounds; return the type of every node's result.

    Raises IRError naming the node, the value found and the rule.
    """
    _check_topology(graph)
    return infer(graph)


def infer(graph: Graph) -> dict[str, TensorType]:
    """Return the type of every node's result (bounds are exact per channel where weights exist)."""
    types: dict[str, TensorType] = {}
    for node in graph.nodes:
        types[node.name] = _infer_node(node, [types[name] for name in sources(node)])
    return types


def requant_fits_dsp(node: Requant, source: TensorType) -> bool:
    """Return whether one DSP48E2 computes a lane: mul and acc fit `DSP_PORTS`, the sum 45 bits."""
    if node.mul is None:
        return True
    lo, hi = _requant_sum_bounds(node, source)
    mul_bits = signed_bits(int(node.mul.min()), int(node.mul.max()))
    port_bits = mul_port_bits(source.lo, source.hi)
    return port_bits is not None and mul_bits <= port_bits and signed_bits(lo, hi) <= SUM_BITS


def mul_port_bits(lo: int, hi: int) -> int | None:
    """Return the bits of mul beside accumulators lo..hi on one DSP, None if these fit no port."""
    acc_bits = signed_bits(lo, hi)
    return next((mul for mul, acc in DSP_PORTS if acc_bits <= acc), None)


def _check_topology(graph: Graph) -> None:
    if graph.version != VERSION:
        raise IRError(
            f"graph '{graph.name}' has IR version {graph.version}, this program knows {VERSION}"
        )
    if len(graph.nodes) < 2:
        raise IRError(f"graph '{graph.name}' has {len(graph.nodes)} nodes; needs Input and Output")
    seen: set[str] = set()
    read: set[str] = set()
    for index, node in enumerate(graph.nodes):
        if not node.name.isidentifier():
            raise IRError(f"node name '{node.name}' is not an identifier; use letters, digits, _")
        if node.name in seen:
            raise IRError(f"node name '{node.name}' is used twice; names must be unique")
        if isinstance(node, Input) != (index == 0):
            raise IRError(f"node '{node.name}': exactly the first node must be an Input")
        if isinstance(node, Output) != (index == len(graph.nodes) - 1):
            raise IRError(f"node '{node.name}': exactly the last node must be an Output")
        for name in sources(node):
            if name not in seen:
                raise IRError(f"node '{node.name}' reads '{name}', which is not an earlier node")
        seen.add(node.name)
        read.update(sources(node))
    unread = seen - read - {graph.output.name}
    if unread:
        raise IRError(f"node '{min(unread)}' is read by no node; remove it or connect it")


def _infer_node(node: Node, inputs: list[TensorType]) -> TensorType:
    match node:
        case Input():
            return _infer_input(node)
        case Conv():
            return _infer_conv(node, inputs[0])
        case Linear():
            return _infer_linear(node, inputs[0])
        case Requant():
            return _infer_requant(node, inputs[0])
        case MaxPool():
            return _shrink(node, inputs[0], node.size, exact=False)
        case Reorg():
            return _shrink(node, inputs[0], node.block, exact=True)
        case Patches():
            return _infer_patches(node, inputs[0])
        case Concat():
            return _infer_concat(node, inputs)
        case Add():
            return _infer_add(node, inputs)
        case Output():
            _check_vector(node, "scale", node.scale, inputs[0].channels)
            return inputs[0]


def _infer_input(node: Input) -> TensorType:
    _check_positive(node, "height", "width", "channels", "bits")
    if not node.bits <= node.port_bits <= MAX_CODE_BITS:
        raise IRError(
            f"input '{node.name}': bits {node.bits} of {node.port_bits}-bit pixels; "
            f"needs 1 <= bits <= port_bits <= {MAX_CODE_BITS}"
        )
    lo, hi = activation_range(node.bits)
    return TensorType(node.height, node.width, node.channels, lo, hi, node.bits, False)


def _infer_conv(node: Conv, source: TensorType) -> TensorType:
    _check_positive(node, "out_channels", "kernel", "stride", "groups")
    _check_codes(node, source)
    if source.channels % node.groups or node.out_channels % node.groups:
        raise IRError(
            f"conv '{node.name}': groups {node.groups} must divide {source.channels} input and "
            f"{node.out_channels} output channels"
        )
    height, width = _steps(node, source)
    fan_in = source.channels // node.groups
    shape = (node.kernel, node.kernel, fan_in, node.out_channels)
    return _accumulators(node, source, shape, height, width)


def _steps(node: Conv | Patches, source: TensorType) -> tuple[int, int]:
    """Return how many places a kernel takes along the rows and the columns of a map."""
    if node.padding < 0:
        raise IRError(f"node '{node.name}': padding is {node.padding}, must be at least 0")
    height, width = (
        (size + 2 * node.padding - node.kernel) // node.stride + 1
        for size in (source.height, source.width)
    )
    if height < 1 or width < 1:
        raise IRError(
            f"node '{node.name}': kernel {node.kernel} does not fit "
            f"{source.height}x{source.width} with padding {node.padding}"
        )
    return height, width


def _infer_patches(node: Patches, source: TensorType) -> TensorType:
    _check_positive(node, "kernel", "stride")
    _check_codes(node, source)
    channels = node.kernel**2 * source.channels
    size = _steps(node, source)
    return TensorType(*size, channels, source.lo, source.hi, source.bits, False)


def _infer_linear(node: Linear, source: TensorType) -> TensorType:
    _check_positive(node, "out_channels")
    _check_codes(node, source)
    shape = (source.height * source.width * source.channels, node.out_channels)
    return _accumulators(node, source, shape, 1, 1)


def _accumulators(
    node: Conv | Linear, source: TensorType, shape: tuple[int, ...], height: int, width: int
) -> TensorType:
    if node.w_format.scheme != "fixed" or not 1 <= node.w_format.bits <= 16:
        raise IRError(
            f"node '{node.name}': weight format {node.w_format} must be fixed, 1..16 bits"
        )
    w_lo, w_hi = weight_range(node.w_format.bits, node.w_format.narrow)
    terms = int(np.prod(shape[:-1]))
    lo, hi = terms * min(w_lo * source.hi, 0), terms * max(w_hi * source.hi, 0)
    if node.weights is not None:
        _check_weights(node, shape, w_lo, w_hi)
        flat = node.weights.reshape(-1, shape[-1])
        low = np.minimum(flat, 0).sum(0) * source.hi
        high = np.maximum(flat, 0).sum(0) * source.hi
        bias = np.zeros(shape[-1], np.int64)
        if node.bias is not None:
            _check_vector(node, "bias", node.bias, shape[-1])
            bias = node.bias
        lo, hi = int(min((low + bias).min(), 0)), int(max((high + bias).max(), 0))
    if max(-lo, hi) >= GEMM_EXACT:
        raise IRError(f"node '{node.name}': accumulator range {lo}..{hi} exceeds 2^53")
    return TensorType(height, width, shape[-1], lo, hi, signed_bits(lo, hi), True)


def _check_weights(node: Conv | Linear, shape: tuple[int, ...], w_lo: int, w_hi: int) -> None:
    if node.weights.shape != shape:
        raise IRError(f"node '{node.name}': weights have shape {node.weights.shape}, need {shape}")
    low, high = int(node.weights.min()), int(node.weights.max())
    if low < w_lo or high > w_hi:
        kind = "narrow" if node.w_format.narrow else "full"
        raise IRError(
            f"node '{node.name}': weights span {low}..{high}, outside the {kind} "
            f"{node.w_format.bits}-bit range {w_lo}..{w_hi}"
        )


def _infer_requant(node: Requant, source: TensorType) -> TensorType:
    if not 1 <= node.bits <= MAX_CODE_BITS:
        raise IRError(f"requant '{node.name}': bits {node.bits} must be in 1..{MAX_CODE_BITS}")
    if not 0 <= node.shift <= 62:
        raise IRError(f"requant '{node.name}': shift {node.shift} must be in 0..62")
    if node.mul is not None:
        _check_vector(node, "mul", node.mul, source.channels)
        _check_vector(node, "bias", node.bias, source.channels)
        lo, hi = _requant_sum_bounds(node, source)
        if signed_bits(lo, hi) > 64:
            raise IRError(
                f"requant '{node.name}': acc * mul + bias spans {lo}..{hi}, more than 64 bits; "
                "use a smaller shift"
            )
    lo, hi = activation_range(node.bits)
    return TensorType(source.height, source.width, source.channels, lo, hi, node.bits, False)


def _requant_sum_bounds(node: Requant, source: TensorType) -> tuple[int, int]:
    """Return exact bounds of acc * mul + bias + half over all channels (Python integers)."""
    half = (1 << node.shift) >> 1
    sums = [
        acc * int(mul) + int(bias) + half
        for mul, bias in zip(node.mul, node.bias, strict=True)
        for acc in (source.lo, source.hi)
    ]
    return min(sums), max(sums)


def _shrink(node: MaxPool | Reorg, source: TensorType, factor: int, exact: bool) -> TensorType:
    _check_codes(node, source)
    if factor < 1 or source.height < factor or source.width < factor:
        raise IRError(f"node '{node.name}': block {factor} on {source.height}x{source.width}")
    if exact and (source.height % factor or source.width % factor):
        raise IRError(
            f"reorg '{node.name}': block {factor} must divide {source.height}x{source.width}"
        )
    channels = source.channels * (factor * factor if isinstance(node, Reorg) else 1)
    height, width = source.height // factor, source.width // factor
    return TensorType(height, width, channels, source.lo, source.hi, source.bits, False)


def _infer_concat(node: Concat, inputs: list[TensorType]) -> TensorType:
    if not inputs:
        raise IRError(f"concat '{node.name}' has no sources; needs at least one")
    first = inputs[0]
    for name, other in zip(node.sources, inputs, strict=True):
        _check_codes(node, other)
        if (other.height, other.width, other.bits) != (first.height, first.width, first.bits):
            raise IRError(
                f"concat '{node.name}': '{name}' is {other.height}x{other.width} of {other.bits} "
                f"bits, '{node.sources[0]}' {first.height}x{first.width} of {first.bits} bits"
            )
    channels = sum(other.channels for other in inputs)
    return TensorType(first.height, first.width, channels, first.lo, first.hi, first.bits, False)


def _infer_add(node: Add, inputs: list[TensorType]) -> TensorType:
    if len(inputs) != 2:
        raise IRError(f"add '{node.name}' has {len(inputs)} sources; it adds two")
    for source in inputs:
        _check_codes(node, source)
    first, second = ((source.height, source.width, source.channels) for source in inputs)
    if first != second:
        shapes = ", ".join(
            f"'{name}' is {shape[0]}x{shape[1]}x{shape[2]}"
            for name, shape in zip(node.sources, (first, second), strict=True)
        )
        raise IRError(f"add '{node.name}': {shapes}; both must have one shape")
    hi = inputs[0].hi + inputs[1].hi
    return TensorType(*first, 0, hi, signed_bits(0, hi), True)


def _check_codes(node: Node, source: TensorType) -> None:
    if source.signed:
        raise IRError(
            f"node '{node.name}' reads signed accumulators; put a Requant before it "
            f"({source.bits}-bit signed values cannot be multiplied as codes)"
        )


def _check_positive(node: Node, *fields: str) -> None:
    for field in fields:
        value = getattr(node, field)
        if value < 1:
            raise IRError(f"node '{node.name}': {field} is {value}, must be at least 1")


def _check_vector(node: Node, field: str, value: np.ndarray | None, channels: int) -> None:
    if value is not None and value.shape != (channels,):
        raise IRError(f"node '{node.name}': {field} has shape {value.shape}, need ({channels},)")
    if value is None and field != "scale":
        raise IRError(f"node '{node.name}': {field} is missing, need ({channels},) integers")
