# SPDX-License-Identifier: Apache-2.0
"""LUTs that a plan needs beside its DSP: known bits, carry counters, decoding, accumulators.

A word's logic has three parts, each a sum of counts times fitted LUTs per count:

    track     every multiplier    known bits mod 2^t, their running sum, canary compare and counters
    decode    every accumulator   overlaps taken off, sums u of several decodings or multipliers
    constant  every multiplier    the adder of C, where it holds both weights and activations (P)

DSPs in cascade add into one P, at most `chain` of them (a canary watches each product: one), and at
most `LINK`; `decode` is divided by their number. P is decoded after N = min(chain, REDUCTION)
products. Not counted: a C of activations alone (made once for every DSP on that word), the packing
of operands, stored words, and the sums over neighbouring words (`hw.usage` has those).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from hw.device import dsp
from hw.intmath import ceil_div, signed_bits, unsigned_bits
from hw.packing.plan import Field, PackPlan, Part, Word

REDUCTION = 256
"""Products per output for which accumulators and counters are sized."""

LINK = 32
"""Multipliers in cascade that a plan is priced for: an array of that many lanes (simd x rows)."""

# LUTs of a 2:1 multiplexer bit: two with a common select fill one dual-output LUT6 (AMD UG574).
MULTIPLEXER_LUTS = 0.5


@dataclass(frozen=True)
class Prices:
    """LUTs per count of `Counts`; `known` are those per input and per sum at t = 2, 3, 4."""

    xor: float
    known: tuple[tuple[float, float], ...]
    lone: float
    compare: float
    counter: float
    overlap: float
    accumulator: float
    constant: float


# Fitted to yosys 0.70, `synth_xilinx -family xcup`, by `python -m experiments.synth_packing`;
# experiments/results/packing-synthesis.json has the versions, the plans and every measurement.
PRICES = Prices(
    xor=1.018,
    known=((0.806, -2.704), (1.048, -0.981), (1.544, -6.15)),
    lone=0.995,
    compare=1.795,
    counter=1.028,
    overlap=1.09,
    accumulator=1.029,
    constant=1.034,
)
ERROR_BAND = 0.08
"""Relative error of `lut_per_mac` that nine of ten held-out plans stay below."""


@dataclass(frozen=True)
class Counts:
    """What the logic of one word consists of, each a number to multiply with LUTs.

    Known sums: `xors`, LUT6 trees of a sum of AND terms (t = 1); for t >= 2 `inputs`, operand bits
    that sums take, `sums`, how many there are, and `lone_bits`, outputs of single products (t = 2).
    Canary: `compare_bits`, `counter_bits` (those above the t low ones). Decoder: `overlap_bits`,
    `accumulator_bits`. C: `constant_bits`, adders.
    """

    xors: int = 0
    inputs: int = 0
    sums: int = 0
    lone_bits: int = 0
    compare_bits: int = 0
    counter_bits: int = 0
    overlap_bits: int = 0
    accumulator_bits: int = 0
    constant_bits: int = 0


def interval(plan: PackPlan) -> int:
    """Return the products between two decodings, N."""
    return min(plan.chain, REDUCTION)


def sharing(plan: PackPlan, link: int = LINK) -> int:
    """Return the multipliers, of `link` in a row, that one decoder serves."""
    return 1 if plan.mode == "canary" else min(plan.chain, link)


def sums_outside(plan: PackPlan) -> bool:
    """Return whether decoded fields are summed outside: P cannot hold a whole reduction, or every
    multiplier has a P of its own.
    """
    return plan.mode == "canary" or plan.chain < REDUCTION


def lane_bits(part: Part) -> int:
    """Return the bits of a weight slice."""
    signed = signed_bits(part.w_lo, part.w_hi)
    return signed if part.w_lo < 0 else unsigned_bits(part.w_hi)


def sum_bits(field: Field, products: int) -> int:
    """Return the bits of u summed over `products`."""
    return unsigned_bits(products * field.spread)


def carry_bits(plan: PackPlan, word: Word) -> tuple[int, ...]:
    """Return the counter bits of the carries into fields 1, 2, ... over N products."""
    carry, bits, products = 0, [], interval(plan)
    for field, above in pairwise(word.fields):
        carry = (products * field.spread + carry) >> (above.offset - field.offset)
        bits.append(max(plan.known_bits, carry.bit_length()))
    return tuple(bits)


def signed_digits(value: int) -> tuple[tuple[int, int], ...]:
    """Return (sign, bit) pairs, the fewest whose sum of sign 2^bit is `value` (no two adjacent)."""
    digits, bit = [], 0
    while value:
        if value & 1:
            sign = 2 - (value & 3)
            digits.append((sign, bit))
            value -= sign
        value, bit = value >> 1, bit + 1
    return tuple(digits)


def counts(plan: PackPlan, word: Word) -> Counts:
    """Count what the logic of one word consists of."""
    t, products, lanes = plan.known_bits, interval(plan), len(word.fields) - 1
    values = sum(sum_bits(field, products) for field in word.fields[1:]) if t else 0
    sums = sum(sum_bits(field, REDUCTION) for field in word.fields) if sums_outside(plan) else 0
    carries = sum(carry_bits(plan, word)) if plan.mode == "canary" else 0
    digits = signed_digits(word.w_add) if plan.biased else ()
    return Counts(
        **(_known_counts(plan, word) if t else {}),
        compare_bits=lanes * t if carries else 0,
        counter_bits=carries - lanes * t if carries else 0,
        overlap_bits=values,
        accumulator_bits=sums,
        constant_bits=sum(dsp(plan.dsp).p_bits - bit for _, bit in digits),
    )


def _known_counts(plan: PackPlan, word: Word) -> dict[str, int]:
    part, t, running = plan.parts[word.part], plan.known_bits, interval(plan) > 1
    sign = plan.zero == "folded" and part.w_lo < 0
    product_bits = min(lane_bits(part), t + sign) + min(part.a_bits, t)
    terms = [len(field.terms) for field in word.fields[1:]]
    lone = 0 if t > 2 or running else terms.count(1)
    summed = [n * product_bits + running * (t + 1) for n in terms if n > 1 or not lone]
    if t == 1:
        return {"xors": sum(ceil_div(n * product_bits + running * 2 - 1, 5) for n in terms)}
    return {"inputs": sum(summed), "sums": len(summed), "lone_bits": lone * t}


def word_luts(plan: PackPlan, word: Word, prices: Prices = PRICES, link: int = LINK) -> float:
    """Return the LUTs beside the DSP that one word keeps busy, its share of a decoder included."""
    count = counts(plan, word)
    track = (
        count.xors * prices.xor
        + count.lone_bits * prices.lone
        + count.compare_bits * prices.compare
        + count.counter_bits * prices.counter
    )
    if plan.known_bits > 1:
        per_input, per_sum = prices.known[plan.known_bits - 2]
        track += count.inputs * per_input + count.sums * per_sum
    decode = count.overlap_bits * prices.overlap + count.accumulator_bits * prices.accumulator
    return track + decode / sharing(plan, link) + count.constant_bits * prices.constant


def shapes(plan: PackPlan) -> tuple[Word, ...]:
    """Return one word of every shape; words of one shape share their logic."""
    found = {_shape(word): word for word in plan.words}
    return tuple(found.values())


def _shape(word: Word) -> tuple[int, ...]:
    fields = word.fields
    return word.part, word.w_add, *[f.offset for f in fields], *[f.spread for f in fields]


def per_mac(
    plan: PackPlan, luts: Sequence[float], link: int = LINK, steps: int | None = None
) -> float:
    """Return LUTs per useful product from those of every shape (estimated or synthesised).

    `steps`: words of the tile, if `plan` holds only those of different kinds. The words run in
    turn, so the greatest shape counts; others add multiplexers of their fields.
    """
    products = interval(plan)
    fields = [sum(sum_bits(field, products) for field in word.fields) for word in shapes(plan)]
    switched = MULTIPLEXER_LUTS * (sum(fields) - max(fields)) / sharing(plan, link)
    macs = plan.kernel * plan.groups * plan.columns
    return (max(luts) + switched) * (steps or len(plan.words)) / macs


def lut_per_mac(
    plan: PackPlan, prices: Prices = PRICES, link: int = LINK, steps: int | None = None
) -> float:
    """Return LUT6 per useful multiply-accumulate to 3 decimals, with `link` DSPs in cascade.

    Right to about `ERROR_BAND` (both ways). `steps` as for `per_mac`.
    """
    luts = [word_luts(plan, word, prices, link) for word in shapes(plan)]
    return round(per_mac(plan, luts, link, steps), 3)
