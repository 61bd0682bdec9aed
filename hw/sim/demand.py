# SPDX-License-Identifier: Apache-2.0
"""Which iterations wait for which: by counts of words alone, without times.

Whether a network of FIFOs stops for ever depends on these counts only, so deadlock is decided here.
"""

from dataclasses import dataclass

import numpy as np

from hw.sim.actor import Network, Schedule


@dataclass
class Progress:
    """Iterations `fired` by each actor, words `written` to and `read` from each FIFO."""

    fired: list[int]
    written: list[int]
    read: list[int]

    def copy(self) -> "Progress":
        return Progress(list(self.fired), list(self.written), list(self.read))


@dataclass(frozen=True)
class Wait:
    """Actor `waiting` cannot go on before actor `awaited` does, because of FIFO `fifo`."""

    waiting: int
    awaited: int
    fifo: int


class DeadlockError(RuntimeError):
    """Actors wait for each other for ever; `actors` and `fifos` name the cycle in order."""

    def __init__(self, network: Network, cycle: list[Wait]):
        self.actors = tuple(network.actors[wait.waiting].name for wait in cycle)
        self.fifos = tuple(network.fifos[wait.fifo].name for wait in cycle)
        super().__init__(
            f"deadlock: {'; '.join(_describe(network, wait) for wait in cycle)}; "
            "deepen a full FIFO of this cycle"
        )


def _describe(network: Network, wait: Wait) -> str:
    fifo = network.fifos[wait.fifo]
    state = "full" if fifo.consumer == wait.awaited else "empty"
    return f"'{network.actors[wait.waiting].name}' finds '{fifo.name}' {state} (depth {fifo.depth})"


def words_in(schedule: Schedule, first: int, start: int, stop: int) -> np.ndarray:
    """Return the iterations in [start, stop) that move a word; word `first` is the next one."""
    iterations = schedule(np.arange(first, first + stop - start))
    return iterations[: np.searchsorted(iterations, stop)]


def demand(network: Network, progress: Progress, driver: int, target: int) -> list[int]:
    """Return the iterations every actor must reach for `driver` to fire `target` iterations.

    Raise DeadlockError if an actor would have to get ahead of what waits for it.
    """
    targets = list(progress.fired)
    targets[driver] = target
    cause: dict[int, Wait] = {}
    pending = [driver]
    while pending:
        actor = pending.pop()
        for wait, needed in _needs(network, progress, actor, targets[actor]):
            if needed > targets[wait.awaited]:
                _check_acyclic(network, cause, wait)
                targets[wait.awaited] = needed
                cause[wait.awaited] = wait
                pending.append(wait.awaited)
    return targets


def check_reachable(network: Network, progress: Progress, targets: list[int]) -> None:
    """Fire, untimed, as far as `targets`; raise DeadlockError if some stay out of reach."""
    now = progress.copy()
    behind = {a for a, target in enumerate(targets) if now.fired[a] < target}
    while behind:
        waits = {actor: _advance(network, now, actor, targets[actor]) for actor in behind}
        if not any(moved for moved, _ in waits.values()):
            raise DeadlockError(network, _cycle({a: wait for a, (_, wait) in waits.items()}))
        behind = {actor for actor in behind if now.fired[actor] < targets[actor]}


def _needs(network: Network, progress: Progress, actor: int, target: int) -> list[tuple[Wait, int]]:
    """Return, for each neighbour of `actor`, the iterations it must fire before `target`."""
    needs, fired = [], progress.fired[actor]
    for f in network.inputs[actor]:
        fifo, first = network.fifos[f], progress.read[f]
        words = first + len(words_in(fifo.read_at, first, fired, target))
        if words > progress.written[f]:
            needs.append((Wait(actor, fifo.producer, f), int(fifo.write_at(words - 1)) + 1))
    for f in network.outputs[actor]:
        fifo, first = network.fifos[f], progress.written[f]
        words = first + len(words_in(fifo.write_at, first, fired, target)) - fifo.capacity
        if words > progress.read[f]:
            needs.append((Wait(actor, fifo.consumer, f), int(fifo.read_at(words - 1)) + 1))
    return needs


def _check_acyclic(network: Network, cause: dict[int, Wait], wait: Wait) -> None:
    path = [wait]
    while path[0].waiting != wait.awaited:
        if path[0].waiting not in cause:
            return
        path.insert(0, cause[path[0].waiting])
    raise DeadlockError(network, path)


def _advance(network: Network, now: Progress, actor: int, target: int) -> tuple[bool, Wait | None]:
    """Fire `actor` until `target` or until it blocks; return whether it moved and what blocks."""
    limit, wait = target, None
    for f in network.inputs[actor]:
        fifo = network.fifos[f]
        if (blocked := int(fifo.read_at(now.written[f]))) < limit:
            limit, wait = blocked, Wait(actor, fifo.producer, f)
    for f in network.outputs[actor]:
        fifo = network.fifos[f]
        if (blocked := int(fifo.write_at(now.read[f] + fifo.capacity))) < limit:
            limit, wait = blocked, Wait(actor, fifo.consumer, f)
    start = now.fired[actor]
    for f in network.inputs[actor]:
        now.read[f] += len(words_in(network.fifos[f].read_at, now.read[f], start, limit))
    for f in network.outputs[actor]:
        now.written[f] += len(words_in(network.fifos[f].write_at, now.written[f], start, limit))
    now.fired[actor] = limit
    return limit > start, wait


def _cycle(waits: dict[int, Wait]) -> list[Wait]:
    """Follow waiting actors until one comes twice; return the waits of that cycle."""
    path = [next(iter(waits.values()))]
    seen = [path[0].waiting]
    while path[-1].awaited not in seen:
        path.append(waits[path[-1].awaited])
        seen.append(path[-1].waiting)
    return path[seen.index(path[-1].awaited) :]
