# SPDX-License-Identifier: Apache-2.0
"""Run of a network: chunk after chunk in the order of the actors, counting as it goes."""

from dataclasses import dataclass, field

import numpy as np

from hw.intmath import ceil_div
from hw.sim.actor import Actor, Network
from hw.sim.chunk import Link, Span, cut, settle
from hw.sim.demand import Progress, demand

CHUNK_ITERATIONS = 100_000  # of all actors together, to start with
LARGEST_CHUNK, SMALLEST_CHUNK = 400_000, 1_000
FEW_SWEEPS, MANY_SWEEPS = 8, 24  # a chunk grows while it takes few and shrinks when it takes many


@dataclass
class ActorTrace:
    """What is known of an actor: slack of its last iteration, stall cycles, times of its marks.

    `end` is the cycle after its last observed iteration.
    """

    slack: int = 0
    end: int = 0
    input_empty_cycles: int = 0
    output_full_cycles: int = 0
    mark_times: list[int] = field(default_factory=list)


@dataclass
class FifoTrace:
    """What is known of a FIFO: times of unread words and of the last reads, peak occupancy."""

    write_times: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    read_times: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    peak_words: int = 0


def run(
    network: Network, chunk_iterations: int = CHUNK_ITERATIONS
) -> tuple[list[ActorTrace], list[FifoTrace]]:
    """Return the traces of all observed iterations; raise DeadlockError if they cannot all fire.

    The size of the chunks decides how long it takes, never the result.
    """
    actors = [ActorTrace() for _ in network.actors]
    fifos = [FifoTrace() for _ in network.fifos]
    progress = Progress([0] * len(actors), [0] * len(fifos), [0] * len(fifos))
    total = sum(actor.observed for actor in network.actors)
    for driver, actor in enumerate(network.actors):
        while progress.fired[driver] < actor.observed:
            step = ceil_div(actor.observed * chunk_iterations, total)
            target = min(actor.observed, progress.fired[driver] + step)
            targets = demand(network, progress, driver, target)
            progress, sweeps = _run_chunk(network, progress, targets, actors, fifos)
            if sweeps > MANY_SWEEPS:
                chunk_iterations = max(chunk_iterations // 2, SMALLEST_CHUNK)
            elif sweeps <= FEW_SWEEPS:
                chunk_iterations = min(chunk_iterations * 2, LARGEST_CHUNK)
    return actors, fifos


def _run_chunk(
    network: Network,
    progress: Progress,
    targets: list[int],
    actors: list[ActorTrace],
    fifos: list[FifoTrace],
) -> tuple[Progress, int]:
    slacks = [trace.slack for trace in actors]
    kept = [(trace.write_times, trace.read_times) for trace in fifos]
    chunk = cut(network, progress, targets, slacks, kept)
    sweeps = settle(chunk)
    for actor, trace, span in zip(network.actors, actors, chunk.spans, strict=True):
        _count_stalls(actor, trace, span)
    for trace, link in zip(fifos, chunk.links, strict=True):
        _count_words(trace, link)
    return chunk.after(), sweeps


def _count_stalls(actor: Actor, trace: ActorTrace, span: Span) -> None:
    """Add the stalls of observed iterations, by cause, and the times of marks."""
    before = np.concatenate(([span.start], span.slack))[:-1]
    fed = span.fed(before)
    seen = np.searchsorted(span.events, actor.observed)
    trace.input_empty_cycles += int((fed - before)[:seen].sum())
    trace.output_full_cycles += int((span.slack - fed)[:seen].sum())
    trace.slack = span.time(span.target) - span.target
    trace.mark_times += [span.time(m) for m in actor.marks if span.fired <= m < span.target]
    if span.fired < actor.observed <= span.target:
        trace.end = span.time(actor.observed - 1) + 1


def _count_words(trace: FifoTrace, link: Link) -> None:
    """Update the peak with the words whose reads are known now; keep the times still needed."""
    read = link.read + len(link.reads)
    words = np.arange(link.read, min(read, link.fifo.words))
    if len(words):
        gone = np.searchsorted(link.read_times, link.write_times[: len(words)], "right")
        trace.peak_words = max(trace.peak_words, int((words + 1 - link.oldest - gone).max()))
    trace.write_times = link.write_times[len(link.reads) :]
    trace.read_times = link.read_times[max(0, len(link.read_times) - link.fifo.capacity) :]
