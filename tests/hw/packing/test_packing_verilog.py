# SPDX-License-Identifier: Apache-2.0
"""Verilog of a packed word: its text, and with yosys (`-m synth`) simulation and DSP inference."""

import re
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from experiments.synth_packing import INFERENCE, count_cells, draw, run_yosys
from hw.packing.cost import REDUCTION, accumulates, shapes
from hw.packing.emulate import combine, constants, emulate_word
from hw.packing.geometry import Cut
from hw.packing.verilog import output_bits, word_verilog
from tests.packing_samples import filter_plan, group_plan

DRAWN = 20  # one plan of every kind of decoding
# Exact plans of every family; strides are the least ones of the decode rule.
PLANS = {
    "every": filter_plan(),
    "every, folded": filter_plan(folded=True, stride=9),
    "every, two words": filter_plan(kernel=5, taps=(3, 2)),
    "every, t = 1": filter_plan(known_bits=1, folded=True, stride=8),
    "every, t = 1, constant zero point": filter_plan(known_bits=1, stride=9),
    "every, t = 2": filter_plan(known_bits=2, folded=True, stride=7),
    "every, t = 2, constant zero point": filter_plan(known_bits=2, stride=8),
    "every, wide side swapped": group_plan(folded=True, stride=7, known_bits=1, w_port=18),
    "chain": filter_plan(mode="chain", chain=4, folded=True, stride=11),
    "chain, t = 2": filter_plan(mode="chain", chain=3, known_bits=2, folded=True, stride=9),
    "chain, one decoding": filter_plan(
        w_bits=2, a_bits=2, mode="chain", chain=400, folded=True, stride=12, taps=(2, 1), columns=2
    ),
    "weights split": filter_plan(w_bits=6, cut=Cut("w", 3), stride=10, folded=True),
    "weights split, signed": filter_plan(
        w_bits=6, cut=Cut("w", 3, True), stride=10, folded=True, known_bits=1, narrow=False
    ),
    "activations split": filter_plan(a_bits=6, cut=Cut("a", 3), stride=9, folded=True),
    "flush, folded": group_plan(stride=12, w_bits=3, a_bits=3, narrow=False, folded=True),
    "flush": group_plan(stride=12, w_bits=3, a_bits=3, narrow=False),
    "flipped bit": group_plan(groups=1, stride=14, known_bits=1, folded=True, narrow=False),
    "canary, t = 1": filter_plan(mode="canary", known_bits=1, folded=True, stride=9, chain=1000),
    "canary, t = 2": filter_plan(mode="canary", known_bits=2, folded=True, stride=8, chain=1000),
    "canary, short": filter_plan(mode="canary", known_bits=2, folded=True, stride=8, chain=50),
    "canary, constant zero point": filter_plan(mode="canary", known_bits=2, stride=9, chain=1000),
}
MAIN = """
#include "word.cc"
#include <cstdint>
#include <iostream>
int main() {
  cxxrtl_design::p_word word;
  uint64_t value;
  bool last;
  auto edge = [&] {
    word.p_clk.set<bool>(true);
    word.step();
    word.p_clk.set<bool>(false);
    word.step();
  };
  while (std::cin >> value) {
%s
    last = word.p_last.get<bool>();
    edge();
    if (last) std::cout << %s << "\\n";
  }
}
"""


def operands(plan, word, sequences: int, rng) -> tuple[np.ndarray, np.ndarray]:
    """Return slices `[sequences, REDUCTION, lanes]`: random, extreme, and all one extreme."""
    part = plan.parts[word.part]
    drawn = []
    for lo, hi, lanes in (
        (part.w_lo, part.w_hi, len(word.weights)),
        (0, part.a_hi, len(word.acts)),
    ):
        shape = sequences, REDUCTION, lanes
        values = rng.integers(lo, hi + 1, shape)
        values[1::4] = rng.choice([lo, hi], (len(values[1::4]), REDUCTION, lanes))
        values[2::4] = rng.choice([lo, hi], (len(values[2::4]), 1, lanes))
        drawn.append(values)
    drawn[0][3], drawn[1][3] = part.w_lo, part.a_hi
    drawn[0][7], drawn[1][7] = part.w_hi, part.a_hi
    return drawn[0], drawn[1]


def stored(plan, word, weights) -> np.ndarray:
    """Return what is kept beside the weights: C without the activations, `[sequences, N]`."""
    part = plan.parts[word.part]
    least = np.vectorize(lambda weight: part.least(plan.folded, int(weight)))(weights)
    ones = sum(1 << lane.offset for lane in word.acts)
    return word.a_sub * combine(word.weights, weights) - combine(word.weights, least) * ones


def stimuli(plan, word, weights, acts) -> np.ndarray:
    """Return the rows of the simulation: first, last, start, w0.., a0.., stored."""
    step = np.arange(REDUCTION)
    first = step % plan.chain == 0
    last = (step % plan.chain == plan.chain - 1) | (step == REDUCTION - 1)
    start = step // plan.chain == 0
    marks = np.stack([first, last, start], -1).astype(np.int64)
    marks = np.broadcast_to(marks, (*weights.shape[:2], 3))
    rows = [marks, weights, acts, stored(plan, word, weights)[..., None]]
    return np.concatenate(rows, -1).reshape(-1, sum(one.shape[-1] for one in rows))


def simulate(plan, index: int, rows: np.ndarray, folder) -> np.ndarray:
    """Compile the Verilog with yosys' C++ simulator; return the sums at each `last`."""
    import pyosys
    from pyosys import libyosys

    word = plan.words[index]
    (folder / "word.v").write_text(word_verilog(plan, index))
    design = libyosys.Design()
    for command in (
        f"read_verilog {folder}/word.v",
        "hierarchy -top word",
        f"write_cxxrtl {folder}/word.cc",
    ):
        libyosys.Pass.call(design, f"tee -q {command}")
    names = ["first", "last", "start"]
    names += [f"w{i}" for i in range(len(word.weights))]
    names += [f"a{j}" for j in range(len(word.acts))]
    reads = "\n    std::cin >> value;\n".join(
        f"    word.p_{name} = cxxrtl::value<64>{{uint32_t(value), uint32_t(value >> 32)}}"
        f".trunc<decltype(word.p_{name})::bits>();"
        for name in [*names, "stored"]
    )
    prints = ' << " " << '.join(f"word.p_sum{k}.get<uint64_t>()" for k in range(len(word.fields)))
    (folder / "main.cc").write_text(MAIN % (reads, prints))
    runtime = f"{pyosys.__path__[0]}/share/include/backends/cxxrtl/runtime"
    compiler = ["g++", "-std=c++17", "-O1", f"-I{runtime}", "main.cc", "-o", "main"]
    subprocess.run(compiler, cwd=folder, check=True)
    lines = "\n".join(" ".join(str(v % (1 << 64)) for v in row) for row in rows.tolist())
    result = subprocess.run([folder / "main"], input=lines, capture_output=True, text=True)
    return np.array([line.split() for line in result.stdout.splitlines()], dtype=np.int64)


@pytest.mark.parametrize("name", PLANS)
def test_text_has_one_multiplication_and_is_deterministic(name):
    plan = PLANS[name]
    for index, word in enumerate(plan.words):
        text = word_verilog(plan, index, "core")
        assert text.count(" * ") == 1
        assert f"wire signed [{word.w_port + word.a_port - 1}:0] product = w_word * a_word" in text
        assert text == word_verilog(replace(plan), index, "core")
        modules = re.findall(r"^module (\w+)", text, re.M)
        assert modules[-1] == "core"
        assert all(module.startswith("core_") for module in modules[:-1])
        assert ("core_track" in modules) == (plan.known_bits > 0)


def test_samples_use_every_trick_and_both_ports():
    words = [word for plan in PLANS.values() for word in plan.words]
    assert any(word.w_add for word in words)
    assert any(word.a_sub for word in words)
    assert {word.w_port for word in words} == {18, 27}


def test_constant_of_an_unfolded_word_is_written_out():
    plan = filter_plan()
    zero = 15 * 7 * (1 + (1 << 11) + (1 << 22)) * (1 + (1 << 11))
    assert f"assign c = 48'd{zero};" in word_verilog(plan, 0)
    assert "assign c = stored;" in word_verilog(PLANS["every, folded"], 0)


def test_outputs_hold_a_whole_reduction():
    chained, whole = PLANS["chain"], PLANS["chain, one decoding"]
    assert accumulates(chained)
    assert not accumulates(whole)
    for plan in (chained, whole):
        spreads = [field.spread for field in plan.words[0].fields]
        assert output_bits(plan, plan.words[0]) == tuple(
            (REDUCTION * spread).bit_length() for spread in spreads
        )


def check_simulation(plan, words, folder) -> None:
    rng, sequences, decodings = np.random.default_rng(3), 12, -(-REDUCTION // plan.chain)
    for word in words:
        index = plan.words.index(word)
        weights, acts = operands(plan, word, sequences, rng)
        sums = simulate(plan, index, stimuli(plan, word, weights, acts), folder)
        assert sums.shape == (sequences * decodings, len(word.fields))
        expected = emulate_word(plan, word, weights, acts) - constants(plan, word, weights)
        np.testing.assert_array_equal(sums[decodings - 1 :: decodings], expected)


@pytest.mark.synth
@pytest.mark.parametrize("name", PLANS)
def test_simulation_equals_the_emulator(name, tmp_path):
    check_simulation(PLANS[name], PLANS[name].words, tmp_path)


@pytest.mark.synth
@pytest.mark.parametrize("index", range(DRAWN))
def test_simulation_of_plans_of_the_tables_equals_the_emulator(index, tmp_path):
    plan = draw(DRAWN, 1)[index]
    check_simulation(plan, shapes(plan)[:2], tmp_path)


@pytest.mark.synth
@pytest.mark.parametrize("name", PLANS)
def test_every_word_becomes_one_dsp(name):
    plan = PLANS[name]
    for index in range(len(plan.words)):
        modules = run_yosys(word_verilog(plan, index), INFERENCE)
        assert count_cells(modules["word"]).dsp48e2 == 1
