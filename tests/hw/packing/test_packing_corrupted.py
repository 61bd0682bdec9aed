# SPDX-License-Identifier: Apache-2.0
"""Plans that are damaged at random are refused with a counterexample, or exact all the same."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.device import dsp
from hw.packing.emulate import emulate, expected
from hw.packing.geometry import Cut, make_word, parts
from hw.packing.plan import ZEROS, PackError, PackPlan, Word
from hw.packing.prove import prove
from hw.packing.rules import check
from tests.packing_samples import sample_plans
from tests.packing_strategies import COUNTEREXAMPLE, exact_plans, sequences, without_tricks


def shifted(draw, plan: PackPlan, word: Word) -> Word:
    """Move a lane, and with it its fields; or leave these behind."""
    kind = draw(st.sampled_from(("weights", "acts")))
    lanes = list(getattr(word, kind))
    index = draw(st.integers(0, len(lanes) - 1))
    offset = lanes[index].offset + draw(st.sampled_from((-2, -1, 1, 2)))
    lanes[index] = replace(lanes[index], offset=max(0, offset))
    word = replace(word, **{kind: tuple(sorted(lanes, key=lambda lane: lane.offset))})
    return rebuilt(plan, word) if draw(st.booleans()) else word


def relabelled(draw, plan: PackPlan, word: Word) -> Word:
    """Give a lane the tap, group or column of its neighbour, or swap both."""
    kind = draw(st.sampled_from(("weights", "acts")))
    lanes = list(getattr(word, kind))
    first, second = (draw(st.integers(0, len(lanes) - 1)) for _ in range(2))
    a, b = lanes[first], lanes[second]
    lanes[first] = replace(b, offset=a.offset)
    if draw(st.booleans()):
        lanes[second] = replace(a, offset=b.offset)
    return replace(word, **{kind: tuple(lanes)})


def moved(draw, plan: PackPlan, word: Word) -> Word:
    """Take a product from one field into another."""
    fields = list(word.fields)
    source, target = (draw(st.integers(0, len(fields) - 1)) for _ in range(2))
    *kept, term = fields[source].terms
    fields[source] = replace(fields[source], terms=tuple(kept))
    fields[target] = replace(fields[target], terms=(*fields[target].terms, term))
    return replace(word, fields=tuple(fields))


def unflushed(draw, plan: PackPlan, word: Word) -> Word:
    return replace(word, **{draw(st.sampled_from(("w_add", "a_sub"))): 0})


def rebuilt(plan: PackPlan, word: Word) -> Word:
    """Return the word with the fields that its lanes and the plan's decoding call for."""
    return make_word(
        dsp(plan.dsp), plan.parts[word.part], word.part, word.weights, word.acts,
        w_port=word.w_port, known_bits=plan.known_bits, zero=plan.zero,
        tricks=(word.w_add, word.a_sub),
    )  # fmt: skip


def decoded_otherwise(draw, plan: PackPlan) -> PackPlan:
    """Ask for longer chains, fewer known bits, other constants or more weights than planned."""
    changes = draw(
        st.sampled_from(
            (
                {"chain": plan.chain + draw(st.integers(1, plan.chain))},
                {"known_bits": max(plan.known_bits - 1, 0)},
                {"zero": draw(st.sampled_from(ZEROS))},
                {"mode": draw(st.sampled_from(("every", "chain", "canary")))},
                {"narrow": False, "parts": parts(plan.w_bits, plan.a_bits, False, Cut())},
            )
        )
    )
    plan = replace(plan, **changes)
    return replace(plan, words=tuple(rebuilt(plan, word) for word in plan.words))


@st.composite
def corrupted_plans(draw) -> PackPlan:
    plan = draw(exact_plans(most_bits=4))
    if draw(st.booleans()) and len(plan.parts) == 1:
        return decoded_otherwise(draw, plan)
    words, index = list(plan.words), draw(st.integers(0, len(plan.words) - 1))
    corrupt = draw(st.sampled_from((shifted, relabelled, moved, unflushed)))
    words[index] = corrupt(draw, plan, words[index])
    return replace(plan, words=tuple(words))


@settings(max_examples=300)
@given(corrupted_plans(), st.integers(0, 2**32))
def test_a_corrupted_plan_is_refused_or_exact(plan, seed):
    try:
        check(plan)
    except PackError:
        with pytest.raises(PackError):
            prove(plan, limit=1 << 14, samples=0)
        return
    assert prove(plan, limit=1 << 14, samples=1 << 12).proof.vectors > 0
    operands = sequences(plan, 6, min(plan.chain, 60), seed)
    assert np.array_equal(emulate(plan, *operands), expected(plan, *operands))


@pytest.mark.parametrize("name", ["flush", "folded flush", "flush canary"])
def test_a_dropped_flush_is_refused_with_a_counterexample(name):
    plan = sample_plans(1, 4, 4, False, "dsp48e2")[name]
    assert all(word.w_add for word in plan.words)
    with pytest.raises(PackError, match=rf"too wide for a signed.*{COUNTEREXAMPLE}"):
        prove(without_tricks(plan))
