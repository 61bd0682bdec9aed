# SPDX-License-Identifier: Apache-2.0
"""Frames decoded ahead of their use by worker processes.

A worker is a process at the other end of a pipe: it reads a few samples, answers with their pixels
and waits. Nobody else holds that pipe, so that either end sees at once that the other is gone: a
worker that was killed is an error and not a wait for ever, and a worker never outlives its parent.
Workers import numpy and Pillow, not JAX.
"""

import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8

from mixq_jax.data.annotations import DataError
from mixq_jax.data.frames import FrameFiles, read_frame
from mixq_jax.data.processes import SPAWN, interrupts_blocked

FRAMES_PER_REQUEST = 8  # tens of milliseconds of work: few messages, and even shares at the end
DEATH_SECONDS = 5.0  # within which a process whose pipe is closed has ended

T = TypeVar("T")


@dataclass(frozen=True)
class Worker:
    """A process that decodes, and this process's end of its pipe."""

    process: SpawnProcess
    pipe: Connection


@contextmanager
def streamed(
    files: FrameFiles,
    orders: Iterable[np.ndarray],
    workers: int,
    hand_over: Callable[[UInt8[np.ndarray, "n h w 3"], np.ndarray], T],
) -> Iterator[Iterator[T]]:
    """Yield an iterator over hand_over(images, rows) for the rows `[n]` of each order.

    While one is used the next is decoded, by `workers` processes, and handed over, by a thread: at
    any time there are at most two. The processes end with the block, however it ends. Raises
    DataError for a frame that cannot be read and for a worker that dies. Workers are fresh
    processes, which import the caller's main module.
    """
    with ExitStack() as stack:
        team = [stack.enter_context(_worker()) for _ in range(workers)]
        thread = stack.enter_context(ThreadPoolExecutor(1))
        stack.callback(_kill, team)  # before the thread is joined: it may be waiting for them

        def make(rows: np.ndarray) -> T:
            return hand_over(_decoded(team, files, rows), rows)

        yield _one_ahead(thread, make, orders)


def _one_ahead(
    thread: ThreadPoolExecutor, make: Callable[[np.ndarray], T], orders: Iterable[np.ndarray]
) -> Iterator[T]:
    orders = iter(orders)
    pending = [thread.submit(make, rows) for rows in islice(orders, 1)]
    while pending:
        made = pending.pop().result()
        pending = [thread.submit(make, rows) for rows in islice(orders, 1)]
        yield made


@contextmanager
def _worker() -> Iterator[Worker]:
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=_serve, args=(theirs,), daemon=True)
    with interrupts_blocked():
        process.start()
    theirs.close()
    try:
        yield Worker(process, ours)
    finally:
        process.kill()  # it holds nothing that a sudden end could harm
        process.join()
        ours.close()


def _kill(team: list[Worker]) -> None:
    for worker in team:
        worker.process.kill()


def _serve(pipe: Connection) -> None:
    """Answer every request for frames: an error or None, then their bytes; end with the pipe."""
    while True:
        try:
            files = pipe.recv()
            images, failure = _read(files)
            pipe.send(failure)
            if failure is None:
                pipe.send_bytes(images.reshape(-1))
        except (EOFError, OSError):
            return


def _read(files: FrameFiles) -> tuple[np.ndarray, DataError | None]:
    """Return the images of all `files`, or what is wrong with one of them."""
    images = np.empty((len(files), files.height, files.width, 3), np.uint8)
    try:
        for image, sample in zip(images, files.samples, strict=True):
            image[:] = read_frame(sample, files.height, files.width)
    except DataError as error:
        return images, error
    return images, None


def _decoded(team: list[Worker], files: FrameFiles, rows: np.ndarray) -> np.ndarray:
    """Return the images of `rows`: requests go to whichever worker is free."""
    images = np.empty((len(rows), files.height, files.width, 3), np.uint8)
    starts = iter(range(0, len(rows), FRAMES_PER_REQUEST))
    asked: dict[Connection, tuple[Worker, slice]] = {}

    def ask(worker: Worker) -> None:
        for start in islice(starts, 1):
            part = slice(start, start + FRAMES_PER_REQUEST)
            with _noticing_death(worker):
                worker.pipe.send(files.only(rows[part]))
            asked[worker.pipe] = worker, part

    for worker in team:
        ask(worker)
    while asked:
        for pipe in wait(list(asked)):
            worker, part = asked.pop(pipe)
            with _noticing_death(worker):
                failure = pipe.recv()
                if failure is None:
                    pipe.recv_bytes_into(images[part].reshape(-1))
            if failure is not None:
                raise failure
            ask(worker)
    return images


@contextmanager
def _noticing_death(worker: Worker) -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError) as error:
        worker.process.join(DEATH_SECONDS)
        code = worker.process.exitcode
        if code is None or code >= 0:
            how = f"ended with code {code}; its message on standard error says why"
        else:
            how = (
                f"was killed by {signal.Signals(-code).name}, as by a system that is out of "
                "memory; free memory or ask for fewer workers"
            )
        raise DataError(f"a process that decodes frames {how}") from error
