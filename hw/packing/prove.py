# SPDX-License-Identifier: Apache-2.0
"""Proof that a plan is exact: the rules in exact integers, and emulation under true ports.

A plan that breaks an inequality of docs/packing.md fails on one of a few `decisive` sequences, so
a refusal comes with a counterexample that the emulator of ports, accumulator and decoder found.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise, product

import numpy as np

from hw.intmath import activation_range, ceil_div, weight_range
from hw.packing.emulate import emulate, emulate_word, expected, increments, per_field, total
from hw.packing.plan import ActLane, PackError, PackPlan, Part, Proof, WeightLane, Word
from hw.packing.rules import check, describe, malformed, violation

EXHAUSTIVE_LIMIT = 1 << 22  # operand vectors of one word
CHUNK = 1 << 14  # operand vectors emulated at once: the intermediate arrays stay in the cache
SAMPLED_OPERANDS = 1 << 16  # lane values of one sampled batch of sequences
CANARY_CYCLES = 400  # of a sampled sequence
LONGEST = {"every": 1, "chain": 1 << 16, "canary": 1 << 12}  # products of one emulated sequence

STATEMENTS = {
    "every": "every field fits its slice and every word its port, in exact integers",
    "chain": "every field's sum fits its slice and every word its port, in exact integers",
    "canary": "every lane's carries are counted and every word fits its port, in exact integers",
}


def certify(plan: PackPlan) -> PackPlan:
    """Return `plan` with an interval Proof, without emulation; raise PackError if it breaks."""
    check(plan)
    return replace(plan, proof=Proof("interval", 0, STATEMENTS[plan.mode]))


def prove(
    plan: PackPlan, limit: int = EXHAUSTIVE_LIMIT, samples: int = SAMPLED_OPERANDS
) -> PackPlan:
    """Return `plan` with its Proof; raise PackError with a counterexample if it is not exact.

    "exhaustive": every operand vector of every word was decoded (mode "every", at most `limit`
    vectors a word). "interval": the rules hold; decisive sequences and about `samples` operands
    of seeded random ones were emulated to check the emulator and the rules against each other.
    """
    problem = malformed(plan)
    if problem:
        raise PackError(f"{describe(plan)}: {problem}")
    vectors = 0
    for word in plan.words:
        reason, lone = violation(plan, word), alone(plan, word)
        failure, tried = search_failure(lone, limit, samples)
        if reason or failure:
            found = failure.text(word) if failure else f"none of {tried} vectors shows it"
            raise PackError(f"{describe(plan)}: {reason or 'not exact'}; {found}")
        vectors += tried
    vectors += check_tile(plan)
    if all(is_exhaustive(alone(plan, word), limit) for word in plan.words):
        return replace(plan, proof=Proof("exhaustive", vectors, "every operand vector was decoded"))
    return replace(plan, proof=Proof("interval", vectors, STATEMENTS[plan.mode]))


def alone(plan: PackPlan, word: Word) -> PackPlan:
    """Return a plan of one word without labels: words that differ in labels are emulated once."""
    part = plan.parts[word.part]
    bare = replace(
        word,
        part=0,
        weights=tuple(WeightLane(lane.offset, 0, 0) for lane in word.weights),
        acts=tuple(ActLane(lane.offset, 0, 0) for lane in word.acts),
    )
    parts = (Part(0, part.w_bits, 0, part.w_lo, part.w_hi, 0, part.a_bits),)
    return PackPlan(
        plan.dsp,
        1,
        part.w_bits,
        part.a_bits,
        plan.narrow,
        plan.mode,
        plan.chain,
        plan.known_bits,
        plan.zero,
        1,
        1,
        parts,
        (bare,),
    )


@dataclass(frozen=True)
class Failure:
    """A sequence `[N, lanes]` of operands that one field decodes wrongly."""

    weights: np.ndarray
    acts: np.ndarray
    field: int
    got: int
    want: int

    def text(self, word: Word) -> str:
        """Return the counterexample in words; `word` gives the label of the output."""
        held = (self.weights == self.weights[-1]).all() and (self.acts == self.acts[-1]).all()
        return (
            f"counterexample (N = {len(self.acts)}{'' if held else ', the last product shown'}): "
            f"weights {self.weights[-1].tolist()}, activations {self.acts[-1].tolist()} give "
            f"{self.got}, want {self.want}, at output (group, row, column - tap) = "
            f"{word.output(word.fields[self.field].terms[0])}"
        )


@cache
def search_failure(
    lone: PackPlan, limit: int, samples: int = SAMPLED_OPERANDS
) -> tuple[Failure | None, int]:
    """Return (first failure or None, operand vectors tried) of a plan of one word."""
    vectors = 0
    cases = exhaustive(lone) if is_exhaustive(lone, limit) else sampled(lone, samples)
    for weights, acts in (*decisive(lone), *cases):
        got = emulate_word(lone, lone.words[0], weights, acts, ports="wrap")
        want = expected_sums(lone.words[0], weights, acts)
        vectors += want[..., 0].size * max(weights.shape[-2], acts.shape[-2])
        if not np.array_equal(got, want):
            return first_failure(weights, acts, got, want), vectors
    return None, vectors


def expected_sums(word: Word, weights: np.ndarray, acts: np.ndarray) -> np.ndarray:
    """Return the true sums `[..., fields]` of N products by the plain definition."""
    return per_field(
        [total(sum(weights[..., i] * acts[..., j] for i, j in f.terms)) for f in word.fields]
    )


def first_failure(
    weights: np.ndarray, acts: np.ndarray, got: np.ndarray, want: np.ndarray
) -> Failure:
    """Return the first mismatch of `got` and `want` `[..., fields]` with its operands."""
    *index, field = (int(i) for i in np.argwhere(got != want)[0])
    leading = (*got.shape[:-1], max(weights.shape[-2], acts.shape[-2]))
    w, a = (np.broadcast_to(x, (*leading, x.shape[-1]))[tuple(index)] for x in (weights, acts))
    return Failure(w, a, field, int(got[(*index, field)]), int(want[(*index, field)]))


def check_tile(plan: PackPlan) -> int:
    """Emulate whole tiles on full operands: slices, words, shifts; return the vectors tried."""
    rng, count, length = np.random.default_rng(1), 64, 3
    weights = _sticky(rng, (count, length, plan.groups * plan.kernel), *_weights(plan))
    weights = weights.reshape(count, length, plan.groups, plan.kernel)
    acts = _sticky(rng, (count, length, plan.columns), *activation_range(plan.a_bits))
    if not np.array_equal(emulate(plan, weights, acts), expected(plan, weights, acts)):
        raise PackError(f"{describe(plan)}: the words do not add up to the tile's products")
    return count * length


def _weights(plan: PackPlan) -> tuple[int, int]:
    return weight_range(plan.w_bits, plan.narrow)


# Operands of a plan of one word ------------------------------------------------------------------

Operands = tuple[np.ndarray, np.ndarray]


def is_exhaustive(lone: PackPlan, limit: int) -> bool:
    """Tell whether every operand vector of a word that is decoded in every cycle is enumerated."""
    part, word = lone.parts[0], lone.words[0]
    w_vectors = (part.w_hi - part.w_lo + 1) ** len(word.weights)
    return lone.mode == "every" and w_vectors << part.a_bits * len(word.acts) <= limit


def exhaustive(lone: PackPlan) -> Iterator[Operands]:
    """Yield every operand vector of one product, in chunks that broadcast to an outer product."""
    part, word = lone.parts[0], lone.words[0]
    w_lanes, a_lanes = len(word.weights), len(word.acts)
    w_count, a_count = (part.w_hi - part.w_lo + 1) ** w_lanes, (part.a_hi + 1) ** a_lanes
    rows, columns = max(1, CHUNK // a_count), min(a_count, CHUNK)
    for column in range(0, a_count, columns):
        acts = lane_vectors(0, part.a_hi, a_lanes, range(column, column + columns))
        for row in range(0, w_count, rows):
            index = range(row, min(row + rows, w_count))
            weights = lane_vectors(part.w_lo, part.w_hi, w_lanes, index)
            yield weights[:, None, None, :], acts[None, :, None, :]


def lane_vectors(lo: int, hi: int, lanes: int, index: range) -> np.ndarray:
    """Return vectors `[len(index), lanes]` of values lo..hi: those of an enumeration of all."""
    base = hi - lo + 1  # one lane after the other in memory: that is how they are read
    return (np.arange(index.start, index.stop) // base ** np.arange(lanes)[:, None] % base + lo).T


def decisive(lone: PackPlan) -> Iterator[Operands]:
    """Yield the sequences on which a word that breaks a rule must fail (docs, theorem 8).

    All lanes at one end, once and held for the chain: every field takes its extreme. The extreme
    words of a port times a unit word of the other: an overflow cannot vanish modulo 2^p. For a
    canary also every lane filled to the brim before the extreme product.
    """
    part, word = lone.parts[0], lone.words[0]
    lengths = {1, min(lone.chain, LONGEST[lone.mode])}
    unit_weights = _first_lane(len(word.weights), 1 if part.w_hi > 0 else -1)
    yield from (_held(unit_weights, np.full(len(word.acts), a), 1) for a in (part.a_hi, 0))
    for w, a in product((part.w_lo, part.w_hi), (0, part.a_hi)):
        weights, acts = np.full(len(word.weights), w), np.full(len(word.acts), a)
        yield _held(weights, _first_lane(len(word.acts), 1), 1)
        yield from (_held(weights, acts, length) for length in lengths)
    if lone.mode == "canary":
        yield from filled(lone)


def _first_lane(lanes: int, value: int) -> np.ndarray:
    return np.array([value] + [0] * (lanes - 1))


def _held(weights: np.ndarray, acts: np.ndarray, count: int) -> Operands:
    return np.tile(weights, (count, 1)), np.tile(acts, (count, 1))


def filled(lone: PackPlan) -> Iterator[Operands]:
    """Yield sequences that fill all lanes below the top with ones, then add an extreme product.

    Each lane takes products of one unit weight and one free activation; what these weights add
    to P whatever the activations is known, so the activations follow digit by digit.
    """
    part, word = lone.parts[0], lone.words[0]
    unit, lanes = (1 if part.w_hi > 0 else -1), []
    for field, above in pairwise(word.fields):
        digit = (1 << (above.offset - field.offset)) - 1
        lanes += [(field, digit, ceil_div(digit, part.a_hi))]
    total = sum(count for _, _, count in lanes)
    if not 0 < total < min(lone.chain, LONGEST["canary"]):
        return
    weights, acts = np.zeros((total + 1, len(word.weights)), int), np.zeros((total + 1, 1), int)
    acts = np.repeat(acts, len(word.acts), axis=1)
    steps = np.repeat([field.terms[0] for field, _, _ in lanes], [n for _, _, n in lanes], axis=0)
    weights[np.arange(total), steps[:, 0]] = unit
    fixed = int(increments(lone, word, weights[:-1], acts[:-1], "wrap").astype(object).sum())
    wanted, first = (-1 - fixed) * unit >> word.fields[0].offset, 0
    for field, digit, count in lanes:
        left = wanted >> (field.offset - word.fields[0].offset) & digit
        run = np.arange(first, first + count)
        acts[run, field.terms[0][1]] = np.clip(left - (run - first) * part.a_hi, 0, part.a_hi)
        first += count
    for w, a in product((part.w_lo, part.w_hi), (0, part.a_hi)):
        weights[-1], acts[-1] = w, a
        yield weights.copy(), acts.copy()


def sampled(lone: PackPlan, samples: int) -> Iterator[Operands]:
    """Yield seeded random sequences with sticky extremes: the whole chain, and single products.

    About `samples` lane values a batch; nothing if that is 0.
    """
    part, word = lone.parts[0], lone.words[0]
    rng, lanes = np.random.default_rng(0), len(word.weights) + len(word.acts)
    cycles = CANARY_CYCLES if lone.mode == "canary" else LONGEST[lone.mode]
    for length in sorted({min(lone.chain, cycles), 1}) if samples else ():
        count = max(4, min(CHUNK, samples // (lanes * length)))
        yield (
            _sticky(rng, (count, length, len(word.weights)), part.w_lo, part.w_hi),
            _sticky(rng, (count, length, len(word.acts)), 0, part.a_hi),
        )


def _sticky(rng: np.random.Generator, shape: tuple[int, int, int], lo: int, hi: int) -> np.ndarray:
    """Draw `[count, N, lanes]` values: half of them extreme, half of them kept from product n-1."""
    values = np.where(
        rng.random(shape) < 0.5, rng.choice([lo, hi], shape), rng.integers(lo, hi + 1, shape)
    )
    last_new = np.where(rng.random(shape) < 0.5, np.arange(shape[1])[:, None], 0)
    return np.take_along_axis(values, np.maximum.accumulate(last_new, axis=1), axis=1)
