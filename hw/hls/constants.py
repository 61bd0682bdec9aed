# SPDX-License-Identifier: Apache-2.0
"""Numbers of the C++ tables: weight ROMs, requantisation constants, biases of the head."""

from dataclasses import dataclass

import numpy as np

from hw.chain import Stage
from hw.hls.build_plan import HlsError
from hw.intmath import ceil_div, signed_bits
from hw.pipeline import MacArray, OutputPort, Requantise

CHUNK_BITS = 64  # one element of a ROM word in C++


@dataclass(frozen=True, eq=False)
class RequantConstants:
    """Constants of code = clip((acc * mul + bias) >> shift), int64 `[lanes, channels / lanes]`.

    `bias` = bias of the node + mul * bias of the convolution + rounding half, exactly.
    `sum_bits` holds every acc * mul + bias.
    """

    mul: np.ndarray
    bias: np.ndarray
    mul_bits: int
    bias_bits: int
    sum_bits: int
    shift: int


def weight_rom(weights: np.ndarray, array: MacArray, w_bits: int) -> np.ndarray:
    """Return the ROM of every PE, uint64 `[pe, depth, chunks]`.

    `weights` `[K, K, in, out]`. Word order and element order: docs/cycles.md, MacArray; a chunk
    holds 64 // w_bits elements, the first in the low bits.
    """
    K, M, G = array.kernel, array.out_channels, array.groups
    steps, taps, rows, pe = array.tap_steps, array.taps, array.kernel_rows, array.pe
    padded = np.pad(weights, ((0, 0), (0, steps * taps - K), (0, 0), (0, 0)))
    split = padded.reshape(
        K // rows,
        rows,
        steps,
        taps,
        array.in_channels // array.simd,
        array.simd,
        M // (pe * G),
        pe,
        G,
    )
    # -> pe | out group, row group, channel group, tap step | row, channel, group, tap
    words = split.transpose(7, 6, 0, 4, 2, 1, 5, 8, 3)
    elements = rows * array.simd * G * taps
    return _chunks(words.reshape(pe, -1, elements), w_bits)


def _chunks(elements: np.ndarray, bits: int) -> np.ndarray:
    """Pack the last axis, `bits` bits each in two's complement, into uint64 words."""
    per_chunk = CHUNK_BITS // bits
    count = ceil_div(elements.shape[-1], per_chunk)
    padding = count * per_chunk - elements.shape[-1]
    padded = np.pad(elements, ((0, 0), (0, 0), (0, padding)))
    fields = (padded & ((1 << bits) - 1)).astype(np.uint64)
    fields = fields.reshape(*elements.shape[:-1], count, per_chunk)
    shifts = (np.arange(per_chunk) * bits).astype(np.uint64)
    return np.bitwise_or.reduce(fields << shifts, -1)


def requant_constants(stage: Stage, process: Requantise) -> RequantConstants:
    """Return the constants of `process`, which requantises the accumulators of `stage`.

    Raises HlsError where a constant needs more than 64 bits.
    """
    node = stage.requant
    half = (1 << node.shift) >> 1
    mul = [int(value) for value in node.mul]
    bias = [
        int(own) + factor * extra + half
        for own, factor, extra in zip(node.bias, mul, _conv_bias(stage), strict=True)
    ]
    sums = [
        acc * factor + offset
        for factor, offset in zip(mul, bias, strict=True)
        for acc in (stage.acc.lo, stage.acc.hi)
    ]
    widths = {
        name: signed_bits(min(values), max(values))
        for name, values in (("mul", mul), ("bias", bias), ("sum", sums))
    }
    if max(widths.values()) > CHUNK_BITS:
        raise HlsError(
            f"requant '{node.name}': {max(widths, key=widths.get)} needs {max(widths.values())} "
            f"bits, the C++ tables hold {CHUNK_BITS}; use a smaller shift"
        )
    return RequantConstants(
        _by_lane(mul, process.lanes),
        _by_lane(bias, process.lanes),
        widths["mul"],
        widths["bias"],
        widths["sum"],
        node.shift,
    )


def head_bias(stage: Stage, process: OutputPort) -> np.ndarray:
    """Return the bias of the head, int64 `[values_per_beat, channels / values_per_beat]`.

    Raises HlsError where accumulator plus bias exceed the 32 bits that leave the port.
    """
    bias = _conv_bias(stage)
    bits = signed_bits(stage.acc.lo + min(bias), stage.acc.hi + max(bias))
    if bits > 32:
        raise HlsError(
            f"head '{stage.conv.name}' can reach {bits}-bit results, the output port carries 32; "
            "use fewer weight or activation bits"
        )
    return _by_lane(bias, process.values_per_beat)


def _conv_bias(stage: Stage) -> list[int]:
    if stage.conv.bias is None:
        return [0] * stage.conv.out_channels
    return [int(value) for value in stage.conv.bias]


def _by_lane(values: list[int], lanes: int) -> np.ndarray:
    """Return `[lanes, n]`: element (lane, k) is value k * lanes + lane."""
    return np.array(values, np.int64).reshape(-1, lanes).T
