# SPDX-License-Identifier: Apache-2.0
"""Exact event times of a network of actors and FIFOs, by chunks of a max-plus fixpoint.

Iteration i of an actor fires at

    t[i] = max(t[i - 1] + 1, tw[n] + lag            for each word n that it reads,
                             tr[n - capacity] + 1   for each word n that it writes)

with tw, tr the times of writes and reads. In slack s[i] = t[i] - i the first term is a running
maximum, so the times of one actor follow from its neighbours' in a few array operations. A chunk
is a set of iterations that contains all that its members wait for (hw/sim/demand.py); repeating
the operations from below until nothing changes gives the least solution, which is the schedule of
hardware that fires as soon as it can.
"""

from dataclasses import dataclass, field

import numpy as np

from hw.intmath import ceil_div
from hw.sim.actor import Fifo, Network
from hw.sim.demand import Progress, check_reachable, demand, words_in

CHUNK_ITERATIONS = 100_000  # of all actors together: more costs repetitions, less costs overhead
SUSPICIOUS_SWEEPS = 50  # from here on a chunk is tested for deadlock

_NONE = np.zeros(0, np.int64)


@dataclass
class ActorTrace:
    """What is kept of an actor: slack of its last iteration, stall cycles, times of its marks.

    `end` is the cycle after its last observed iteration.
    """

    slack: int = 0
    end: int = 0
    input_empty_cycles: int = 0
    output_full_cycles: int = 0
    mark_times: list[int] = field(default_factory=list)


@dataclass
class FifoTrace:
    """What is kept of a FIFO: times of unread words, of the last reads, and its peak occupancy."""

    write_times: np.ndarray = field(default_factory=_NONE.copy)
    read_times: np.ndarray = field(default_factory=_NONE.copy)
    peak_words: int = 0


@dataclass
class _Link:
    """A FIFO within a chunk: iterations that move words, and times.

    `write_times[0]` belongs to word `read`, `read_times[0]` to word `oldest`; `written` and `read`
    count the words before the chunk.
    """

    fifo: Fifo
    written: int
    read: int
    oldest: int
    writes: np.ndarray
    reads: np.ndarray
    write_times: np.ndarray
    read_times: np.ndarray

    def arrivals(self) -> np.ndarray:
        """First cycles in which the words that the chunk reads can be read."""
        return self.write_times[: len(self.reads)] + self.fifo.lag

    def vacancies(self) -> np.ndarray:
        """First cycles in which the words that the chunk writes find room (0 = always did)."""
        first = self.written - self.fifo.capacity
        free = min(max(-first, 0), len(self.writes))
        room = self.read_times[max(first, 0) - self.oldest :][: len(self.writes) - free]
        return np.concatenate((np.zeros(free, np.int64), room + 1))

    def store_reads(self, times: np.ndarray) -> bool:
        return _store(self.read_times[self.read - self.oldest :], times)

    def store_writes(self, times: np.ndarray) -> bool:
        return _store(self.write_times[self.written - self.read :], times)


@dataclass
class _Span:
    """An actor within a chunk: its `events` (iterations that move words) and their slack.

    `slots` gives, per neighbouring FIFO, where that FIFO's iterations lie in `events`.
    """

    events: np.ndarray
    slack: np.ndarray
    inputs: list[tuple[int, np.ndarray]]
    outputs: list[tuple[int, np.ndarray]]
    start: int


def run(
    network: Network, chunk_iterations: int = CHUNK_ITERATIONS
) -> tuple[list[ActorTrace], list[FifoTrace]]:
    """Return the traces of all observed iterations; raise DeadlockError if they cannot all fire."""
    actors = [ActorTrace() for _ in network.actors]
    fifos = [FifoTrace() for _ in network.fifos]
    progress = Progress([0] * len(actors), [0] * len(fifos), [0] * len(fifos))
    chunks = ceil_div(sum(actor.observed for actor in network.actors), chunk_iterations)
    for driver, actor in enumerate(network.actors):
        step = ceil_div(actor.observed, chunks)
        while progress.fired[driver] < actor.observed:
            target = min(actor.observed, progress.fired[driver] + step)
            targets = demand(network, progress, driver, target)
            progress = _run_chunk(network, progress, targets, actors, fifos)
    return actors, fifos


def _run_chunk(network, progress, targets, actors, fifos) -> Progress:
    links = [_link(network.fifos[f], f, progress, targets, fifos[f]) for f in range(len(fifos))]
    spans = [
        _span(network, a, links, actors[a].slack, progress.fired[a], targets[a])
        for a in range(len(actors))
    ]
    _settle(network, progress, targets, links, spans)
    for actor, trace, span, fired, target in zip(
        network.actors, actors, spans, progress.fired, targets, strict=True
    ):
        _count(actor, trace, span, links, fired, target)
    for trace, link in zip(fifos, links, strict=True):
        _keep(trace, link)
    return Progress(
        targets,
        [link.written + len(link.writes) for link in links],
        [link.read + len(link.reads) for link in links],
    )


def _settle(network, progress, targets, links, spans) -> None:
    """Repeat the actors' equations, downstream and upstream in turn, until nothing changes."""
    dirty = {a for a, span in enumerate(spans) if len(span.events)}
    order, sweeps = range(len(spans)), 0
    while dirty:
        for a in order:
            if a in dirty:
                dirty.discard(a)
                dirty |= _relax(spans[a], links)
        order, sweeps = order[::-1], sweeps + 1
        if sweeps == SUSPICIOUS_SWEEPS:
            check_reachable(network, progress, targets)


def _relax(span: _Span, links: list[_Link]) -> set[int]:
    """Solve one actor's equation; return the neighbours that see other times than before."""
    slack = np.full(len(span.events), span.start)
    for f, slots in span.inputs:
        slack[slots] = np.maximum(slack[slots], links[f].arrivals() - links[f].reads)
    for f, slots in span.outputs:
        slack[slots] = np.maximum(slack[slots], links[f].vacancies() - links[f].writes)
    span.slack = np.maximum.accumulate(slack)
    changed = set()
    for f, slots in span.inputs:
        if links[f].store_reads(span.slack[slots] + links[f].reads):
            changed.add(links[f].fifo.producer)
    for f, slots in span.outputs:
        if links[f].store_writes(span.slack[slots] + links[f].writes):
            changed.add(links[f].fifo.consumer)
    return changed


def _store(place: np.ndarray, times: np.ndarray) -> bool:
    if np.array_equal(place, times):
        return False
    place[:] = times
    return True


def _link(fifo: Fifo, f: int, progress: Progress, targets: list[int], trace: FifoTrace) -> _Link:
    written, read = progress.written[f], progress.read[f]
    fired = progress.fired
    writes = words_in(fifo.write_at, written, fired[fifo.producer], targets[fifo.producer])
    reads = words_in(fifo.read_at, read, fired[fifo.consumer], targets[fifo.consumer])
    return _Link(
        fifo,
        written,
        read,
        read - len(trace.read_times),
        writes,
        reads,
        np.concatenate((trace.write_times, np.zeros_like(writes))),
        np.concatenate((trace.read_times, np.zeros_like(reads))),
    )


def _span(
    network: Network, actor: int, links: list[_Link], start: int, fired: int, target: int
) -> _Span:
    reads = [(f, links[f].reads - fired) for f in network.inputs[actor]]
    writes = [(f, links[f].writes - fired) for f in network.outputs[actor]]
    moves = np.zeros(target - fired, bool)
    for _, iterations in reads + writes:
        moves[iterations] = True
    slot = np.cumsum(moves) - 1
    return _Span(
        fired + np.flatnonzero(moves),
        np.full(slot[-1] + 1 if len(slot) else 0, start),
        [(f, slot[iterations]) for f, iterations in reads],
        [(f, slot[iterations]) for f, iterations in writes],
        start,
    )


def _count(actor, trace: ActorTrace, span: _Span, links, fired: int, target: int) -> None:
    """Add the stalls of the observed iterations, by cause, and the times of marks."""
    before = np.concatenate(([span.start], span.slack[:-1]))[: len(span.events)]
    starved = before.copy()
    for f, slots in span.inputs:
        starved[slots] = np.maximum(starved[slots], links[f].arrivals() - links[f].reads)
    seen = np.searchsorted(span.events, actor.observed)
    trace.input_empty_cycles += int((starved - before)[:seen].sum())
    trace.output_full_cycles += int((span.slack - starved)[:seen].sum())
    trace.mark_times += [_time(span, mark) for mark in actor.marks if fired <= mark < target]
    if fired < actor.observed <= target:
        trace.end = _time(span, actor.observed - 1) + 1
    trace.slack = int(span.slack[-1]) if len(span.events) else span.start


def _time(span: _Span, iteration: int) -> int:
    """Return when `iteration` of the chunk fires; slack changes only at events."""
    event = np.searchsorted(span.events, iteration, "right") - 1
    return iteration + int(span.slack[event] if event >= 0 else span.start)


def _keep(trace: FifoTrace, link: _Link) -> None:
    """Update the peak with the words whose reads are known now; keep the times still needed."""
    read = link.read + len(link.reads)
    words = np.arange(link.read, min(read, link.fifo.words))
    if len(words):
        gone = np.searchsorted(link.read_times, link.write_times[: len(words)], "right")
        trace.peak_words = max(trace.peak_words, int((words + 1 - link.oldest - gone).max()))
    trace.write_times = link.write_times[len(link.reads) :]
    trace.read_times = link.read_times[-min(link.fifo.capacity, read) :] if read else _NONE
