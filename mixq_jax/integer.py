# SPDX-License-Identifier: Apache-2.0
"""Exact integer arithmetic under jit (no 64-bit types) and the jitted executor of a Graph."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from hw.intmath import signed_bits
from hw.ir import (
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
)
from hw.ir import sources as node_sources
from hw.ir_verify import TensorType, requant_fits_dsp, verify
from mixq_jax.pool import max_pool, space_to_depth

LIMB_BITS = 13
NARROW_PORT_BITS = 18
F32_EXACT = 1 << 24  # integers up to here are exact in float32


class RequantTable(NamedTuple):
    """Integers of one Requant, split for 32-bit arithmetic: bias + half = high 2^13 + low.

    `wide_mul`: the multiplier is on the wide port and is split, not the accumulator.
    """

    mul: Int[Array, " c"]
    high: Int[Array, " c"]
    low: Int[Array, " c"]
    shift: int
    levels: int
    wide_mul: bool


def requant_table(node: Requant) -> RequantTable:
    """Split the parameters of a Requant that keeps the DSP rule (docs/IR.md)."""
    total = node.bias + ((1 << node.shift) >> 1)
    high, low = total >> LIMB_BITS, total & ((1 << LIMB_BITS) - 1)
    arrays = (jnp.asarray(np.asarray(v), jnp.int32) for v in (node.mul, high, low))
    wide_mul = signed_bits(int(node.mul.min()), int(node.mul.max())) > NARROW_PORT_BITS
    return RequantTable(*arrays, node.shift, (1 << node.bits) - 1, wide_mul)


def requantise(acc: Int[Array, "*shape c"], table: RequantTable) -> Int[Array, "*shape c"]:
    """Return clip((acc mul + bias + half) >> shift, 0, levels), exact in int32.

    One factor is below 2^17, the other x = h 2^13 + l with 0 <= l < 2^13, so the sum is P 2^13 + Q
    with P = h y + high and Q = l y + low. Under the DSP rule (|x| < 2^26, |y| < 2^17,
    |sum| < 2^44) Q and P + (Q >> 13) fit int32; an overflow inside P wraps back. A floor shift by
    `shift` >= 13 needs only P + (Q >> 13).
    """
    mask = (1 << LIMB_BITS) - 1
    x, y = (table.mul, acc) if table.wide_mul else (acc, table.mul)
    high = (x >> LIMB_BITS) * y + table.high
    low = (x & mask) * y + table.low
    high, low = high + (low >> LIMB_BITS), low & mask
    if table.shift >= LIMB_BITS:
        return jnp.clip(high >> (table.shift - LIMB_BITS), 0, table.levels)
    rest = LIMB_BITS - table.shift
    # Clip before the left shift: what the clip removes is out of 0..levels anyway.
    high = jnp.clip(high, -1, table.levels)
    return jnp.clip((high << rest) + (low >> table.shift), 0, table.levels)


def executor(graph: Graph):
    """Return a jitted function pixels `[N, H, W, C]` -> {node name: int32 `[N, H, W, C]`}.

    Equal to `hw.execute.run` with `==`. Raises IRError for a shape-only graph, for sums beyond
    int32 and for a Requant that breaks the DSP rule of docs/IR.md (its products would not fit
    32-bit limbs).
    """
    types = verify(graph)
    if not graph.has_parameters:
        raise IRError(f"graph '{graph.name}' is shape-only; export it with parameters to run it")
    for node in graph.of_type(Conv, Linear):
        _check_sums(node, types[node.source], types[node.name])
    for node in graph.of_type(Requant):
        if not requant_fits_dsp(node, types[node.source]):
            raise IRError(
                f"requant '{node.name}' breaks the DSP rule (mul and acc of 18 x 27 or 25 x 18 "
                "bits, 45-bit sum); use hw.execute or export with a smaller shift"
            )

    @jax.jit
    def run(pixels: Int[Array, "n h w c"]) -> dict[str, Int[Array, "n h w c"]]:
        values: dict[str, Array] = {}
        for node in graph.nodes:
            inputs = [values[name] for name in node_sources(node)]
            values[node.name] = _run_node(node, inputs or [pixels.astype(jnp.int32)], types)
        return values

    return run


def _run_node(node: Node, inputs: list[Array], types: dict[str, TensorType]) -> Array:
    x = inputs[0]
    match node:
        case Input():
            return x >> (node.port_bits - node.bits)
        case Conv():
            return _conv(node, x, types[node.source])
        case Linear():
            flat = x.reshape(len(x), 1, 1, -1)
            return _conv(_as_conv(node), flat, types[node.source])
        case Requant():
            return requantise(x, requant_table(node))
        case MaxPool():
            return _pool(x, node.size)
        case Reorg():
            return space_to_depth(x, node.block)
        case Patches():
            return _patches(node, x)
        case Concat():
            return jnp.concatenate(inputs, -1)
        case Add():
            return inputs[0] + inputs[1]
        case Output():
            return x


def _as_conv(node: Linear) -> Conv:
    weights = node.weights[None, None]
    return Conv(
        node.name,
        node.source,
        node.out_channels,
        1,
        node.w_format,
        weights=weights,
        bias=node.bias,
    )


def _patches(node: Patches, x: Array) -> Array:
    pad, kernel = node.padding, range(node.kernel)
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    height, width = ((n + 2 * pad - node.kernel) // node.stride + 1 for n in x.shape[1:3])
    s = node.stride
    parts = [
        padded[:, ky : ky + s * height : s, kx : kx + s * width : s]
        for ky in kernel
        for kx in kernel
    ]
    return jnp.concatenate(parts, -1)


def _pool(x: Array, size: int) -> Array:
    if size == 2:
        return max_pool(x)
    window = (1, size, size, 1)
    return jax.lax.reduce_window(x, jnp.iinfo(x.dtype).min, jax.lax.max, window, window, "VALID")


def _largest(node: Conv | Linear) -> int:
    """Return the largest sum of |weights| of an output channel."""
    return int(np.abs(node.weights).reshape(-1, node.out_channels).sum(0).max())


def _check_sums(node: Conv | Linear, source: TensorType, acc: TensorType) -> None:
    """Raise IRError unless `_conv` is exact: sums fit int32, at worst those of halves float32."""
    if acc.bits > 32:
        raise IRError(f"node '{node.name}': sums {acc.lo}..{acc.hi} need more than int32")
    reach = _largest(node) * min(source.hi, 1 << (source.bits - source.bits // 2))
    if reach >= F32_EXACT:
        raise IRError(
            f"node '{node.name}': sums over half of each code's bits reach {reach}, which float32 "
            "does not hold exactly; use hw.execute"
        )


def _conv(node: Conv, x: Array, source: TensorType) -> Array:
    """Convolve in float32 where every partial sum is exact, else the input's two halves apart."""
    weights = jnp.asarray(node.weights, jnp.float32)
    bias = 0 if node.bias is None else jnp.asarray(node.bias, jnp.int32)
    if _largest(node) * source.hi < F32_EXACT:
        return exact_conv(x.astype(jnp.float32), weights, node).astype(jnp.int32) + bias
    half = source.bits // 2
    high, low = (
        exact_conv(part.astype(jnp.float32), weights, node).astype(jnp.int32)
        for part in (x >> half, x & ((1 << half) - 1))
    )
    return (high << half) + low + bias


def exact_conv(x: Float[Array, "n h w c"], weights: Float[Array, "k k c m"], node: Conv) -> Array:
    """Convolve integers held in float32 without reduced-precision modes of accelerators."""
    return jax.lax.conv_general_dilated(
        x,
        weights,
        (node.stride, node.stride),
        [(node.padding, node.padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=node.groups,
        precision=jax.lax.Precision.HIGHEST,
    )
