# SPDX-License-Identifier: Apache-2.0
"""What the engine sees of a pipeline: sequential actors and the bounded FIFOs between them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from hw.cycles import LATENCY_CYCLES, extra_iterations, process_cycles, read_at, write_at
from hw.pipeline import Pipeline, Process

Schedule = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Actor:
    """A loop with initiation interval 1.

    `observed`: its iterations of the observed frames; `marks`: the ones, in order, whose times are
    wanted, here those that write the last word of each frame.
    """

    name: str
    observed: int
    marks: tuple[int, ...]


@dataclass(frozen=True)
class Fifo:
    """FIFO of `depth` words behind the `latency` registers of its writer.

    Word n goes from actor `producer` in iteration `write_at(n)` to actor `consumer` in iteration
    `read_at(n)`, both strictly increasing. `words` belong to the observed frames.
    """

    name: str
    producer: int
    consumer: int
    depth: int
    latency: int
    write_at: Schedule
    read_at: Schedule
    words: int

    @property
    def lag(self) -> int:
        """Cycles from the iteration that writes a word to the first that can read it."""
        return self.latency + 1

    @property
    def capacity(self) -> int:
        """Words that can be under way: word n is written after word n - capacity was read."""
        return self.depth + self.latency


@dataclass(frozen=True)
class Network:
    """Actors in topological order and the FIFOs between them."""

    actors: tuple[Actor, ...]
    fifos: tuple[Fifo, ...]

    @cached_property
    def inputs(self) -> tuple[tuple[int, ...], ...]:
        """FIFOs (indices) that each actor reads."""
        return tuple(
            tuple(f for f, fifo in enumerate(self.fifos) if fifo.consumer == a)
            for a in range(len(self.actors))
        )

    @cached_property
    def outputs(self) -> tuple[tuple[int, ...], ...]:
        """FIFOs (indices) that each actor writes."""
        return tuple(
            tuple(f for f, fifo in enumerate(self.fifos) if fifo.producer == a)
            for a in range(len(self.actors))
        )


def network(pipeline: Pipeline, frames: int) -> Network:
    """Return `pipeline` as the engine sees it, to be observed for `frames` frames.

    The two ports are no FIFOs: an image beat is always there, a result beat always finds room.
    """
    processes = {process.name: process for process in pipeline.processes}
    index = {name: i for i, name in enumerate(processes)}
    fifos = []
    for stream in pipeline.streams:
        if not (stream.producer and stream.consumer):
            continue
        producer, consumer = processes[stream.producer], processes[stream.consumer]
        fifos.append(
            Fifo(
                stream.name,
                index[stream.producer],
                index[stream.consumer],
                stream.depth,
                LATENCY_CYCLES[type(producer)],
                write_at=partial(write_at, producer),
                read_at=partial(
                    read_at, consumer, stream=pipeline.inputs(stream.consumer).index(stream)
                ),
                words=frames * stream.tokens,
            )
        )
    return Network(
        tuple(_actor(process, pipeline, frames) for process in pipeline.processes), tuple(fifos)
    )


def iterations(process: Process, frames: int) -> int:
    """Return the iterations of `process` for `frames` frames, until the last word has left."""
    return frames * process_cycles(process) + extra_iterations(process)


def _actor(process: Process, pipeline: Pipeline, frames: int) -> Actor:
    output = pipeline.outputs(process.name)[0]
    last_words = (frame * output.tokens - 1 for frame in range(1, frames + 1))
    marks = tuple(int(write_at(process, word)) for word in last_words)
    return Actor(process.name, iterations(process, frames), marks)
