# SPDX-License-Identifier: Apache-2.0
"""The search finds the optimum of its families, keeps a Pareto set and obeys monotonicity."""

from dataclasses import replace
from fractions import Fraction
from math import exp, log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.device import dsp
from hw.packing import PackError, table
from hw.packing.geometry import Cut, Part, Placement, Shape, build_word, cuts, lut_per_mac, parts
from hw.packing.prove import violation
from hw.packing.search import (
    CHAIN_LIMIT,
    KERNELS,
    PLANS_PER_CELL,
    best_placement,
    candidates,
    capacity,
    pareto,
    search,
)

E2 = dsp("dsp48e2")

# Rates of DeepBurning-MixQ (ICCAD'23), the published search tables; rows w 2..8, columns a 2..8.
PUBLISHED = {
    1: """12 8 8 6 6 4 4 | 10 8 6 6 4 4 4 | 8 6 6 4 4 4 3 | 6 6 4 4 4 4 2
          6 4 4 4 2 2 2 | 4 4 4 4 2 2 2 | 4 4 3 2 2 2 2""",
    3: """18 15 12 7.5 7.5 6 6 | 15 12 7.5 6 6 6 3 | 12 7.5 6 6 6 6 3 | 9 6 6 6 6 3 3
          7.5 6 6 4.5 3 3 3 | 6 6 4.5 3 3 3 2.25 | 6 3 3 3 3 3 2""",
    5: """20 15 10 7.5 7.5 5 5 | 12.5 10 6.67 5 5 5 3.33 | 10 7.5 5 5 5 5 3.33
          7.5 6.67 5 5 5 3.33 3.33 | 6.67 5 5 5 3.33 2.5 2.5 | 5 5 5 3.33 2.5 2.5 2.5
          5 3.33 3.33 3.33 2.5 2.5 2""",
}


def geometric_mean(kernel: int, narrow: bool) -> float:
    """Return the mean ratio of our rates to the published ones over the 49 cells."""
    published = [float(rate) for rate in PUBLISHED[kernel].replace("|", " ").split()]
    rates = [rate for row in table("dsp48e2", kernel, narrow).macs_per_dsp_grid() for rate in row]
    ratios = [float(ours) / theirs for ours, theirs in zip(rates, published, strict=True)]
    return exp(sum(map(log, ratios)) / 49)


# Full range: what legal equal-stride plans with one known bit reach; the published rates assume
# weights without -2^(b-1) and partly overflow a port. Narrow: the default tables.
@pytest.mark.parametrize(
    ("kernel", "narrow", "least"),
    [
        (1, False, 0.944),
        (3, False, 0.946),
        (5, False, 0.960),
        (1, True, 1.008),
        (3, True, 0.997),
        (5, True, 1.075),
    ],
)
def test_mean_rate_against_the_published_table(kernel, narrow, least):
    assert least <= geometric_mean(kernel, narrow) < least + 0.001


def brute_force_chain(shape: Shape, part: Part, known_bits: int) -> int:
    """Try every pair of strides and both ports; return the longest chain the rule allows."""
    longest = 0
    for w_port in (E2.wide_bits, E2.narrow_bits):
        for w_stride in range(1, 27):
            for a_stride in [w_stride] if shape.taps > 1 else range(1, 27):
                word = build_word(
                    E2, shape, part, Placement(w_port, w_stride, a_stride), known_bits
                )
                distinct = len(word.fields) == len(shape.field_terms)
                while distinct and not violation(word, longest + 1, known_bits, E2.p_bits):
                    longest += 1
    return longest


@st.composite
def small_words(draw) -> tuple[Shape, Part, int]:
    filters = st.builds(Shape, st.just(1), st.integers(2, 5), st.integers(2, 5))
    kernels = st.builds(Shape, st.integers(2, 4), st.just(1), st.integers(2, 4))
    shape = draw(filters | kernels)
    w_bits, a_bits = draw(st.integers(2, 8)), draw(st.integers(2, 8))
    cut = draw(st.sampled_from(list(cuts(w_bits, a_bits))))
    part = draw(st.sampled_from(parts(w_bits, a_bits, draw(st.booleans()), cut)))
    return shape, part, draw(st.integers(0, 1))


@settings(max_examples=40)
@given(small_words())
def test_equal_strides_are_the_best_strides(case):
    shape, part, known_bits = case
    shapes = {shape} if shape.groups == 1 else {shape, replace(shape, weights_dense=True)}
    placed = [best_placement(E2, shape, part, known_bits) for shape in shapes]
    longest = max(found[0] if found else 0 for found in placed)
    if longest < 200:
        assert longest == brute_force_chain(shape, part, known_bits)


def naive_best_rate(kernel: int, w_bits: int, a_bits: int, narrow: bool) -> Fraction:
    """Search shapes, cuts and known bits without any pruning."""
    best = Fraction(0)
    shapes = [Shape(1, taps, columns) for taps in range(1, kernel + 1) for columns in range(1, 28)]
    shapes += [
        Shape(groups, 1, columns, dense)
        for groups in range(2, 28)
        for columns in range(1, 28)
        for dense in (False, True)
    ]
    for cut in cuts(w_bits, a_bits):
        cut_parts = parts(w_bits, a_bits, narrow, cut)
        for shape in shapes:
            rate = shape.macs_per_dsp(kernel, len(cut_parts))
            if rate > best and all(best_placement(E2, shape, part, 1) for part in cut_parts):
                best = rate
    return best


@pytest.mark.parametrize(
    ("kernel", "w_bits", "a_bits", "narrow"),
    [(1, 2, 2, True), (1, 5, 3, False), (3, 4, 4, True), (5, 3, 6, True), (7, 8, 2, False)],
)
def test_pruning_loses_nothing(kernel, w_bits, a_bits, narrow):
    rate = table("dsp48e2", kernel, narrow).best(w_bits, a_bits).macs_per_dsp
    assert rate == naive_best_rate(kernel, w_bits, a_bits, narrow)


@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("depthwise", [True, False])
def test_rates_never_rise_with_more_bits_or_range(kernel, narrow, depthwise):
    def rate(dsp_name: str, w_bits: int, a_bits: int, narrow: bool) -> Fraction:
        found = table(dsp_name, kernel, narrow).best(w_bits, a_bits, depthwise=depthwise)
        return found.macs_per_dsp

    for w_bits in range(2, 9):
        for a_bits in range(1, 9):
            here = rate("dsp48e2", w_bits, a_bits, narrow)
            assert here >= rate("dsp48e1", w_bits, a_bits, narrow)
            assert here >= rate("dsp48e2", w_bits, a_bits, False)
            assert w_bits == 8 or here >= rate("dsp48e2", w_bits + 1, a_bits, narrow)
            assert a_bits == 8 or here >= rate("dsp48e2", w_bits, a_bits + 1, narrow)


@pytest.mark.parametrize(("w_bits", "a_bits"), [(2, 2), (4, 4), (8, 2), (3, 7)])
@pytest.mark.parametrize("kernel", [1, 3])
def test_cells_are_pareto_sets(kernel, w_bits, a_bits):
    everything = list(candidates(E2, kernel, w_bits, a_bits, True))
    front = pareto(iter(everything))
    assert all(any(kept.dominates(one) for kept in front) for one in everything)
    assert not any(one.dominates(other) for one in front for other in front if one is not other)
    assert [one.rank for one in front] == sorted(one.rank for one in front)


@pytest.mark.parametrize("kernel", KERNELS)
def test_cells_stay_small_and_serve_every_layer(kernel):
    for w_bits in range(2, 9):
        for a_bits in range(1, 9):
            plans = table("dsp48e2", kernel).plans(w_bits, a_bits)
            rates = [plan.macs_per_dsp for plan in plans]
            assert 1 <= len(plans) <= PLANS_PER_CELL
            assert rates == sorted(rates, reverse=True)
            assert any(plan.groups == 1 for plan in plans)


@pytest.mark.parametrize("kernel", [1, 3])
def test_chains_are_as_long_as_the_rule_allows(kernel):
    for w_bits in range(2, 9):
        for a_bits in range(2, 9):
            for plan in table("dsp48e2", kernel).plans(w_bits, a_bits):
                words = [piece.word for piece in plan.pieces]
                assert not any(violation(w, plan.chain, plan.known_bits, 48) for w in words)
                assert plan.chain == CHAIN_LIMIT or any(
                    violation(w, plan.chain + 1, plan.known_bits, 48) for w in words
                )


def test_parts_of_a_cut():
    low, high = parts(4, 3, True, Cut("w", 1))
    assert (low.weights, high.weights) == ((0, 1), (-4, 3))
    assert {2 * h + low_bit for h in range(-4, 4) for low_bit in range(2)} == set(range(-8, 8))
    low, high = parts(4, 3, True, Cut("a", 2))
    assert (low.acts, high.acts, low.weights, high.weights) == ((0, 3), (0, 1), (-7, 7), (-7, 7))
    assert len(list(cuts(4, 3))) == 1 + 3 + 2


def test_capacity_at_the_edges():
    single, pair = Shape(1, 1, 1), Shape(1, 1, 2)
    assert capacity(single, Placement(18, 4, 4), 4, 0, 4) == 3  # 4 N <= 2^4 - 1
    assert capacity(pair, Placement(18, 4, 4), 4, 0, 9) == 3
    assert capacity(pair, Placement(18, 4, 4), 4, 1, 9) == 7
    assert capacity(pair, Placement(18, 4, 4), 4, 1, 8) == 3  # the top field has 4 bits
    assert capacity(pair, Placement(18, 4, 4), 4, 1, 4) == 0


def test_lut_estimate_by_hand():
    # w4a4, 3 taps x 2 columns, one product: spreads 210, 420, 420, 210 times 256 words
    # -> 16 + 17 + 17 + 16 accumulator bits for 6 MACs.
    assert lut_per_mac(3, Shape(1, 3, 2), (210,), 1, 0) == 11.0
    # one decode per product: parity and correction of four upper fields, 1 LUT each.
    # nine products between decodes; parity of three upper fields: 1 LUT6 each and cycle.
    assert lut_per_mac(3, Shape(1, 3, 3), (210,), 1, 1) == round(
        (16 * 2 + 17 * 2 + 18 + 4 + 4) / 9, 2
    )
    assert lut_per_mac(3, Shape(1, 3, 2), (210,), 9, 1) == round((69 / 9 + 3) / 6, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dsp48e2", 2, 4, 4), "no packing plans for kernel 2; allowed: (1, 3, 5, 7)"),
        (("dsp48e2", 3, 9, 4), "no packing plans for narrow w_bits 9; allowed: 2..8"),
        (("dsp48e2", 3, 4, 0), "no packing plans for a_bits 0; allowed: 1..8"),
        (
            ("dsp48e2", 3, 1, 4),
            "no packing plans for narrow w_bits 1; allowed: 2..8; "
            "a narrow 1-bit weight is always 0",
        ),
    ],
)
def test_cells_outside_the_tables_are_named(arguments, message):
    with pytest.raises(PackError) as error:
        search(*arguments)
    assert str(error.value) == message
