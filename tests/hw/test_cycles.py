# SPDX-License-Identifier: Apache-2.0
"""Closed forms against figures worked out by hand and against loops."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.cycles import (
    LATENCY_CYCLES,
    analyse,
    extra_iterations,
    patch_lag,
    patch_rows,
    patch_words,
    process_cycles,
    read_at,
    reuse_iterations,
    window_words,
    write_at,
)
from hw.dataflow import build
from hw.design import Design, Folding, LayerDesign
from hw.device import device
from hw.fifos import default_depth, output_words
from hw.ir import Concat, Conv, Graph, Input, Output, Requant, WeightFormat
from hw.pipeline import PROCESSES, Fork, InputPort, OutputPort, PatchBuffer, Pool, Window
from tests.strategies import bare_plan, chain_design, ultranet_shape

# layer: pe, simd, kernel_rows, lanes | groups, taps, columns of the plan
ULTRANET = {
    "conv0": (16, 3, 1, 8, 1, 3, 2),
    "conv1": (4, 8, 1, 4, 1, 2, 5),
    "conv2": (4, 8, 3, 2, 2, 1, 3),
    "conv3": (2, 8, 3, 1, 1, 3, 2),
    "conv4": (2, 2, 3, 1, 1, 3, 2),
    "conv5": (2, 2, 3, 1, 1, 3, 2),
    "conv6": (2, 2, 3, 1, 1, 3, 2),
    "conv7": (2, 2, 3, 1, 1, 3, 2),
    "head": (1, 1, 1, 1, 2, 1, 2),
}
# rows x out groups x column steps x row groups x channel groups x word steps, by hand
ULTRANET_CYCLES = {
    "input": 160 * 320,
    "conv0_window": 160 * max(320, 161 * 3),
    "conv0_mac": 160 * 1 * 161 * 3 * 1 * 1,
    "act0": 160 * 1 * 322 * 2,
    "pool0": 160 * 320,
    "conv1_window": 80 * max(160, 8 * 33 * 3 * 2 * 2),
    "conv1_mac": 80 * 8 * 33 * 3 * 2 * 2,
    "act1": 80 * 8 * 165 * 1,
    "pool1": 80 * 8 * 160,
    "conv2_window": 40 * max(80 * 8, 8 * 28 * 1 * 4 * 3),
    "conv2_mac": 40 * 8 * 28 * 1 * 4 * 3,
    "act2": 40 * 8 * 84 * 4,
    "pool2": 40 * 8 * 80,
    "conv3_window": 20 * max(40 * 8, 32 * 21 * 1 * 8),
    "conv3_mac": 20 * 32 * 21 * 1 * 8 * 1,
    "act3": 20 * 32 * 42 * 2,
    "pool3": 20 * 32 * 40,
    "conv4_window": 10 * max(20 * 32, 32 * 11 * 1 * 32),
    "conv4_mac": 10 * 32 * 11 * 1 * 32 * 1,
    "act4": 10 * 32 * 22 * 2,
    "head_window": 10 * max(20 * 32, 18 * 10 * 64),
    "head_mac": 10 * 18 * 10 * 64,
    "output": 10 * 18 * 20 * 2,
}


def ultranet_design() -> Design:
    layers = []
    for name, (pe, simd, rows, lanes, groups, taps, columns) in ULTRANET.items():
        kernel, a_bits = (1 if name == "head" else 3), (8 if name == "conv0" else 4)
        plan = bare_plan(kernel, 4, a_bits, groups, taps, columns)
        layers.append(LayerDesign(name, Folding(pe, simd, rows, lanes), plan))
    return Design(ultranet_shape(), device("xczu3eg"), 250.0, tuple(layers))


def test_ultranet_cycles_by_hand():
    report = analyse(build(ultranet_design()), 250.0)
    cycles = {process.name: process.cycles for process in report.processes}
    for layer in ("5", "6", "7"):  # the same as layer 4
        for process in ("conv4_window", "conv4_mac", "act4"):
            twin = process.replace("4", layer)
            assert cycles.pop(twin) == ULTRANET_CYCLES[process]
    assert cycles == ULTRANET_CYCLES
    assert report.bottleneck == "conv1_mac"
    assert report.interval_cycles == 253_440
    assert report.fps == pytest.approx(250e6 / 253_440)


def test_window_words_are_split_in_written_and_read():
    processes = analyse(build(ultranet_design()), 250.0).processes
    window = next(process for process in processes if process.name == "conv2_window")
    assert (window.words_in, window.words_out) == (40 * 80 * 8, 40 * 8 * 28 * 4 * 3)


def test_an_array_is_named_before_the_window_that_feeds_it():
    """With few words to write, both take the same cycles."""
    design = ultranet_design()
    first = replace(design.layer("conv0"), folding=Folding(1, 1, 1, 1))
    design = replace(design, layers=(first, *design.layers[1:]))
    cycles = {p.name: p.cycles for p in analyse(build(design), 250.0).processes}
    assert cycles["conv0_window"] == cycles["conv0_mac"] == 160 * 16 * 161 * 3 * 3
    assert analyse(build(design), 250.0).bottleneck == "conv0_mac"


def test_every_process_kind_has_a_latency():
    assert set(LATENCY_CYCLES) == set(PROCESSES)


@settings(max_examples=60)
@given(chain_design())
def test_words_move_once_and_inside_their_frame(design):
    """Producer and consumer agree on the words per frame, whatever their loops look like."""
    pipeline = build(design)
    for process in pipeline.processes:
        cycles = process_cycles(process)
        for port, source in enumerate(pipeline.inputs(process.name)):
            reads = read_at(process, np.arange(3 * source.tokens), port)
            check_frames(reads, source.tokens, cycles, 0)
        lead = extra_iterations(process)
        for sink in pipeline.outputs(process.name):
            check_frames(write_at(process, np.arange(3 * sink.tokens)), sink.tokens, cycles, lead)


def check_frames(moves: np.ndarray, tokens: int, cycles: int, lead: int) -> None:
    assert (np.diff(moves) > 0).all()
    for frame in range(3):
        start = frame * cycles + lead
        assert ((moves >= start) & (moves < start + cycles)).sum() == tokens


def test_input_reads_a_beat_when_its_bits_run_out():
    """3 x 8 bits a pixel, 64-bit beats: pixels 0, 2 and 5 begin to need beats 0, 1 and 2."""
    port = InputPort("input", 1, 8, 3, 8, 8, 64)
    assert read_at(port, np.arange(6)).tolist() == [0, 2, 5, 8, 10, 13]


def test_window_spreads_its_writes_and_reads_after_padding():
    window = Window("w", 4, 3, 2, 4, 3, 1, 2, 2, 1, 1, groups_out=1, column_steps=5, word_steps=1)
    assert window_words(window) == (3, 15)
    assert window_words(replace(window, word_steps=2)) == (3, 30)
    assert read_at(window, np.arange(4)).tolist() == [4, 9, 14, 19]
    assert write_at(window, np.arange(3)).tolist() == [30, 31, 32]


def test_pool_writes_at_odd_rows_and_columns_of_odd_maps():
    pool = Pool("p", 3, 5, out_channels=4, parallel=2, bits=4)
    first_frame = [(2 + 0) * 5 + 1, (2 + 0) * 5 + 3, (2 + 1) * 5 + 1, (2 + 1) * 5 + 3]
    assert write_at(pool, np.arange(4)).tolist() == first_frame
    assert write_at(pool, 4) == 30 + first_frame[0]


def test_output_drops_the_columns_of_padding():
    port = OutputPort("output", "head", 1, 3, 4, 4, 2, 3, 2, 3, 12, 64)
    assert write_at(port, np.arange(6)).tolist() == [4, 5, 6, 7, 8, 9]
    assert process_cycles(port) == 3 * 2 * 2
    assert read_at(port, np.arange(3)).tolist() == [0, 4, 8]


def test_latency_bound_counts_fill_and_pipeline_registers():
    """One 1x1 layer of one pixel: each process waits for the one before it, nothing else."""
    design = ultranet_design()
    tiny = replace(
        design,
        graph=Graph(
            "tiny",
            (
                replace(design.graph.input, height=1, width=1),
                replace(design.graph["head"], source="image"),
                design.graph.output,
            ),
        ),
        layers=(LayerDesign("head", Folding(36, 3, 1, 2), bare_plan(1, 4, 8)),),
    )
    # input 0, visible 2; window phase 0 reads at 2, phase 1 writes at 3, visible 6; array 6,
    # visible 13; the last of 18 beats 17 later, out of the port after 3 more
    assert analyse(build(tiny), 250.0).latency_bound_cycles == 13 + 17 + 3


def accesses(window: Window, rows: int):
    """Yield (iteration, is_load, bank, column, channel) of `rows` phases, as the text has it."""
    write, read = window_words(window)
    length = max(write, read)
    W, C, K, p = window.width, window.channels, window.kernel, window.padding
    groups = C // window.simd
    for j in range(rows):
        for n in range(write):
            group, column = divmod(n, W)
            for c in range(group * window.in_parallel, (group + 1) * window.in_parallel):
                yield read_at(window, j * write + n), False, j % (K + 1), column, c
    for q in range(rows - p - 1):
        for m in range(read):
            rest, ig = (m, 0) if window.depthwise else divmod(m, groups)
            rest, krg = divmod(rest, K // window.kernel_rows)
            rest, step = divmod(rest // window.word_steps, window.column_steps)
            ig = rest if window.depthwise else ig
            for kr in range(window.kernel_rows):
                row = q - p + krg * window.kernel_rows + kr
                for column in range(step * window.columns - p, (step + 1) * window.columns - p):
                    for c in range(ig * window.simd, (ig + 1) * window.simd):
                        if row >= 0 and 0 <= column < W:
                            at = write_at(window, q * read + m)
                            assert at < rows * length
                            yield at, True, row % (K + 1), column, c


@given(chain_design())
def test_reuse_iterations_against_every_access(design):
    for window in build(design).processes:
        if isinstance(window, Window):
            stores, loads, least = {}, {}, []
            for at, is_load, *place in sorted(accesses(window, 3 * (window.kernel + 1))):
                key = tuple(place)
                if (stores if is_load else loads).get(key) is not None:
                    least.append(at - (stores if is_load else loads)[key])
                (loads if is_load else stores)[key] = at
            assert min(least) == reuse_iterations(window)


# Kernel, stride, padding: lag, rows of the ring, words stored and sent per phase by hand.
PATCHES = {
    (1, 2, 0): (0, 4, 2 * 24, 12 * 1),
    (3, 2, 1): (0, 5, 2 * 24, 12 * 9),
    (5, 2, 2): (1, 8, 2 * 24, 12 * 25),
    (7, 2, 3): (1, 9, 2 * 24, 12 * 49),
    (3, 3, 1): (0, 7, 3 * 24, 8 * 9),
    (7, 3, 3): (1, 12, 3 * 24, 8 * 49),
}


@pytest.mark.parametrize("steps", PATCHES)
def test_patch_buffer_by_hand(steps):
    """A 12 x 12 map of 2 words a pixel: 24 words a row."""
    buffer = PatchBuffer("p", 12, 12, 8, 4, 5, *steps)
    lag, rows, stored, sent = PATCHES[steps]
    length = max(stored, sent)
    assert (patch_lag(buffer), patch_rows(buffer)) == (lag, rows)
    assert patch_words(buffer) == (stored, sent)
    assert process_cycles(buffer) == 12 // steps[1] * length
    assert extra_iterations(buffer) == (lag + 1) * length
    assert read_at(buffer, stored) == length + (length - 1) // stored
    assert write_at(buffer, sent - 1) == (lag + 2) * length - 1
    assert output_words(buffer) == (20, 12 // steps[1] * sent)
    assert default_depth(buffer) == 24


@given(st.sampled_from((1, 3, 5, 7, 9)), st.integers(1, 5))
def test_patch_rows_have_come_and_are_still_there(kernel, stride):
    """In every phase: what is sent has been stored, and is not where this phase stores."""
    padding = kernel // 2
    buffer = PatchBuffer("p", 4 * stride, stride, 1, 1, 4, kernel, stride, padding)
    for phase in range(patch_lag(buffer) + 1, patch_lag(buffer) + 9):
        row = phase - patch_lag(buffer) - 1
        needed = range(stride * row - padding, stride * row + kernel - padding)
        storing = range(stride * phase, stride * (phase + 1))
        assert needed[-1] < storing[0]
        assert storing[-1] - needed[0] < patch_rows(buffer)
    if patch_lag(buffer):  # one phase less would be too early
        assert kernel - 1 - padding >= stride * patch_lag(buffer)


def test_forks_of_sums_by_hand():
    """conv of 5 x 7 pixels, 6 channels: 3 column steps of 3 columns, words of 2 channels."""
    graph = Graph(
        "twice",
        (
            Input("image", 5, 7, 1, 4),
            Conv("conv", "image", 6, 3, WeightFormat(3), padding=1),
            Requant("one", "conv", 2),
            Requant("two", "conv", 3),
            Requant("three", "conv", 4),
            Conv("left", "one", 2, 1, WeightFormat(2)),
            Requant("four", "left", 3),
            Conv("right", "three", 2, 1, WeightFormat(2)),
            Requant("five", "right", 3),
            Concat("join", ("four", "two", "five")),
            Conv("head", "join", 2, 1, WeightFormat(2)),
            Output("output", "head"),
        ),
    )
    numbers = {
        "conv": (3, 3, 4, 3),
        "left": (1, 2, 2, 1),
        "right": (1, 2, 4, 1),
        "head": (1, 2, 3, 1),
    }
    layers = tuple(
        LayerDesign(name, Folding(2, 1), bare_plan(k, w, a, columns=columns))
        for name, (k, w, a, columns) in numbers.items()
    )
    pipeline = build(Design(graph, device("xczu3eg"), 250.0, layers))
    forks = [process for process in pipeline.processes if isinstance(process, Fork)]
    assert [(fork.name, fork.columns) for fork in forks] == [("conv_fork0", 3), ("conv_fork1", 3)]
    acc_bits = 10  # 9 products of -3..3 and 0..15: up to 405
    for fork in forks:
        assert process_cycles(fork) == 5 * 3 * 3
        for stream in (*pipeline.inputs(fork.name), *pipeline.outputs(fork.name)):
            assert (stream.width_bits, stream.tokens, stream.depth) == (3 * 2 * acc_bits, 45, 2)


def test_the_text_has_every_process_and_its_latency():
    text = (Path(__file__).parents[2] / "docs/cycles.md").read_text()
    named = {kind.__name__: latency for kind, latency in LATENCY_CYCLES.items()}
    listed = re.search(r"`LATENCY_CYCLES` in `hw/cycles.py`: (.*?);", text, re.DOTALL)[1]
    assert {name: int(value) for name, value in re.findall(r"(\w+) (\d+)", listed)} == named
    assert named.keys() <= set(re.findall(r"^## (\w+)$", text, re.MULTILINE))
