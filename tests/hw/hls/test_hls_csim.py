# SPDX-License-Identifier: Apache-2.0
"""Every integer of every node of the simulated C++ equals the integer network."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from hw.cycles import process_cycles
from hw.design import Design, Folding
from hw.execute import execute, run
from hw.hls import csim, emit
from hw.hls.toolchain import ToolchainError
from hw.ir import Conv, Graph, Input, MaxPool, Output, Requant, WeightFormat
from hw.pipeline import Window
from tests.hw.hls.networks import (
    branched_design,
    draw_designs,
    map_graph,
    random_frames,
    residual_design,
    simulate_all,
    tiny_design,
)
from tests.strategies import branched_graph, chain_design, small_graph, with_parameters

pytestmark = pytest.mark.csim


def with_seed(graph: Graph) -> Graph:
    return with_parameters(graph, seed=len(graph.nodes))


RANDOM_DESIGNS = chain_design(st.one_of(small_graph(), branched_graph().map(with_seed)))


def assert_equal(designs: list[Design], scratch: Path) -> None:
    frames = [random_frames(design.graph, 2, seed) for seed, design in enumerate(designs)]
    results = simulate_all(designs, frames, scratch)
    for design, pixels, got in zip(designs, frames, results, strict=True):
        expected = run(design.graph, pixels)
        assert got.keys() == expected.keys()
        for node, values in expected.items():
            assert np.array_equal(got[node], values), (node, design)


def test_random_designs(tmp_path):
    assert_equal(draw_designs(RANDOM_DESIGNS, 3), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(5))
def test_many_random_designs(batch, tmp_path):
    assert_equal(draw_designs(RANDOM_DESIGNS, 100)[batch::5], tmp_path)


def corner_designs() -> list[Design]:
    """What the random chains do not reach: K = 5, wide words, both ratios of word to step."""
    wide = Graph(
        "wide",
        (
            Input("image", 5, 11, 4, 8),
            Conv("conv0", "image", 12, 5, WeightFormat(5, narrow=False), padding=2),
            Requant("act0", "conv0", 2),
            Conv("conv1", "act0", 6, 3, WeightFormat(2), padding=1),
            Requant("act1", "conv1", 8),
            MaxPool("pool1", "act1"),
            Conv("conv2", "pool1", 3, 1, WeightFormat(8), padding=0),
            Output("output", "conv2"),
        ),
    )
    foldings = [
        (Folding(4, 4, 5, 4), Folding(2, 12, 3, 1), Folding(1, 6, 1, 1)),
        (Folding(6, 2, 1, 3), Folding(3, 2, 1, 3), Folding(3, 1, 1, 1)),
        (Folding(1, 1, 5, 1), Folding(1, 3, 3, 1), Folding(1, 2, 1, 1)),
    ]
    dense = [map_graph(with_parameters(wide, seed), fold) for seed, fold in enumerate(foldings)]
    return [*dense, *depthwise_designs()[:1], branched_design(), residual_design()]


def depthwise_designs() -> list[Design]:
    """Depthwise layers of K = 3 and 5, words split and joined before them."""
    graph = Graph(
        "separable",
        (
            Input("image", 6, 9, 3, 6),
            Conv("conv0", "image", 3, 3, WeightFormat(4), padding=1, groups=3),
            Requant("act0", "conv0", 5),
            Conv("conv1", "act0", 12, 1, WeightFormat(3), padding=0),
            Requant("act1", "conv1", 3),
            Conv("conv2", "act1", 12, 5, WeightFormat(5, narrow=False), padding=2, groups=12),
            Requant("act2", "conv2", 4),
            MaxPool("pool2", "act2"),
            Conv("conv3", "pool2", 12, 3, WeightFormat(2), padding=1, groups=12),
            Requant("act3", "conv3", 2),
            Conv("conv4", "act3", 4, 1, WeightFormat(6), padding=0),
            Output("output", "conv4"),
        ),
    )
    foldings = [
        tuple(Folding(pe, simd, rows, 1) for pe, simd, rows in layers)
        for layers in (
            ((3, 1, 3), (2, 3, 1), (4, 1, 5), (2, 1, 1), (1, 2, 1)),
            ((1, 1, 1), (3, 1, 1), (12, 1, 1), (12, 1, 3), (2, 12, 1)),
            ((3, 1, 1), (1, 3, 1), (2, 1, 1), (6, 1, 3), (1, 3, 1)),
        )
    ]
    return [map_graph(with_parameters(graph, seed), fold) for seed, fold in enumerate(foldings)]


def test_corner_designs(tmp_path):
    first, *_, separable, branched, residual = corner_designs()
    assert_equal([first, separable, branched, residual], tmp_path)


@pytest.mark.slow
def test_more_corner_designs(tmp_path):
    assert_equal([*corner_designs(), *depthwise_designs()[1:]], tmp_path)


@pytest.fixture(scope="module")
def tiny() -> tuple[Design, np.ndarray]:
    design = tiny_design()
    return design, random_frames(design.graph, 3, seed=1)


def test_run_returns_the_outputs(tiny, tmp_path, monkeypatch):
    """However many processes and starts of the accelerator the frames are spread over."""
    design, _ = tiny
    plan, frames = emit(design), random_frames(design.graph, 7, seed=2)
    program = csim.compile_plan(plan, tmp_path)
    monkeypatch.setattr(csim, "compile_plan", lambda *_: program)
    expected = execute(design.graph, frames)
    for count, frames_per_call, workers in ((7, None, 1), (7, 2, 3), (7, 1, 50), (1, None, 3)):
        result = csim.run(plan, frames[:count], frames_per_call, workers)
        assert result.outputs.dtype == np.int64
        assert np.array_equal(result.outputs, expected[:count])
        assert result.seconds_compile > 0
        assert result.seconds_run > 0


def test_compare_names_the_first_mismatch(tiny):
    """Frames are shared by two processes; integers of all of them are compared."""
    design, _ = tiny
    frames = random_frames(design.graph, 5, seed=3)
    head = design.graph["conv2"]
    bias = head.bias.copy()
    bias[1] += 1
    other = design.graph.with_node(replace(head, bias=bias))
    comparison = csim.compare(other, design, frames, workers=2)
    expected = run(design.graph, frames)
    assert comparison.values == sum(values.size for values in expected.values())
    assert comparison.mismatches == 2 * expected["conv2"].size // 2  # the head and the output
    first = expected["conv2"][0, 0, 0, 1]
    assert str(comparison.first) == (
        f"node 'conv2', frame 0, pixel (0, 0), channel 1: expected {first + 1}, got {first}"
    )


def test_counts_equal_the_cycle_model(tiny):
    design, frames = tiny
    plan = emit(design)
    counts = csim.count(plan, frames)
    assert counts.streams == {
        stream.name: stream.tokens * len(frames) for stream in plan.pipeline.streams
    }
    assert counts.processes == {
        process.name: process_cycles(process) * len(frames) + warm_up(process)
        for process in plan.pipeline.processes
    }


def warm_up(process) -> int:
    """A window fills padding + 1 rows before its first frame leaves (docs/cycles.md)."""
    if not isinstance(process, Window):
        return 0
    return process_cycles(process) // process.height * (process.padding + 1)


def test_project_checks_itself(tiny, tmp_path):
    design, frames = tiny
    program = csim.compile_plan(emit(design, frames), tmp_path)
    golden = tmp_path / "project" / "tb"
    command = [str(program), "check", str(golden / "golden_in.bin")]
    assert csim.launch([*command, str(golden / "golden_out.bin")], tmp_path) is None
    wrong = bytearray((golden / "golden_out.bin").read_bytes())
    wrong[4] ^= 1
    (tmp_path / "wrong.bin").write_bytes(wrong)
    with pytest.raises(csim.CsimError, match=r"test bench: result 1 is -?\d+, expected -?\d+"):
        csim.launch([*command, str(tmp_path / "wrong.bin")], tmp_path)
    (tmp_path / "short.bin").write_bytes(wrong[:-8])
    with pytest.raises(csim.CsimError, match=r"\d+ bytes came out, \d+ are expected"):
        csim.launch([*command, str(tmp_path / "short.bin")], tmp_path)


def test_too_few_words_stop_the_simulation(tiny):
    """A top function that feeds a process less than it reads must not pass for a result."""
    design, frames = tiny
    plan = emit(design)
    files = {
        path: content.replace(b"int height = 3;", b"int height = 2;", 1)
        for path, content in plan.files
        if path == "src/params.hpp"
    }
    assert files["src/params.hpp"] != dict(plan.files)["src/params.hpp"]
    broken = replace(plan, files=tuple((dict(plan.files) | files).items()))
    with pytest.raises(csim.CsimError, match=r"stream '\w+' (is empty and was|still holds)"):
        csim.run(broken, frames)


def test_compiler_errors_are_reported(tiny):
    design, frames = tiny
    plan = emit(design)
    files = tuple((path, b"int x" if path == "src/top.cpp" else text) for path, text in plan.files)
    with pytest.raises(ToolchainError, match=r"g\+\+ failed on tiny_top: .*error"):
        csim.run(replace(plan, files=files), frames)
