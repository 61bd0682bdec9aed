# SPDX-License-Identifier: Apache-2.0
"""Every stored plan is exact; every inexact one is refused with a counterexample."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.device import DSPS, dsp
from hw.packing import PackError, PackPlan, table
from hw.packing.emulate import emulate_word, expected_word
from hw.packing.geometry import Cut, Geometry, Part, Placement, Shape, build_plan, build_word
from hw.packing.prove import (
    EXHAUSTIVE_LIMIT,
    certify,
    decisive,
    exhaustive,
    is_exhaustive,
    lane_vectors,
    prove,
    search_failure,
    violation,
)
from hw.packing.search import KERNELS, port_fits

E2 = dsp("dsp48e2")
COUNTEREXAMPLE = r"counterexample \(N = \d+\): weights \[.*\], activations \[.*\] give -?\d+, want"


def plan_of(
    kernel: int,
    bits: tuple[int, int],
    lanes: tuple,
    placements: list[tuple[int, int, int]],
    cut: Cut = Cut(),  # noqa: B008 (frozen)
    narrow: bool = True,
    known_bits: int = 0,
    chain: int = 1,
) -> PackPlan:
    placed = tuple(Placement(*placement) for placement in placements)
    geometry = Geometry(Shape(*lanes), cut, chain, known_bits, placed)
    return build_plan(E2, kernel, *bits, narrow, geometry)


# Geometries of a published table that ignore the sign bit of a port, assume weights without
# -2^(b-1), or leave a field too narrow.
KNOWN_BAD = {
    "K3 w2a2 3x6: 27 data bits on a signed port": plan_of(3, (2, 2), (1, 3, 6), [(18, 5, 5)]),
    "K3 w2a3 3x5: 27 data bits": plan_of(3, (2, 3), (1, 3, 5), [(18, 6, 6)]),
    "K3 w4a7 3x2: 18 data bits": plan_of(3, (4, 7), (1, 3, 2), [(27, 11, 11)]),
    "K1 w3a2 2x5: 18 data bits": plan_of(1, (3, 2), (2, 1, 5), [(27, 20, 4)], known_bits=1),
    "K1 w8a8 1x2: 27 data bits": plan_of(1, (8, 8), (1, 1, 2), [(18, 19, 19)]),
    "K3 w8a2, weights split: lower word needs 19 bits": plan_of(
        3, (8, 2), (1, 3, 4), [(18, 7, 7), (18, 7, 7)], Cut("w", 4)
    ),
    "K5 w6a2, weights split: lower word needs 28 bits": plan_of(
        5, (6, 2), (1, 5, 3), [(27, 6, 6), (27, 6, 6)], Cut("w", 3)
    ),
    "K3 w7a7, weights split: lower word needs 28 bits": plan_of(
        3, (7, 7), (1, 3, 2), [(27, 12, 12), (27, 12, 12)], Cut("w", 3)
    ),
    "K3 w5a3 3x2, full range in a full port": plan_of(
        3, (5, 3), (1, 3, 2), [(27, 11, 11)], narrow=False
    ),
    "K3 w2a2 3x3: three products in a field for two": plan_of(
        3, (2, 2), (1, 3, 3), [(18, 4, 4)], narrow=False
    ),
    "K3 w4a4 3x2: ten products in a chain for nine": plan_of(
        3, (4, 4), (1, 3, 2), [(27, 11, 11)], known_bits=1, chain=10
    ),
}


@pytest.mark.parametrize("plan", KNOWN_BAD.values(), ids=KNOWN_BAD)
def test_known_bad_geometries_are_refused_with_a_counterexample(plan):
    with pytest.raises(PackError, match=COUNTEREXAMPLE):
        prove(plan)
    with pytest.raises(PackError, match=r"too wide for a signed|in a slice of"):
        certify(plan)


def test_good_neighbours_of_the_bad_geometries_pass():
    assert prove(plan_of(3, (2, 2), (1, 3, 5), [(18, 5, 5)])).proof.method == "exhaustive"
    assert prove(plan_of(3, (5, 3), (1, 3, 2), [(27, 10, 10)], narrow=False)).proof
    nine = plan_of(3, (4, 4), (1, 3, 2), [(27, 11, 11)], known_bits=1, chain=9)
    assert prove(nine).proof.method == "interval"


def test_message_names_plan_reason_and_operands():
    with pytest.raises(PackError) as error:
        prove(KNOWN_BAD["K3 w8a2, weights split: lower word needs 19 bits"])
    assert str(error.value) == (
        "filter plan for dsp48e2 kernel 3 w8a2 (1 x 3 x 4 lanes, 2 DSP, chain 1, 0 known bits): "
        "weight words span 0..247695, too wide for a signed 18-bit port; counterexample (N = 1): "
        "weights [15, 15, 15], activations [1, 0, 0, 0] give 127, want 15, at output (group, row, "
        "column - tap) = (0, 0, 0)"
    )


@pytest.mark.parametrize(
    ("bits", "lanes", "placement", "space"),
    [
        ((2, 2), (1, 3, 4), (18, 5, 5), 3**3 * 4**4),  # one chunk
        ((4, 4), (1, 3, 2), (27, 11, 11), 15**3 * 16**2),  # several chunks
    ],
)
def test_enumeration_is_complete(bits, lanes, placement, space):
    plan = plan_of(3, bits, lanes, [placement])
    chunks = list(exhaustive(plan.pieces[0].word))
    assert sum(weights.shape[0] * acts.shape[1] for weights, acts in chunks) == space
    assert 0 < prove(plan).proof.vectors - space < 300
    assert len({tuple(row) for row in lane_vectors(-1, 1, 3).tolist()}) == 27


@st.composite
def words(draw):
    """Draw words of any strides, most of them near the edge between exact and inexact."""
    family = draw(st.sampled_from(("filter", "kernel")))
    columns, known_bits = draw(st.integers(1, 3)), draw(st.integers(0, 1))
    w_lo, w_hi = draw(st.integers(-5, 0)), draw(st.integers(1, 5))
    part = Part(0, 4, (w_lo, w_hi), (0, draw(st.integers(1, 5))))
    shape = (
        Shape(1, draw(st.integers(1, 3)), columns)
        if family == "filter"
        else Shape(draw(st.integers(2, 3)), 1, columns, draw(st.booleans()))
    )
    edge = (max(shape.field_terms) * part.spread).bit_length() - known_bits
    step = max(1, edge + draw(st.integers(-1, 2)))
    device = replace(
        E2,
        wide_bits=draw(st.integers(5, 14)),
        narrow_bits=draw(st.integers(5, 14)),
        p_bits=draw(st.integers(24, 48)),
    )
    w_port = draw(st.sampled_from((device.wide_bits, device.narrow_bits)))
    placement = Placement(w_port, *shape.strides(step))
    top = placement.w_stride * (shape.weight_lanes - 1) + placement.a_stride * (columns - 1)
    if top >= device.p_bits:
        device = replace(device, p_bits=top + 1)
    return build_word(device, shape, part, placement, known_bits), known_bits, device.p_bits


def is_decoded(word, known_bits: int, p_bits: int, weights, acts) -> bool:
    got = emulate_word(word, known_bits, p_bits, weights, acts, ports="wrap")
    return np.array_equal(got, expected_word(word, weights, acts))


@settings(max_examples=200)
@given(words(), st.integers(1, 5))
def test_decisive_vectors_fail_exactly_where_the_rule_is_broken(case, chain):
    word, known_bits, p_bits = case
    exact = all(is_decoded(*case, *vectors) for vectors in decisive(word, chain))
    assert exact == (violation(word, chain, known_bits, p_bits) is None)


@pytest.mark.parametrize(("weights", "acts"), [((0, 1024), 8192), ((0, 8192), 1024)])
def test_an_overflow_that_extreme_words_hide_is_found(weights, acts):
    """The port is off by 2^14, times 1024 it is 0 modulo 2^24: only a unit word shows it."""
    device = replace(E2, wide_bits=14, narrow_bits=12, p_bits=24)
    w_port = 12 if acts > weights[1] else 14
    part = Part(0, 14, weights, (0, acts))
    word = build_word(device, Shape(1, 1, 1), part, Placement(w_port, 1, 1), 0)
    assert "too wide" in violation(word, 1, 0, 24)
    unit, *extreme = [is_decoded(word, 0, 24, *vectors) for vectors in decisive(word, 1)]
    assert extreme[-1]
    assert not all((unit, *extreme))


@given(words(), st.integers(1, 5))
def test_no_vector_fails_where_the_rule_holds(case, chain):
    word, known_bits, p_bits = case
    if violation(word, chain, known_bits, p_bits) is None:
        assert search_failure(word, chain, known_bits, p_bits)[0] is None


@pytest.mark.parametrize(
    ("weights", "acts", "reason"),
    [
        ((-128, 127), 1, None),
        ((-129, 127), 1, "weight words span -129..127, too wide for a signed 8-bit port"),
        ((-128, 128), 1, "weight words span -128..128, too wide for a signed 8-bit port"),
        ((0, 1), 511, None),
        ((0, 1), 512, "activation words span 0..512, too wide for a signed 10-bit port"),
    ],
)
def test_ports_are_used_to_the_last_code(weights, acts, reason):
    device = replace(E2, wide_bits=10, narrow_bits=8)
    part = Part(0, 8, weights, (0, acts))
    word = build_word(device, Shape(1, 1, 1), part, Placement(8, 1, 1), 0)
    assert violation(word, 1, 0, 48) == reason
    lanes_fit = port_fits(8, weights, 1, 1) and port_fits(10, (0, acts), 1, 1)
    assert lanes_fit == (reason is None)


def good_plan() -> PackPlan:
    return plan_of(3, (3, 3), (1, 3, 2), [(27, 8, 8)])


def with_word(plan: PackPlan, **changes) -> PackPlan:
    piece = plan.pieces[0]
    return replace(plan, pieces=(replace(piece, word=replace(piece.word, **changes)),))


def with_field(plan: PackPlan, **changes) -> PackPlan:
    first, *others = plan.pieces[0].word.fields
    return with_word(plan, fields=(replace(first, **changes), *others))


def relabelled(plan: PackPlan) -> PackPlan:
    weights = plan.pieces[0].word.weights
    return with_word(plan, weights=tuple(replace(lane, tap=2 - lane.tap) for lane in weights))


def split_plan() -> PackPlan:
    return plan_of(3, (4, 4), (1, 3, 2), [(27, 11, 11), (27, 11, 11)], Cut("a", 1))


def taps_apart() -> PackPlan:
    """Put the activations so far apart that equal outputs do not meet."""
    return plan_of(3, (3, 3), (1, 3, 2), [(27, 8, 9)])


DAMAGED = {
    r"two fields hold the same output": taps_apart(),
    r"mixes the outputs": relabelled(good_plan()),
    r"slices \[9, .*\] do not fit the field offsets": with_field(good_plan(), bits=9),
    r"is bounded by -5\.\.21": with_field(good_plan(), lo=-5),
    r"has products at bits \[0\]": with_field(good_plan(), offset=-8, bits=16),
    r"do not hold every product exactly once": with_field(good_plan(), terms=((0, 1),)),
    r"no ports of 26 and 18 bits": with_word(good_plan(), w_port=26),
    r"ranges \(\(-4, 3\).* should be \(\(-3, 3\)": with_word(good_plan(), w_lo=-4),
    r"port tricks": with_word(good_plan(), msb_flip=True),
    r"mode 'canary' with chain 1 is unknown": replace(good_plan(), mode="canary"),
    r"the pieces cover the operand bits \[0\]": replace(
        split_plan(), pieces=split_plan().pieces[:1]
    ),
}


@pytest.mark.parametrize("match", DAMAGED)
def test_damaged_plans_are_refused(match):
    with pytest.raises(PackError, match=match):
        certify(DAMAGED[match])


def check_cells(dsp_name: str, kernel: int, narrow: bool, w_bits: int, least_a_bits: int) -> None:
    for a_bits in range(least_a_bits, 9):
        for plan in table(dsp_name, kernel, narrow).plans(w_bits, a_bits):
            proof = prove(plan).proof
            small = all(is_exhaustive(piece.word, plan.chain) for piece in plan.pieces)
            assert proof.method == ("exhaustive" if small else "interval")
            assert 0 < proof.vectors <= (EXHAUSTIVE_LIMIT + 2**20) * plan.dsps


@pytest.mark.parametrize("w_bits", range(2, 9))
@pytest.mark.parametrize("kernel", [1, 3])
def test_default_table_is_exact(kernel, w_bits):
    check_cells("dsp48e2", kernel, True, w_bits, 2)


@pytest.mark.slow
@pytest.mark.parametrize("w_bits", range(1, 9))
@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dsp_name", sorted(DSPS))
def test_every_table_is_exact(dsp_name, kernel, narrow, w_bits):
    if w_bits > 1 or not narrow:
        check_cells(dsp_name, kernel, narrow, w_bits, 1)
