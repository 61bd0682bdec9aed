# SPDX-License-Identifier: Apache-2.0
"""Integer helpers against their definitions by brute force."""

from fractions import Fraction
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from hw.intmath import (
    activation_range,
    ceil_div,
    divisors,
    signed_bits,
    unsigned_bits,
    weight_range,
)


@given(st.integers(-(10**30), 10**30), st.integers(1, 10**20))
def test_ceil_div_equals_the_exact_quotient(numerator, denominator):
    assert ceil_div(numerator, denominator) == ceil(Fraction(numerator, denominator))


def test_unsigned_bits_is_the_smallest_width():
    for value in range(1, 1025):
        bits = unsigned_bits(value)
        assert value < 1 << bits
        assert value >= 1 << (bits - 1)
    assert unsigned_bits(0) == 1


def test_signed_bits_is_the_smallest_width():
    for lo in range(-70, 71):
        for hi in range(lo, 71):
            bits = signed_bits(lo, hi)
            assert -(1 << bits) // 2 <= lo <= hi < (1 << bits) // 2
            # One bit is the least, and it holds -1 and 0.
            assert bits == 1 or lo < -(1 << bits) // 4 or hi >= (1 << bits) // 4


def test_ranges_of_weights_and_activations():
    assert [weight_range(b, True) for b in (1, 2, 4, 8)] == [(0, 0), (-1, 1), (-7, 7), (-127, 127)]
    assert [weight_range(b, False) for b in (1, 2, 4, 8)] == [
        (-1, 0),
        (-2, 1),
        (-8, 7),
        (-128, 127),
    ]
    assert [activation_range(b) for b in (1, 2, 8)] == [(0, 1), (0, 3), (0, 255)]


def test_divisors_ascend_and_are_all():
    for n in range(1, 400):
        assert divisors(n) == tuple(d for d in range(1, n + 1) if n % d == 0)
