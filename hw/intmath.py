# SPDX-License-Identifier: Apache-2.0
"""Exact integer helpers: ranges, bit growth, divisors."""


def ceil_div(numerator: int, denominator: int) -> int:
    """Return ceil(numerator / denominator) for a positive denominator, exactly."""
    return -(-numerator // denominator)


def unsigned_bits(value: int) -> int:
    """Return the bits of the unsigned representation of `value` >= 0 (0 needs 1 bit)."""
    return max(1, value.bit_length())


def signed_bits(lo: int, hi: int) -> int:
    """Return the bits of the smallest two's complement integer that holds [lo, hi]."""
    return 1 + max((-lo - 1).bit_length() if lo < 0 else 0, hi.bit_length() if hi > 0 else 0)


def weight_range(bits: int, narrow: bool) -> tuple[int, int]:
    """Return (lo, hi) of a signed `bits`-bit weight; narrow drops the most negative code."""
    half = 1 << (bits - 1)
    return (-half + 1 if narrow else -half), half - 1


def activation_range(bits: int) -> tuple[int, int]:
    """Return (lo, hi) of an unsigned `bits`-bit activation code."""
    return 0, (1 << bits) - 1


def divisors(n: int) -> tuple[int, ...]:
    """Return the divisors of n >= 1 in ascending order."""
    small = [d for d in range(1, int(n**0.5) + 1) if n % d == 0]
    return tuple(sorted({*small, *(n // d for d in small)}))
