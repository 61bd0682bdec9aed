# SPDX-License-Identifier: Apache-2.0
"""Every rule is broken once and named; ports, splits and widths by brute force."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from hw.intmath import weight_range
from hw.packing.emulate import act_slice, weight_slice
from hw.packing.geometry import Cut, cuts, parts, port_tricks
from hw.packing.plan import ZEROS, ActLane, PackError, PackPlan, Part, WeightLane
from hw.packing.rules import check, port_violation
from tests.packing_samples import filter_plan
from tests.packing_strategies import build, exact_plans, geometries, without_tricks


def with_word(plan: PackPlan, index: int = 0, **changes) -> PackPlan:
    words = list(plan.words)
    words[index] = replace(words[index], **changes)
    return replace(plan, words=tuple(words))


def with_field(plan: PackPlan, index: int = 0, **changes) -> PackPlan:
    fields = list(plan.words[0].fields)
    fields[index] = replace(fields[index], **changes)
    return with_word(plan, fields=tuple(fields))


def with_lane(plan: PackPlan, kind: str, **changes) -> PackPlan:
    first, *others = getattr(plan.words[0], kind)
    return with_word(plan, **{kind: (replace(first, **changes), *others)})


GOOD = filter_plan(3, 3, 3, stride=9, taps=(2, 1))
SPLIT = filter_plan(3, 4, 4, stride=9, taps=(2, 1), cut=Cut("w", 2))
CHAIN = filter_plan(3, 3, 3, stride=9, taps=(2, 1), mode="chain", chain=2)
CANARY = filter_plan(3, 3, 3, stride=9, taps=(2, 1), mode="canary", chain=99, known_bits=1)
E1 = replace(CHAIN, dsp="dsp48e1")

BROKEN = {
    r"mode 'every' with chain 2": replace(GOOD, chain=2),
    r"mode 'chain' with chain 1": replace(CHAIN, chain=1),
    r"mode 'canary' with chain 0": replace(CANARY, chain=0),
    r"mode 'never' with chain 1": replace(GOOD, mode="never"),
    r"mode 'chain' with chain 2\.5": replace(CHAIN, chain=2.5),
    r"lut_per_mac -1 is negative": replace(GOOD, lut_per_mac=-1),
    r"part 1 reaches beyond the operands' bits": replace(
        SPLIT, parts=(SPLIT.parts[0], replace(SPLIT.parts[1], w_bits=3))
    ),
    r"known_bits at 0": replace(GOOD, known_bits=-1),
    r"multipliers and a_bits start at 1": replace(GOOD, multipliers=0),
    r"dsp48e2 has 1 multipliers, not 2": replace(GOOD, multipliers=2),
    r"mode 'canary' adds C to every product, dsp48e1 has no ALU operand": replace(
        CANARY, dsp="dsp48e1"
    ),
    r"intel-18x19 does not accumulate": replace(CHAIN, dsp="intel-18x19"),
    r"dsp58-int8 adds up 3 products a cycle": replace(CHAIN, dsp="dsp58-int8"),
    r"weights of 1 bits \(narrow: True\) have no values": replace(GOOD, w_bits=1),
    r"part 0 holds slices -3\.\.3 x 0\.\.7, not \(-4, 3, 7\)": replace(
        GOOD, parts=(replace(GOOD.parts[0], w_lo=-4),)
    ),
    r"part 1 has negative bit positions": replace(
        SPLIT, parts=(SPLIT.parts[0], replace(SPLIT.parts[1], w_low=-1))
    ),
    r"the parts do not add up": replace(SPLIT, parts=SPLIT.parts[:1]),
    r"holds slices -2\.\.1 x 0\.\.15, not \(-2, 2, 15\)": replace(
        SPLIT, parts=(SPLIT.parts[0], replace(SPLIT.parts[1], w_hi=2))
    ),
    r"a word names part 1 of 1": with_word(GOOD, part=1),
    r"no ports of 26 and 18 bits": with_word(GOOD, w_port=26),
    r"a_sub 5 is not the top bit of a 18-bit port": with_word(GOOD, a_sub=5),
    r"a_sub 0 does not centre the activations, 2052 does": with_word(
        filter_plan(3, 3, 3, stride=9, taps=(2, 1), zero="centred"), a_sub=0
    ),
    r"w_add needs a fourth ALU operand, which dsp48e1 lacks": replace(
        with_word(E1, w_add=1),
        words=tuple(replace(word, w_port=25, w_add=1) for word in E1.words),
    ),
    r"lanes at bits \[9, 9\] are not in ascending order": with_lane(GOOD, "weights", offset=9),
    r"lanes at bits \[-1, 9\] are not": with_lane(GOOD, "acts", offset=-1),
    r"lanes at bits \[\] are not": with_word(GOOD, acts=()),
    r"weight lane \(group 1, tap 1\) lies outside": with_lane(GOOD, "weights", group=1),
    r"weight lane \(group 0, tap 3\) lies outside": with_lane(GOOD, "weights", tap=3),
    r"activation lane \(row 1, column 0\) lies outside": with_lane(GOOD, "acts", row=1),
    r"activation lane \(row 0, column 2\) lies outside": with_lane(GOOD, "acts", column=2),
    r"do not hold every product exactly once": with_field(GOOD, 1, terms=((0, 1),)),
    r"are closer than 3 bits": filter_plan(3, 1, 1, stride=2, known_bits=3, narrow=False),
    r"fields at bits \[0, 22, 44, 66\] of 48 are closer": filter_plan(stride=22),
    r"slices \[10, .*\] should be \[9, ": with_field(GOOD, bits=10),
    r"field at bit 0 has products at bits \[9\]": with_field(
        with_field(GOOD, terms=((0, 1), (1, 0))), 1, terms=((0, 0),)
    ),
    r"field at bit 9 mixes the outputs \[\(0, 0, 0\), \(0, 0, 1\)\]": with_lane(
        GOOD, "weights", tap=0
    ),
    r"has spread 48, not 42": with_field(GOOD, spread=48),
    r"misses the products \(group, tap, column\) \[\(0, 2, 0\), \(0, 2, 1\)\]": replace(
        GOOD, words=GOOD.words[:1]
    ),
    r"and repeats \[\(0, 2, 0\), \(0, 2, 1\)\]": replace(GOOD, words=(*GOOD.words, GOOD.words[1])),
    r"part 1 misses the products": replace(SPLIT, words=SPLIT.words[:3]),
    r"weight words span 67107325\.\.67110403, too wide for a signed 27-bit port": with_word(
        GOOD, w_add=1 << 26
    ),
    r"weight words span -67110404\.\.-67107326, too wide": with_word(GOOD, w_add=-(1 << 26) - 1),
    r"activation words span 0\.\.522495, too wide for a signed 18-bit port": without_tricks(
        filter_plan(3, 3, 8, stride=11)
    ),
    r"field at bit 0 reaches 42 in a slice of 5 bits": filter_plan(3, 3, 3, stride=5, taps=(2, 1)),
    r"field at bit 9 reaches 1008 in a slice of 9 bits": replace(CHAIN, chain=12),
    r"field at bit 18 reaches 1409286144 in a slice of 30 bits": replace(CANARY, chain=1 << 25),
    r"up to 2 carries a product enter the lane at bit 12, 1 known bits count 1": filter_plan(
        3, 3, 3, stride=6, taps=(2, 1), mode="canary", chain=9, known_bits=1
    ),
}


@pytest.mark.parametrize("match", BROKEN)
def test_each_rule_is_named_where_it_is_broken(match):
    with pytest.raises(PackError, match=match):
        check(BROKEN[match])


@pytest.mark.parametrize("plan", [GOOD, SPLIT, CHAIN, CANARY], ids=lambda plan: plan.mode)
def test_the_plans_that_were_broken_are_legal(plan):
    check(plan)


# Theorem 1: ports --------------------------------------------------------------------------------


@st.composite
def port_words(draw) -> tuple:
    """Draw (part, ports, lanes) of any offsets, overlapping on their ports or not."""
    lo, hi = draw(st.integers(-9, 0)), draw(st.integers(0, 9))
    part = Part(0, 4, 0, lo, hi, 0, draw(st.integers(1, 3)))
    offsets = st.sets(st.integers(0, 8), min_size=1, max_size=3)
    weights = tuple(WeightLane(offset, 0, 0) for offset in sorted(draw(offsets)))
    acts = tuple(ActLane(offset, 0, 0) for offset in sorted(draw(offsets)))
    return part, draw(st.integers(3, 12)), draw(st.integers(3, 12)), weights, acts


def reached(lo: int, hi: int, lanes: tuple, shift: int) -> set[int]:
    values = product(range(lo, hi + 1), repeat=len(lanes))
    return {
        sum(v << lane.offset for v, lane in zip(row, lanes, strict=True)) + shift for row in values
    }


def fits(words: set[int], port: int) -> bool:
    return all(-(1 << port - 1) <= word < 1 << port - 1 for word in words)


@settings(max_examples=200)
@given(port_words(), st.integers(-300, 300), st.booleans())
def test_ports_are_used_to_the_last_code(case, w_add, flipped):
    part, w_port, a_port, weights, acts = case
    a_sub = flipped << (a_port - 1)
    plan = with_word(
        replace(GOOD, parts=(part,)),
        weights=weights, acts=acts, w_port=w_port, a_port=a_port, w_add=w_add, a_sub=a_sub,
    )  # fmt: skip
    exact = fits(reached(part.w_lo, part.w_hi, weights, w_add), w_port)
    exact &= fits(reached(0, part.a_hi, acts, -a_sub), a_port)
    assert (port_violation(plan, plan.words[0]) is None) == exact


TOP_BIT = (Part(0, 4, 0, -1, 1, 0, 1), 12, 5, (WeightLane(0, 0, 0),), (ActLane(4, 0, 0),))


@settings(max_examples=200)
@example(TOP_BIT)
@given(port_words())
def test_tricks_are_found_whenever_there_are_any(case):
    part, w_port, a_port, weights, acts = case
    w_words, a_words = reached(part.w_lo, part.w_hi, weights, 0), reached(0, part.a_hi, acts, 0)
    wide = max(map(abs, w_words)) + (1 << w_port)
    low, high = min(w_words), max(w_words)
    adds = [add for add in range(-wide, wide + 1) if fits({low + add, high + add}, w_port)]
    subs = [sub for sub in (0, 1 << a_port - 1) if fits({word - sub for word in a_words}, a_port)]
    found = port_tricks(part, w_port, a_port, weights, acts, "folded")
    assert (found is not None) == bool(adds and subs)
    if found:
        assert found[0] in adds
        assert found[1] == subs[0]
        assert found[0] == 0 or 0 not in adds
        powers = [add for add in adds if abs(add).bit_count() == 1]
        assert found[0] == 0 or abs(found[0]) == min(map(abs, powers or adds))


@given(st.integers(2, 8), st.lists(st.integers(0, 9), min_size=1, max_size=4), st.booleans())
def test_one_spare_bit_is_enough_for_full_range_weights(w_bits, gaps, negated):
    """Flush: the lower lanes borrow from the top one. A negated word overflows at the other end."""
    offsets = np.cumsum([0, *(gap + w_bits for gap in gaps)]).tolist()
    ones, flush = sum(1 << offset for offset in offsets), offsets[-1] + w_bits
    lo, hi = weight_range(w_bits, narrow=False)
    ends = {-hi * ones, -lo * ones} if negated else {lo * ones, hi * ones}
    assert not fits(ends, flush)
    assert fits(ends, flush + 1)
    lo, hi = weight_range(w_bits, narrow=True)
    assert fits({lo * ones, hi * ones}, flush)
    lanes = tuple(WeightLane(offset, 0, 0) for offset in offsets)
    part = parts(w_bits, 1, False, Cut())[0]
    assert port_tricks(part, flush, 18, lanes, (ActLane(0, 0, 0),), "folded")


# Theorem 5: splits -------------------------------------------------------------------------------


@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("w_bits", range(2, 9))
@pytest.mark.parametrize("a_bits", [1, 5, 8])
def test_parts_of_every_cut_add_up(w_bits, a_bits, narrow):
    w_lo, w_hi = weight_range(w_bits, narrow)
    weights, acts = np.arange(w_lo, w_hi + 1), np.arange(1 << a_bits)
    for cut in cuts(w_bits, a_bits):
        slices = parts(w_bits, a_bits, narrow, cut)
        plan, total = replace(GOOD, w_bits=w_bits, a_bits=a_bits, narrow=narrow, parts=slices), 0
        for part in slices:
            w, a = weight_slice(part, plan, weights), act_slice(part, acts)
            assert (w.min(), w.max(), a.max()) == (part.w_lo, part.w_hi, part.a_hi)
            total = total + (np.multiply.outer(w, a) << part.w_low + part.a_low)
        assert np.array_equal(total, np.multiply.outer(weights, acts))


# Theorem 6: fewer bits ---------------------------------------------------------------------------


@settings(max_examples=100)
@given(geometries(), st.integers(1, 23), st.sampled_from(("w_bits", "a_bits", "narrow")))
def test_fewer_bits_and_narrow_weights_keep_a_plan_exact(given_, stride, name):
    wide = build(given_, stride)
    less = {**given_, name: True if name == "narrow" else given_[name] - 1}
    low = less["cut"].low
    assume(less["w_bits"] > less["narrow"] and less["a_bits"] > 0)
    assume(low == 0 or low < less[f"{less['cut'].split}_bits"])
    try:
        check(wide)
    except PackError:
        return
    check(build(less, stride))


@given(exact_plans())
def test_folding_and_centring_never_widen_a_field(plan):
    for part in plan.parts:
        values = np.arange(part.w_lo, part.w_hi + 1)[:, None] * np.arange(part.a_hi + 1)
        for zero in ZEROS:
            raised = values - part.zero_point(zero, np.arange(part.w_lo, part.w_hi + 1))[:, None]
            assert (raised.min(), raised.max()) == (0, part.spread(zero))
            assert part.spread("folded") <= part.spread(zero) <= part.spread("plain")
