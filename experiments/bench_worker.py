# SPDX-License-Identifier: Apache-2.0
"""Both ends of the pipe between the benchmark and a side that it times.

A worker is a process that stays alive: it builds and warms up its search step, says `Ready`, and
then sleeps on its standard input. Each request line {"steps": n} is answered by one `Burst` line;
end of input ends it. So start-up and compilation are never timed, and one side sleeps while the
other runs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO

CHECK_STEPS = (
    3  # compile, warm up, and show by their losses that both sides do the same mathematics
)
SOURCE_ROOT = Path(__file__).resolve().parents[1]


class WorkerError(RuntimeError):
    """A side that cannot be timed; the message names the side, its command and its last words."""


@dataclass(frozen=True)
class Side:
    """What a worker times. `step` runs one search step, waits for its result, returns its loss."""

    versions: dict[str, str]
    threads: int
    step: Callable[[], float]


@dataclass(frozen=True)
class Ready:
    """First line of a worker. `losses`: of its first CHECK_STEPS steps; `cpus`: its CPU numbers."""

    versions: dict[str, str]
    threads: int
    cpus: list[int]
    losses: list[float]


@dataclass(frozen=True)
class Burst:
    """Answer to one request: wall time of each step, CPU time of the worker for all of them."""

    seconds: list[float]
    cpu_seconds: float


@dataclass(frozen=True)
class Pipe:
    """The parent's end: a live process, and the file that takes its standard error."""

    name: str
    process: subprocess.Popen
    log: IO[str]


@dataclass(frozen=True)
class Worker:
    """A side that is ready to be timed, as the parent sees it."""

    name: str
    ready: Ready
    pipe: Pipe


def pin_cpus(count: int) -> list[int]:
    """Confine this process to its first `count` CPUs and return them (Linux).

    Thread pools created later inherit it: it is how XLA's pool, which has no option, is sized.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if not 1 <= count <= len(allowed):
        raise ValueError(f"--threads {count}: this process may use 1 to {len(allowed)} CPUs")
    os.sched_setaffinity(0, allowed[:count])
    return allowed[:count]


def burst(step: Callable[[], float], steps: int) -> Burst:
    """Time `steps` steps after one untimed step that refills the caches the other side emptied."""
    cpu_start = time.process_time()
    step()
    marks = [time.perf_counter()]
    for _ in range(steps):
        step()
        marks.append(time.perf_counter())
    seconds = [after - before for before, after in pairwise(marks)]
    return Burst(seconds, time.process_time() - cpu_start)


def warm_up(side: Side, cpus: list[int]) -> Ready:
    """Run the first CHECK_STEPS steps and describe the side."""
    return Ready(side.versions, side.threads, cpus, [side.step() for _ in range(CHECK_STEPS)])


def serve(side: Side, cpus: list[int], requests: IO[str], replies: IO[str]) -> None:
    """Answer the requests of the parent until they end."""

    def send(message: Ready | Burst) -> None:
        replies.write(json.dumps(asdict(message)) + "\n")
        replies.flush()

    send(warm_up(side, cpus))
    for line in requests:
        send(burst(side.step, json.loads(line)["steps"]))


def worker_main(make_side: Callable[[int], Side], description: str) -> None:
    """Run a side from the command line: `--serve` over the pipe, or `--steps N` on its own.

    `make_side(threads)` builds the side after the process is confined to that many CPUs.
    """
    parser = argparse.ArgumentParser(description=description)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--steps", type=int, help="time N steps and print one JSON line")
    mode.add_argument("--serve", action="store_true", help="obey experiments.bench over the pipe")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    replies = _claim_stdout()
    cpus = pin_cpus(options.threads)
    side = make_side(options.threads)
    if options.serve:
        serve(side, cpus, sys.stdin, replies)
    else:
        record = {**asdict(warm_up(side, cpus)), **asdict(burst(side.step, options.steps))}
        print(json.dumps(record), file=replies)


def _claim_stdout() -> IO[str]:
    """Keep standard output for replies; whatever a library prints goes to standard error."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


@contextmanager
def worker(name: str, command: list[str]) -> Iterator[Worker]:
    """Start `command`, wait until it is ready, yield it, and end it on exit.

    Raises WorkerError when it ends before it is ready.
    """
    with tempfile.TemporaryFile("w+") as log:
        try:
            process = subprocess.Popen(
                command,
                cwd=SOURCE_ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                bufsize=1,
            )
        except OSError as error:
            raise WorkerError(f"{name} side: cannot run '{command[0]}': {error.strerror}") from None
        try:
            pipe = Pipe(name, process, log)
            yield Worker(name, Ready(**_receive(pipe)), pipe)
        finally:
            process.kill()
            process.communicate()


def request(side: Worker, steps: int) -> Burst:
    """Let the worker time `steps` steps; raises WorkerError when it has died."""
    try:
        side.pipe.process.stdin.write(json.dumps({"steps": steps}) + "\n")
    except BrokenPipeError:
        raise _death(side.pipe) from None
    return Burst(**_receive(side.pipe))


def _receive(pipe: Pipe) -> dict:
    line = pipe.process.stdout.readline()
    if not line:
        raise _death(pipe)
    return json.loads(line)


def _death(pipe: Pipe) -> WorkerError:
    code = pipe.process.wait()
    pipe.log.seek(0)
    last_words = pipe.log.read().strip().rpartition("\n")[2] or "no message"
    command = " ".join(pipe.process.args)
    return WorkerError(f"{pipe.name} side ended with code {code} ({command}): {last_words}")
