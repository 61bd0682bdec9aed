# SPDX-License-Identifier: Apache-2.0
"""Training fed from files: images per second of the source, and how long a search waits for it.

Frames are jpg files of 640x360, as in the contest, streamed at 160x320. They are read from the page
cache after the first time, so that a disk slower than the decoding would show only with a set that
does not fit the memory.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from mixq_jax import loop, search
from mixq_jax.data import SyntheticConfig, generate, load
from mixq_jax.data.dacsdc import Dataset
from mixq_jax.data.frames import FrameFiles
from mixq_jax.data.stream import streamed
from mixq_jax.nets.ultranet import ultranet
from mixq_jax.source import DeviceData, Stream, to_device

HEIGHT, WIDTH = 160, 320
BATCH, CHUNK = 8, 5  # of the search; forty frames a chunk
SOURCE_FRAMES = 200  # that are timed as one, of the source alone


@dataclass(frozen=True)
class Fed:
    """A search whose every chunk of steps is timed: `waited` of its `seconds` it had no data.

    `first_waited`: of the first chunk, for which the worker processes start; it is not in the
    others.
    """

    seconds: list[float]
    waited: list[float]
    first_waited: float

    @property
    def fraction(self) -> float:
        """Return the part of the time that was spent waiting."""
        return sum(self.waited) / sum(self.seconds)


@contextmanager
def files_of(folder: Path | None, count: int) -> Iterator[Dataset]:
    """Yield the first `count` frames of `folder`, or generated ones, in their files."""
    with tempfile.TemporaryDirectory() as scratch:
        if folder is None:
            folder = Path(scratch) / "frames"
            config = SyntheticConfig(width=640, height=360, train_frames=count, test_frames=1)
            generate(folder, config, workers=os.cpu_count() or 1)
            yield load(folder, HEIGHT, WIDTH, "train", limit_bytes=0)
        else:
            whole, first = load(folder, HEIGHT, WIDTH, limit_bytes=0), slice(count)
            yield Dataset(whole.images.only(first), whole.boxes[first], whole.weights[first], ())


def source_seconds(
    files: FrameFiles, workers: int, repeats: int, count: int = SOURCE_FRAMES
) -> list[float]:
    """Return the seconds that each of `repeats` times `count` random frames took."""
    rows = np.random.default_rng(0).integers(0, len(files), (repeats + 2, count))
    with streamed(files, rows, workers, lambda images, rows: None) as stream:
        # The first comes with the start of the processes, and the second was begun beside it.
        marks = [time.perf_counter() for _ in stream][1:]
    return [after - before for before, after in pairwise(marks)]


def fed(step: Callable, fresh: Callable, data: DeviceData | Stream, chunks: int) -> Fed:
    """Run `chunks` chunks of a search after one that compiles and fills the pipeline."""
    marks, waited = [], []

    def observe(_, done: loop.Chunk) -> None:
        marks.append(time.perf_counter())
        waited.append(done.waited_seconds)

    loop.train(
        step,
        fresh(),
        data,
        search.Hyper(jnp.ones(1), jnp.float32(1), jnp.float32(1)),
        batch=BATCH,
        seed=0,
        steps=(chunks + 1) * CHUNK,
        chunk=CHUNK,
        observe=observe,
    )
    return Fed([after - before for before, after in pairwise(marks)], waited[1:], waited[0])


def searches(data: Dataset, workers: Sequence[int], chunks: int) -> dict[str, Fed]:
    """Run the same search from memory and from files with each number of workers."""
    spec = ultranet(HEIGHT, WIDTH)
    config = search.SearchConfig(steps=10**6, batch=BATCH)
    step = search.make_step(spec, config, jnp.ones((len(spec.convs), 7, 7, 1), jnp.float32))
    sources = {"memory": to_device(replace(data, images=data.images[:]))}
    for count in workers:
        name = f"files, --workers {count}"
        sources[name] = Stream(data.images, data.targets, data.weights, count)
    return {
        name: fed(step, lambda: search.init_state(spec, config), source, chunks)
        for name, source in sources.items()
    }


def measure(
    data: Path | None, frames: int, workers: Sequence[int], repeats: int, chunks: int
) -> dict:
    """Return the figures of the source alone and of searches, as JSON values."""
    with files_of(data, frames) as read:
        alone = {n: source_seconds(read.images, n, repeats) for n in workers}
        found = searches(read, workers, chunks)
    return {
        "problem": f"UltraNet search, batch {BATCH}, {HEIGHT}x{WIDTH}, {len(read.images)} files",
        "source_frames": SOURCE_FRAMES,
        "source_seconds": {str(n): seconds for n, seconds in alone.items()},
        "chunk_steps": CHUNK,
        "searches": {
            name: {**asdict(one), "waited_fraction": one.fraction} for name, one in found.items()
        },
    }


def table(record: dict) -> str:
    """Render a record as text."""
    lines = [f"{record['problem']}; {record['cpu']}, commit {record['commit']}"]
    lines.append(f"{'images per second':<24}{'n':>4}{'median':>9}{'min':>9}{'max':>9}")
    for workers, seconds in record["source_seconds"].items():
        rates = [record["source_frames"] / one for one in seconds]
        lines.append(_row(f"source, --workers {workers}", rates, ".0f"))
    lines.append(f"{'seconds per step':<24}{'n':>4}{'median':>9}{'min':>9}{'max':>9}   waited")
    for name, one in record["searches"].items():
        steps = [seconds / record["chunk_steps"] for seconds in one["seconds"]]
        first = f"(first chunk {one['first_waited']:.2f} s)"
        lines.append(f"{_row(name, steps, '.4f')}   {one['waited_fraction']:.3%} {first}")
    lines.append(f"load average {record['load_average']:.2f} at the start")
    return "\n".join(lines)


def _row(name: str, values: Sequence[float], form: str) -> str:
    figures = (statistics.median(values), min(values), max(values))
    return f"{name:<24}{len(values):>4}" + "".join(f"{value:>9{form}}" for value in figures)
