# SPDX-License-Identifier: Apache-2.0
"""Rates, outputs, constants and spreads of hand-made plans, by hand and by brute force."""

from dataclasses import FrozenInstanceError, replace
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.packing.plan import ZEROS, Part
from tests.packing_samples import filter_plan, flush_plan, gapped_plan, group_plan, mixed_plan


@pytest.mark.parametrize(
    ("plan", "steps", "rate"),
    [
        (filter_plan(), 1, Fraction(6)),
        (filter_plan(taps=(2, 1)), 2, Fraction(3)),
        (filter_plan(taps=(2, 1), cut="w"), 4, Fraction(3, 2)),
        (gapped_plan(), 2, Fraction(9)),
        (group_plan(kernel=3), 3, Fraction(4)),
        (mixed_plan(), 2, Fraction(6)),
        (replace(group_plan(), multipliers=2), 1, Fraction(8)),
    ],
)
def test_the_rate_is_the_tile_by_its_words(plan, steps, rate):
    assert (plan.word_steps, plan.macs_per_dsp) == (steps, rate)
    macs = sum(word.macs for word in plan.words)
    assert macs == plan.kernel * plan.groups * plan.columns * len(plan.parts)


def test_an_output_is_group_row_and_column_less_tap():
    word = filter_plan().words[0]
    assert [lane.tap for lane in word.weights] == [2, 1, 0]
    outputs = {term: word.output(term) for term in product(range(3), range(2))}
    assert outputs[0, 0] == (0, 0, -2)
    assert outputs[2, 1] == (0, 0, 1)
    assert outputs[1, 0] == outputs[0, 1] == (0, 0, -1)


def test_c_depends_on_the_weights_where_they_are_folded_or_a_bit_is_flipped():
    plain, folded = filter_plan(), filter_plan(zero="folded")
    flushed = flush_plan(narrow=False)
    assert (plain.biased, folded.biased) == (False, True)
    assert all(word.w_add and word.a_sub for word in flushed.words)
    assert flushed.biased
    words = tuple(replace(word, a_sub=0) for word in flushed.words)
    assert not replace(flushed, words=words).biased


@given(st.integers(-9, 9), st.integers(0, 9), st.integers(1, 4), st.sampled_from(ZEROS))
def test_spreads_are_those_of_all_products(w_lo, reach, a_bits, zero):
    part = Part(0, 4, 0, w_lo, w_lo + reach, 0, a_bits)
    raised = [
        w * a - part.zero_point(zero, w)
        for w, a in product(range(part.w_lo, part.w_hi + 1), range(1 << a_bits))
    ]
    assert min(raised) >= 0
    attained = zero == "centred" or part.w_lo <= 0 <= part.w_hi
    assert max(raised) == part.spread(zero) or not attained
    assert max(raised) <= part.spread(zero)


def test_a_plan_is_a_value():
    plan = filter_plan()
    assert hash(plan) == hash(filter_plan())
    assert plan == filter_plan()
    with pytest.raises(FrozenInstanceError):
        plan.chain = 2
