# SPDX-License-Identifier: Apache-2.0
"""An upper bound on packing rates of small DSPs, by brute force: no pattern, no nesting assumed.

Every pair of offset sets and every labelling of its lanes by taps is tried. Lanes hang together
where their products meet in a field: weights in runs of taps, activations in blocks of columns. A
*regular* word has runs of one length and blocks of one length. A linear programme then
mixes the words: the taps of an output channel and column fall into the tap sets of some words, so
words must offer as many sets of each kind as partitions of the kernel use. Where words lie is
ignored, which only raises the bound.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import combinations_with_replacement, pairwise, product

import numpy as np
from scipy.optimize import linprog

from hw.device import Dsp
from hw.packing.decoding import Decoding
from hw.packing.plan import Part

Offsets = tuple[int, ...]
Meeting = list[list[tuple[int, int]]]  # lane pairs of every field that several products share


def rate_bound(device: Dsp, part: Part, way: Decoding, kernel: int) -> float:
    """Return a rate that no regular words exceed, 0 if not even a product fits."""
    offers = {
        offer
        for weights, acts, meeting in legal_words(device, part, way, kernel)
        for offer in tap_sets(weights, acts, meeting, kernel)
    }
    best = [o for o in offers if not any(o != p and _below(o, p) for p in offers)]
    if not best:
        return 0
    supply = -np.array(best, float).T
    splits = list(partitions((1 << kernel) - 1))
    demand = np.array([[mask in split for split in splits] for mask in range(1 << kernel)], float)
    words, mixed = np.ones(len(best)), np.ones(len(splits))
    found = linprog(
        np.concatenate([words, 0 * mixed]),
        A_ub=np.hstack([supply, demand]),
        b_ub=np.zeros(1 << kernel),
        A_eq=[np.concatenate([0 * words, mixed])],
        b_eq=[1],
    )
    return kernel / found.fun


def _below(one: Offsets, other: Offsets) -> bool:
    return all(x <= y for x, y in zip(one, other, strict=True))


def legal_words(
    device: Dsp, part: Part, way: Decoding, kernel: int
) -> Iterator[tuple[Offsets, Offsets, Meeting]]:
    """Yield all offset sets that fit the ports and are decoded exactly, whatever their labels."""
    flush = device.w_mux or way.mode == "every"
    for w_port, a_port in {
        (device.wide_bits, device.narrow_bits),
        (device.narrow_bits, device.wide_bits),
    }:
        w_half, a_codes = 1 << w_port - 1, 1 << a_port - (way.zero == "plain")

        def w_fits(ones: int, half: int = w_half) -> bool:
            low, high = part.w_lo * ones, part.w_hi * ones
            return (flush and high - low < 2 * half) or (-half <= low and high < half)

        def a_fits(ones: int, codes: int = a_codes, half: int = 1 << a_port - 1) -> bool:
            if way.zero == "centred":
                return part.centre * ones <= half and (part.a_hi - part.centre) * ones < half
            return part.a_hi * ones < codes

        for weights, acts in product(list(sets(w_port, w_fits)), list(sets(a_port, a_fits))):
            fields = defaultdict(list)
            for i, j in product(range(len(weights)), range(len(acts))):
                fields[weights[i] + acts[j]].append((i, j))
            if exact(way, device.p_bits, fields, part.spread(way.zero), kernel):
                yield weights, acts, [terms for terms in fields.values() if len(terms) > 1]


def sets(room: int, fits: Callable[[int], bool]) -> Iterator[Offsets]:
    for mask in range(1, 1 << room, 2):
        if fits(mask):
            yield tuple(bit for bit in range(room) if mask >> bit & 1)


def exact(way: Decoding, p_bits: int, fields: dict, spread: int, kernel: int) -> bool:
    """Apply theorems 2 and 3 of docs/packing.md; a canary's lanes may all take in 2^t - 1 carries.

    (The lowest takes in none. That would spare a bit where spread / (2^t - 1) is a power of two.)
    """
    t, offsets = way.known_bits, sorted(fields)
    spreads = [len(fields[offset]) * spread for offset in offsets]
    gaps, top = [high - low for low, high in pairwise(offsets)], p_bits - offsets[-1]
    if max(spreads) > kernel * spread or min([*gaps, top]) < max(t, 1):
        return False
    if way.chain * spreads[-1] >= 1 << top:
        return False
    most = (1 << t) - 1
    if way.mode == "canary":
        return all(s + most <= most << gap for s, gap in zip(spreads, gaps, strict=False))
    return all(way.chain * s < 1 << gap + t for s, gap in zip(spreads, gaps, strict=False))


def tap_sets(weights: Offsets, acts: Offsets, meeting: Meeting, kernel: int) -> Iterator[tuple]:
    """Yield how many (output channel, column) pairs a word offers to every set of taps (a mask)."""
    pairs = [(one, other) for terms in meeting for one in terms[:1] for other in terms[1:]]
    run_of = classes(len(weights), [(one[0], other[0]) for one, other in pairs])
    block_of = classes(len(acts), [(one[1], other[1]) for one, other in pairs])
    lengths = {run_of.count(run) for run in run_of}
    if len(lengths) > 1 or len({block_of.count(block) for block in block_of}) > 1:
        return  # irregular
    if lengths == {1}:
        labellings = combinations_with_replacement(range(kernel), len(weights))
    else:
        labellings = product(range(kernel), repeat=len(weights))
    for taps in labellings:
        if not consistent(taps, run_of, block_of, pairs):
            continue
        offer = [0] * (1 << kernel)
        for run in set(run_of):
            own = [tap for tap, of in zip(taps, run_of, strict=True) if of == run]
            offer[sum(1 << tap for tap in own)] += len(acts)
        yield tuple(offer)


def classes(count: int, pairs: list[tuple[int, int]]) -> list[int]:
    """Return the class of each of `count` things after joining `pairs`."""
    found = list(range(count))
    for one, other in pairs:
        found = [found[one] if of == found[other] else of for of in found]
    return found


def consistent(taps: Offsets, run_of: list[int], block_of: list[int], pairs: list) -> bool:
    """Tell whether columns exist with which products that meet belong to one output."""
    if len({*zip(run_of, taps, strict=True)}) < len(taps):
        return False
    column = {block_of.index(block): 0 for block in block_of}
    while True:
        for one, other in pairs:
            ahead = taps[other[0]] - taps[one[0]]
            if one[1] in column:
                if column.setdefault(other[1], column[one[1]] + ahead) != column[one[1]] + ahead:
                    return False
            elif other[1] in column:
                column[one[1]] = column[other[1]] - ahead
        if len(column) == len(block_of):
            return len({(block_of[lane], at) for lane, at in column.items()}) == len(
                column
            ) and all(
                column[other[1]] - column[one[1]] == taps[other[0]] - taps[one[0]]
                for one, other in pairs
            )


def partitions(taps: int) -> Iterator[Offsets]:
    """Yield every partition of a set of taps (a mask) into sets."""
    if not taps:
        yield ()
        return
    rest = taps & (taps - 1)
    subset = rest
    while True:
        for others in partitions(rest ^ subset):
            yield taps ^ rest | subset, *others
        if not subset:
            return
        subset = (subset - 1) & rest
