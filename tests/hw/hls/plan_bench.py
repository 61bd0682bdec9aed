# SPDX-License-Identifier: Apache-2.0
"""Packing plans in C++: one program for many of them, compared with plain sums of products."""

from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np

from hw.design import Folding, LayerDesign
from hw.hls.constants import start_rom, weight_rom, word_biases
from hw.hls.csim import launch
from hw.hls.processes import process_text
from hw.hls.toolchain import FLAGS, compile_cpp
from hw.intmath import ceil_div, weight_range
from hw.ir import Conv, WeightFormat
from hw.mac_words import decode_cycles, link_lanes, slice_bits, weight_lanes
from hw.packing.emulate import expected, weight_slice
from hw.packing.plan import PackPlan
from hw.pipeline import MacArray
from hw.stages import Stage

INCLUDE = files("hw.hls") / "include"
VECTORS = 12
SIMD, CHANNELS, PE = 3, 15, 2  # of the array: 5, 15, ... cycles a word step
LONGEST = 60  # products in one accumulator, if not told otherwise


def array_of(plan: PackPlan) -> MacArray:
    """Return an array of one output row: three multipliers a PE, one group of output channels.

    The row is so long that sums spill over several tiles.
    """
    steps = plan.kernel * CHANNELS // SIMD
    column_steps = max(3, ceil_div(plan.kernel + 2, plan.columns))
    return MacArray(
        "array",
        "conv",
        height=1,
        width=column_steps * plan.columns,
        in_channels=CHANNELS,
        out_channels=PE * plan.groups,
        kernel=plan.kernel,
        pe=PE,
        simd=SIMD,
        kernel_rows=1,
        groups=plan.groups,
        columns=plan.columns,
        column_steps=column_steps,
        word_steps=plan.word_steps,
        link=link_lanes(plan, SIMD),
        decode_cycles=decode_cycles(plan, SIMD, steps),
        acc_bits=40,
    )


def lone_multiplier(plan: PackPlan, longest: int = LONGEST) -> MacArray:
    """Return an array of one multiplier that fills its accumulator and then begins again."""
    channels = ceil_div(min(plan.chain, longest) + 3, plan.kernel)
    return replace(
        array_of(plan),
        in_channels=channels,
        out_channels=plan.groups,
        pe=1,
        simd=1,
        link=1,
        decode_cycles=decode_cycles(plan, 1, plan.kernel * channels),
    )


def bench(
    plans: Sequence[PackPlan], folder: Path, arrays: bool = True, longest: int = LONGEST
) -> None:
    """Compile one program for all `plans` and compare each with plain sums, alone and in an array.

    Without `arrays` only alone, which compiles in a third of the time. An accumulator alone sums
    `longest` products if its plan lets it.
    """
    lines, cases = ['#include "plan_bench.hpp"'], []
    for index, plan in enumerate(plans):
        lone = replace(lone_multiplier(plan, longest), name=f"plan{index}")
        config, *words = _structs(plan, lone)
        array = _structs(plan, replace(array_of(plan), name=f"array{index}"))[0]
        lines += [text for _, text in (config, *words, array)]
        names = ", ".join(name for name, _ in words)
        cases.append(f"case {2 * index}: return run_channels<{config[0]}, {names}>(v + 2);")
        if arrays:
            cases.append(f"case {2 * index + 1}: return run_array<{array[0]}, {names}>(v + 2);")
    lines += ["int main(int, char** v) {", "  switch (std::atoi(v[1])) {", *cases, "  }"]
    (folder / "bench.cpp").write_text("\n".join([*lines, "  return 2;", "}", ""]))
    program = folder / "bench"
    include = [Path(__file__).parent, INCLUDE, INCLUDE / "csim"]
    compile_cpp([folder / "bench.cpp"], program, include, flags=(*FLAGS, "-O0"))
    for index, plan in enumerate(plans):
        check_channels(plan, [str(program), str(2 * index)], folder, index, longest)
        if arrays:
            check_array(plan, [str(program), str(2 * index + 1)], folder, seed=index)


def _structs(plan: PackPlan, array: MacArray) -> tuple[tuple[str, str], ...]:
    """Return (name, C++ text) of the array's configuration and of the plan's words."""
    shape = (plan.kernel, plan.kernel, array.in_channels, array.out_channels)
    w_format = WeightFormat(plan.w_bits, plan.narrow)
    conv = Conv(
        "conv", "x", array.out_channels, plan.kernel, w_format, weights=np.zeros(shape, int)
    )
    layer = LayerDesign("conv", Folding(array.pe, array.simd), plan)
    return process_text(array, Stage(conv, None, None, ()), layer).structs


def launch_bench(command: list[str], folder: Path, *operands: np.ndarray) -> np.ndarray:
    """Return the int64 that the bench writes for `operands`."""
    names = [f"{index}.bin" for index in range(len(operands))]
    for name, values in zip(names, operands, strict=True):
        values.tofile(folder / name)
    launch([*command, *names, "out.bin"], folder)
    return np.fromfile(folder / "out.bin", np.int64)


def draw(plan: PackPlan, w_shape: tuple[int, ...], a_shape: tuple[int, ...], seed: int):
    """Return operands `[VECTORS, ...]`: the corners, mixtures of corners, uniform integers.

    All weights at either end times all activations at M fill every field most; in the mixtures
    each operand stays at one end for a while.
    """
    rng = np.random.default_rng(seed)
    (w_lo, w_hi), a_hi = weight_range(plan.w_bits, plan.narrow), (1 << plan.a_bits) - 1

    def values(lo: int, hi: int, shape: tuple[int, ...], corners: Sequence[int]) -> np.ndarray:
        drawn = rng.integers(lo, hi, (VECTORS, *shape), endpoint=True)
        ends = rng.choice((lo, hi), drawn.shape)
        mixed = np.where(rng.random(drawn.shape) < 0.5, ends, drawn)
        drawn[len(corners) : 7], drawn[7:9] = ends[len(corners) : 7], mixed[7:9]
        for vector, corner in enumerate(corners):
            drawn[vector] = corner
        return drawn

    return (
        values(w_lo, w_hi, w_shape, (w_lo, w_hi, w_lo, w_hi, -1)),
        values(0, a_hi, a_shape, (a_hi, a_hi, 0, 0, 1)),
    )


def check_array(plan: PackPlan, command: list[str], folder: Path, seed: int) -> None:
    """Compare the accumulators of mac_array with a convolution of one row."""
    array, K = array_of(plan), plan.kernel
    width, S = array.width, array.column_steps
    weights, image = draw(plan, (K, K, CHANNELS, array.out_channels), (K, width, CHANNELS), seed)
    # [V][column step][word step][row, channel group][column][channel]
    tiles = image.reshape(VECTORS, K, S, plan.columns, CHANNELS // SIMD, SIMD)
    words = tiles.transpose(0, 2, 1, 4, 3, 5).reshape(VECTORS, S, 1, -1)
    words = np.repeat(words, plan.word_steps, 2)
    roms = np.stack([weight_rom(w, array, plan) for w in weights])
    starts = np.stack([start_rom(w, array, plan) for w in weights])
    got = launch_bench(command, folder, words.astype(np.int32), roms, starts)
    got = got.reshape(VECTORS, width, -1)[:, K - 1 :]
    taps = [image[:, :, k : width - K + 1 + k] for k in range(K)]
    wanted = sum(np.einsum("vrxc,vrcm->vxm", taps[k], weights[:, :, k]) for k in range(K))
    assert np.array_equal(got, wanted), plan


def check_channels(
    plan: PackPlan, command: list[str], folder: Path, seed: int, longest: int
) -> None:
    """Compare channels that each have a multiplier and an output of their own with plain sums."""
    array = lone_multiplier(plan, longest)
    N = plan.kernel * array.in_channels
    weights, acts = draw(plan, (N, plan.groups, plan.kernel), (N, plan.columns), seed)
    slices = np.zeros((plan.word_steps, VECTORS, N, weight_lanes(plan)), np.int32)
    biases = np.zeros((plan.word_steps, VECTORS, N), np.int64)
    for step, word in enumerate(plan.words):
        places = [(lane.group, lane.tap) for lane in word.weights]
        picked = np.stack([weights[..., group, tap] for group, tap in places], -1)
        values = weight_slice(plan.parts[word.part], plan, picked)
        slices[step, ..., : len(places)] = values & ((1 << slice_bits(plan)) - 1)
        if plan.biased:
            biases[step] = word_biases(plan, word, values)
    got = launch_bench(command, folder, acts.astype(np.int32), slices, biases)
    wanted = expected(plan, weights, acts) - starting_sums(plan, weights)
    assert np.array_equal(got, wanted.ravel()), plan


def starting_sums(plan: PackPlan, weights: np.ndarray) -> np.ndarray:
    """Return the sums of z over all products of an output: what the decoded fields lack."""
    total, ones = 0, np.ones((*weights.shape[:2], plan.columns), np.int64)
    for part in plan.parts:
        slices = weight_slice(part, plan, weights)
        least = [part.zero_point(plan.zero, value) for value in slices.ravel().tolist()]
        shifted = np.reshape(least, slices.shape) << part.w_low + part.a_low
        total = total + expected(plan, shifted, ones)
    return total
