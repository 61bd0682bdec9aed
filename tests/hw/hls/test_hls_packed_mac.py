# SPDX-License-Identifier: Apache-2.0
"""The C++ of every kind of packing plan computes the sums of products that the plan promises."""

from itertools import product

import pytest

from hw.packing.plan import PackPlan
from tests.hw.hls.plan_bench import bench
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


def families() -> dict[str, PackPlan]:
    """Return one plan of every kind, each from the first cell that can have it."""
    found: dict[str, PackPlan] = {}
    for cell in CELLS:
        found = sample_plans(*cell) | found
    return found


def test_a_plan_of_every_kind(tmp_path):
    plans = families()
    assert plans.keys() == VARIANTS.keys()
    words = [word for plan in plans.values() for word in plan.words]
    assert {(word.w_add != 0, word.a_sub != 0) for word in words} == set(product((0, 1), repeat=2))
    assert {plan.known_bits for plan in plans.values()} == {0, 1, 2, 3, 4}
    bench([*plans.values(), *sample_plans(*OTHER_DSP).values()], tmp_path)
