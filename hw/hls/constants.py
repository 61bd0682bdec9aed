# SPDX-License-Identifier: Apache-2.0
"""Numbers of the C++ tables: array ROMs, requantisation constants, biases of the head."""

from dataclasses import dataclass

import numpy as np

from hw.hls.build_plan import HlsError
from hw.intmath import ceil_div, signed_bits
from hw.mac_words import bias_bits, slice_bits, weight_lanes
from hw.packing.emulate import weight_slice
from hw.packing.plan import PackPlan, Part, Word
from hw.pipeline import MacArray, OutputPort, Requantise
from hw.stages import Stage

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


def weight_rom(weights: np.ndarray, array: MacArray, plan: PackPlan) -> np.ndarray:
    """Return the ROM of every PE, uint64 `[pe, depth, chunks]`.

    `weights` `[K, K, in, out]`. Word order and element order: docs/cycles.md, MacArray; a chunk
    holds as many elements as fit into 64 bits, the first in the low bits.
    """
    lanes, tiles = array.simd * array.kernel_rows, _tiles(weights, array)
    shape = (*tiles.shape[:2], plan.word_steps, tiles.shape[2])
    slices = np.zeros((*shape, lanes, weight_lanes(plan)), np.int64)
    biases = np.zeros((*shape, ceil_div(lanes, array.link)), np.int64)
    for step, word in enumerate(plan.words):
        part = plan.parts[word.part]
        places = [(lane.group, lane.tap) for lane in word.weights]
        picked = np.stack([tiles[..., group, tap] for group, tap in places], -1)
        values = weight_slice(part, plan, picked)
        slices[:, :, step, ..., : len(places)] = values
        first_lanes = range(0, lanes, array.link)
        biases[:, :, step] = np.add.reduceat(word_biases(plan, word, values), first_lanes, -1)
    parts = [_chunks(slices.reshape(*slices.shape[:4], -1), slice_bits(plan))]
    if plan.biased:
        parts.append(_chunks(biases, bias_bits(plan, lanes)))
    return np.concatenate(parts, -1).reshape(array.pe, -1, sum(part.shape[-1] for part in parts))


def start_rom(weights: np.ndarray, array: MacArray, plan: PackPlan) -> np.ndarray:
    """Return what the partial sums start from, int64 `[out_parallel, channels / out_parallel]`.

    That is the sum of z (`hw.packing.plan`) over all weights of a channel and all their parts.
    """
    total = sum(
        _least(plan, part, weight_slice(part, plan, weights)) << part.w_low + part.a_low
        for part in plan.parts
    )
    return _by_lane(total.sum((0, 1, 2)).tolist(), array.pe * array.groups)


def _tiles(weights: np.ndarray, array: MacArray) -> np.ndarray:
    """Return `weights` as [pe, out group, kernel row group and channel group, lane, group, tap]."""
    K, C, M, rows, pe, G = (
        array.kernel,
        array.in_channels,
        array.out_channels,
        array.kernel_rows,
        array.pe,
        array.groups,
    )
    split = weights.astype(np.int64).reshape(
        K // rows, rows, K, C // array.simd, array.simd, M // (pe * G), pe, G
    )
    # -> pe, out group | row group, channel group | row, channel | group, tap
    ordered = split.transpose(6, 5, 0, 3, 1, 4, 7, 2)
    return ordered.reshape(pe, M // (pe * G), -1, rows * array.simd, G, K)


def _least(plan: PackPlan, part: Part, slices: np.ndarray) -> np.ndarray:
    """Return z of every slice (`Part.least`, elementwise)."""
    return part.zero_point(plan.zero, slices)


def word_biases(plan: PackPlan, word: Word, slices: np.ndarray) -> np.ndarray:
    """Return C of equation (P), without the part of w_add, of every word of `slices`."""
    ones = sum(1 << lane.offset for lane in word.acts)
    terms = word.a_sub * slices - _least(plan, plan.parts[word.part], slices) * ones
    return (terms << np.array([lane.offset for lane in word.weights])).sum(-1)


def _chunks(elements: np.ndarray, bits: int) -> np.ndarray:
    """Pack the last axis, `bits` bits each in two's complement, into uint64 words."""
    per_chunk = CHUNK_BITS // bits
    count = ceil_div(elements.shape[-1], per_chunk)
    padding = count * per_chunk - elements.shape[-1]
    padded = np.pad(elements, [(0, 0)] * (elements.ndim - 1) + [(0, padding)])
    fields = padded.astype(np.uint64) & np.uint64((1 << bits) - 1)
    fields = fields.reshape(*elements.shape[:-1], count, per_chunk)
    shifts = (np.arange(per_chunk) * bits).astype(np.uint64)
    return np.bitwise_or.reduce(fields << shifts, -1)


def requant_constants(stage: Stage, process: Requantise) -> RequantConstants:
    """Return the constants of `process`, a requantiser of `stage`.

    Raises HlsError where a constant needs more than 64 bits.
    """
    node, acc = stage.requantised(process.node)
    half = (1 << node.shift) >> 1
    extras = _conv_bias(stage) if node in stage.requants else [0] * len(node.mul)
    mul = [int(value) for value in node.mul]
    bias = [
        int(own) + factor * extra + half
        for own, factor, extra in zip(node.bias, mul, extras, strict=True)
    ]
    sums = [
        value * factor + offset
        for factor, offset in zip(mul, bias, strict=True)
        for value in (acc.lo, acc.hi)
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
