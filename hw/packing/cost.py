# SPDX-License-Identifier: Apache-2.0
"""LUTs that a plan needs beside its DSP: known bits, carry counters, decoding, accumulators.

A word's logic has three parts, each a sum of counts times fitted LUTs per count:

    track     every product   known bits mod 2^t, their running sum, canary compare and counters
    decode    every N products, N = min(chain, REDUCTION): overlaps taken off, external accumulators
    constant  every product   the adder of C, where it holds both weights and activations (P)

One decoder serves N products a cycle (DSPs in cascade share one P), so `decode` is divided by N.
Not counted: the packing of operands and a C of activations alone (made once, shared by every DSP on
that word), stored words, and the sums over neighbouring words (`hw.usage` counts those).
"""

from dataclasses import dataclass
from itertools import pairwise

from hw.intmath import signed_bits, unsigned_bits
from hw.packing.plan import Field, PackPlan, Part, Word

REDUCTION = 256
"""Products per output for which accumulators and counters are sized."""

# LUTs of a 2:1 multiplexer bit: two with a common select fill one dual-output LUT6 (AMD UG574).
MULTIPLEXER_LUT = 0.5


@dataclass(frozen=True)
class Counts:
    """What the logic of one word consists of.

    known_ands: partial-product bits of the known sums; known_bits: (fields - 1) t; running_bits:
    the same where known bits are summed over products; counter_bits: carry counters above their t
    low bits; overlap_bits: subtractors of the decoder; accumulator_bits: external accumulators;
    constant_bits: adder of C.
    """

    known_ands: int = 0
    known_bits: int = 0
    running_bits: int = 0
    counter_bits: int = 0
    overlap_bits: int = 0
    accumulator_bits: int = 0
    constant_bits: int = 0


def interval(plan: PackPlan) -> int:
    """Return the products between two decodings, N."""
    return min(plan.chain, REDUCTION)


def accumulates(plan: PackPlan) -> bool:
    """Return whether P cannot hold a whole reduction, so that decoded fields are summed outside."""
    return plan.chain < REDUCTION


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
