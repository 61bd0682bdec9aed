# SPDX-License-Identifier: Apache-2.0
"""Pack, multiply, accumulate, decode == the plain sums, and what the ports refuse."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.intmath import activation_range, weight_range
from hw.packing import PackError, PackPlan, table
from hw.packing.emulate import emulate, expected, output
from hw.packing.search import CHAIN_LIMIT, KERNELS

SEQUENCES = 16


@st.composite
def plans(draw) -> PackPlan:
    narrow = draw(st.booleans())
    found = table(
        draw(st.sampled_from(("dsp48e1", "dsp48e2"))), draw(st.sampled_from(KERNELS)), narrow
    ).plans(draw(st.integers(2 if narrow else 1, 8)), draw(st.integers(1, 8)))
    return draw(st.sampled_from(found))


def operands(plan: PackPlan, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw `[SEQUENCES, count, lanes]` operands: random, extreme and held values mixed."""
    rng = np.random.default_rng(seed)
    word = plan.pieces[0].word
    drawn = []
    for (lo, hi), lanes in (
        (weight_range(plan.w_bits, plan.narrow), len(word.weights)),
        (activation_range(plan.a_bits), len(word.acts)),
    ):
        shape = (SEQUENCES, count, lanes)
        held = rng.choice([lo, hi], (SEQUENCES, 1, lanes))
        extreme = np.where(np.arange(SEQUENCES) % 2, rng.choice([lo, hi], shape).T, held.T).T
        drawn.append(np.where(rng.random(shape) < 0.2, rng.integers(lo, hi + 1, shape), extreme))
        drawn[-1][:4] = np.array([lo, hi, lo, hi])[:, None, None]
    drawn[1][:4] = activation_range(plan.a_bits)[1]
    return drawn[0], drawn[1]


def naive(plan: PackPlan, weights: np.ndarray, acts: np.ndarray) -> Counter:
    """Sum the products of one sequence `[N, lanes]` by the labels of their lanes."""
    word, sums = plan.pieces[0].word, Counter()
    for w_row, a_row in zip(weights.tolist(), acts.tolist(), strict=True):
        for lane, w in zip(word.weights, w_row, strict=True):
            for act, a in zip(word.acts, a_row, strict=True):
                sums[lane.group, act.row, act.column - lane.tap] += w * a
    return sums


@given(plans(), st.integers(1, 24), st.integers(0, 2**32))
def test_decoded_sums_are_the_dot_products(plan, count, seed):
    weights, acts = operands(plan, min(count, plan.chain), seed)
    got = emulate(plan, weights, acts)
    assert np.array_equal(got, expected(plan, weights, acts))
    word = plan.pieces[0].word
    outputs = [output(word, field.terms[0]) for field in word.fields]
    assert dict(zip(outputs, got[0].tolist(), strict=True)) == naive(plan, weights[0], acts[0])


@settings(max_examples=30)
@given(plans(), st.integers(0, 2**32))
def test_the_whole_chain_is_exact(plan, seed):
    weights, acts = operands(plan, plan.chain, seed)
    assert np.array_equal(emulate(plan, weights, acts), expected(plan, weights, acts))


@given(plans().filter(lambda plan: plan.dsps == 1 and plan.chain < CHAIN_LIMIT))
def test_one_product_more_than_the_chain_breaks(plan):
    word, wrong = plan.pieces[0].word, []
    for w in weight_range(plan.w_bits, plan.narrow):
        weights = np.full((plan.chain + 1, len(word.weights)), w)
        acts = np.full((plan.chain + 1, len(word.acts)), activation_range(plan.a_bits)[1])
        wrong.append(
            not np.array_equal(emulate(plan, weights, acts), expected(plan, weights, acts))
        )
    assert any(wrong)


def test_a_row_of_an_image_is_convolved():
    plan = table("dsp48e2", 3).best(4, 4, depthwise=True)
    rng = np.random.default_rng(5)
    kernel, row = rng.integers(-7, 8, 3), rng.integers(0, 16, 40)
    word, sums = plan.pieces[0].word, np.zeros(42, np.int64)
    weights = np.array([[kernel[lane.tap] for lane in word.weights]])
    for start in range(0, 40, plan.columns):
        acts = np.array([[row[start + lane.column] for lane in word.acts]])
        for field, value in zip(word.fields, emulate(plan, weights, acts), strict=True):
            sums[start + output(word, field.terms[0])[2] + 2] += value
    assert np.array_equal(sums, np.convolve(row, kernel[::-1]))


def test_a_word_that_overflows_its_port_is_named():
    plan = table("dsp48e2", 1).best(4, 4)
    word = plan.pieces[0].word
    weights = np.full((1, len(word.weights)), 1 << word.w_port)
    with pytest.raises(PackError, match=r"word \d+ of lanes .* does not fit a signed \d+-bit port"):
        emulate(plan, weights, np.ones((1, len(word.acts)), np.int64))
