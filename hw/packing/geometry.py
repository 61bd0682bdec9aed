# SPDX-License-Identifier: Apache-2.0
"""From lanes to words: slices of split operands, fields of a word, port tricks it needs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from hw.device import Dsp
from hw.intmath import activation_range, weight_range
from hw.packing.plan import ActLane, Field, Part, WeightLane, Word, Zero


@dataclass(frozen=True)
class Cut:
    """An operand split: `split` names the operand, `low` the bits of its lower slice.

    `signed_low` (weights only): the lower slice is signed, the upper one rounds.
    """

    split: Literal["w", "a"] | None = None
    low: int = 0
    signed_low: bool = False


def cuts(w_bits: int, a_bits: int) -> Iterator[Cut]:
    """Yield every split of one operand into at most two slices."""
    yield Cut()
    yield from (Cut("w", low, signed) for low in range(1, w_bits) for signed in (False, True))
    yield from (Cut("a", low) for low in range(1, a_bits))


def parts(w_bits: int, a_bits: int, narrow: bool, cut: Cut) -> tuple[Part, ...]:
    """Return the slices of a cut, lowest first."""
    w_lo, w_hi = weight_range(w_bits, narrow)
    low = cut.low
    match cut.split:
        case None:
            return (Part(0, w_bits, 0, w_lo, w_hi, 0, a_bits),)
        case "w":
            half = 1 << (low - 1) if cut.signed_low else 0
            lower = (-half, half - 1) if cut.signed_low else activation_range(low)
            upper = ((w_lo + half) >> low, (w_hi + half) >> low)
            return (
                Part(0, low, 0, *lower, 0, a_bits),
                Part(low, w_bits - low, half, *upper, 0, a_bits),
            )
        case "a":
            return (
                Part(0, w_bits, 0, w_lo, w_hi, 0, low),
                Part(0, w_bits, 0, w_lo, w_hi, low, a_bits - low),
            )


def port_tricks(
    part: Part,
    w_port: int,
    a_port: int,
    weights: tuple[WeightLane, ...],
    acts: tuple[ActLane, ...],
    zero: Zero,
) -> tuple[int, int] | None:
    """Return (w_add, a_sub) with which both words fit their ports, None if no pair does."""
    w_add = weight_shift(part, w_port, sum(1 << lane.offset for lane in weights))
    a_sub = act_shift(part, a_port, sum(1 << lane.offset for lane in acts), zero)
    return None if w_add is None or a_sub is None else (w_add, a_sub)


def weight_shift(part: Part, port: int, ones: int) -> int | None:
    """Return w_add of a word with `ones` = sum 2^o_i, None if it does not fit its port.

    0 if possible, else the smallest power of two (of either sign), else the smallest integer.
    docs/packing.md, section 2.
    """
    half = 1 << (port - 1)
    low, high = -half - part.w_lo * ones, half - 1 - part.w_hi * ones  # of w_add
    if low > high:
        return None
    least = max(low, min(high, 0))
    if least == 0:
        return 0
    power = 1 << (abs(least) - 1).bit_length()  # C = -w_add A' is then wiring
    shift = power if least > 0 else -power
    return shift if low <= shift <= high else least


def act_shift(part: Part, port: int, ones: int, zero: Zero) -> int | None:
    """Return a_sub of a word with `ones` = sum 2^p_j, None if it does not fit its port."""
    half, greatest = 1 << (port - 1), part.a_hi * ones
    if zero == "centred":
        a_sub = part.centre * ones
        return a_sub if a_sub <= half and greatest - a_sub < half else None
    return None if greatest >= 2 * half else half * (greatest >= half)


def make_word(
    device: Dsp,
    part: Part,
    index: int,
    weights: tuple[WeightLane, ...],
    acts: tuple[ActLane, ...],
    *,
    w_port: int,
    known_bits: int,
    zero: Zero,
    tricks: tuple[int, int] = (0, 0),
) -> Word:
    """Return the word of the given lanes (sorted by offset); legality is the business of `prove`.

    `index` is that of `part` in its plan, `tricks` (w_add, a_sub).
    """
    terms: dict[int, list[tuple[int, int]]] = {}
    for i, weight in enumerate(weights):
        for j, act in enumerate(acts):
            terms.setdefault(weight.offset + act.offset, []).append((i, j))
    offsets, spread = sorted(terms), part.spread(zero)
    fields = tuple(
        Field(
            offset,
            device.p_bits - offset if above is None else above - offset + known_bits,
            tuple(terms[offset]),
            len(terms[offset]) * spread,
        )
        for offset, above in zip(offsets, [*offsets[1:], None], strict=True)
    )
    a_port = device.wide_bits + device.narrow_bits - w_port
    return Word(index, w_port, a_port, weights, acts, fields, *tricks)
