# SPDX-License-Identifier: Apache-2.0
"""Slices cover every split once; the fields of a word are its polynomial product."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.device import dsp
from hw.packing.geometry import Cut, act_shift, cuts, make_word, parts, port_tricks, weight_shift
from hw.packing.plan import ZEROS, ActLane, Part, WeightLane

E2 = dsp("dsp48e2")


def test_cuts_are_every_way_to_split_one_operand():
    assert list(cuts(1, 1)) == [Cut()]
    found = list(cuts(3, 2))
    weights = [Cut("w", low, signed) for low in (1, 2) for signed in (False, True)]
    assert found == [Cut(), *weights, Cut("a", 1)]
    assert len(set(cuts(8, 8))) == 1 + 2 * 7 + 7


@pytest.mark.parametrize(
    ("cut", "ranges"),
    [
        (Cut(), [(-7, 7, 15)]),
        (Cut("w", 2), [(0, 3, 15), (-2, 1, 15)]),
        (Cut("w", 2, True), [(-2, 1, 15), (-2, 2, 15)]),
        (Cut("a", 3), [(-7, 7, 7), (-7, 7, 1)]),
    ],
)
def test_ranges_of_the_slices_of_a_narrow_weight(cut, ranges):
    found = [(part.w_lo, part.w_hi, part.a_hi) for part in parts(4, 4, True, cut)]
    assert found == ranges


offsets = st.sets(st.integers(0, 12), min_size=1, max_size=4).map(sorted)


@given(offsets, offsets, st.integers(0, 4), st.sampled_from(ZEROS))
def test_fields_are_the_terms_of_the_product_of_both_words(w_offsets, a_offsets, t, zero):
    part = parts(4, 3, False, Cut())[0]
    weights = tuple(WeightLane(offset, 0, 0) for offset in w_offsets)
    acts = tuple(ActLane(offset, 0, 0) for offset in a_offsets)
    word = make_word(E2, part, 2, weights, acts, w_port=18, known_bits=t, zero=zero)
    spread = {"plain": 7 * 15, "folded": 7 * 8, "centred": 32 + 28}[zero]
    product = Counter(w + a for w in w_offsets for a in a_offsets)
    assert [field.offset for field in word.fields] == sorted(product)
    for field, end in zip(word.fields, [*sorted(product)[1:], 48], strict=True):
        assert {w_offsets[i] + a_offsets[j] for i, j in field.terms} == {field.offset}
        assert len(set(field.terms)) == product[field.offset]
        assert field.spread == product[field.offset] * spread
        assert field.bits == end - field.offset + (t if end < 48 else 0)
    assert (word.part, word.w_port, word.a_port, word.w_add, word.a_sub) == (2, 18, 27, 0, 0)


def test_tricks_depend_on_the_lanes_only_through_their_sum():
    part = Part(0, 4, 0, -8, 7, 0, 4)
    weights = WeightLane(0, 0, 0), WeightLane(23, 1, 0)
    acts = ActLane(0, 0, 0), ActLane(14, 0, 1)
    tricks = port_tricks(part, 27, 18, weights, acts, "folded")
    shifts = weight_shift(part, 27, 1 | 1 << 23), act_shift(part, 18, 1 | 1 << 14, "folded")
    assert tricks == shifts == (8, 1 << 17)
