# SPDX-License-Identifier: Apache-2.0
"""Proof that a plan is exact: the rule of docs/packing.md in exact integers, and emulation.

The rule is necessary and sufficient, and a plan that breaks it fails on one of a few `decisive`
operand vectors; so a refusal always comes with a counterexample computed under true ports.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import pairwise, product

import numpy as np

from hw.device import Dsp, dsp
from hw.intmath import activation_range, weight_range
from hw.packing.emulate import emulate, emulate_word, expected, expected_word, output
from hw.packing.plan import Field, PackError, PackPlan, Piece, Proof, Word

EXHAUSTIVE_LIMIT = 1 << 22  # operand vectors of one word
CHUNK = 1 << 16  # operand vectors emulated at once: the intermediate arrays stay in the cache
SAMPLED_OPERANDS = 1 << 17  # lane values drawn per word where enumeration is too long


def prove(plan: PackPlan) -> PackPlan:
    """Return `plan` with its Proof; raise PackError with a counterexample if it is not exact.

    "exhaustive": every operand vector of every word was emulated (chain 1, at most
    EXHAUSTIVE_LIMIT vectors a word). "interval": the rule holds for all sequences; corners and
    seeded random sequences with sticky extremes were emulated as a check of the emulator and rule.
    """
    check_structure(plan)
    p_bits = dsp(plan.dsp).p_bits
    searched = [
        search_failure(piece.word, plan.chain, plan.known_bits, p_bits) for piece in plan.pieces
    ]
    for piece, (failure, _) in zip(plan.pieces, searched, strict=True):
        reason = violation(piece.word, plan.chain, plan.known_bits, p_bits)
        if failure or reason:
            raise PackError(f"{describe(plan)}: {reason or 'not exact'}; {failure}")
    vectors = sum(count for _, count in searched) + check_recombination(plan)
    if all(is_exhaustive(piece.word, plan.chain) for piece in plan.pieces):
        return replace(plan, proof=Proof("exhaustive", vectors, "every operand vector was decoded"))
    return replace(plan, proof=Proof("interval", vectors, INTERVAL_STATEMENT))


INTERVAL_STATEMENT = (
    "every field spans N (hi - lo) < 2^(slice bits) and every word fits its port, in exact integers"
)


def certify(plan: PackPlan) -> PackPlan:
    """Return `plan` with an interval Proof, without emulation; raise PackError if it breaks."""
    check_structure(plan)
    for piece in plan.pieces:
        reason = violation(piece.word, plan.chain, plan.known_bits, dsp(plan.dsp).p_bits)
        if reason:
            raise PackError(f"{describe(plan)}: {reason}")
    return replace(plan, proof=Proof("interval", 0, INTERVAL_STATEMENT))


def describe(plan: PackPlan) -> str:
    """Return a plan's name for messages."""
    return (
        f"{plan.technique} plan for {plan.dsp} kernel {plan.kernel} "
        f"w{plan.w_bits}a{plan.a_bits} ({plan.groups} x {plan.taps} x {plan.columns} lanes, "
        f"{plan.dsps} DSP, chain {plan.chain}, {plan.known_bits} known bits)"
    )


# The rule ------------------------------------------------------------------------------------


def violation(word: Word, chain: int, known_bits: int, p_bits: int) -> str | None:
    """Return the first broken inequality of ports or fields in words, None if the word is exact."""
    for name, port, lanes, lo, hi in (
        ("weight", word.w_port, word.weights, word.w_lo, word.w_hi),
        ("activation", word.a_port, word.acts, word.a_lo, word.a_hi),
    ):
        ones = sum(1 << lane.offset for lane in lanes)
        if lo * ones < -(1 << (port - 1)) or hi * ones >= 1 << (port - 1):
            return (
                f"{name} words span {lo * ones}..{hi * ones}, too wide for a signed {port}-bit port"
            )
    for field, bits in zip(word.fields, slice_bits(word, known_bits, p_bits), strict=True):
        span = chain * (field.hi - field.lo)
        if span >= 1 << max(bits, 0):
            return f"field at bit {field.offset} spans {span} in a slice of {bits} bits"
    return None


def slice_bits(word: Word, known_bits: int, p_bits: int) -> list[int]:
    """Return the bits that the decoder can read per field: delta + t, or what is left on top."""
    offsets = [field.offset for field in word.fields]
    return [b - a + known_bits for a, b in pairwise(offsets)] + [p_bits - offsets[-1]]


def check_structure(plan: PackPlan) -> None:
    """Raise PackError unless lanes, fields, ranges and pieces of `plan` belong together."""
    if plan.mode != ("every" if plan.chain == 1 else "chain") or plan.chain < 1:
        raise PackError(f"{describe(plan)}: mode '{plan.mode}' with chain {plan.chain} is unknown")
    device, first = dsp(plan.dsp), plan.pieces[0].word
    for piece in plan.pieces:
        word = piece.word
        problem = (
            range_problem(plan, piece)
            or word_problem(word, plan.known_bits, device)
            or (labels(word) != labels(first) and "pieces differ in their lanes or field order")
        )
        if problem:
            raise PackError(f"{describe(plan)}: {problem}")
    covered = [low for piece in plan.pieces for low in range(piece.low, piece.low + piece.bits)]
    if covered != list(range(plan.a_bits if plan.pieces[0].split == "a" else plan.w_bits)):
        raise PackError(f"{describe(plan)}: the pieces cover the operand bits {covered}")


def labels(word: Word) -> tuple:
    """Return what all pieces must share: labels of the lanes and outputs of the fields."""
    return (
        [(lane.group, lane.tap) for lane in word.weights],
        [(lane.row, lane.column) for lane in word.acts],
        [output(word, field.terms[0]) for field in word.fields],
    )


def word_problem(word: Word, known_bits: int, device: Dsp) -> str | None:
    """Return why a word is malformed: ports, order, slices, shared fields or bounds; else None."""
    if sorted((word.w_port, word.a_port)) != sorted((device.wide_bits, device.narrow_bits)):
        return f"{device.name} has no ports of {word.w_port} and {word.a_port} bits"
    if word.c_port_flush or word.msb_flip:
        return "port tricks (c_port_flush, msb_flip) are not supported by the emulator"
    if [field.bits for field in word.fields] != slice_bits(word, known_bits, device.p_bits):
        return f"slices {[field.bits for field in word.fields]} do not fit the field offsets"
    if any(b.offset - a.offset < max(known_bits, 1) for a, b in pairwise(word.fields)):
        return f"fields are closer than {max(known_bits, 1)} bits"
    terms = sorted(term for field in word.fields for term in field.terms)
    if terms != list(product(range(len(word.weights)), range(len(word.acts)))):
        return "the fields do not hold every product exactly once"
    problems = [problem for field in word.fields if (problem := field_problem(word, field))]
    outputs = {output(word, term) for field in word.fields for term in field.terms}
    if len(outputs) < len(word.fields):
        problems.append("two fields hold the same output")
    return problems[0] if problems else None


def field_problem(word: Word, field: Field) -> str | None:
    """Return why a field is malformed: offset, output of its products or bounds; else None."""
    offsets = {word.weights[i].offset + word.acts[j].offset for i, j in field.terms}
    outputs = {output(word, term) for term in field.terms}
    corners = [w * a for w in (word.w_lo, word.w_hi) for a in (word.a_lo, word.a_hi)]
    bounds = (len(field.terms) * min(corners), len(field.terms) * max(corners))
    if offsets != {field.offset}:
        return f"field at bit {field.offset} has products at bits {sorted(offsets)}"
    if len(outputs) > 1:
        return f"field at bit {field.offset} mixes the outputs {sorted(outputs)}"
    if (field.lo, field.hi) != bounds:
        return f"field at bit {field.offset} is bounded by {field.lo}..{field.hi}, not {bounds}"
    return None


def range_problem(plan: PackPlan, piece: Piece) -> str | None:
    """Return why a piece's operand ranges are not those of its bits; else None."""
    (w_lo, w_hi), acts = weight_range(plan.w_bits, plan.narrow), activation_range(plan.a_bits)
    weights, top = (w_lo >> piece.low, w_hi >> piece.low), piece.low + piece.bits
    if piece.split == "w" and top < plan.w_bits:
        weights = activation_range(piece.bits)
    if piece.split == "a":
        weights, acts = (w_lo, w_hi), activation_range(piece.bits)
    word = piece.word
    found = ((word.w_lo, word.w_hi), (word.a_lo, word.a_hi))
    return None if found == (weights, acts) else f"ranges {found} should be {(weights, acts)}"


# Emulation -----------------------------------------------------------------------------------


def is_exhaustive(word: Word, chain: int) -> bool:
    """Tell whether every operand vector of a single multiplication can be enumerated."""
    w_vectors = (word.w_hi - word.w_lo + 1) ** len(word.weights)
    a_vectors = (word.a_hi - word.a_lo + 1) ** len(word.acts)
    return chain == 1 and w_vectors * a_vectors <= EXHAUSTIVE_LIMIT


@cache
def search_failure(word: Word, chain: int, known_bits: int, p_bits: int) -> tuple[str | None, int]:
    """Return (counterexample or None, operand vectors tried) for one word under true ports."""
    vectors = 0
    cases = exhaustive(word) if is_exhaustive(word, chain) else sampled(word, chain)
    for weights, acts in (*decisive(word, chain), *cases):
        got = emulate_word(word, known_bits, p_bits, weights, acts, ports="wrap")
        want = expected_word(word, weights, acts)
        vectors += got[..., 0].size
        if not np.array_equal(got, want):
            return counterexample(word, weights, acts, got, want), vectors
    return None, vectors


def counterexample(
    word: Word, weights: np.ndarray, acts: np.ndarray, got: np.ndarray, want: np.ndarray
) -> str:
    """Return the first mismatch in words: operands (first multiplication), output, got, want."""
    *index, field = np.argwhere(got != want)[0]
    shape = (*got.shape[:-1], max(weights.shape[-2], acts.shape[-2]))
    one_weights = np.broadcast_to(weights, (*shape, weights.shape[-1]))[tuple(index)]
    one_acts = np.broadcast_to(acts, (*shape, acts.shape[-1]))[tuple(index)]
    got_value, want_value = got[(*index, field)], want[(*index, field)]
    return (
        f"counterexample (N = {shape[-1]}): weights {one_weights[0].tolist()}, activations "
        f"{one_acts[0].tolist()} give {got_value}, want {want_value}, at output (group, row, "
        f"column - tap) = {output(word, word.fields[field].terms[0])}"
    )


Operands = tuple[np.ndarray, np.ndarray]


def decisive(word: Word, chain: int) -> Iterator[Operands]:
    """Yield the vectors on which a word that breaks the rule must fail.

    All lanes at one end for `chain` multiplications: every field takes its extreme. The extreme
    words of a port times a unit word of the other: an overflow cannot vanish modulo 2^p.
    """
    unit_weight, unit_act = (1 if word.w_hi > 0 else -1), 1
    full_acts = np.full(len(word.acts), word.a_hi)
    yield _repeat(_first_lane(word.weights, unit_weight), full_acts, 1)
    for extreme in (word.w_lo, word.w_hi):
        full_weights = np.full(len(word.weights), extreme)
        yield _repeat(full_weights, _first_lane(word.acts, unit_act), 1)
        yield _repeat(full_weights, full_acts, chain)


def _first_lane(lanes: tuple, value: int) -> np.ndarray:
    return np.array([value] + [0] * (len(lanes) - 1))


def _repeat(weights: np.ndarray, acts: np.ndarray, count: int) -> Operands:
    return np.tile(weights, (count, 1)), np.tile(acts, (count, 1))


def exhaustive(word: Word) -> Iterator[Operands]:
    """Yield every operand vector of one multiplication, in chunks that broadcast to a product."""
    weights = lane_vectors(word.w_lo, word.w_hi, len(word.weights))[:, None, None, :]
    acts = lane_vectors(word.a_lo, word.a_hi, len(word.acts))[None, :, None, :]
    rows = max(1, CHUNK // acts.shape[1])
    for start in range(0, len(weights), rows):
        for column in range(0, acts.shape[1], CHUNK):
            yield weights[start : start + rows], acts[:, column : column + CHUNK]


def lane_vectors(lo: int, hi: int, lanes: int) -> np.ndarray:
    """Return all vectors `[count, lanes]` of values lo..hi."""
    return np.indices((hi - lo + 1,) * lanes).reshape(lanes, -1).T + lo


def sampled(word: Word, chain: int) -> Iterator[Operands]:
    """Yield seeded random sequences of `chain` multiplications, half of the values extreme.

    Every second sequence holds one operand vector for its whole length.
    """
    rng = np.random.default_rng(0)
    lanes = len(word.weights) + len(word.acts)
    count = max(8, min(CHUNK, SAMPLED_OPERANDS // (lanes * chain)))
    for length in (chain, 1):
        shape = (count, length)
        yield (
            _draw(rng, (*shape, len(word.weights)), word.w_lo, word.w_hi),
            _draw(rng, (*shape, len(word.acts)), word.a_lo, word.a_hi),
        )
    weights = _draw(rng, (count, 1, len(word.weights)), word.w_lo, word.w_hi)
    acts = _draw(rng, (count, 1, len(word.acts)), word.a_lo, word.a_hi)
    yield np.repeat(weights, chain, axis=1), np.repeat(acts, chain, axis=1)


def _draw(rng: np.random.Generator, shape: tuple[int, ...], lo: int, hi: int) -> np.ndarray:
    values = rng.integers(lo, hi + 1, shape)
    extremes = rng.choice(np.array([lo, hi]), shape)
    return np.where(rng.random(shape) < 0.5, extremes, values)


def check_recombination(plan: PackPlan) -> int:
    """Emulate the whole plan on full operands (split, decode, shift, add); return vectors tried."""
    rng = np.random.default_rng(1)
    word, count = plan.pieces[0].word, 256
    weights = _draw(rng, (count, 1, len(word.weights)), *weight_range(plan.w_bits, plan.narrow))
    acts = _draw(rng, (count, 1, len(word.acts)), *activation_range(plan.a_bits))
    if not np.array_equal(emulate(plan, weights, acts), expected(plan, weights, acts)):
        raise PackError(f"{describe(plan)}: the pieces do not add up to the product")
    return count
