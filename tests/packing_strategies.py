# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for packing plans, exact ones and ones near the edge."""

from dataclasses import replace

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from hw.device import DSPS, Dsp
from hw.intmath import activation_range, weight_range
from hw.packing.geometry import Cut, cuts
from hw.packing.plan import ZEROS, PackError, PackPlan
from hw.packing.rules import check, malformed
from tests.packing_samples import filter_plan, group_plan

COUNTEREXAMPLE = (
    r"counterexample \(N = \d+(, the last product shown)?\): weights \[.*\], "
    r"activations \[.*\] give -?\d+, want -?\d+, at output"
)
TAPS = {1: [(1,)], 3: [(3,), (2, 1), (1, 1, 1)], 5: [(5,), (3, 2)]}


@st.composite
def geometries(draw, most_bits: int = 6, modes: tuple = ("every", "chain", "canary")) -> dict:
    """Draw the arguments of `filter_plan`, but for the stride, over every technique."""
    narrow, mode = draw(st.booleans()), draw(st.sampled_from(modes))
    w_bits, a_bits = draw(st.integers(1 + narrow, most_bits)), draw(st.integers(1, most_bits))
    kernel = draw(st.sampled_from(sorted(TAPS)))
    return {
        "kernel": kernel,
        "w_bits": w_bits,
        "a_bits": a_bits,
        "taps": draw(st.sampled_from(TAPS[kernel])),
        "columns": draw(st.integers(1, 3)),
        "cut": draw(st.sampled_from([Cut(), *cuts(w_bits, a_bits)])),
        "narrow": narrow,
        "known_bits": draw(st.integers(1 if mode == "canary" else 0, 3)),
        "zero": draw(st.sampled_from(ZEROS)),
        "mode": mode,
        "chain": 1 if mode == "every" else draw(st.integers(2, 40)),
        "w_port": draw(st.sampled_from((27, 18))),
    }


def build(given: dict, stride: int) -> PackPlan:
    """Return a filter plan, for a 1x1 kernel one of two output channels."""
    given = {**given, "stride": stride}
    if given["kernel"] > 1:
        return filter_plan(**given)
    return group_plan(groups=2, **{k: v for k, v in given.items() if k not in ("kernel", "taps")})


@st.composite
def exact_plans(draw, **limits) -> PackPlan:
    """Draw plans at the least stride that the rules allow."""
    given = draw(geometries(**limits))
    for stride in range(1, 24):
        plan = build(given, stride)
        try:
            check(plan)
        except PackError:
            continue
        return plan
    return assume(False)


@st.composite
def edge_plans(draw, **limits) -> PackPlan:
    """Draw well-formed plans of any device around the least stride, with and without tricks."""
    given = draw(geometries(most_bits=3, **limits))
    wide, narrow = draw(st.integers(9, 16)), draw(st.integers(6, 12))
    name = toy(wide, narrow, draw(st.integers(24, 40)))
    given |= {"dsp_name": name, "w_port": draw(st.sampled_from((wide, narrow)))}
    plan = build(given, draw(st.integers(1, 9)))
    if draw(st.booleans()):
        plan = without_tricks(plan)
    assume(malformed(plan) is None)
    return plan


def without_tricks(plan: PackPlan) -> PackPlan:
    """Return the plan with plain words on both ports."""
    return replace(plan, words=tuple(replace(word, w_add=0, a_sub=0) for word in plan.words))


def toy(wide: int, narrow: int, p_bits: int) -> str:
    """Return the name of a small DSP, entered in the table of devices."""
    name = f"toy {wide}x{narrow}/{p_bits}"
    DSPS[name] = Dsp(name, wide, narrow, p_bits, True, "a test")
    return name


def sequences(plan: PackPlan, count: int, length: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw `[count, length, ...]` operands of tiles: random, extreme and held values mixed."""
    rng = np.random.default_rng(seed)

    def values(lo: int, hi: int, *shape: int) -> np.ndarray:
        size = (count, length, *shape)
        held = rng.choice([lo, hi], (count, 1, *shape))
        mixed = np.where(rng.random(size) < 0.5, held, rng.choice([lo, hi], size))
        return np.where(rng.random(size) < 0.2, rng.integers(lo, hi + 1, size), mixed)

    weights = values(*weight_range(plan.w_bits, plan.narrow), plan.groups, plan.kernel)
    acts = values(*activation_range(plan.a_bits), plan.columns)
    weights[0], weights[1] = weight_range(plan.w_bits, plan.narrow)
    acts[:2] = activation_range(plan.a_bits)[1]
    return weights, acts
