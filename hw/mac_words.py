# SPDX-License-Identifier: Apache-2.0
"""What a packing plan asks of one array: accumulators to share, and the words of its ROM.

`lanes` = simd * kernel_rows multipliers work for one PE; each multiplies one word a cycle.
"""

from hw.device import dsp
from hw.intmath import ceil_div, signed_bits, unsigned_bits
from hw.packing.plan import PackPlan, Part, Word, Zero


def link_lanes(plan: PackPlan, lanes: int) -> int:
    """Return how many multipliers sum into one accumulator; canaries watch every one alone."""
    return 1 if plan.mode == "canary" else min(plan.chain, lanes)


def decode_cycles(plan: PackPlan, lanes: int, steps: int) -> int:
    """Return the cycles that an accumulator sums before it is decoded, at most `steps`."""
    return min(max(plan.chain // link_lanes(plan, lanes), 1), steps)


def weight_lanes(plan: PackPlan) -> int:
    """Return the weight lanes of the widest word."""
    return max(len(word.weights) for word in plan.words)


def slice_bits(plan: PackPlan) -> int:
    """Return the bits that hold a weight slice of any part (unsigned ones without a sign bit)."""
    return max(
        signed_bits(part.w_lo, part.w_hi) if part.w_lo < 0 else unsigned_bits(part.w_hi)
        for part in plan.parts
    )


def bias_bits(plan: PackPlan, lanes: int) -> int:
    """Return the bits of the largest C that a link of `lanes` multipliers reads; 0 if none is read.

    C of equation (P) in `hw.packing.plan`, without the part of w_add, bends at weight 0 only.
    """
    if not plan.biased:
        return 0
    ranges = [bias_range(plan.parts[word.part], word, plan.zero) for word in plan.words]
    link = link_lanes(plan, lanes)
    needed = signed_bits(link * min(lo for lo, _ in ranges), link * max(hi for _, hi in ranges))
    return min(needed, dsp(plan.dsp).p_bits)


def bias_range(part: Part, word: Word, zero: Zero) -> tuple[int, int]:
    """Return the least and the greatest sum_i (a_sub w_i - z(w_i) sum_j 2^p_j) 2^o_i."""
    ones = sum(1 << lane.offset for lane in word.acts)
    corners = [
        word.a_sub * weight - part.zero_point(zero, weight) * ones
        for weight in {part.w_lo, min(max(0, part.w_lo), part.w_hi), part.w_hi}
    ]
    scale = sum(1 << lane.offset for lane in word.weights)
    return min(corners) * scale, max(corners) * scale


def tally_bits(plan: PackPlan, cycles: int) -> int:
    """Return the bits kept beside a field while its accumulator sums for `cycles`.

    A sum modulo 2^known_bits or, with canaries, up to 2^known_bits - 1 carries a cycle.
    """
    low = (1 << plan.known_bits) - 1
    return unsigned_bits(cycles * low if plan.mode == "canary" else low)


def rom_word_bits(plan: PackPlan, lanes: int) -> int:
    """Return the bits that one PE reads in a cycle: weight slices, then the C of every link."""
    links = ceil_div(lanes, link_lanes(plan, lanes))
    return lanes * weight_lanes(plan) * slice_bits(plan) + links * bias_bits(plan, lanes)
