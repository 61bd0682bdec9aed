# SPDX-License-Identifier: Apache-2.0
"""z3 and the rules agree; without z3 the message says what to install."""

import sys
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings

import hw.packing.smt as smt_module
from hw.device import dsp
from hw.packing.geometry import Cut, make_word, parts
from hw.packing.plan import ActLane, PackError, PackPlan, WeightLane
from hw.packing.prove import alone
from hw.packing.rules import check
from hw.packing.search import search
from hw.packing.smt import lost, smt
from hw.packing.table import table
from tests.packing_samples import filter_plan
from tests.packing_strategies import edge_plans, exact_plans

pytestmark = pytest.mark.proof


def is_refused(function, plan: PackPlan) -> bool:
    try:
        function(plan)
    except PackError:
        return True
    return False


@settings(max_examples=60)
@given(edge_plans())
def test_z3_refuses_exactly_what_the_rules_refuse(plan):
    assert is_refused(smt, plan) == is_refused(check, plan)


@settings(max_examples=15)
@given(exact_plans(most_bits=8))
def test_z3_proves_plans_of_the_full_accumulator(plan):
    proof = smt(plan).proof
    assert (proof.method, proof.vectors) == ("z3", 0)


@pytest.mark.parametrize(
    "kernel", [1, 3, *(pytest.param(kernel, marks=pytest.mark.slow) for kernel in (5, 7))]
)
@pytest.mark.parametrize("mode", ["every", "chain", "canary"])
def test_the_default_table_is_proven_by_z3(mode, kernel):
    """Every word of it, and every twentieth plan as a whole."""
    cells = product(range(2, 9), range(1, 9))
    plans = [p for w_bits, a_bits in cells for p in table("dsp48e2", kernel).plans(w_bits, a_bits)]
    plans = [plan for plan in plans if plan.mode == mode]
    words = {alone(plan, word) for plan in plans for word in plan.words}
    assert len(words) > 50
    assert [word for word in words if lost(word) is not None] == []
    for plan in plans[::20]:
        assert smt(plan).proof.method == "z3"


@settings(max_examples=60)
@given(edge_plans())
def test_lanes_one_by_one_prove_what_the_whole_word_proves(plan):
    """The formula of the whole word is the definition; lanes are quicker, and lose nothing."""
    for word in plan.words:
        lone = alone(plan, word)
        by_lanes = lost(lone) is None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(smt_module, "_read_slices", lambda *_: [False])
            patch.setattr(smt_module, "_counted_lanes", lambda *_: [False])
            assert (lost.__wrapped__(lone) is None) == by_lanes


@pytest.mark.parametrize(
    ("mode", "chain", "stride"), [("every", 1, 7), ("chain", 3, 8), ("canary", 9, 6)]
)
def test_lost_field_values_are_quoted(mode, chain, stride):
    t = 2 if mode == "canary" else 0
    plan = filter_plan(zero="folded", stride=stride, mode=mode, chain=chain, known_bits=t)
    with pytest.raises(PackError, match=r"z3 finds that the field values \[\d+, .*\] are decoded"):
        smt(plan)


@pytest.mark.parametrize("mode", ["every", "canary"])
@pytest.mark.parametrize(
    ("offsets", "exact"), [((0, 1, 5), True), ((0, 4, 5), False), ((0, 4, 6), False)]
)
def test_only_the_lowest_field_may_be_closer_than_the_known_bits(mode, offsets, exact):
    device, part = dsp("dsp48e2"), parts(2, 1, True, Cut())[0]
    acts = tuple(ActLane(offset, 0, 0) for offset in offsets)
    word = make_word(
        device, part, 0, (WeightLane(0, 0, 0),), acts, w_port=27, known_bits=3, zero="folded"
    )
    cell = (device.name, 1, 2, 1, True, mode, 1, 3, "folded", 1, 1)
    assert (lost(PackPlan(*cell, (part,), (word,))) is None) == exact


def test_the_top_of_a_canary_is_not_forgotten():
    plan = filter_plan(
        zero="folded", stride=13, mode="canary", chain=1 << 14, known_bits=1, taps=(2, 1)
    )
    assert smt(plan).proof.method == "z3"
    plan = filter_plan(
        zero="folded", stride=13, mode="canary", chain=1 << 22, known_bits=1, taps=(2, 1)
    )
    with pytest.raises(PackError, match=r"top field's sums reach \d+ in 22 bits"):
        smt(plan)


@pytest.mark.parametrize("factor", [1, 1000])
def test_sums_beyond_the_accumulator_are_lost(factor):
    """A field alone in P: nothing above it, so that only P's own width limits the chain."""
    plan = search("dsp48e2", 1, 8, 8, False, mode="chain", chain=1 << 20)[0]
    too_long = factor * (1 + (1 << 48) // max(word.fields[0].spread for word in plan.words))
    with pytest.raises(PackError, match="sums reach"):
        smt(replace(plan, chain=too_long))


def test_a_missing_solver_is_named(monkeypatch):
    lost.cache_clear()
    monkeypatch.setitem(sys.modules, "z3", None)
    with pytest.raises(PackError, match=r"pip install mixq-jax\[proof\]"):
        smt(filter_plan())
