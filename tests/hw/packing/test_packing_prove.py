# SPDX-License-Identifier: Apache-2.0
"""Exact plans are proven; every inexact one is refused with a counterexample."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.device import DSPS, dsp
from hw.intmath import ceil_div
from hw.packing.emulate import constants, emulate_word, increments
from hw.packing.geometry import Cut, make_word
from hw.packing.plan import ZEROS, ActLane, PackError, PackPlan, Part, WeightLane
from hw.packing.prove import (
    alone,
    certify,
    decisive,
    exhaustive,
    expected_sums,
    filled,
    is_exhaustive,
    prove,
    search_failure,
)
from hw.packing.rules import carry_violation, violation
from hw.packing.search import KERNELS
from hw.packing.table import table
from tests.packing_samples import filter_plan, group_plan
from tests.packing_strategies import COUNTEREXAMPLE, edge_plans, exact_plans, toy, without_tricks


@pytest.fixture(autouse=True, scope="module")
def only_known_devices():
    known = dict(DSPS)
    yield
    DSPS.clear()
    DSPS.update(known)


# Plans that are not exact ------------------------------------------------------------------------


KNOWN_BAD = {
    "K3 w8a2, weights split: lower word needs 19 bits": without_tricks(
        filter_plan(3, 8, 2, stride=7, columns=4, w_port=18, known_bits=1, cut=Cut("w", 4))
    ),
    "K5 w6a2, weights split: lower word needs 28 bits": without_tricks(
        filter_plan(5, 6, 2, stride=6, taps=(5,), columns=3, cut=Cut("w", 3))
    ),
    "K3 w7a7, weights split: lower word needs 28 bits": without_tricks(
        filter_plan(3, 7, 7, stride=12, cut=Cut("w", 3))
    ),
    "K3 w2a2 3x3: three products in a field for two": filter_plan(
        3, 2, 2, stride=4, columns=3, narrow=False
    ),
    "K3 w4a4 3x2: ten products in a chain for nine": filter_plan(
        3, 4, 4, stride=11, known_bits=1, mode="chain", chain=10
    ),
    "K3 w4a4 3x2, full range, folded: nine lowest weights are more than nine highest": filter_plan(
        3, 4, 4, stride=11, narrow=False, zero="folded", mode="chain", chain=9
    ),
    "K3 w4a4 3x2 canary: four carries for three": filter_plan(
        3, 4, 4, stride=6, zero="folded", known_bits=2, mode="canary", chain=4000
    ),
    "K1 w4a4 2x2 canary: 313 products in a top lane for 312": group_plan(
        stride=11, zero="folded", known_bits=1, mode="canary", chain=313
    ),
}  # fmt: skip


@pytest.mark.parametrize("plan", KNOWN_BAD.values(), ids=KNOWN_BAD)
def test_known_bad_plans_are_refused_with_a_counterexample(plan):
    with pytest.raises(PackError, match=COUNTEREXAMPLE):
        prove(plan)
    with pytest.raises(PackError, match=r"too wide for|in a slice of|carries a product enter"):
        certify(plan)


def test_message_names_plan_reason_and_operands():
    with pytest.raises(PackError) as error:
        prove(KNOWN_BAD["K3 w8a2, weights split: lower word needs 19 bits"])
    assert str(error.value) == (
        "'every' plan for dsp48e2 kernel 3 w8a2 (1 groups x 4 columns, 2 words, chain 1, 1 known "
        "bits): weight words span 0..247695, too wide for a signed 18-bit port; counterexample "
        "(N = 1): weights [15, 15, 15], activations [1, 0, 0, 0] give 255, want 15, at output "
        "(group, row, column - tap) = (0, 0, 0)"
    )


@pytest.mark.parametrize(
    "plan",
    [
        filter_plan(3, 2, 2, stride=5, columns=5, w_port=18),
        filter_plan(3, 5, 3, stride=10, narrow=False),
        filter_plan(3, 4, 4, stride=11, known_bits=1, mode="chain", chain=9),
        filter_plan(3, 4, 4, stride=7, zero="folded", known_bits=2, mode="canary", chain=4000),
        group_plan(stride=11, zero="folded", known_bits=1, mode="canary", chain=312),
        filter_plan(3, 8, 2, stride=7, columns=4, w_port=18, known_bits=1, cut=Cut("w", 4)),
        filter_plan(3, 6, 6, stride=10, narrow=False, zero="folded", cut=Cut("w", 3, True)),
    ],
)
def test_good_neighbours_of_the_bad_plans_are_proven(plan):
    proof = prove(plan).proof
    assert proof.method == ("exhaustive" if plan.mode == "every" else "interval")
    assert proof.vectors > 1000
    assert certify(plan).proof.vectors == 0


# The words' operands -----------------------------------------------------------------------------


ALONG_ACTS = group_plan(w_bits=2, a_bits=6, groups=1, columns=3, zero="folded", stride=6)


@pytest.mark.parametrize(
    ("plan", "chunks", "space"),
    [
        (filter_plan(3, 2, 2, stride=5, columns=4, w_port=18), 1, 3**3 * 4**4),
        (filter_plan(3, 4, 4), 53, 15**3 * 16**2),
        (ALONG_ACTS, 48, 3 * 64**3),
    ],
)
def test_enumeration_is_complete(plan, chunks, space):
    lone = alone(plan, plan.words[0])
    found = list(exhaustive(lone))
    assert len(found) == chunks
    assert is_exhaustive(lone, space)
    assert not is_exhaustive(lone, space - 1)
    assert 0 < search_failure(lone, space)[1] - space < 20
    rows = {
        (*w, *a)
        for weights, acts in found
        for w in weights.reshape(-1, weights.shape[-1])[::7].tolist()
        for a in acts.reshape(-1, acts.shape[-1])[::29].tolist()
    }
    seen = sum(len(weights[::7]) * len(acts[0, ::29]) for weights, acts in found)
    assert len(rows) == seen
    assert sum(weights.shape[0] * acts.shape[1] for weights, acts in found) == space


def is_decoded(lone: PackPlan, weights: np.ndarray, acts: np.ndarray) -> bool:
    got = emulate_word(lone, lone.words[0], weights, acts, ports="wrap")
    return np.array_equal(got, expected_sums(lone.words[0], weights, acts))


@settings(max_examples=300)
@given(edge_plans(modes=("every", "chain")))
def test_decisive_vectors_fail_exactly_where_a_rule_is_broken(plan):
    for word in plan.words:
        lone = alone(plan, word)
        exact = all(is_decoded(lone, *vectors) for vectors in decisive(lone))
        assert exact == (violation(plan, word) is None)


@settings(max_examples=100)
@given(edge_plans())
def test_no_sequence_fails_where_the_rules_hold(plan):
    for word in plan.words:
        if violation(plan, word) is None:
            assert search_failure(alone(plan, word), 1 << 18)[0] is None


@pytest.mark.parametrize(
    ("ports", "part", "hidden", "shown"),
    [
        ((14, 12), Part(0, 14, 0, 0, 8192, 0, 11), (8192, 1024), (8192, 1)),
        ((12, 14), Part(0, 11, 0, 0, 1024, 0, 14), (1024, 16383), (1, 16383)),
    ],
)
def test_an_overflow_that_extreme_words_hide_is_found(ports, part, hidden, shown):
    """The port is off by 2^14, times 1024 it is 0 modulo 2^24: only a unit word shows it."""
    device = dsp(toy(*ports, 24))
    lanes = (WeightLane(0, 0, 0),), (ActLane(0, 0, 0),)
    word = make_word(device, part, 0, *lanes, w_port=ports[0], known_bits=0, zero="plain")
    cell = (device.name, 1, part.w_bits, part.a_bits, False, "every", 1, 0, "plain", 1, 1)
    lone = PackPlan(*cell, (part,), (word,))
    assert "too wide for a signed 14-bit port" in violation(lone, word)
    assert is_decoded(lone, *(np.array([[value]]) for value in hidden))
    assert not is_decoded(lone, *(np.array([[value]]) for value in shown))
    assert not all(is_decoded(lone, *vectors) for vectors in decisive(lone))


# Theorem 3: canaries -----------------------------------------------------------------------------


def carries_of_all_states(plan: PackPlan) -> list[int]:
    """Return the most carries into every lane, over all values of P that products can reach."""
    word = plan.words[0]
    offsets = [field.offset for field in word.fields]
    ((weights, acts),) = exhaustive(alone(plan, word))
    adds = set(increments(plan, word, weights, acts, "check").ravel().tolist())
    states, new, period = {0}, {0}, 1 << offsets[-1]
    while new:
        new = {(state + add) % period for state in new for add in adds} - states
        states |= new
    u = emulate_word(replace(plan, mode="every", chain=1), word, weights, acts)
    u = u - constants(plan, word, weights)
    partial = np.cumsum(u.reshape(-1, len(offsets)) << np.array(offsets), axis=1)
    most = []
    for k, offset in enumerate(offsets[1:]):
        below = max(state % (1 << offset) for state in states)
        most.append(max((below + reach) >> offset for reach in partial[:, k].tolist()))
    return most


@settings(max_examples=60)
@given(
    st.integers(2, 3), st.integers(1, 2), st.integers(2, 4), st.booleans(), st.sampled_from(ZEROS),
    st.sampled_from([((1,), 2), ((2, 1), 2), ((3,), 1)]),
)  # fmt: skip
def test_every_state_of_a_canary_is_reached(w_bits, a_bits, stride, narrow, zero, shape):
    """So the bound on the carries is attained: the rule is necessary for long chains."""
    taps, columns = shape
    plan = filter_plan(
        sum(taps), w_bits, a_bits, stride=stride + 2, taps=taps, columns=columns, narrow=narrow,
        zero=zero, mode="canary", chain=1 << 20, known_bits=2,
    )  # fmt: skip
    reach, bound = 0, []
    for field, above in pairwise(plan.words[0].fields):
        reach += field.spread << field.offset
        bound.append(ceil_div(reach, 1 << above.offset))
    assert carries_of_all_states(plan) == bound
    assert (carry_violation(plan, plan.words[0]) is None) == (max(bound) < 4)


@settings(max_examples=100)
@given(edge_plans(modes=("canary",)))
def test_a_miscounted_carry_is_shown_by_a_filled_accumulator(plan):
    plan = replace(plan, chain=1 << 12)
    for word in plan.words:
        lone = alone(plan, word)
        if carry_violation(plan, word) and list(filled(lone)):
            assert not all(is_decoded(lone, *vectors) for vectors in filled(lone))


def test_the_canary_rule_is_not_necessary_for_a_single_product():
    """P starts empty, so the first product's carries stay below the bound for any state."""
    plan = filter_plan(zero="folded", stride=6, known_bits=2, mode="canary", chain=1)
    with pytest.raises(PackError, match=r"up to 4 carries .* none of \d+ vectors shows it"):
        prove(plan)
    assert prove(replace(plan, mode="every")).proof.method == "exhaustive"


# Plans of every kind -----------------------------------------------------------------------------


@settings(max_examples=40)
@given(exact_plans())
def test_exact_plans_are_proven(plan):
    proof = prove(plan, limit=1 << 18).proof
    small = all(is_exhaustive(alone(plan, word), 1 << 18) for word in plan.words)
    assert proof.method == ("exhaustive" if small else "interval")
    assert proof.vectors > 0


# The tables --------------------------------------------------------------------------------------


def default_plans(kernels: Iterable[int] = (1, 3, 5)) -> list[PackPlan]:
    cells = product(kernels, range(2, 9), range(1, 9))
    return [p for k, w_bits, a_bits in cells for p in table("dsp48e2", k).plans(w_bits, a_bits)]


@pytest.mark.parametrize(
    ("mode", "share"), [*(("every", share) for share in range(4)), ("chain", 0), ("canary", 0)]
)
def test_every_word_of_the_default_table_is_proven(mode, share):
    """By the rules and by emulation: of every operand vector up to 2^20 a word, or decisive ones.

    Of words that sum, z3 proves all (test_packing_smt) and every fifth is emulated. Words of single
    bits have the most lanes, and an emulation takes as long as it has lanes.
    """
    words = {
        alone(plan, word): 1 << (20 if plan.a_bits > 1 else 16)
        for plan in default_plans()
        if plan.mode == mode
        for word in plan.words
    }
    assert len(words) > 500
    chosen = list(words.items())[share :: 4 if mode == "every" else 1]
    for index, (lone, limit) in enumerate(chosen):
        assert violation(lone, lone.words[0]) is None
        if mode == "every" or index % 5 == 0:
            failure, vectors = search_failure(lone, limit, samples=0)
            assert failure is None, lone
            assert vectors > 0


def test_plans_of_the_default_table_are_proven_as_a_whole():
    for plan in default_plans()[::24]:
        small = all(is_exhaustive(alone(plan, word), 1 << 12) for word in plan.words)
        proof = prove(plan, limit=1 << 12, samples=0).proof
        assert proof.method == ("exhaustive" if small else "interval")


@pytest.mark.slow
@pytest.mark.parametrize("a_bits", range(1, 9))
@pytest.mark.parametrize("w_bits", range(2, 9))
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_default_table_is_proven_by_enumeration_and_samples(kernel, w_bits, a_bits):
    """By enumeration up to 2^26 operand vectors a word; what is larger, or sums, by samples too."""
    for plan in table("dsp48e2", kernel).plans(w_bits, a_bits):
        assert prove(plan, limit=1 << 26).proof.vectors > 0


@pytest.mark.slow
@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("dsp_name", sorted(DSPS))
def test_every_table_is_proven_by_samples(dsp_name, narrow):
    for kernel, w_bits, a_bits in product(KERNELS, range(1 + narrow, 9), range(1, 9)):
        for plan in table(dsp_name, kernel, narrow).plans(w_bits, a_bits):
            assert prove(plan, limit=1 << 14, samples=1 << 12).proof.vectors > 0
