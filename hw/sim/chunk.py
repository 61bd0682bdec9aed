# SPDX-License-Identifier: Apache-2.0
"""Exact times of a chunk: a set of iterations that contains all that its members wait for.

Iteration i of an actor fires at

    t[i] = max(t[i - 1] + 1, tw[n] + lag            for each word n that it reads,
                             tr[n - capacity] + 1   for each word n that it writes)

with tw, tr the times of writes and reads. In slack s[i] = t[i] - i the first term is a running
maximum, so the times of one actor follow from its neighbours' in a few array operations. Repeating
them from below until nothing changes gives the least solution: the schedule of hardware that fires
as soon as it can.
"""

from dataclasses import dataclass

import numpy as np

from hw.sim.actor import Fifo, Network
from hw.sim.demand import Progress, check_reachable, words_in

SUSPICIOUS_SWEEPS = 50  # from here on a chunk is tested for deadlock


@dataclass
class Link:
    """A FIFO within a chunk: the iterations that move words and their times.

    `written`, `read`: words moved before the chunk. `write_times[0]` belongs to word `read`,
    `read_times[0]` to word `oldest`; both go up to the end of the chunk.
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
        """Return the first cycles in which the words that the chunk reads can be read."""
        return self.write_times[: len(self.reads)] + self.fifo.lag

    def vacancies(self) -> np.ndarray:
        """Return the first cycles in which the words that the chunk writes find room."""
        first = self.written - self.fifo.capacity
        free = min(max(-first, 0), len(self.writes))
        room = self.read_times[max(first, 0) - self.oldest :][: len(self.writes) - free]
        return np.concatenate((np.zeros(free, np.int64), room + 1))

    def store_reads(self, times: np.ndarray) -> bool:
        """Keep the times of the chunk's reads; return whether they are new."""
        return _store(self.read_times[self.read - self.oldest :], times)

    def store_writes(self, times: np.ndarray) -> bool:
        """Keep the times of the chunk's writes; return whether they are new."""
        return _store(self.write_times[self.written - self.read :], times)


@dataclass
class Span:
    """An actor within a chunk: iterations [`fired`, `target`).

    `events`: those that move words; `slack`: theirs; `start`: slack of the iteration before.
    `inputs`, `outputs`: neighbouring FIFOs and where in `events` they move words.
    """

    fired: int
    target: int
    start: int
    events: np.ndarray
    slack: np.ndarray
    inputs: tuple[tuple[Link, np.ndarray], ...]
    outputs: tuple[tuple[Link, np.ndarray], ...]

    def fed(self, slack: np.ndarray) -> np.ndarray:
        """Return `slack`, raised to what the words that are read allow."""
        slack = slack.copy()
        for link, slots in self.inputs:
            slack[slots] = np.maximum(slack[slots], link.arrivals() - link.reads)
        return slack

    def time(self, iteration: int) -> int:
        """Return when `iteration` of the chunk fires; slack changes only at events."""
        event = np.searchsorted(self.events, iteration, "right") - 1
        return iteration + int(self.slack[event] if event >= 0 else self.start)


@dataclass
class Chunk:
    """Links and spans, by FIFO and actor, between `progress` and `targets`."""

    network: Network
    progress: Progress
    targets: list[int]
    links: list[Link]
    spans: list[Span]

    def after(self) -> Progress:
        """Return the progress at the end of the chunk."""
        return Progress(
            self.targets,
            [link.written + len(link.writes) for link in self.links],
            [link.read + len(link.reads) for link in self.links],
        )


def cut(
    network: Network,
    progress: Progress,
    targets: list[int],
    slacks: list[int],
    kept: list[tuple[np.ndarray, np.ndarray]],
) -> Chunk:
    """Return the chunk up to `targets`, times yet unknown.

    `slacks` of the last iterations so far; `kept`: times of unread words and of the last
    `capacity` reads, per FIFO.
    """
    links = [_link(network, f, progress, targets, *kept[f]) for f in range(len(network.fifos))]
    spans = [
        _span(network, a, links, slacks[a], progress.fired[a], targets[a])
        for a in range(len(network.actors))
    ]
    return Chunk(network, progress, targets, links, spans)


def settle(chunk: Chunk) -> int:
    """Find the times of `chunk`; return how many sweeps it took. Raise DeadlockError."""
    dirty = {a for a, span in enumerate(chunk.spans) if len(span.events)}
    order, sweeps = range(len(chunk.spans)), 0
    while dirty:
        for a in order:
            if a in dirty:
                dirty.discard(a)
                dirty |= _relax(chunk.spans[a])
        order, sweeps = order[::-1], sweeps + 1
        if sweeps == SUSPICIOUS_SWEEPS:
            check_reachable(chunk.network, chunk.progress, chunk.targets)
    return sweeps


def _relax(span: Span) -> set[int]:
    """Solve one actor's equation; return the neighbours that see other times than before."""
    slack = span.fed(np.full(len(span.events), span.start))
    for link, slots in span.outputs:
        slack[slots] = np.maximum(slack[slots], link.vacancies() - link.writes)
    span.slack = np.maximum.accumulate(slack)
    changed = set()
    for link, slots in span.inputs:
        if link.store_reads(span.slack[slots] + link.reads):
            changed.add(link.fifo.producer)
    for link, slots in span.outputs:
        if link.store_writes(span.slack[slots] + link.writes):
            changed.add(link.fifo.consumer)
    return changed


def _store(place: np.ndarray, times: np.ndarray) -> bool:
    if np.array_equal(place, times):
        return False
    place[:] = times
    return True


def _link(
    network: Network,
    f: int,
    progress: Progress,
    targets: list[int],
    write_times: np.ndarray,
    read_times: np.ndarray,
) -> Link:
    fifo, written, read = network.fifos[f], progress.written[f], progress.read[f]
    spans = [(progress.fired[a], targets[a]) for a in (fifo.producer, fifo.consumer)]
    writes = words_in(fifo.write_at, written, *spans[0])
    reads = words_in(fifo.read_at, read, *spans[1])
    return Link(
        fifo,
        written,
        read,
        read - len(read_times),
        writes,
        reads,
        np.concatenate((write_times, np.zeros_like(writes))),
        np.concatenate((read_times, np.zeros_like(reads))),
    )


def _span(
    network: Network, actor: int, links: list[Link], start: int, fired: int, target: int
) -> Span:
    reads = [(links[f], links[f].reads - fired) for f in network.inputs[actor]]
    writes = [(links[f], links[f].writes - fired) for f in network.outputs[actor]]
    moves = np.zeros(target - fired, bool)
    for _, iterations in reads + writes:
        moves[iterations] = True
    events, slot = fired + np.flatnonzero(moves), np.cumsum(moves) - 1
    return Span(
        fired,
        target,
        start,
        events,
        np.full(len(events), start),
        tuple((link, slot[iterations]) for link, iterations in reads),
        tuple((link, slot[iterations]) for link, iterations in writes),
    )
