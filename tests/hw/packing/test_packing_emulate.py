# SPDX-License-Identifier: Apache-2.0
"""Pack, multiply, accumulate, decode: against plain sums, and against single bits."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.device import dsp
from hw.packing.emulate import canary, direct, emulate, emulate_word, expected
from hw.packing.geometry import Cut, make_word, parts
from hw.packing.plan import ZEROS, ActLane, PackError, PackPlan, WeightLane, Word
from tests.packing_samples import filter_plan, group_plan
from tests.packing_strategies import exact_plans, sequences

P_BITS = 48


# A model in single bits --------------------------------------------------------------------------


def bits_of(value: int, count: int) -> list[int]:
    return [(value >> k) & 1 for k in range(count)]


def value_of(bits: list[int]) -> int:
    return sum(bit << k for k, bit in enumerate(bits))


def add(x: list[int], y: list[int]) -> list[int]:
    """Add two words of equal length with full adders; the last carry is lost."""
    carry, total = 0, []
    for a, b in zip(x, y, strict=True):
        total.append(a ^ b ^ carry)
        carry = a & b | carry & (a ^ b)
    return total


def multiply(x: list[int], y: list[int]) -> list[int]:
    """Multiply two signed words by shifted additions; the top bit of `y` counts negatively."""
    wide = [*x, *[x[-1]] * (P_BITS - len(x))]
    total = [0] * P_BITS
    for k, bit in enumerate(y):
        row = [bit & b for b in [0] * k + wide[: P_BITS - k]]
        if k == len(y) - 1:
            row = add([1 - b for b in row], bits_of(1, P_BITS))
        total = add(total, row)
    return total


def serial(plan: PackPlan, weights: list, acts: list) -> list[int]:
    """Return the sums of one word over products [N][lane], computed bit by bit."""
    word, t = plan.words[0], plan.known_bits
    offsets = [field.offset for field in word.fields]
    p, known, carries = [0] * P_BITS, [0] * len(offsets), [0] * len(offsets)
    least = [0] * len(offsets)
    for w, a in zip(weights, acts, strict=True):
        z = [zero_point(plan, value) for value in w]
        big_w = sum(value << lane.offset for value, lane in zip(w, word.weights, strict=True))
        big_a = sum(value << lane.offset for value, lane in zip(a, word.acts, strict=True))
        w_bits = bits_of(big_w + word.w_add, word.w_port)
        a_bits = add(bits_of(big_a, word.a_port), bits_of(-word.a_sub, word.a_port))
        c = word.a_sub * big_w - word.w_add * (value_of(a_bits) - (a_bits[-1] << word.a_port))
        for (i, lane), act in product(enumerate(word.weights), word.acts):
            c -= z[i] << lane.offset + act.offset
        after = add(p, add(multiply(w_bits, a_bits), bits_of(c, P_BITS)))
        for k, field in enumerate(word.fields):
            u = sum(w[i] * a[j] - z[i] for i, j in field.terms)
            least[k] += sum(z[i] for i, _ in field.terms)
            known[k] = (known[k] + u) % (1 << t)
            seen = value_of(after[offsets[k] :][:t]) - value_of(p[offsets[k] :][:t]) - u
            carries[k] += seen % (1 << t)
        p = after
    found = lanes_of(p, offsets, carries) if plan.mode == "canary" else slices_of(p, word, known)
    return [u + z for u, z in zip(found, least, strict=True)]


def zero_point(plan: PackPlan, weight: int) -> int:
    """Return z by the table of plan.py, the least product found by trying all."""
    part = plan.parts[0]
    weights = [weight] if plan.zero == "folded" else range(part.w_lo, part.w_hi + 1)
    centre = 1 << part.a_bits - 1 if plan.zero == "centred" else 0
    return centre * weight + min(w * (a - centre) for w in weights for a in range(part.a_hi + 1))


def lanes_of(p: list[int], offsets: list[int], carries: list[int]) -> list[int]:
    sums = []
    for k, (low, high) in enumerate(pairwise([*offsets, P_BITS])):
        into, out = carries[k] if k else 0, carries[k + 1] if high < P_BITS else 0
        lane = value_of(p[low:high]) - into
        sums.append(lane + (out << high - low) if high < P_BITS else lane % (1 << high - low))
    return sums


def slices_of(p: list[int], word, known: list[int]) -> list[int]:
    sums = []
    for k, field in enumerate(word.fields):
        value = value_of(p[field.offset :])
        if k + 1 < len(word.fields):
            value -= known[k + 1] << word.fields[k + 1].offset - field.offset
        sums.append(value % (1 << field.bits))
        p = bits_of(value_of(p) - (sums[-1] << field.offset), P_BITS)
    return sums


@st.composite
def loose_words(draw) -> PackPlan:
    """Draw words of any lanes, ports and tricks: exact or not, the silicon does something."""
    w_bits, a_bits, narrow = draw(st.integers(2, 4)), draw(st.integers(1, 4)), draw(st.booleans())
    part = parts(w_bits, a_bits, narrow, Cut())[0]
    w_offsets = sorted(draw(st.sets(st.integers(0, 24), min_size=1, max_size=3)))
    a_offsets = sorted(draw(st.sets(st.integers(0, 15), min_size=1, max_size=3)))
    t, zero = draw(st.integers(0, 4)), draw(st.sampled_from(ZEROS))
    word = make_word(
        dsp("dsp48e2"),
        part,
        0,
        tuple(WeightLane(offset, 0, 0) for offset in w_offsets),
        tuple(ActLane(offset, 0, 0) for offset in a_offsets),
        w_port=draw(st.sampled_from((27, 18))),
        known_bits=t,
        zero=zero,
        tricks=(draw(st.integers(-(1 << 17), 1 << 17)), draw(st.sampled_from((0, 1 << 17)))),
    )
    mode = draw(st.sampled_from(("chain", "canary")))
    cell = ("dsp48e2", 1, w_bits, a_bits, narrow, mode, 99, t, zero, 1, 1)
    return PackPlan(*cell, (part,), (word,))


@settings(max_examples=60)
@given(loose_words(), st.integers(1, 12), st.integers(0, 2**32))
def test_the_emulator_is_the_bit_serial_model(plan, count, seed):
    word, part, rng = plan.words[0], plan.parts[0], np.random.default_rng(seed)
    weights = rng.integers(part.w_lo, part.w_hi + 1, (2, count, len(word.weights)))
    acts = rng.integers(0, part.a_hi + 1, (2, count, len(word.acts)))
    weights[1], acts[1] = part.w_hi, part.a_hi
    got = emulate_word(plan, word, weights, acts, ports="wrap")
    for index in range(2):
        want = serial(plan, weights[index].tolist(), acts[index].tolist())
        assert got[index].tolist() == want


# Tiles -------------------------------------------------------------------------------------------


def naive(plan: PackPlan, weights: np.ndarray, acts: np.ndarray) -> dict:
    """Sum the products of one sequence by (group, column - tap)."""
    sums = Counter()
    for w_tile, a_row in zip(weights.tolist(), acts.tolist(), strict=True):
        for (group, taps), (column, a) in product(enumerate(w_tile), enumerate(a_row)):
            for tap, w in enumerate(taps):
                sums[group, column - tap] += w * a
    return dict(sums)


@settings(max_examples=60)
@given(exact_plans(), st.integers(1, 60), st.integers(0, 2**32))
def test_decoded_sums_are_the_dot_products(plan, count, seed):
    """Longer sequences than the chain are decoded in pieces."""
    weights, acts = sequences(plan, 6, count, seed)
    got = emulate(plan, weights, acts)
    assert np.array_equal(got, expected(plan, weights, acts))
    shifts = range(1 - plan.kernel, plan.columns)
    found = {
        (group, shift): got[2, group, shift + plan.kernel - 1]
        for group, shift in product(range(plan.groups), shifts)
    }
    assert found == naive(plan, weights[2], acts[2])


@pytest.mark.parametrize(
    ("mode", "stride", "most"),
    [
        ("chain", 9, 4),  # an inner field: 4 x 2 x 105 < 2^10
        ("canary", 14, 624),  # the top field: 624 x 105 < 2^16
    ],
)
def test_the_whole_chain_is_exact_and_one_product_more_is_not(mode, stride, most):
    for chain in (most, most + 1):
        plan = filter_plan(
            mode=mode, stride=stride, chain=chain, known_bits=1, taps=(2, 1), zero="folded"
        )
        if mode == "canary":
            top = plan.words[0].fields[-1].offset
            plan = replace(plan, words=tuple(lifted(word, 32 - top) for word in plan.words))
        weights, acts = np.full((chain, 1, 3), 7), np.full((chain, 2), 15)
        exact = np.array_equal(emulate(plan, weights, acts), expected(plan, weights, acts))
        assert exact == (chain == most)


def lifted(word: Word, bits: int) -> Word:
    """Return the word with all weights `bits` higher on a port that is wide enough."""
    weights = tuple(replace(lane, offset=lane.offset + bits) for lane in word.weights)
    fields = tuple(replace(field, offset=field.offset + bits) for field in word.fields)
    return replace(word, weights=weights, fields=fields, w_port=48)


def increments_of_outputs(plan: PackPlan, weights: np.ndarray, acts: np.ndarray) -> np.ndarray:
    """Return the sums of u alone: what the array sees if it never adds a constant."""
    decode, out = (canary if plan.mode == "canary" else direct), np.zeros(plan.columns + 2, int)
    for word in plan.words:
        w = weights[..., [lane.group for lane in word.weights], [lane.tap for lane in word.weights]]
        sums = decode(plan, word, w, acts[..., [lane.column for lane in word.acts]], "check")
        for field, value in zip(word.fields, sums, strict=True):
            out[word.output(field.terms[0])[2] + 2] += value
    return out


@pytest.mark.parametrize("zero", ZEROS)
@pytest.mark.parametrize("signed", [False, True])
def test_a_padded_row_needs_one_constant_of_its_filter(zero, signed):
    """Padding is code 0 (signed: the middle code), so borders are nothing special."""
    plan = filter_plan(zero=zero, stride=11, taps=(2, 1))
    rng = np.random.default_rng(5)
    kernel, middle = rng.integers(-7, 8, 3), 8 * signed
    row = rng.integers(0, 16, 40) - middle
    codes, sums = np.pad(row, 1) + middle, np.zeros(44, int)
    for start in range(0, 42, 2):
        sums[start : start + 4] += increments_of_outputs(
            plan, kernel[None, None], codes[None, start : start + 2]
        )
    plain, centred = np.full(3, -7 * 15), 8 * kernel - 7 * 8
    least = {"plain": plain, "folded": 15 * np.minimum(kernel, 0), "centred": centred}[zero]
    whole = sums[2:42] + least.sum() - middle * kernel.sum()
    assert np.array_equal(whole, np.convolve(np.pad(row, 1), kernel[::-1], "valid"))


def test_a_word_that_overflows_its_port_is_named_or_cut():
    plan = group_plan(narrow=False)
    weights, acts = np.full((1, 2, 1), 1 << 25), np.ones((1, 2), int)
    with pytest.raises(PackError, match=r"word \d+ does not fit a signed 27-bit port \(-67108864"):
        emulate(plan, weights, acts)
    assert not np.array_equal(emulate(plan, weights, acts, "wrap"), expected(plan, weights, acts))
