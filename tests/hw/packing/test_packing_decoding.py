# SPDX-License-Identifier: Apache-2.0
"""Decodings: least gaps against the inequalities, and which decodings a DSP has."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.device import dsp
from hw.packing import PackError
from hw.packing.decoding import LEAST_CANARY, MOST_KNOWN_BITS, Decoding, decodings
from hw.packing.geometry import Cut, parts
from hw.packing.plan import ZEROS

E2 = dsp("dsp48e2")


@given(st.integers(1, 5000), st.integers(0, 2), st.integers(1, 300))
def test_gaps_of_decoded_sums_are_the_least(spread, known_bits, chain):
    def exact(gap: int) -> bool:
        return gap >= max(known_bits, 1) and chain * spread < 1 << gap + known_bits

    gap = Decoding("chain", known_bits, "folded", chain).gap_bits(spread)
    assert exact(gap)
    assert not exact(gap - 1)


@given(st.integers(1, 5000), st.integers(1, 4))
def test_gaps_of_canaries_are_the_least_that_pass_on_as_many_carries_as_come_in(spread, known_bits):
    most = (1 << known_bits) - 1

    def exact(gap: int) -> bool:
        return gap >= known_bits and spread + most <= most << gap

    gap = Decoding("canary", known_bits, "folded", 1).gap_bits(spread)
    assert exact(gap)
    assert not exact(gap - 1)


@given(st.integers(1, 64), st.integers(2, 6))
def test_the_top_field_fits_the_accumulator(chain, bits):
    (part,) = parts(bits, bits, False, Cut())
    way = Decoding("chain", 0, "folded", chain)
    highest, largest = way.rules(E2, part, 1).highest, chain * part.spread("folded")
    assert largest < 1 << E2.p_bits - highest
    assert highest == E2.wide_bits + E2.narrow_bits or largest >= 1 << E2.p_bits - highest - 1


def test_port_tricks_need_their_hardware():
    (part,) = parts(4, 4, False, Cut())

    def w_flush(name: str, mode: str) -> bool:
        return Decoding(mode, 0, "folded", 4).rules(dsp(name), part, 1).w_flush

    assert w_flush("dsp48e2", "chain")
    assert not w_flush("dsp48e1", "chain")  # no W multiplexer beside P
    assert w_flush("dsp48e1", "every")  # Z carries C


def test_decodings_of_dsp48e2():
    ways = decodings(E2)
    for mode, most in MOST_KNOWN_BITS.items():
        least = 1 if mode == "canary" else 0
        found = {way.known_bits for way in ways if way.mode == mode}
        assert found == set(range(least, most + 1))
    shortest = {way.mode: way.chain for way in ways}
    assert shortest == {"every": 1, "chain": 2, "canary": LEAST_CANARY}
    assert len(set(ways)) == len(ways)


def test_options_restrict_decodings():
    assert {way.mode for way in decodings(E2, "canary")} == {"canary"}
    assert {way.zero for way in decodings(E2, zero="centred")} == {"centred"}
    assert {way.zero for way in decodings(E2)} == set(ZEROS)
    assert max(way.known_bits for way in decodings(E2, known_bits=1)) == 1
    assert decodings(E2, "every", chain=2) == ()
    assert {way.chain for way in decodings(E2, chain=100)} == {100}


def test_summed_products_are_not_read_alone():
    ways = decodings(dsp("dsp58-int8"))
    assert {way.mode for way in ways} == {"chain"}
    assert min(way.chain for way in ways) == 3


def test_canaries_need_an_operand_for_c_in_every_cycle():
    assert decodings(dsp("dsp48e1"), "canary") == decodings(dsp("ice40-mac16"), "canary") == ()
    assert {way.mode for way in decodings(dsp("dsp58"))} == {"every", "chain", "canary"}


def test_a_block_without_accumulator_is_read_every_cycle():
    assert {way.mode for way in decodings(dsp("intel-18x19"))} == {"every"}
    assert decodings(dsp("intel-18x19"), "chain") == decodings(dsp("intel-18x19"), "canary") == ()


def test_slices_must_have_the_bits_that_are_known():
    narrow_part, wide_part = parts(5, 4, False, Cut("w", 2))
    assert Decoding("canary", 2, "folded", 64).suits(narrow_part)
    assert not Decoding("canary", 3, "folded", 64).suits(narrow_part)
    assert Decoding("canary", 3, "folded", 64).suits(wide_part)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "never"}, "mode 'never' is unknown; allowed: best, every, chain, canary"),
        ({"chain": 0}, "chain 0 must be at least 1, the products that P has to hold"),
        ({"chain": -1}, "chain -1 must be at least 1, the products that P has to hold"),
        ({"known_bits": -1}, "known_bits -1 must lie in 0..4"),
        ({"known_bits": 9}, "known_bits 9 must lie in 0..4"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(PackError, match=f"^{re.escape(message)}$"):
        decodings(E2, **options)
