# SPDX-License-Identifier: Apache-2.0
"""The published rates, and what their table gets wrong, each entry with a counterexample."""

import re
from itertools import pairwise

import numpy as np
import pytest

from hw.packing import emulate as emulation
from hw.packing.geometry import Cut
from hw.packing.plan import ActLane, PackError, PackPlan, WeightLane
from hw.packing.prove import certify, prove
from hw.packing.published import WIDTHS, mean_ratio, published
from tests.packing_samples import filter_plan, pattern_plan
from tests.packing_strategies import toy, without_tricks

COUNTEREXAMPLE = r"counterexample \(N = 1\): weights \[.*\], activations \[.*\] give -?\d+, want"


@pytest.mark.parametrize(
    ("kernel", "corners"), [(1, (12, 4, 4, 2)), (3, (18, 6, 6, 2)), (5, (20, 5, 5, 2))]
)
def test_published_rates(kernel, corners):
    rates = published(kernel)
    assert [len(row) for row in rates] == [len(WIDTHS)] * len(WIDTHS)
    assert (rates[0][0], rates[0][-1], rates[-1][0], rates[-1][-1]) == corners
    assert all(left >= right for row in rates for left, right in pairwise(row))


def test_a_kernel_of_seven_was_not_published():
    assert published(7) is None


def test_mean_ratios():
    rates = published(3)
    assert mean_ratio(3, rates) == pytest.approx(1)
    assert mean_ratio(3, tuple(tuple(2 * rate for rate in row) for row in rates)) == pytest.approx(
        2
    )
    one = ((8 * rates[0][0], *rates[0][1:]), *rates[1:])
    assert mean_ratio(3, one) == pytest.approx(8 ** (1 / 49))


# DeepBurning-MixQ (ICCAD 2023), stored lookup tables (K = 5: none is stored; as its explorer gives
# them with a bit left for the sign of unsigned words, from a survey of ours): rows w2..w8,
# columns a2..a8. F: taps x columns of a filter; KF, KT: channels x columns, the T form with dense
# weights; g: guard bits;
# w2, a2: the weights' or activations' halves in words of their own.
ENTRIES = {
    1: """
        KF2x6g-1 KT5x2g-1 KT4x2g-1 KT3x2g0 KT3x2g-1 KF2x2g2 KF2x2g0
        KF2x5g-1 KF2x4g-1 KF2x3g0 KT3x2g-1 KF2x2g3 KF2x2g1 KF2x2g-1
        KF2x4g-1 KF2x3g0 KF2x3g-1 KF2x2g2 KF2x2g1 KF2x2g0 KF3x1g-1
        KF2x3g0 KF2x3g-1 KF2x2g2 KF2x2g1 KF2x2g0 KF2x2g-1 KF2x1g9
        KF2x3g-1 KT2x2g3 KT2x2g1 KT2x2g0 F1x2g9 KF2x1g8 KF2x1g7
        KT2x2g2 KT2x2g1 KT2x2g0 KT2x2g-1 F1x2g8 F1x2g6 KF2x1g5
        KT2x2g0 KT2x2g-1 F1x3g-1 F1x2g9 F1x2g7 F1x2g5 F1x2g3
    """,
    3: """
        F3x6g1 F3x5g1 F3x4g1 F3x3g1 F3x5g1a2 F3x2g2 F3x4g1a2
        F3x5g1 F3x4g1 F3x5g1a2 F3x2g4 F3x2g3 F3x2g1 KF2x2g-1
        F3x4g1 F3x5g1w2 F3x2g3 F3x2g2 F3x2g1 F3x2g0 F3x2g3a2
        F3x3g1 F3x2g3 F3x2g2 F3x2g1 F3x2g0 KF2x2g-1 F3x2g2a2
        F3x5g1w2 F3x2g1 F3x2g0 F2x3g0 F3x2g3w2 F3x2g1w2 F3x2g0a2
        F3x2g1 F3x2g0 F2x3g0 KT2x2g-1 F3x2g1w2 F3x2g0w2 F2x3g0a2
        F3x4g1w2 KT2x2g-1 F3x2g3w2 F3x2g2w2 F3x2g1w2 F3x2g0w2 F1x2g3
    """,
    5: """
        F5x4g1 F5x3g1 F3x4g1 F3x3g1 F5x3g1a2 F3x2g1 F3x4g1a2
        F5x3g1 F3x4g1 F5x3g1a2 KT3x2g-1 F3x2g2 F3x2g0 F2x2g4
        F3x4g1 F5x3g1w2 KT3x2g-1 F3x2g2 F3x2g1 KF2x2g-1 F2x2g2
        F2x4g1 KF2x3g-1 F2x3g2 F3x2g1 F3x2g0 F2x2g1 F2x2g0
        F5x3g1w2 F2x3g2 F2x3g1 KF2x2g-1 F2x2g0 F2x3g1a2 F2x3g1a2
        F2x3g2 F2x3g1 F2x3g0 F2x2g0 F2x3g1a2 F2x3g0a2 F2x3g0a2
        F3x4g1w2 KT2x2g-1 F2x2g1 F3x2g2w2 F3x2g1w2 F1x2g4 KF2x1g3
    """,
}
OVERFLOWING = {  # even with weights that are never the lowest code
    1: "w2a6 w2a7 w2a8 w3a2 w3a3 w3a4 w3a6 w3a7 w3a8 w4a4 w4a7 w5a7 w6a3 w6a5 w6a6 w7a5 w7a6 w7a7 "
    "w8a5 w8a6 w8a7 w8a8",
    3: "w2a2 w2a3 w2a6 w2a7 w3a6 w3a7 w3a8 w4a3 w4a7 w5a2 w5a7 w6a5 w6a6 w6a7 w7a5 w7a7 w8a2 w8a7 "
    "w8a8",
    5: "w6a2 w8a2",
}
FULL_RANGE_BREAKS = {
    1: "w2a3 w5a4 w5a5 w5a6 w5a8 w6a2 w6a7 w6a8 w7a2 w7a3 w7a4 w7a8 w8a2 w8a3",
    3: "w2a5 w3a5 w4a2 w5a3 w5a4 w5a5 w5a6 w5a8 w7a2 w7a3 w7a4 w7a8 w8a3",
    5: "w2a5 w3a2 w3a4 w3a8 w4a2 w4a4 w4a8 w5a5 w5a6 w5a7 w5a8 w6a6 w7a2 w7a3 w7a4 w7a6 w7a7 w7a8 "
    "w8a3 w8a8",
}
ENTRY = re.compile(r"(F|KF|KT)(\d)x(\d)g(-?\d)(w2|a2)?")


def entries(kernel: int) -> dict[str, tuple[int, int, str]]:
    return {
        f"w{w}a{a}": (w, a, entry)
        for w, row in enumerate(ENTRIES[kernel].strip().splitlines(), 2)
        for a, entry in enumerate(row.split(), 2)
    }


def entry_plan(w_bits: int, a_bits: int, entry: str, w_port: int, narrow: bool) -> PackPlan:
    """Return the plan of an entry: stride w + a + guard, one known bit if that is too narrow.

    A split operand counts with its upper half, which is the longer one.
    """
    form, *numbers, split = ENTRY.fullmatch(entry).groups()
    lanes, columns, guard = map(int, numbers)
    cut = Cut(split[0], (w_bits if split == "w2" else a_bits) // 2) if split else Cut()
    stride, taps = w_bits + a_bits + guard - cut.low, lanes if form == "F" else 1
    w_stride, a_stride = {
        "F": (stride, stride), "KF": (columns * stride, stride), "KT": (stride, lanes * stride)
    }[form]  # fmt: skip
    weights = tuple(
        WeightLane(w_stride * k, 0, taps - 1 - k) if form == "F" else WeightLane(w_stride * k, k, 0)
        for k in range(lanes)
    )
    acts = tuple(ActLane(a_stride * column, 0, column) for column in range(columns))
    plan = pattern_plan(
        taps, w_bits, a_bits, lanes // taps, columns, [(weights, acts)],
        cut=cut, narrow=narrow, known_bits=int(2.0**guard < min(taps, columns)), w_port=w_port,
    )  # fmt: skip
    return without_tricks(plan)


def is_legal(plan: PackPlan) -> bool:
    try:
        certify(plan)
    except PackError:
        return False
    return True


@pytest.mark.parametrize("kernel", ENTRIES)
def test_these_entries_overflow_a_port(kernel):
    overflowing = {
        name
        for name, entry in entries(kernel).items()
        if not any(is_legal(entry_plan(*entry, port, narrow=True)) for port in (27, 18))
    }
    assert overflowing == set(OVERFLOWING[kernel].split())


@pytest.mark.parametrize("kernel", ENTRIES)
def test_every_overflowing_entry_is_refused_with_a_counterexample(kernel):
    for name in OVERFLOWING[kernel].split():
        for port in (27, 18):
            plan = entry_plan(*entries(kernel)[name], port, narrow=True)
            with pytest.raises(PackError, match=rf"too wide for a signed.*{COUNTEREXAMPLE}"):
                prove(plan)


@pytest.mark.parametrize("kernel", ENTRIES)
def test_the_other_entries_are_exact_for_narrow_weights(kernel):
    for name in entries(kernel).keys() - set(OVERFLOWING[kernel].split()):
        plans = [entry_plan(*entries(kernel)[name], port, narrow=True) for port in (27, 18)]
        assert prove(next(filter(is_legal, plans)), limit=1 << 16).proof.vectors > 0


@pytest.mark.parametrize("kernel", ENTRIES)
def test_full_range_weights_break_the_entries_with_full_ports(kernel):
    """The table assumes weights without the lowest code; `prove` and `certify` agree where."""
    broken = set()
    for name, entry in entries(kernel).items():
        legal = [p for p in (27, 18) if is_legal(entry_plan(*entry, p, narrow=True))]
        full = [entry_plan(*entry, port, narrow=False) for port in legal]
        if legal and not any(map(is_legal, full)):
            broken.add(name)
            for plan in full:
                with pytest.raises(PackError, match=COUNTEREXAMPLE):
                    prove(plan, limit=1 << 16)
    assert broken == set(FULL_RANGE_BREAKS[kernel].split())


@pytest.mark.parametrize("bits", [(5, 2), (7, 5), (7, 6)])
def test_the_word_of_upper_halves_needs_one_bit_more_than_its_template_has(bits):
    """The upper half of a narrow weight reaches -2^(b-1) again: -15 >> 2 = -4."""
    w_bits, a_bits = bits
    guard, columns = {(5, 2): (1, 5), (7, 5): (2, 2), (7, 6): (1, 2)}[bits]
    stride = w_bits - w_bits // 2 + a_bits + guard
    template = 2 * stride + w_bits - w_bits // 2
    given = {"stride": stride, "columns": columns, "cut": Cut("w", w_bits // 2), "known_bits": 1}
    for port in (template, template + 1):
        plan = filter_plan(3, *bits, dsp_name=toy(27, port, 48), w_port=port, **given)
        plan = without_tricks(plan)
        if port == template:
            with pytest.raises(PackError, match=rf"weight words span -.*{COUNTEREXAMPLE}"):
                prove(plan)
        else:
            assert prove(plan, limit=1 << 16).proof.vectors > 0


def test_a_parity_read_at_the_field_spacing_decodes_wrongly(monkeypatch):
    """The template of the T form looks for activation j at bit 10 j; it lies at bit 20 j."""
    plan = entry_plan(8, 3, "KT2x2g-1", 18, narrow=True)
    assert prove(plan).proof.method == "exhaustive"
    right = emulation.known_low_bits

    def at_spacing(plan, word, weights, acts):
        return right(plan, word, weights, np.where(np.arange(acts.shape[-1]) % 2, 0, acts))

    monkeypatch.setattr(emulation, "known_low_bits", at_spacing)
    word = plan.words[0]
    weights, acts = np.array([[1, 1]]), np.array([[1, 1]])
    assert emulation.emulate_word(plan, word, weights, acts).tolist() != [1, 1, 1, 1]
