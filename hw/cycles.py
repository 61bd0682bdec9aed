# SPDX-License-Identifier: Apache-2.0
"""Closed forms of docs/cycles.md: iterations per frame, and the iteration that moves word n.

Words and iterations count on through all frames of an endless stream of frames.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from hw.intmath import ceil_div
from hw.pipeline import (
    AddStreams,
    Concatenate,
    Fork,
    InputPort,
    MacArray,
    OutputPort,
    PatchBuffer,
    Pipeline,
    Pool,
    Process,
    Requantise,
    SpaceToDepth,
    Window,
)

LATENCY_CYCLES: dict[type, int] = {
    InputPort: 1,  # beat register
    Window: 2,  # block RAM read and its output register
    MacArray: 6,  # three DSP registers, decode, adder tree, accumulator
    Requantise: 4,  # column multiplexer, two multiplier registers, clip
    Pool: 1,  # maximum
    Fork: 1,  # word register
    SpaceToDepth: 2,  # block RAM read and its output register
    PatchBuffer: 2,  # block RAM read and its output register
    Concatenate: 1,  # multiplexer
    AddStreams: 1,  # adder
    OutputPort: 2,  # column multiplexer, bias adder
}
"""Pipeline registers between an iteration and the FIFO it writes; assumed, not synthesised."""

Index = int | np.ndarray


@dataclass(frozen=True)
class ProcessCycles:
    """Iterations, words read and words written by one process in one frame."""

    name: str
    cycles: int
    words_in: int
    words_out: int


@dataclass(frozen=True)
class CycleReport:
    """Closed-form timing of a pipeline whose FIFOs never stall it.

    `interval_cycles`: cycles from frame to frame, set by the process `bottleneck`.
    `latency_bound_cycles`: the first frame cannot leave earlier, counted from its first beat.
    """

    processes: tuple[ProcessCycles, ...]
    interval_cycles: int
    bottleneck: str
    fps: float
    latency_bound_cycles: int


def analyse(pipeline: Pipeline, clock_mhz: float) -> CycleReport:
    """Return the closed-form cycles of every process and what follows for the pipeline."""
    processes = tuple(
        ProcessCycles(
            process.name,
            process_cycles(process),
            sum(stream.tokens for stream in pipeline.inputs(process.name)),
            sum(stream.tokens for stream in pipeline.outputs(process.name)),
        )
        for process in pipeline.processes
    )
    slowest = bottleneck(pipeline)
    interval_cycles = process_cycles(slowest)
    return CycleReport(
        processes,
        interval_cycles,
        slowest.name,
        clock_mhz * 1e6 / interval_cycles,
        _latency_bound(pipeline),
    )


def bottleneck(pipeline: Pipeline) -> Process:
    """Return the process with the most cycles; of several an array, which its window follows."""
    return max(pipeline.processes, key=lambda p: (process_cycles(p), isinstance(p, MacArray)))


def process_cycles(process: Process) -> int:
    """Return the iterations of `process` per frame (its cycles when nothing stalls it)."""
    match process:
        case InputPort(height=H, width=W):
            return H * W
        case Window(height=H):
            return H * max(window_words(process))
        case MacArray(height=H, out_channels=M):
            groups_out = M // (process.pe * process.groups)
            return H * groups_out * process.column_steps * column_step_cycles(process)
        case Requantise(height=H, out_channels=M) | OutputPort(height=H, out_channels=M):
            columns = process.column_steps * process.columns
            return H * (M // process.out_parallel) * columns * lane_steps(process)
        case Pool(height=H, width=W, out_channels=M):
            return H * W * (M // process.parallel)
        case (
            Fork(height=H, width=W, channels=C)
            | SpaceToDepth(height=H, width=W, channels=C)
            | AddStreams(height=H, width=W, channels=C)
        ):
            return H * W * (C // process.parallel)
        case PatchBuffer(height=H, stride=stride):
            return H // stride * max(patch_words(process))
        case Concatenate(height=H):
            return H * sum(concatenated_words(process))


def patch_words(process: PatchBuffer) -> tuple[int, int]:
    """Return (words stored, words sent) per output row."""
    words = process.width * process.channels // process.parallel
    return process.stride * words, words // process.stride * process.kernel**2


def patch_rows(process: PatchBuffer) -> int:
    """Return the rows of the ring: those of a patch, and those that come meanwhile."""
    return process.stride * (patch_lag(process) + 2) + process.padding


def patch_lag(process: PatchBuffer) -> int:
    """Return how many output rows pass between the last row of a patch's own step and its rows.

    Output row y needs input rows up to stride y + kernel - 1 - padding.
    """
    return max(0, ceil_div(process.kernel - process.padding, process.stride) - 1)


def concatenated_words(process: Concatenate) -> tuple[int, int]:
    """Return the words of a row of both streams."""
    W, P = process.width, process.parallel
    return W * process.first_channels // P, W * process.second_channels // P


def block_words(process: SpaceToDepth) -> int:
    """Return the words of a block of rows: so many iterations pass between its two ends."""
    return process.block * process.width * process.channels // process.parallel


def extra_iterations(process: Process) -> int:
    """Return the iterations after the last frame that a process needs to send what it holds."""
    match process:
        case Window():
            return (process.padding + 1) * max(window_words(process))
        case SpaceToDepth():
            return block_words(process)
        case PatchBuffer():
            return (patch_lag(process) + 1) * max(patch_words(process))
        case _:
            return 0


def window_words(window: Window) -> tuple[int, int]:
    """Return (words written into the banks, words read out of them) per phase."""
    write = window.width * window.channels // window.in_parallel
    rows = window.kernel // window.kernel_rows
    steps = window.column_steps * window.word_steps
    groups = 1 if window.depthwise else window.channels // window.simd
    return write, window.groups_out * steps * rows * groups


def reuse_iterations(window: Window) -> int:
    """Return the least iterations between two accesses to a bank, one of them a store.

    After the store of a row's words come their first loads, in the next phase, as the bottom row of
    a window; after their last loads, as its top row, the stores of another row.
    """
    write, read = window_words(window)
    length = max(write, read)
    rows, groups = window.kernel // window.kernel_rows, window.channels // window.simd
    step, group = np.divmod(np.arange(window.column_steps * groups), groups)
    left = np.maximum(step * window.columns - window.padding, 0)
    right = np.minimum(
        step * window.columns + window.columns - 1 - window.padding, window.width - 1
    )
    inside = left <= right  # a step may see nothing but padding
    first_word = group * window.simd // window.in_parallel * window.width + left
    last_word = ((group + 1) * window.simd - 1) // window.in_parallel * window.width + right
    store_at = partial(_spread, length=length, turns=write)
    load_at = partial(_spread, length=length, turns=read)
    if window.depthwise:
        top = (group * window.column_steps + step) * window.word_steps * rows
        bottom, again = top + rows - 1, (window.word_steps - 1) * rows
    else:
        top = step * window.word_steps * rows * groups + group
        bottom, again = top + (rows - 1) * groups, (window.word_steps - 1) * rows * groups
        again += (window.groups_out - 1) * (read // window.groups_out)
    raw = length + load_at(bottom) - store_at(last_word)
    war = length + store_at(first_word) - load_at(again + top)
    return int(np.minimum(raw, war)[inside].min())


def _spread(n: Index, length: int, turns: int) -> Index:
    """Return the iteration of turn `n` of `turns` spread evenly over a phase of `length`."""
    return ((n + 1) * length - 1) // turns


def column_step_cycles(mac: MacArray) -> int:
    """Return the iterations of one column step: word steps x row groups x channel groups."""
    return mac.word_steps * (mac.kernel // mac.kernel_rows) * (mac.in_channels // mac.simd)


def lane_steps(process: Requantise | OutputPort) -> int:
    """Return the iterations that one column of an accumulator word takes."""
    match process:
        case Requantise(out_parallel=parallel, lanes=lanes):
            return parallel // lanes
        case OutputPort(out_parallel=parallel, values_per_beat=values):
            return parallel // values


def read_at(process: Process, n: Index, stream: int = 0) -> Index:
    """Return the iteration in which `process` reads word `n` of an input stream (elementwise)."""
    match process:
        case InputPort(channels=C, pixel_bits=B, port_bits=port):
            pixels = process.height * process.width
            frame, beat = divmod(n, ceil_div(pixels * C * B, port))
            return frame * pixels + beat * port // (C * B)
        case Window():
            write, read = window_words(process)
            length = max(write, read)
            phase, word = divmod(n, write)
            return phase * length + _spread(word, length, write)
        case PatchBuffer():
            write, read = patch_words(process)
            length = max(write, read)
            phase, word = divmod(n, write)
            return phase * length + _spread(word, length, write)
        case Requantise() | OutputPort():
            return n * process.columns * lane_steps(process)
        case MacArray() | Pool() | Fork() | SpaceToDepth() | AddStreams():
            return n
        case Concatenate():
            words = concatenated_words(process)
            row, word = divmod(n, words[stream])
            return row * sum(words) + stream * words[0] + word


def write_at(process: Process, n: Index) -> Index:
    """Return the iteration in which `process` writes word `n` of each of its output streams."""
    match process:
        case InputPort() | Fork() | Concatenate() | AddStreams():
            return n
        case SpaceToDepth():
            return n + block_words(process)
        case Window(padding=p):
            write, read = window_words(process)
            length = max(write, read)
            row, word = divmod(n, read)
            return (row + p + 1) * length + _spread(word, length, read)
        case PatchBuffer():
            write, read = patch_words(process)
            length = max(write, read)
            row, word = divmod(n, read)
            return (row + patch_lag(process) + 1) * length + _spread(word, length, read)
        case MacArray():
            return (n + 1) * column_step_cycles(process) - 1
        case Requantise(width=W, kernel=K):
            group, column = divmod(n, W)
            padded = group * process.column_steps * process.columns + column + K - 1
            return (padded + 1) * lane_steps(process) - 1
        case OutputPort(width=W, kernel=K):
            steps = lane_steps(process)
            group, beat = divmod(n, W * steps)
            return (group * process.column_steps * process.columns + K - 1) * steps + beat
        case Pool(height=H, width=W, out_channels=M, parallel=parallel):
            groups, pairs = M // parallel, W // 2
            row, word = divmod(n, groups * pairs)
            frame, row = divmod(row, H // 2)
            group, column = divmod(word, pairs)
            return ((frame * H + 2 * row + 1) * groups + group) * W + 2 * column + 1


def _latency_bound(pipeline: Pipeline) -> int:
    """Return a bound from two words per stream: the first and the last of frame 0.

    An iteration comes as many cycles after an earlier one of its process as lie between them, and
    latency + 1 cycles after the write of the word that it reads.
    """
    offset: dict[str, int] = {}  # earliest cycle of iteration 0
    last: dict[str, int] = {}  # earliest cycle of the last write of frame 0
    latency = {process.name: LATENCY_CYCLES[type(process)] for process in pipeline.processes}
    first_write = {process.name: write_at(process, 0) for process in pipeline.processes}
    for process in pipeline.processes:
        name = process.name
        end = int(write_at(process, pipeline.outputs(name)[0].tokens - 1))
        starts, ends = [0], [end]
        for port, stream in enumerate(pipeline.inputs(name)):
            if u := stream.producer:
                arrival = 1 + latency[u]
                starts.append(offset[u] + first_write[u] + arrival - read_at(process, 0, port))
                rest = end - int(read_at(process, stream.tokens - 1, port))
                ends.append(last[u] + arrival + rest)
        offset[name] = max(starts)
        last[name] = max(offset[name] + end, *ends)
    return last[name] + 1 + latency[name]
