# SPDX-License-Identifier: Apache-2.0
"""C simulation of a project with g++, and its comparison with the integer network."""

import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from hw.design import Design
from hw.execute import run as run_graph
from hw.hls.beats import pack_frames, unpack_results
from hw.hls.build_plan import BuildPlan, write
from hw.hls.emit import emit
from hw.hls.taps import decode_taps
from hw.hls.toolchain import compile_cpp
from hw.ir import Graph


class CsimError(RuntimeError):
    """The simulated accelerator stopped by itself; the message is what it printed."""


@dataclass(frozen=True, eq=False)
class CsimResult:
    """`outputs`: int64 `[N, H, W, C]` as they left the port; seconds of wall-clock time."""

    outputs: np.ndarray
    seconds_compile: float
    seconds_run: float


@dataclass(frozen=True)
class Mismatch:
    """One integer that differs: node, frame, pixel, channel and both values."""

    node: str
    frame: int
    row: int
    column: int
    channel: int
    expected: int
    got: int

    def __str__(self):
        return (
            f"node '{self.node}', frame {self.frame}, pixel ({self.row}, {self.column}), channel "
            f"{self.channel}: expected {self.expected}, got {self.got}"
        )


@dataclass(frozen=True, eq=False)
class Comparison:
    """All integers of all nodes against the integer network.

    `values`: integers compared; `first`: the first mismatch in node, then memory order.
    """

    result: CsimResult
    values: int
    mismatches: int
    first: Mismatch | None


@dataclass(frozen=True)
class Counts:
    """What a counting simulation saw: words per stream, iterations per process, over all frames."""

    streams: dict[str, int]
    processes: dict[str, int]


def run(plan: BuildPlan, frames: np.ndarray, frames_per_call: int | None = None) -> CsimResult:
    """Compile `plan`, send `frames` `[N, H, W, C]` through it and return what comes out.

    `frames_per_call`: frames per start of the accelerator (default: all). FIFOs are unbounded in C
    simulation, so memory grows with it. Raises ToolchainError without g++ or ap_int.h, CsimError
    if a process reads an empty stream or leaves words behind.
    """
    with tempfile.TemporaryDirectory(prefix="mixq_") as scratch:
        return _simulate(plan, frames, Path(scratch), (), frames_per_call)


def compare(graph: Graph, design: Design, frames: np.ndarray) -> Comparison:
    """Simulate `design` and compare every integer of every node with what `graph` computes.

    Nodes that `graph` has not (`hw.lower`) with what the design's own graph computes.
    """
    plan = emit(design)
    with tempfile.TemporaryDirectory(prefix="mixq_") as scratch:
        result = _simulate(plan, frames, Path(scratch), ("MIXQ_TAP",), None)
        got = decode_taps(plan.pipeline, design.graph, Path(scratch))
    got[graph.output.name] = result.outputs
    expected = run_graph(design.graph, frames) | run_graph(graph, frames)
    differing = {name: got[name] != expected[name] for name in got}
    first = next((name for name, wrong in differing.items() if wrong.any()), None)
    return Comparison(
        result,
        sum(wrong.size for wrong in differing.values()),
        sum(int(wrong.sum()) for wrong in differing.values()),
        first and _mismatch(first, got[first], expected[first]),
    )


def count(plan: BuildPlan, frames: np.ndarray) -> Counts:
    """Simulate `plan` and count the words of every stream and the iterations of every process."""
    with tempfile.TemporaryDirectory(prefix="mixq_") as scratch:
        _simulate(plan, frames, Path(scratch), ("MIXQ_COUNT",), None)
        lines = Path(scratch, "counts.txt").read_text().splitlines()
    totals: Counter[tuple[str, str]] = Counter()
    for kind, name, number in map(str.split, lines):
        totals[kind, name] += int(number)
    streams, processes = (
        {name: n for (k, name), n in totals.items() if k == kind} for kind in ("stream", "process")
    )
    return Counts(streams, processes)


def _simulate(
    plan: BuildPlan,
    frames: np.ndarray,
    scratch: Path,
    macros: tuple[str, ...],
    frames_per_call: int | None,
) -> CsimResult:
    """Build and run `plan` in `scratch`, which afterwards holds the logs of `macros` too."""
    beats = pack_frames(plan.pipeline.processes[0], frames)
    started = perf_counter()
    binary = compile_plan(plan, scratch, macros)
    compiled = perf_counter()
    result = run_binary([str(binary)], beats, scratch, frames_per_call)
    outputs = unpack_results(plan.pipeline.processes[-1], result)
    return CsimResult(outputs, compiled - started, perf_counter() - compiled)


def compile_plan(plan: BuildPlan, scratch: Path, macros: tuple[str, ...] = ()) -> Path:
    """Write `plan` to `scratch`/project, compile it with its test bench, return the program."""
    project, binary = scratch / "project", scratch / plan.top
    write(plan, project)
    sources = [project / "src" / "top.cpp", project / "tb" / "testbench.cpp"]
    include = [project / "include", project / "include" / "csim"]
    compile_cpp(sources, binary, include, macros)
    return binary


def run_binary(
    command: list[str], beats: bytes, scratch: Path, frames_per_call: int | None = None
) -> bytes:
    """Run a compiled test bench on `beats` in folder `scratch`; return the beats that come out."""
    Path(scratch, "in.bin").write_bytes(beats)
    limit = [] if frames_per_call is None else [str(frames_per_call)]
    launch([*command, "write", "in.bin", "out.bin", *limit], scratch)
    return Path(scratch, "out.bin").read_bytes()


def launch(command: list[str], folder: Path) -> None:
    """Run `command` in `folder`; raise CsimError with what it printed if it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CsimError(done.stderr.strip() or f"C simulation ended with code {done.returncode}")


def _mismatch(node: str, got: np.ndarray, expected: np.ndarray) -> Mismatch:
    place = tuple(int(index) for index in np.argwhere(got != expected)[0])
    return Mismatch(node, *place, int(expected[place]), int(got[place]))
