# SPDX-License-Identifier: Apache-2.0
"""Simulation of a pipeline: interval, latency, and where every cycle and word went."""

from dataclasses import dataclass

from hw.cycles import LATENCY_CYCLES, bottleneck
from hw.pipeline import Pipeline
from hw.sim.actor import network
from hw.sim.engine import run


@dataclass(frozen=True)
class ProcessReport:
    """Cycles of one process; the four add up to the simulated cycles.

    `busy` iterations fired, `input_empty` and `output_full` stalls (a process that lacks both word
    and room counts as input_empty), `finished` from its last observed iteration to the end.
    """

    name: str
    busy_cycles: int
    input_empty_cycles: int
    output_full_cycles: int
    finished_cycles: int


@dataclass(frozen=True)
class FifoReport:
    """Most words ever held by a FIFO of `depth` words and its writer's `latency` registers."""

    name: str
    depth: int
    latency: int
    peak_words: int


@dataclass(frozen=True)
class SimReport:
    """A stream of frames, back to back, of which the first `frames` are observed.

    `interval_cycles`: between the completions of the last two observed frames; `latency_cycles`:
    from the first cycle to the completion of frame 0; `bottleneck`: the process with the most
    iterations per frame (closed form), which sets the interval wherever no FIFO stalls it.
    `completion_cycles`: when the last beat of each frame has left.
    """

    frames: int
    interval_cycles: int
    latency_cycles: int
    fps: float
    bottleneck: str
    cycles: int
    completion_cycles: tuple[int, ...]
    processes: tuple[ProcessReport, ...]
    fifos: tuple[FifoReport, ...]


def simulate(pipeline: Pipeline, frames: int = 3, *, clock_mhz: float) -> SimReport:
    """Return the exact timing of `frames` >= 2 frames under docs/cycles.md.

    The image port never runs dry and the result port never stalls. Raise DeadlockError, naming the
    processes and FIFOs that wait for each other, and ValueError for fewer than two frames.
    """
    if frames < 2:
        raise ValueError(f"simulate got frames={frames}; an interval needs at least 2")
    model = network(pipeline, frames)
    actors, fifos = run(model)
    cycles = max(trace.end for trace in actors)
    lag = 1 + LATENCY_CYCLES[type(pipeline.processes[-1])]
    completions = tuple(time + lag for time in actors[-1].mark_times)
    interval = completions[-1] - completions[-2]
    return SimReport(
        frames,
        interval,
        completions[0],
        clock_mhz * 1e6 / interval,
        bottleneck(pipeline).name,
        cycles,
        completions,
        tuple(
            ProcessReport(
                actor.name,
                actor.observed,
                trace.input_empty_cycles,
                trace.output_full_cycles,
                cycles - trace.end,
            )
            for actor, trace in zip(model.actors, actors, strict=True)
        ),
        tuple(
            FifoReport(fifo.name, fifo.depth, fifo.latency, trace.peak_words)
            for fifo, trace in zip(model.fifos, fifos, strict=True)
        ),
    )
