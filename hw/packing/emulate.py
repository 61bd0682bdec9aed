# SPDX-License-Identifier: Apache-2.0
"""Port-exact emulation of packed multiplications, vectorised over numpy int64.

The decoder sees what hardware sees: the accumulator P modulo 2^p_bits and, for `known_bits` = t,
the t low bits of every field, computed from the t low bits of the operands.
"""

from typing import Literal

import numpy as np

from hw.device import dsp
from hw.packing.plan import ActLane, PackError, PackPlan, Piece, WeightLane, Word

Ports = Literal["check", "wrap"]


def emulate(
    plan: PackPlan, weights: np.ndarray, acts: np.ndarray, ports: Ports = "check"
) -> np.ndarray:
    """Return the field sums that the DSPs and their decoders produce.

    `weights` int64 `[..., N, weight lanes]` and `acts` `[..., N, activation lanes]` hold the
    operands of N successive multiplications in lane order; leading axes broadcast. The result
    `[..., fields]` has the field order of the plan's words. A word that overflows its port raises
    PackError ("check") or loses its upper bits as in silicon ("wrap").
    """
    return sum(
        emulate_word(
            piece.word,
            plan.known_bits,
            dsp(plan.dsp).p_bits,
            *operands(piece, weights, acts),
            ports,
        )
        << piece.low
        for piece in plan.pieces
    )


def expected(plan: PackPlan, weights: np.ndarray, acts: np.ndarray) -> np.ndarray:
    """Return the same sums by the plain definition: products of lanes that share an output."""
    return expected_word(plan.pieces[0].word, weights, acts)


def operands(piece: Piece, weights: np.ndarray, acts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what `piece` multiplies: its bits of the split operand and all of the other one."""
    match piece.split:
        case "w":
            return _bits(weights, piece.low, piece.word.w_lo, piece.bits), acts
        case "a":
            return weights, _bits(acts, piece.low, piece.word.a_lo, piece.bits)
        case _:
            return weights, acts


def _bits(values: np.ndarray, low: int, least: int, bits: int) -> np.ndarray:
    shifted = values >> low
    return shifted if least < 0 else shifted & ((1 << bits) - 1)


def emulate_word(
    word: Word,
    known_bits: int,
    p_bits: int,
    weights: np.ndarray,
    acts: np.ndarray,
    ports: Ports = "check",
) -> np.ndarray:
    """Return the decoded sums `[..., fields]` of N multiplications of one word (see emulate)."""
    count = max(weights.shape[-2], acts.shape[-2])
    packed = pack(word.weights, weights, word.w_port, ports)
    packed = packed * pack(word.acts, acts, word.a_port, ports)
    mask = (1 << p_bits) - 1
    result = (packed.sum(axis=-1) + (word.bias(count) & mask)) & mask
    known = known_low_bits(word, known_bits, weights, acts)
    return decode(word, known_bits, p_bits, count, result, known)


def pack(
    lanes: tuple[WeightLane, ...] | tuple[ActLane, ...],
    values: np.ndarray,
    port_bits: int,
    ports: Ports,
) -> np.ndarray:
    """Return the port words `[...]` of lane values `[..., lanes]`, as signed integers."""
    words = sum(values[..., index] << lane.offset for index, lane in enumerate(lanes))
    half = 1 << (port_bits - 1)
    wrapped = ((words + half) & ((1 << port_bits) - 1)) - half
    if ports == "check" and not np.array_equal(wrapped, words):
        first = np.argwhere(wrapped != words)[0]
        raise PackError(
            f"word {words[tuple(first)]} of lanes {values[tuple(first)].tolist()} does not fit a "
            f"signed {port_bits}-bit port ({-half}..{half - 1})"
        )
    return wrapped


def known_low_bits(
    word: Word, known_bits: int, weights: np.ndarray, acts: np.ndarray
) -> list[np.ndarray]:
    """Return u mod 2^t per field (u = sum of the products - N lo), from low operand bits only."""
    count = max(weights.shape[-2], acts.shape[-2])
    mask = (1 << known_bits) - 1
    low_weights, low_acts = weights & mask, acts & mask
    return [
        (_dot(field.terms, low_weights, low_acts) - count * field.lo) & mask
        for field in word.fields
    ]


def decode(
    word: Word,
    known_bits: int,
    p_bits: int,
    count: int,
    result: np.ndarray,
    known: list[np.ndarray],
) -> np.ndarray:
    """Return the sums `[..., fields]` in P = `result` after `count` multiplications.

    The rule of `hw.packing.plan`, lowest field first; `known` holds each field's t low bits.
    """
    sums = []
    for index, field in enumerate(word.fields):
        slice_ = result >> field.offset
        if known_bits and index + 1 < len(word.fields):
            slice_ = slice_ - (known[index + 1] << (word.fields[index + 1].offset - field.offset))
        value = slice_ & ((1 << field.bits) - 1)
        result = (result - (value << field.offset)) & ((1 << p_bits) - 1)
        sums.append(value + count * field.lo)
    return np.stack(sums, axis=-1)


def expected_word(word: Word, weights: np.ndarray, acts: np.ndarray) -> np.ndarray:
    """Return the sums `[..., fields]` of the products whose lanes name the field's output."""
    return np.stack(
        [_dot(output_terms(word, field.terms[0]), weights, acts) for field in word.fields], axis=-1
    )


def output_terms(word: Word, first: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Return all lane pairs with the output (group, row, column - tap) of the pair `first`."""
    pairs = [(i, j) for i in range(len(word.weights)) for j in range(len(word.acts))]
    return tuple(pair for pair in pairs if output(word, pair) == output(word, first))


def output(word: Word, term: tuple[int, int]) -> tuple[int, int, int]:
    """Return the output (group, row, column - tap) that a product of two lanes belongs to."""
    weight, act = word.weights[term[0]], word.acts[term[1]]
    return weight.group, act.row, act.column - weight.tap


def _dot(terms: tuple[tuple[int, int], ...], weights: np.ndarray, acts: np.ndarray) -> np.ndarray:
    return sum(weights[..., i] * acts[..., j] for i, j in terms).sum(axis=-1)
