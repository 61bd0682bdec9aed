# SPDX-License-Identifier: Apache-2.0
"""The LUT estimate: its counts by independent arithmetic, its prices against the record."""

import json
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.synth_packing import as_text, draw, errors, measure, record, recorded
from hw.packing.cost import (
    ERROR_BAND,
    LINK,
    PRICES,
    REDUCTION,
    Counts,
    carry_bits,
    counts,
    lut_per_mac,
    shapes,
    signed_digits,
    word_luts,
)
from hw.packing.geometry import Cut
from hw.packing.recipe import build
from tests.packing_samples import filter_plan, group_plan

ROOT = Path(__file__).parents[3]
RECORD, DOCS = ROOT / "experiments" / "results" / "packing-synthesis.json", ROOT / "docs"
CANARY = dict(mode="canary", known_bits=2, zero="folded", stride=8, chain=1000)


@pytest.fixture(scope="module")
def synthesis() -> dict:
    return json.loads(RECORD.read_text())


@given(st.integers(-(1 << 30), 1 << 30))
def test_signed_digits_are_the_value_and_never_adjacent(value):
    digits = signed_digits(value)
    assert sum(sign << bit if sign > 0 else -(1 << bit) for sign, bit in digits) == value
    assert all(above - low > 1 for (_, low), (_, above) in pairwise(digits))


@pytest.mark.parametrize("products", [1, 7, 256, 1000])
def test_carry_counters_hold_the_greatest_sums_and_no_more(products):
    plan = filter_plan(**{**CANARY, "chain": products})
    word, summed = plan.words[0], min(products, REDUCTION)
    bits = carry_bits(plan, word)
    for k, above in enumerate(word.fields[1:], 1):
        below = sum(summed * field.spread << field.offset for field in word.fields[:k])
        assert bits[k - 1] == max(2, (below >> above.offset).bit_length())


def test_decoding_every_product_without_known_bits_is_accumulators_alone():
    plan = filter_plan()
    fields = (1, 2, 2, 1)  # products that meet: 3 taps x 2 columns; 105 = 15 * 7, both signs
    bits = sum((256 * n * 15 * 14).bit_length() for n in fields)
    assert counts(plan, plan.words[0]) == Counts(accumulator_bits=bits)
    assert lut_per_mac(plan) == round(bits * PRICES.accumulator / 6, 3)


def test_known_sums_by_hand():
    word = filter_plan(known_bits=1, zero="folded", stride=8)
    # Fields above the lowest have 2, 2 and 1 products of sign, weight bit and activation bit.
    assert counts(word, word.words[0]).xors == 1 + 1 + 1
    chained = replace(word, mode="chain", chain=2)
    assert counts(chained, chained.words[0]).xors == 2 + 2 + 1  # with the sum so far and `first`
    two = filter_plan(known_bits=2, zero="folded", stride=7)
    count = counts(two, two.words[0])
    assert (count.inputs, count.sums, count.lone_bits) == (2 * 2 * 5, 2, 2)
    one_bit = filter_plan(w_bits=2, a_bits=1, known_bits=2, zero="folded", stride=7)
    assert counts(one_bit, one_bit.words[0]).inputs == 2 * 2 * 3


def test_constant_is_an_adder_only_where_it_holds_weights_and_activations():
    flushed = group_plan(stride=7, narrow=False, known_bits=2, zero="folded")
    word = replace(flushed.words[0], w_add=1 << 10)
    assert counts(flushed, word).constant_bits == 38
    assert counts(flushed, replace(word, w_add=7 << 10)).constant_bits == 38 + 35  # 8 - 1
    assert counts(flushed, replace(word, w_add=0)).constant_bits == 0
    assert counts(replace(flushed, zero="plain"), word).constant_bits == 0


def test_a_chain_as_long_as_the_reduction_needs_no_accumulators():
    chained = dict(mode="chain", chain=REDUCTION, zero="folded")
    plan = filter_plan(w_bits=2, a_bits=2, stride=12, **chained)
    assert lut_per_mac(plan) == 0
    assert lut_per_mac(replace(plan, chain=REDUCTION - 1)) > 0
    assert lut_per_mac(replace(plan, mode="canary", known_bits=1)) > 0  # a P in every multiplier


def test_a_cascade_shares_its_decoder_unless_it_counts_carries():
    plan = filter_plan(mode="chain", chain=20, zero="folded", stride=11)
    alone = lut_per_mac(plan, link=1)
    for link in (4, 20, 50):
        assert lut_per_mac(plan, link=link) == pytest.approx(alone / min(link, 20), abs=1e-3)
    assert lut_per_mac(plan) == lut_per_mac(plan, link=LINK)
    canary = filter_plan(**CANARY)
    assert lut_per_mac(canary, link=1) == lut_per_mac(canary, link=50)


def test_longer_chains_cost_less_and_more_known_bits_more():
    chains = [filter_plan(mode="chain", chain=n, zero="folded", stride=11) for n in (1, 2, 4, 8)]
    luts = [lut_per_mac(plan) for plan in chains]
    assert luts == sorted(luts, reverse=True)
    assert len(set(luts)) == 4
    canaries = [filter_plan(**{**CANARY, "stride": 9, "known_bits": t}) for t in (1, 2, 3, 4)]
    luts = [lut_per_mac(plan) for plan in canaries]
    assert luts == sorted(luts)


def test_words_of_one_shape_share_their_logic_and_others_add_multiplexers():
    one = filter_plan(zero="folded", stride=9)
    twice = replace(one, columns=4, words=one.words * 2)
    assert lut_per_mac(twice) == lut_per_mac(one)
    split = filter_plan(w_bits=6, cut=Cut("w", 3), stride=10, zero="folded")
    low, high = (word_luts(split, word) for word in split.words)
    alone = max(low, high) * 2 / 6
    other = min(sum(f.spread.bit_length() for f in word.fields) for word in split.words)
    assert lut_per_mac(split) == round(alone + 0.5 * other * 2 / 6, 3)


def test_prices_are_those_of_the_record(synthesis):
    assert json.loads(json.dumps(asdict(PRICES))) == synthesis["prices"]


def test_the_record_follows_from_its_measurements(synthesis):
    """Plans, counts, fit, estimates and errors are computed anew, everything but the synthesis."""
    sample = recorded(synthesis)
    for source, words in sample.items():
        plan = build(*source)
        assert [word.counts for word in words] == [counts(plan, word) for word in shapes(plan)]
    assert as_text(record(sample, synthesis["seed"], synthesis["yosys"])) == RECORD.read_text()


def test_record_keeps_what_is_claimed(synthesis):
    assert synthesis["dsp48e2_per_word"] == {"1": synthesis["words"]}
    held_out = synthesis["errors"]["held_out"]
    assert held_out["all"]["plans"] >= 100
    assert ERROR_BAND - 0.01 < held_out["all"]["p90"] <= ERROR_BAND
    decodings = {f"{mode} t={t}" for mode in ("every", "chain") for t in range(3)} - {"every t=0"}
    assert decodings | {f"canary t={t}" for t in range(1, 5)} <= set(held_out)


def test_the_documented_errors_are_those_of_the_record(synthesis):
    text = "\n".join(path.read_text() for path in DOCS.glob("packing*.md"))
    for key, error in synthesis["errors"]["held_out"].items():
        shown = (f"{100 * error[name]:.1f} %" for name in ("median", "p90", "max"))
        assert f"| {key} | {error['plans']} | {' | '.join(shown)} |" in text


@pytest.mark.synth
@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_plans_drawn_anew_stay_near_the_band(seed):
    sample = measure(draw(20, seed))
    found = errors(sample, sample, PRICES)["all"]
    assert max(found) < 4 * ERROR_BAND
    assert np.median(found) < ERROR_BAND
