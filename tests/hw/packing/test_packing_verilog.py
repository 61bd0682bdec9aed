# SPDX-License-Identifier: Apache-2.0
"""Verilog of a packed word: its text, and with yosys (`-m synth`) simulation and DSP inference."""

import re
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from experiments.synth_packing import draw, dsps, product_dsps
from hw.packing.cost import REDUCTION, shapes, sums_outside
from hw.packing.emulate import combine, constants, emulate_word
from hw.packing.geometry import Cut
from hw.packing.recipe import build
from hw.packing.table import cells, stored_recipes
from hw.packing.verilog import output_bits, product_verilog, word_verilog
from tests.packing_samples import filter_plan, gapped_plan, group_plan, mixed_plan

# Exact plans of every family; strides are the least ones of the decode rule.
PLANS = {
    "every": filter_plan(),
    "every, folded": filter_plan(zero="folded", stride=9),
    "every, two words": filter_plan(kernel=5, taps=(3, 2)),
    "every, t = 1": filter_plan(known_bits=1, zero="folded", stride=8),
    "every, t = 1, constant zero point": filter_plan(known_bits=1, stride=9),
    "every, t = 2": filter_plan(known_bits=2, zero="folded", stride=7),
    "every, t = 2, constant zero point": filter_plan(known_bits=2, stride=8),
    "every, wide side swapped": group_plan(zero="folded", stride=7, known_bits=1, w_port=18),
    "chain": filter_plan(mode="chain", chain=4, zero="folded", stride=11),
    "chain, t = 2": filter_plan(mode="chain", chain=3, known_bits=2, zero="folded", stride=9),
    "chain, one decoding": filter_plan(
        w_bits=2,
        a_bits=2,
        mode="chain",
        chain=400,
        zero="folded",
        stride=12,
        taps=(2, 1),
        columns=2,
    ),
    "weights split": filter_plan(w_bits=6, cut=Cut("w", 3), stride=10, zero="folded"),
    "weights split, signed": filter_plan(
        w_bits=6, cut=Cut("w", 3, True), stride=10, zero="folded", known_bits=1, narrow=False
    ),
    "activations split": filter_plan(a_bits=6, cut=Cut("a", 3), stride=9, zero="folded"),
    "flush, folded": group_plan(stride=12, w_bits=3, a_bits=3, narrow=False, zero="folded"),
    "flush": group_plan(stride=12, w_bits=3, a_bits=3, narrow=False),
    "centred": group_plan(stride=8, zero="centred"),
    "centred, t = 4": filter_plan(a_bits=3, known_bits=4, zero="centred", stride=4),
    "centred canary": filter_plan(
        mode="canary", known_bits=2, zero="centred", stride=8, chain=1000
    ),
    "flipped bit": group_plan(groups=1, stride=14, known_bits=1, zero="folded", narrow=False),
    "canary, t = 1": filter_plan(mode="canary", known_bits=1, zero="folded", stride=9, chain=1000),
    "canary, t = 2": filter_plan(mode="canary", known_bits=2, zero="folded", stride=8, chain=1000),
    "canary, short": filter_plan(mode="canary", known_bits=2, zero="folded", stride=8, chain=50),
    "canary, constant zero point": filter_plan(mode="canary", known_bits=2, stride=9, chain=1000),
    "canary, t = 3": filter_plan(mode="canary", known_bits=3, zero="folded", stride=5, chain=1000),
    "canary, t = 4": filter_plan(mode="canary", known_bits=4, zero="folded", stride=4, chain=1000),
    "mixed": mixed_plan(stride=3),
    "mixed, t = 2": mixed_plan(stride=2, known_bits=2),
    "gapped": gapped_plan(stride=4),
    "gapped canary": gapped_plan(mode="canary", known_bits=3, stride=3, chain=300),
}
QUICK = (  # one plan of every family, for yosys in the fast suite
    "every, folded",
    "every, t = 1, constant zero point",
    "chain, t = 2",
    "weights split, signed",
    "flush, folded",
    "centred, t = 4",
    "flipped bit",
    "canary, t = 1",
    "canary, t = 4",
    "canary, short",
    "mixed, t = 2",
    "gapped canary",
)
YOSYS_LEAST_BITS = 9  # DSP_Y_MINWIDTH of its map of multiplications to DSP48E2
MAIN = """
#include "words.cc"
#include <cstdint>
#include <iostream>
cxxrtl_design::p_top top;
template <class Port>
void read(Port& port) {
  uint64_t value;
  std::cin >> value;
  port = cxxrtl::value<64>{uint32_t(value), uint32_t(value >> 32)}.trunc<Port::bits>();
}
int main() {
  for (int cycle = 0; cycle < %d; ++cycle) {
%s
    top.p_clk.set<bool>(true);
    top.step();
    top.p_clk.set<bool>(false);
    top.step();
%s
    std::cout << "\\n";
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
    least = part.zero_point(plan.zero, weights)
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


def inputs(plan, word) -> dict[str, str]:
    """Return the inputs of a word but the clock, in the order of `stimuli`: name and type."""
    lanes = [f"w{i}" for i in range(len(word.weights))] + [f"a{j}" for j in range(len(word.acts))]
    text = product_verilog(plan, word)
    types = {name: kind for kind, name in re.findall(r"input (?:signed )?(\[\d+:0\]) (\w+)", text)}
    return {"first": "", "last": "", "start": "", **{n: types[n] for n in [*lanes, "stored"]}}


def bench(shapes) -> tuple[str, list[str], list[str]]:
    """Return Verilog of all words side by side, names of its inputs and outputs."""
    ports, body, names, sums = ["input clk"], [], [], []
    for n, (plan, word) in enumerate(shapes):
        taken = inputs(plan, word)
        given = dict(enumerate(output_bits(plan, word)))
        ports += [f"input {kind} n{n}_{name}" for name, kind in taken.items()]
        ports += [f"output [{bits - 1}:0] n{n}_sum{k}" for k, bits in given.items()]
        links = [*taken, *(f"sum{k}" for k in given)]
        body.append(f"word{n} i{n} (.clk(clk), {', '.join(f'.{x}(n{n}_{x})' for x in links)});")
        names += [f"n{n}_{name}" for name in taken]
        sums += [f"n{n}_sum{k}" for k in given]
    top = f"module top ({', '.join(ports)});\n" + "\n".join(body) + "\nendmodule\n"
    words = (word_verilog(p, p.words.index(w), f"word{n}") for n, (p, w) in enumerate(shapes))
    return "\n".join([*words, top]), names, sums


def simulate(shapes, rows: np.ndarray, folder) -> np.ndarray:
    """Compile words to one program with yosys' C++ simulator; return their sums in every cycle."""
    import pyosys
    from pyosys import libyosys

    text, names, sums = bench(shapes)
    (folder / "words.v").write_text(text)
    design = libyosys.Design()
    for command in (
        f"read_verilog {folder}/words.v",
        "hierarchy -top top",
        f"write_cxxrtl {folder}/words.cc",
    ):
        libyosys.Pass.call(design, f"tee -q {command}")
    port = "p_n{}__{}".format
    reads = "\n".join(f"    read(top.{port(*name[1:].split('_'))});" for name in names)
    prints = "\n".join(
        f"    std::cout << top.{port(*name[1:].split('_'))}.get<uint64_t>() << ' ';"
        for name in sums
    )
    (folder / "main.cc").write_text(MAIN % (len(rows), reads, prints))
    runtime = f"{pyosys.__path__[0]}/share/include/backends/cxxrtl/runtime"
    compiler = ["g++", "-std=c++17", "-O0", f"-I{runtime}", "main.cc", "-o", "main"]
    subprocess.run(compiler, cwd=folder, check=True)
    lines = "\n".join(" ".join(str(v % (1 << 64)) for v in row) for row in rows.tolist())
    result = subprocess.run(
        [folder / "main"], input=lines, capture_output=True, text=True, check=True
    )
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


@pytest.mark.parametrize("name", [name for name in PLANS if "centred" in name])
def test_the_centre_is_taken_off_all_lanes_at_once(name):
    """`a0 | a1 << 8 + c` would take it off the last lane alone, and carry into none."""
    plan = PLANS[name]
    (word,) = plan.words
    lanes = " | ".join(f"(a{j}_wide << {lane.offset})" for j, lane in enumerate(word.acts))
    constant = -word.a_sub % (1 << word.a_port)
    assert f"assign a_word = ({lanes}) + {word.a_port}'d{constant};" in word_verilog(plan, 0)


def test_constant_of_an_unfolded_word_is_written_out():
    plan = filter_plan()
    zero = 15 * 7 * (1 + (1 << 11) + (1 << 22)) * (1 + (1 << 11))
    assert f"assign c = 48'd{zero};" in word_verilog(plan, 0)
    assert "assign c = stored;" in word_verilog(PLANS["every, folded"], 0)


def test_outputs_hold_a_whole_reduction():
    chained, whole = PLANS["chain"], PLANS["chain, one decoding"]
    assert sums_outside(chained)
    assert not sums_outside(whole)
    for plan in (chained, whole):
        spreads = [field.spread for field in plan.words[0].fields]
        assert output_bits(plan, plan.words[0]) == tuple(
            (REDUCTION * spread).bit_length() for spread in spreads
        )


def check_simulation(shapes, folder, sequences: int = 8) -> None:
    """Compare the sums of words after whole reductions with the emulator."""
    rng = np.random.default_rng(3)
    drawn = [operands(*shape, sequences, rng) for shape in shapes]
    rows = [stimuli(*shape, *given) for shape, given in zip(shapes, drawn, strict=True)]
    sums = simulate(shapes, np.concatenate(rows, -1), folder)[REDUCTION - 1 :: REDUCTION]
    assert len(sums) == sequences
    for (plan, word), given in zip(shapes, drawn, strict=True):
        found, sums = np.split(sums, [len(word.fields)], axis=1)
        expected = emulate_word(plan, word, *given) - constants(plan, word, given[0])
        np.testing.assert_array_equal(found, expected)
    assert not sums.size


def words_of(plans) -> list:
    """Return a word of every shape with its plan."""
    return [(plan, word) for plan in plans for word in shapes(plan)]


@pytest.mark.synth
@pytest.mark.csim
@pytest.mark.slow
def test_simulation_equals_the_emulator(tmp_path):
    check_simulation(words_of(PLANS[name] for name in QUICK), tmp_path)


@pytest.mark.synth
@pytest.mark.csim
@pytest.mark.slow
def test_simulation_of_all_samples_equals_the_emulator(tmp_path):
    check_simulation(words_of(PLANS.values()), tmp_path)


@pytest.mark.synth
@pytest.mark.csim
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_simulation_of_plans_of_the_tables_equals_the_emulator(seed, tmp_path):
    plans = [build(*source) for source in draw(20, seed)]
    check_simulation(words_of(plans), tmp_path)


@pytest.mark.synth
def test_every_word_becomes_one_dsp():
    words = words_of(PLANS[name] for name in QUICK)
    assert dsps(words) == [1] * len(words)


@pytest.mark.synth
def test_a_wider_product_would_be_seen():
    wide = replace(PLANS["every"].words[0], w_port=28, a_port=27)
    assert dsps([(replace(PLANS["every"], words=(wide,)), wide)]) != [1]


@pytest.mark.synth
@pytest.mark.slow
def test_every_word_of_the_tables_becomes_one_dsp():
    words = {operand_shape(*shape): shape for shape in words_of(table_plans())}
    assert len(words) > 3000
    for (plan, word), found in zip(words.values(), product_dsps([*words.values()]), strict=True):
        assert found == 1 or (found == 0 and made_of_luts(plan, word))


def operand_shape(plan, word) -> tuple:
    """Return all that the operands of a multiplication depend on."""
    part, lanes = plan.parts[word.part], (word.weights, word.acts)
    offsets = [tuple(lane.offset for lane in side) for side in lanes]
    slices = part.w_lo < 0, part.w_bits, part.a_bits
    return word.w_port, word.w_add, word.a_sub, *slices, *offsets


def made_of_luts(plan, word) -> bool:
    """Tell whether yosys may multiply without a DSP: by one bit, or a lone product of few bits."""
    part = plan.parts[word.part]
    sides = ((word.weights, part.w_bits), (word.acts, part.a_bits))
    by_one_bit = any(len(lanes) == bits == 1 for lanes, bits in sides)
    return by_one_bit or (word.macs == 1 and part.w_bits + part.a_bits < YOSYS_LEAST_BITS)


def table_plans():
    """Yield every plan of the DSP48E2 tables."""
    for cell in cells("dsp48e2"):
        yield from (build(cell, recipe) for recipe in stored_recipes(cell))
