# SPDX-License-Identifier: Apache-2.0
"""packed_mac.hpp computes the sums of products that a packing plan promises."""

from collections.abc import Sequence
from importlib.resources import files
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from hw.device import DSPS
from hw.hls.csim import launch
from hw.hls.pieces import piece_structs
from hw.hls.toolchain import compile_cpp
from hw.intmath import activation_range, weight_range
from hw.packing import PackPlan, table
from hw.packing.emulate import expected

pytestmark = pytest.mark.csim
VECTORS = 200
INCLUDE = files("hw.hls") / "include"


def all_plans() -> list[PackPlan]:
    """Every plan of every table, narrow and full weights."""
    return [
        plan
        for dsp in sorted(DSPS)
        for kernel in (1, 3, 5)
        for narrow in (True, False)
        for w_bits in range(2 if narrow else 1, 9)
        for a_bits in range(1, 9)
        for plan in table(dsp, kernel, narrow).plans(w_bits, a_bits)
    ]


def traits(plan: PackPlan) -> tuple:
    """What packed_mac.hpp branches on."""
    piece = plan.pieces[0]
    ports = piece.word.w_port > piece.word.a_port
    return plan.technique, plan.known_bits, piece.split, plan.chain > 1, ports


def words_of(plan: PackPlan) -> int:
    """Enough words for a full chain and a shorter last one, without making a slow bench."""
    return min(plan.chain, 6) + 2


def operands(plan: PackPlan, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random operands; in a third of the vectors extremes only, in another one mostly extremes."""
    rng = np.random.default_rng(seed)
    word = plan.pieces[0].word

    def draw(low: int, high: int, lanes: int) -> np.ndarray:
        shape = (VECTORS, words_of(plan), lanes)
        extremes = rng.choice((low, high), shape)
        rare = np.arange(VECTORS).reshape(-1, 1, 1) % 3 / 2
        return np.where(rng.random(shape) < rare, rng.integers(low, high + 1, shape), extremes)

    weights = draw(*weight_range(plan.w_bits, plan.narrow), len(word.weights))
    return weights, draw(*activation_range(plan.a_bits), len(word.acts))


def bench(plans: Sequence[PackPlan], folder: Path) -> None:
    """Compile one program for all `plans` and compare each with the plain sums."""
    lines = ['#include "packed_words.hpp"']
    cases = []
    for index, plan in enumerate(plans):
        structs = piece_structs(plan, f"plan{index}")
        lines += [text for _, text in structs]
        names = ", ".join(name for name, _ in structs)
        words = words_of(plan)
        numbers = f"{min(plan.chain, words)}, {words}, {plan.w_bits}, {plan.a_bits}"
        cases.append(f"    case {index}: return run<{numbers}, {names}>(v[2], v[3], v[4]);")
    lines += ["int main(int, char** v) {", "  switch (std::atoi(v[1])) {", *cases, "  }"]
    (folder / "bench.cpp").write_text("\n".join([*lines, "  return 2;", "}", ""]))
    program = folder / "bench"
    compile_cpp([folder / "bench.cpp"], program, [Path(__file__).parent, INCLUDE, INCLUDE / "csim"])
    for index, plan in enumerate(plans):
        weights, acts = operands(plan, index)
        weights.astype(np.int32).tofile(folder / "w.bin")
        acts.astype(np.int32).tofile(folder / "a.bin")
        launch([str(program), str(index), "w.bin", "a.bin", "out.bin"], folder)
        got = np.fromfile(folder / "out.bin", np.int64).reshape(VECTORS, -1)
        assert np.array_equal(got, expected(plan, weights, acts)), plan


def test_one_plan_of_every_kind(tmp_path):
    kinds = {traits(plan): plan for plan in all_plans()}
    assert {kind[1] for kind in kinds} == {0, 1}
    assert {kind[2] for kind in kinds} == {None, "w", "a"}
    bench(list(kinds.values()), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(4))
def test_every_tenth_plan(batch, tmp_path):
    bench(list(islice(all_plans(), 10 * batch, None, 40)), tmp_path)
