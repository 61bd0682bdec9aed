# SPDX-License-Identifier: Apache-2.0
"""The simulator equals a model that ticks through every cycle, on random chains and networks."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.cycles import LATENCY_CYCLES, analyse
from hw.dataflow import build
from hw.design import Design
from hw.device import device
from hw.dse import optimise
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
from hw.sim import DeadlockError, FifoReport, ProcessReport, SimReport, simulate
from hw.sim.actor import Actor, Fifo, Network, network
from hw.sim.engine import run
from tests.strategies import branched_graph, chain_design, shape_graph, ultranet_shape

CLOCK_MHZ = 250.0
# Reads (its inputs, or of several these), writes, is the last of its frame.
Iteration = tuple[bool | set[int], bool, bool]


def iterations(process: Process) -> Iterator[Iteration]:
    """Walk through docs/cycles.md loop by loop, without the closed forms under test."""
    for frame in count():
        last_row = process.height - 1
        match process:
            case InputPort(height=H, width=W, channels=C, pixel_bits=B, port_bits=port):
                for i in range(H * W):
                    beats = -(-(i + 1) * C * B // port) > -(-i * C * B // port)
                    yield beats, True, i == H * W - 1
            case Window():
                yield from window_phases(process, frame)
            case MacArray():
                steps = [
                    (word, rows, channels)
                    for word in range(process.word_steps)
                    for rows in range(process.kernel // process.kernel_rows)
                    for channels in range(process.in_channels // process.simd)
                ]
                groups = process.out_channels // (process.pe * process.groups)
                for row in range(process.height):
                    for group in range(groups):
                        for column in range(process.column_steps):
                            for step in steps:
                                done = step == steps[-1]
                                ends = (row, group, column) == (
                                    last_row,
                                    groups - 1,
                                    process.column_steps - 1,
                                )
                                yield True, done, done and ends
            case Requantise(lanes=lanes) | OutputPort(values_per_beat=lanes):
                parts = process.out_parallel // lanes
                groups = process.out_channels // process.out_parallel
                columns = process.column_steps * process.columns
                first = process.kernel - 1
                for row in range(process.height):
                    for group in range(groups):
                        for i in range(columns):
                            for part in range(parts):
                                reads = i % process.columns == 0 and part == 0
                                valid = first <= i < first + process.width
                                whole = isinstance(process, OutputPort) or part == parts - 1
                                ends = (row, group, i, part) == (
                                    last_row,
                                    groups - 1,
                                    columns - 1,
                                    parts - 1,
                                )
                                yield reads, valid and whole, ends
            case Pool(height=H, width=W):
                groups = process.out_channels // process.parallel
                for row in range(H):
                    for group in range(groups):
                        for column in range(W):
                            writes = row % 2 == 1 and column % 2 == 1
                            ends = (row, group, column) == (H - 1, groups - 1, W - 1)
                            yield True, writes, ends

            case (
                Fork(height=H, width=W, channels=C, parallel=P)
                | AddStreams(height=H, width=W, channels=C, parallel=P)
            ):
                for i in range(H * W * C // P):
                    yield True, True, i == H * W * C // P - 1
            case SpaceToDepth(width=W, channels=C, parallel=P, block=block):
                block_words, words = block * W * C // P, process.height * W * C // P
                first = 0 if frame == 0 else frame * words + block_words
                end = (frame + 1) * words + block_words
                for i in range(first, end):
                    yield True, i >= block_words, i == end - 1
            case PatchBuffer():
                yield from patch_phases(process, frame)
            case Concatenate(height=H, width=W, parallel=P):
                first = W * process.first_channels // P
                words = first + W * process.second_channels // P
                for row in range(H):
                    for i in range(words):
                        yield {int(i >= first)}, True, (row, i) == (H - 1, words - 1)


def patch_phases(process: PatchBuffer, frame: int) -> Iterator[Iteration]:
    """Phases of an endless stream, one an output row; all rows of a patch have come before it."""
    s, K, p = process.stride, process.kernel, process.padding
    rows, words = process.height // s, process.width * process.channels // process.parallel
    write, read = s * words, words // s * K * K
    length = max(write, read)
    late = next(lag for lag in range(9) if (lag + 1) * s >= K - p)  # phases until the last row
    first = 0 if frame == 0 else frame * rows + late + 1
    for j in range(first, (frame + 1) * rows + late + 1):
        for t in range(length):
            reads = (t + 1) * write // length > t * write // length
            writes = (t + 1) * read // length > t * read // length
            ends = j == (frame + 1) * rows + late and t == length - 1
            yield reads, j >= late + 1 and writes, ends


def window_phases(window: Window, frame: int) -> Iterator[Iteration]:
    """Phases j of an endless stream; frame f ends with phase (f + 1) H + p."""
    H, p = window.height, window.padding
    write = window.width * window.channels // window.in_parallel
    rows = window.kernel // window.kernel_rows
    steps = window.groups_out * window.column_steps * window.word_steps
    read = steps * rows * (1 if window.depthwise else window.channels // window.simd)
    length = max(write, read)
    first = 0 if frame == 0 else frame * H + p + 1
    for j in range(first, (frame + 1) * H + p + 1):
        for t in range(length):
            reads = (t + 1) * write // length > t * write // length
            ends = j == (frame + 1) * H + p and t == length - 1
            writes = (t + 1) * read // length > t * read // length
            yield reads, j >= p + 1 and writes, ends


class Stuck(Exception):  # noqa: N818 - an outcome, not an error
    """The tick model has come to a stop."""


@dataclass
class TickFifo:
    depth: int
    latency: int
    words: int
    write_times: list[int] = field(default_factory=list)
    read_times: list[int] = field(default_factory=list)
    peak_words: int = 0

    def has_word(self, cycle: int) -> bool:
        n = len(self.read_times)
        return len(self.write_times) > n and self.write_times[n] + 1 + self.latency <= cycle

    def has_room(self, cycle: int) -> bool:
        n = len(self.write_times) - (self.depth + self.latency)
        return n < 0 or (len(self.read_times) > n and self.read_times[n] < cycle)

    def end_cycle(self, cycle: int) -> None:
        wrote = bool(self.write_times) and self.write_times[-1] == cycle
        if wrote and len(self.write_times) <= self.words:
            held = len(self.write_times) - len(self.read_times)
            self.peak_words = max(self.peak_words, held)


@dataclass
class TickActor:
    program: Iterator[tuple[list[TickFifo], list[TickFifo], bool]]
    frames: int
    busy: int = 0
    input_empty: int = 0
    output_full: int = 0
    mark_times: list[int] = field(default_factory=list)

    def __post_init__(self):
        self.current = next(self.program)

    @property
    def finished(self) -> bool:
        return len(self.mark_times) == self.frames

    def tick(self, cycle: int) -> bool:
        reads, writes, last = self.current
        observed = not self.finished
        if not all(fifo.has_word(cycle) for fifo in reads):
            self.input_empty += observed
            return False
        if not all(fifo.has_room(cycle) for fifo in writes):
            self.output_full += observed
            return False
        for fifo in reads:
            fifo.read_times.append(cycle)
        for fifo in writes:
            fifo.write_times.append(cycle)
        self.busy += observed
        if last and observed:
            self.mark_times.append(cycle)
        self.current = next(self.program)
        return True


def tick_through(actors: list[TickActor], fifos: list[TickFifo]) -> None:
    """Tick until every actor has finished; raise Stuck when nothing moves any more."""
    idle, patience = 0, 2 + max((fifo.latency for fifo in fifos), default=0)
    for cycle in count():
        moved = [actor.tick(cycle) for actor in actors]
        for fifo in fifos:
            fifo.end_cycle(cycle)
        idle = 0 if any(moved) else idle + 1
        if idle > patience:
            raise Stuck
        if all(actor.finished for actor in actors):
            return


def tick_simulate(pipeline: Pipeline, frames: int) -> SimReport:
    """Return what `simulate` must return."""
    latency = {process.name: LATENCY_CYCLES[type(process)] for process in pipeline.processes}
    fifos = {
        stream.name: TickFifo(stream.depth, latency[stream.producer], frames * stream.tokens)
        for stream in pipeline.streams
        if stream.producer and stream.consumer
    }

    sink = TickFifo(10**9, latency[pipeline.processes[-1].name], 0)

    def program(process: Process) -> Iterator:
        reads_from = [fifos[s.name] for s in pipeline.inputs(process.name) if s.name in fifos]
        writes_to = [fifos.get(s.name, sink) for s in pipeline.outputs(process.name)]
        for reads, writes, last in iterations(process):
            taken = reads_from if reads else []
            if isinstance(reads, set):
                taken = [reads_from[port] for port in reads]
            yield taken, writes_to if writes else [], last

    actors = [TickActor(program(process), frames) for process in pipeline.processes]
    tick_through(actors, list(fifos.values()))
    end = max(actor.mark_times[-1] + 1 for actor in actors)
    beats = pipeline.streams[-1].tokens
    last_beats = sink.write_times[beats - 1 : frames * beats : beats]
    completions = tuple(time + 1 + sink.latency for time in last_beats)
    interval = completions[-1] - completions[-2]
    return SimReport(
        frames,
        interval,
        completions[0],
        CLOCK_MHZ * 1e6 / interval,
        analyse(pipeline, CLOCK_MHZ).bottleneck,
        end,
        completions,
        tuple(
            ProcessReport(
                process.name,
                actor.busy,
                actor.input_empty,
                actor.output_full,
                end - actor.mark_times[-1] - 1,
            )
            for process, actor in zip(pipeline.processes, actors, strict=True)
        ),
        tuple(
            FifoReport(name, fifo.depth, fifo.latency, fifo.peak_words)
            for name, fifo in fifos.items()
        ),
    )


@settings(max_examples=60)
@given(chain_design(), st.integers(2, 4), st.data())
def test_simulate_equals_tick_model(design, frames, data):
    pipeline = build(data.draw(st.sampled_from((design, with_random_depths(design, data)))))
    try:
        report = simulate(pipeline, frames, clock_mhz=CLOCK_MHZ)
    except DeadlockError:  # short FIFOs before a concatenation
        assert any(isinstance(process, Concatenate) for process in pipeline.processes)
        with pytest.raises(Stuck):
            tick_simulate(pipeline, frames)
    else:
        assert report == tick_simulate(pipeline, frames)


@settings(max_examples=45)
@given(chain_design(branched_graph()))
def test_default_depths_hold_what_one_branch_is_ahead(design):
    pipeline = build(design)
    interval = simulate(pipeline, 4, clock_mhz=CLOCK_MHZ).interval_cycles
    endless = tuple((f.name, 100_000) for f in pipeline.streams if f.producer and f.consumer)
    deep = build(replace(design, fifo_depths=endless))
    assert interval == simulate(deep, 4, clock_mhz=CLOCK_MHZ).interval_cycles


@given(chain_design(shape_graph()), st.data())
def test_simulation_keeps_to_the_bounds(design, data):
    pipeline = build(with_random_depths(design, data))
    report, bounds = simulate(pipeline, clock_mhz=CLOCK_MHZ), analyse(pipeline, CLOCK_MHZ)
    assert report.latency_cycles >= bounds.latency_bound_cycles
    assert report.interval_cycles >= bounds.interval_cycles
    for process in report.processes:
        stalls = process.input_empty_cycles + process.output_full_cycles
        assert process.busy_cycles + stalls + process.finished_cycles == report.cycles
    assert all(1 <= fifo.peak_words <= fifo.depth + fifo.latency for fifo in report.fifos)


def with_random_depths(design: Design, data: st.DataObject) -> Design:
    fifos = [stream for stream in build(design).streams if stream.producer and stream.consumer]
    depths = data.draw(st.lists(st.integers(2, 9), min_size=len(fifos), max_size=len(fifos)))
    return replace(
        design, fifo_depths=tuple((f.name, d) for f, d in zip(fifos, depths, strict=True))
    )


@dataclass(frozen=True)
class Pattern:
    """Word n moves in iteration (n // k + lag) period + positions[n % k], k = len(positions)."""

    period: int
    lag: int
    positions: tuple[int, ...]

    def at(self, n):
        frame, word = np.divmod(n, len(self.positions))
        return (frame + self.lag) * self.period + np.array(self.positions)[word]

    def moves(self, iteration: int) -> bool:
        return iteration >= self.lag * self.period and iteration % self.period in self.positions


FORK_JOIN = (("fork", "left"), ("fork", "right"), ("left", "join"), ("right", "join"))
FORK_JOIN_ACTORS = ("fork", "left", "right", "join")


@st.composite
def fork_join(draw) -> Network:
    """Two ways from `fork` to `join`; either may need several frames before it hands one on."""
    words, frames = draw(st.integers(1, 4)), 3
    periods = {name: draw(st.integers(words, words + 4)) for name in FORK_JOIN_ACTORS}
    lags = {"left": draw(st.integers(0, 2)), "right": draw(st.integers(0, 2))}

    def pattern(name: str, lag: int) -> Pattern:
        positions = draw(st.permutations(range(periods[name])))[:words]
        return Pattern(periods[name], lag, tuple(sorted(positions)))

    fifos = []
    for producer, consumer in FORK_JOIN:
        write, read = pattern(producer, lags.get(producer, 0)), pattern(consumer, 0)
        fifos.append(
            Fifo(
                f"{producer}_to_{consumer}",
                FORK_JOIN_ACTORS.index(producer),
                FORK_JOIN_ACTORS.index(consumer),
                depth=draw(st.integers(1, 9)),
                latency=draw(st.integers(0, 3)),
                write_at=write.at,
                read_at=read.at,
                words=frames * words,
            )
        )
    actors = []
    for name in FORK_JOIN_ACTORS:
        lag, period = lags.get(name, 0), periods[name]
        ends = tuple((frame + lag) * period - 1 for frame in range(1, frames + 1))
        actors.append(Actor(name, ends[-1] + 1, ends))
    return Network(tuple(actors), tuple(fifos))


def tick_network(network: Network) -> tuple[list[TickActor], list[TickFifo]]:
    """Return the tick model of `network` after all observed iterations; raise Stuck."""
    fifos = [TickFifo(fifo.depth, fifo.latency, fifo.words) for fifo in network.fifos]
    patterns = [(fifo.write_at.__self__, fifo.read_at.__self__) for fifo in network.fifos]

    def program(index: int) -> Iterator:
        for i in count():
            reads = [fifos[f] for f in network.inputs[index] if patterns[f][1].moves(i)]
            writes = [fifos[f] for f in network.outputs[index] if patterns[f][0].moves(i)]
            yield reads, writes, i in network.actors[index].marks

    actors = [TickActor(program(a), len(actor.marks)) for a, actor in enumerate(network.actors)]
    tick_through(actors, fifos)
    return actors, fifos


@settings(max_examples=200)
@given(fork_join(), st.integers(1, 60))
def test_engine_equals_tick_model_on_fork_and_join(network, chunk_iterations):
    try:
        ticked = tick_network(network)
    except Stuck:
        with pytest.raises(DeadlockError, match=r"deadlock: .* full"):
            run(network, chunk_iterations)
        return
    actors, fifos = run(network, chunk_iterations)
    for trace, tick in zip(actors, ticked[0], strict=True):
        assert trace.mark_times == tick.mark_times
        assert trace.input_empty_cycles == tick.input_empty
        assert trace.output_full_cycles == tick.output_full
    assert [trace.peak_words for trace in fifos] == [tick.peak_words for tick in ticked[1]]


def fork_and_late_join(depth: int) -> Network:
    """`late` hands on its first word after four; the short way must hold four words meanwhile."""
    straight, late = Pattern(1, 0, (0,)), Pattern(1, 4, (0,))
    fifos = (
        Fifo("long", 0, 1, 2, 0, straight.at, straight.at, 10),
        Fifo("delayed", 1, 2, 2, 0, late.at, straight.at, 10),
        Fifo("short", 0, 2, depth, 0, straight.at, straight.at, 10),
    )
    actors = (Actor("fork", 10, (9,)), Actor("late", 14, (13,)), Actor("join", 10, (9,)))
    return Network(actors, fifos)


def test_deadlock_names_the_fifo_that_is_too_short():
    message = (
        r"deadlock: 'fork' finds 'short' full \(depth 4\); 'join' finds 'delayed' empty .depth 2.; "
        r"'late' finds 'long' empty .depth 2.; deepen a full FIFO of this cycle"
    )
    with pytest.raises(DeadlockError, match=message) as caught:
        run(fork_and_late_join(4))
    assert caught.value.actors == ("fork", "join", "late")
    assert caught.value.fifos == ("short", "delayed", "long")


def test_one_more_word_resolves_the_deadlock():
    """Word 4 leaves `fork` in cycle 4, word 0 is joined in 6, then the ring takes 3 a word."""
    actors, fifos = run(fork_and_late_join(5))
    assert actors[2].mark_times == [6 + 9 * 3]
    assert fifos[2].peak_words == 5


@given(chain_design(shape_graph()), st.integers(1, 400), st.data())
def test_chunks_do_not_change_the_result(design, chunk_iterations, data):
    model = network(build(with_random_depths(design, data)), 3)
    coarse, fine = run(model), run(model, chunk_iterations)
    assert [vars(trace) for trace in coarse[0]] == [vars(trace) for trace in fine[0]]
    assert [fifo.peak_words for fifo in coarse[1]] == [fifo.peak_words for fifo in fine[1]]


@cache
def fast_ultranet(height: int, width: int) -> Design:
    return optimise(ultranet_shape(height, width), device("xczu3eg"))


@pytest.mark.parametrize(
    ("height", "width"), [(40, 80), pytest.param(160, 320, marks=pytest.mark.slow)]
)
def test_ultranet_runs_at_the_interval_of_its_slowest_process(height, width):
    pipeline = build(fast_ultranet(height, width))
    report, bounds = simulate(pipeline, clock_mhz=CLOCK_MHZ), analyse(pipeline, CLOCK_MHZ)
    assert report.interval_cycles == bounds.interval_cycles
    assert report.bottleneck == bounds.bottleneck
    assert report.fps == bounds.fps
    assert 1 <= report.latency_cycles / bounds.latency_bound_cycles < 1.2
    assert len(report.completion_cycles) == 3


def test_shallow_fifos_cost_throughput():
    design = fast_ultranet(40, 80)
    fifos = [stream.name for stream in build(design).streams[1:-1]]
    shallow = replace(design, fifo_depths=tuple((name, 2) for name in fifos))
    deep, short = (simulate(build(d), clock_mhz=CLOCK_MHZ) for d in (design, shallow))
    assert short.interval_cycles > deep.interval_cycles
    stalls = {process.name: process.output_full_cycles for process in short.processes}
    assert stalls["input"] > 0


def test_an_interval_needs_two_frames():
    design = fast_ultranet(40, 80)
    with pytest.raises(ValueError, match="simulate got frames=1; an interval needs at least 2"):
        simulate(build(design), 1, clock_mhz=CLOCK_MHZ)
