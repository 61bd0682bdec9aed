# SPDX-License-Identifier: Apache-2.0
"""C simulation of a project with g++, and its comparison with the integer network."""

import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
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

# Two frames a process, where there are as many: the second meets what the first left behind in
# buffers and counters. Frames of different processes meet a fresh accelerator each.
FRAMES_PER_PROCESS = 2


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


def run(
    plan: BuildPlan,
    frames: np.ndarray,
    frames_per_call: int | None = None,
    workers: int | None = None,
) -> CsimResult:
    """Compile `plan`, send `frames` `[N, H, W, C]` through it and return what comes out.

    `frames_per_call`: frames per start of the accelerator (default: all of a process). FIFOs are
    unbounded in C simulation, so memory grows with it. `workers`: processes that share the frames
    (default: one per core), at least two consecutive frames each. Raises ToolchainError without
    g++ or ap_int.h, CsimError if a process reads an empty stream or leaves words behind.
    """
    with tempfile.TemporaryDirectory(prefix="mixq_") as scratch:
        return _simulate(plan, frames, Path(scratch), (), frames_per_call, workers)[0]


def compare(
    graph: Graph, design: Design, frames: np.ndarray, workers: int | None = None
) -> Comparison:
    """Simulate `design` and compare every integer of every node with what `graph` computes.

    Nodes that `graph` has not (`hw.lower`) with what the design's own graph computes. `workers` as
    for `run`.
    """
    plan = emit(design)
    with tempfile.TemporaryDirectory(prefix="mixq_") as scratch:
        result, folders = _simulate(plan, frames, Path(scratch), ("MIXQ_TAP",), None, workers)
        parts = [decode_taps(plan.pipeline, design.graph, folder) for folder in folders]
    got = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
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
    """Simulate `plan` and count the words of every stream and the iterations of every process.

    All frames go through one start of the accelerator, so that what it does before the first frame
    is counted once.
    """
    with tempfile.TemporaryDirectory(prefix="mixq_") as scratch:
        _, (folder,) = _simulate(plan, frames, Path(scratch), ("MIXQ_COUNT",), None, workers=1)
        return read_counts(folder)


def read_counts(folder: Path) -> Counts:
    """Return what a program compiled with MIXQ_COUNT left in `folder`."""
    lines = Path(folder, "counts.txt").read_text().splitlines()
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
    workers: int | None,
) -> tuple[CsimResult, list[Path]]:
    """Build and run `plan` in `scratch`; return also the folders of its logs, in frame order."""
    beats = pack_frames(plan.pipeline.processes[0], frames)
    shares = split_frames(beats, len(frames), workers)
    folders = [scratch / f"process{index}" for index in range(len(shares))]
    started = perf_counter()
    binary = compile_plan(plan, scratch, macros)
    compiled = perf_counter()
    result = run_binary([str(binary)], shares, folders, frames_per_call)
    outputs = unpack_results(plan.pipeline.processes[-1], result)
    return CsimResult(outputs, compiled - started, perf_counter() - compiled), folders


def split_frames(beats: bytes, frames: int, workers: int | None = None) -> list[bytes]:
    """Cut the beats of `frames` frames into those of at most `workers` processes, in order.

    Their numbers of frames differ by at most one; no process gets fewer than `FRAMES_PER_PROCESS`
    where there are as many. Raises ValueError for fewer than one worker.
    """
    workers = workers if workers is not None else os.cpu_count() or 1
    if workers < 1:
        raise ValueError(f"C simulation got workers={workers}; it needs at least 1")
    processes = max(min(workers, frames // FRAMES_PER_PROCESS), 1)
    frame_bytes = len(beats) // frames
    ends = [frames * process // processes * frame_bytes for process in range(processes + 1)]
    return [beats[first:end] for first, end in pairwise(ends)]


def compile_plan(plan: BuildPlan, scratch: Path, macros: tuple[str, ...] = ()) -> Path:
    """Write `plan` to `scratch`/project, compile it with its test bench, return the program."""
    project, binary = scratch / "project", scratch / plan.top
    write(plan, project)
    sources = [project / "src" / "top.cpp", project / "tb" / "testbench.cpp"]
    include = [project / "include", project / "include" / "csim"]
    compile_cpp(sources, binary, include, macros)
    return binary


def run_binary(
    command: list[str],
    shares: Sequence[bytes],
    folders: Sequence[Path],
    frames_per_call: int | None = None,
) -> bytes:
    """Run a compiled test bench on all `shares` at once, each in a folder of its own.

    Return the beats that come out, share after share. Raises CsimError as `launch` does.
    """
    for folder, beats in zip(folders, shares, strict=True):
        folder.mkdir(exist_ok=True)
        Path(folder, "in.bin").write_bytes(beats)
    limit = [] if frames_per_call is None else [str(frames_per_call)]
    launch([*command, "write", "in.bin", "out.bin", *limit], *folders)
    return b"".join(Path(folder, "out.bin").read_bytes() for folder in folders)


def launch(command: list[str], *folders: Path) -> None:
    """Run `command` in all `folders` at once; raise CsimError with what the first to fail printed.

    "First" in the order of `folders`. No process outlives the call, whatever ends it.
    """
    processes: list[subprocess.Popen] = []
    try:
        for folder in folders:
            processes.append(
                subprocess.Popen(
                    command,
                    cwd=folder,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        for process in processes:
            printed = process.communicate()[1].strip()
            if process.returncode:
                code = process.returncode
                raise CsimError(printed or f"C simulation ended with code {code}")
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stderr.close()


def _mismatch(node: str, got: np.ndarray, expected: np.ndarray) -> Mismatch:
    place = tuple(int(index) for index in np.argwhere(got != expected)[0])
    return Mismatch(node, *place, int(expected[place]), int(got[place]))
