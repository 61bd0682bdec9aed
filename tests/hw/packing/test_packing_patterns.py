# SPDX-License-Identifier: Apache-2.0
"""Every rectangle is covered exactly once by words that obey the rules."""

from collections import Counter
from dataclasses import replace
from itertools import product

from hypothesis import assume, given
from hypothesis import strategies as st

from hw.device import dsp
from hw.packing.decoding import Decoding, decodings
from hw.packing.geometry import Cut, cuts, make_word, parts, port_tricks
from hw.packing.patterns import Pattern, Rectangle, rectangles
from hw.packing.plan import PackPlan, Part, Word
from hw.packing.rules import violation

NAMES = ("dsp48e1", "dsp48e2", "ice40-mac16")


@st.composite
def runs(draw) -> tuple[str, Part, Decoding, int, bool]:
    name, narrow = draw(st.sampled_from(NAMES)), draw(st.booleans())
    w_bits, a_bits = draw(st.integers(1 + narrow, 8)), draw(st.integers(1, 8))
    cut = draw(st.sampled_from([Cut(), *cuts(w_bits, a_bits)]))
    part = replace(draw(st.sampled_from(parts(w_bits, a_bits, narrow, cut))), w_low=0, a_low=0)
    way = draw(st.sampled_from(decodings(dsp(name))))
    assume(way.suits(part))
    return name, part, way, draw(st.integers(1, 5)), draw(st.booleans())


def words_of(name: str, part: Part, way: Decoding, rectangle: Rectangle) -> list[Word]:
    device = dsp(name)
    a_port = device.wide_bits + device.narrow_bits - rectangle.w_port
    words = []
    for pattern, column in rectangle.placed():
        weights, acts = pattern.weights(), pattern.acts(column)
        tricks = port_tricks(part, rectangle.w_port, a_port, weights, acts, way.zero)
        options = {"known_bits": way.known_bits, "zero": way.zero, "tricks": tricks}
        word = make_word(device, part, 0, weights, acts, w_port=rectangle.w_port, **options)
        words.append(word)
    return words


def as_plan(name: str, part: Part, way: Decoding, taps: int, words: list[Word]) -> PackPlan:
    bits = part.w_bits, part.a_bits
    decoding = way.mode, way.chain, way.known_bits, way.zero
    return PackPlan(name, taps, *bits, False, *decoding, 1, 1, (part,), tuple(words))


@given(runs())
def test_rectangles_are_covered_once_by_exact_words(run):
    name, part, way, taps, swapped = run
    device = dsp(name)
    ports = (device.wide_bits, device.narrow_bits)[:: -1 if swapped else 1]
    rules = way.rules(device, part, taps)
    for (groups, columns), rectangle in rectangles(part, taps, ports, rules).items():
        words = words_of(name, part, way, rectangle)
        plan = as_plan(name, part, way, taps, words)
        covered = Counter(
            (weight.group, weight.tap, act.column)
            for word in words
            for weight, act in product(word.weights, word.acts)
        )
        assert covered == Counter(product(range(groups), range(taps), range(columns)))
        assert len(words) == rectangle.words
        for word in words:
            assert violation(plan, word) is None
            centre = part.centre * sum(1 << lane.offset for lane in word.acts)
            assert way.zero != "centred" or word.a_sub == centre
            assert rules.w_flush or not word.w_add
            assert way.zero != "plain" or not word.a_sub
            for field in word.fields:
                assert len({word.output(term) for term in field.terms}) == 1


def test_lanes_of_a_pattern_by_hand():
    pattern = Pattern(27, 2, 8, (0, 4), (0, 20), (0, 2), 3)
    weights = [(lane.offset, lane.group, lane.tap) for lane in pattern.weights(group=5, tap=1)]
    assert weights == [(0, 5, 2), (4, 6, 2), (8, 5, 1), (12, 6, 1)]
    acts = [(lane.offset, lane.row, lane.column) for lane in pattern.acts(column=10)]
    assert acts == [(0, 0, 10), (16, 0, 12), (20, 0, 13), (36, 0, 15)]
