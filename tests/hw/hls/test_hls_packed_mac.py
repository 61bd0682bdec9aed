# SPDX-License-Identifier: Apache-2.0
"""The C++ of every kind of packing plan computes the sums of products that the plan promises."""

from collections.abc import Iterable, Iterator
from itertools import product
from operator import attrgetter

import pytest

from hw.packing import table
from hw.packing.plan import ZEROS, PackPlan, Word
from tests.hw.hls.plan_bench import LONGEST, bench
from tests.packing_samples import VARIANTS, sample_plans

pytestmark = pytest.mark.csim
CELLS = (
    (1, 4, 4, False, "dsp48e2"),
    (3, 4, 4, True, "dsp48e2"),
    (3, 2, 2, False, "dsp48e2"),
    (1, 6, 3, False, "dsp48e2"),
    (3, 1, 1, False, "dsp48e2"),
)
OTHER_DSP = (5, 3, 2, False, "dsp48e1")
RANGES = [(w_bits, narrow) for narrow in (True, False) for w_bits in range(1 + narrow, 9)]
TOGETHER = 50  # plans in one program: the compiler takes half a gigabyte for them


def hand_made() -> dict[str, PackPlan]:
    """Return one plan of every kind, each from the first cell that can have it."""
    found: dict[str, PackPlan] = {}
    for cell in CELLS:
        found = sample_plans(*cell) | found
    return found


def test_a_plan_of_every_kind(tmp_path):
    plans = hand_made()
    assert plans.keys() == VARIANTS.keys()
    words = [word for plan in plans.values() for word in plan.words]
    assert {(word.w_add != 0, word.a_sub != 0) for word in words} == set(product((0, 1), repeat=2))
    assert {plan.known_bits for plan in plans.values()} == {0, 1, 2, 3, 4}
    bench([*plans.values(), *sample_plans(*OTHER_DSP).values()], tmp_path)


def table_plans(kernels: Iterable[int], ranges: Iterable[tuple[int, bool]]) -> Iterator[PackPlan]:
    for kernel, (w_bits, narrow), a_bits in product(kernels, ranges, range(1, 9)):
        yield from table("dsp48e2", kernel, narrow).plans(w_bits, a_bits)


def family(plan: PackPlan) -> tuple:
    """Return what the C++ tells apart: mode, known bits, split, zero point, tricks, gaps, turns."""
    last = plan.parts[-1]
    return (
        plan.mode,
        plan.known_bits,
        (last.w_low > 0, last.a_low > 0),
        any(word.w_add for word in plan.words),
        plan.zero,
        any(word.a_sub for word in plan.words),
        any(map(has_gap, plan.words)),
        plan.word_steps > 1,
    )


def has_gap(word: Word) -> bool:
    columns = {lane.column for lane in word.acts}
    return max(columns) - min(columns) >= len(columns)


def table_families() -> list[PackPlan]:
    """Return of every family of the tables of K = 3 the plan with the fewest words."""
    found: dict[tuple, PackPlan] = {}
    for plan in table_plans((3,), RANGES):
        kind = family(plan)
        if kind not in found or plan.word_steps < found[kind].word_steps:
            found[kind] = plan
    return [found[kind] for kind in sorted(found)]


@pytest.mark.slow
@pytest.mark.parametrize("sixth", range(6))
def test_a_plan_of_every_family_of_the_tables(sixth, tmp_path):
    plans = table_families()
    kinds = [set(values) for values in zip(*map(family, plans), strict=True)]
    assert kinds[0] == {"every", "chain", "canary"}
    assert kinds[1] == {0, 1, 2, 3, 4}
    assert kinds[2] == {(False, False), (True, False), (False, True)}
    assert kinds[4] == set(ZEROS)
    assert [kinds[3], *kinds[5:]] == [{False, True}] * 4
    (tmp_path / "arrays").mkdir()
    bench(plans[sixth::6], tmp_path, arrays=False)
    bench(plans[7 * sixth :: 42], tmp_path / "arrays")


def longest_chains(most: int) -> list[PackPlan]:
    """Return of every mode, known bits and zero point the plan that accumulates longest."""
    found: dict[tuple, PackPlan] = {}
    for plan in table_plans((3,), RANGES[::3]):
        kind = plan.mode, plan.known_bits, plan.zero
        if LONGEST < plan.chain <= most:
            found[kind] = max(plan, found.get(kind, plan), key=attrgetter("chain"))
    return list(found.values())


@pytest.mark.parametrize(
    ("most", "count"),
    [pytest.param(*case, marks=pytest.mark.slow) for case in ((700, 12), (70_000, 18))],
)
def test_accumulators_are_filled_to_the_last_product(most, count, tmp_path):
    plans = longest_chains(most)
    assert len(plans) >= count
    assert {plan.mode for plan in plans} == {"chain", "canary"}
    bench(plans, tmp_path, arrays=False, longest=most)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize(("w_bits", "narrow"), RANGES)
def test_every_plan_of_the_tables(kernel, w_bits, narrow, tmp_path):
    plans = list(table_plans([kernel], [(w_bits, narrow)]))
    assert len(plans) >= 8
    for first in range(0, len(plans), TOGETHER):
        bench(plans[first : first + TOGETHER], tmp_path, arrays=False)
    fastest = [table("dsp48e2", kernel, narrow).plans(w_bits, a_bits)[0] for a_bits in range(1, 9)]
    bench(fastest, tmp_path)
