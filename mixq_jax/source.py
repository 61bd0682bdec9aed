# SPDX-License-Identifier: Apache-2.0
"""Where batches come from: device memory, or files decoded ahead. The same batches from both."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from mixq_jax.data.dacsdc import Dataset
from mixq_jax.data.frames import FrameFiles
from mixq_jax.data.labelled import Labelled
from mixq_jax.data.stream import streamed


class DeviceData(NamedTuple):
    """A data set, or the part of one that some steps use, in device memory.

    `targets` are boxes (cx, cy, w, h) `[N, 4]`, in units of the frame, or labels `[N]`.
    """

    images: UInt8[Array, "n h w c"]
    targets: Array
    weights: Float[Array, " n"]


class Stream(NamedTuple):
    """A data set of which only the labels are in memory; `workers` processes decode the frames."""

    images: FrameFiles
    targets: np.ndarray
    weights: np.ndarray
    workers: int


class Part(NamedTuple):
    """What some steps read: step s has the rows `rows[s]` of `data`."""

    data: DeviceData
    rows: Int[Array, "s b"]


def device_bytes() -> int:
    """Return the memory of the default device: what XLA may use of it, or the host's for a CPU."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics is not None:
        return statistics["bytes_limit"]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def to_device(data: Dataset | Labelled) -> DeviceData:
    """Copy a data set to the default device."""
    return DeviceData(*(jnp.asarray(v) for v in (data.images, data.targets, data.weights)))


def to_source(data: Dataset | Labelled, workers: int) -> DeviceData | Stream:
    """Return what training reads: frames in files as a stream, arrays copied to the device."""
    if isinstance(data.images, FrameFiles):
        return Stream(data.images, data.targets, data.weights, workers)
    return to_device(data)


def batch_rows(count: int, batch: int, seed: int, first: int, steps: int) -> np.ndarray:
    """Return the rows `[steps, batch]` of steps first.. : a new permutation every epoch.

    A pure function of (seed, step), so that a resumed run sees the same batches. The last rows of
    an epoch that do not fill a batch are left out; fewer rows than a batch are repeated.
    """
    batches = max(count // batch, 1)
    rows = np.empty((steps, batch), np.int32)
    shuffled, order = None, None
    for offset in range(steps):
        epoch, position = divmod(first + offset, batches)
        if epoch != shuffled:
            shuffled = epoch
            order = np.random.default_rng([seed, epoch]).permutation(max(count, batch)) % count
        rows[offset] = order[position * batch : (position + 1) * batch]
    return rows


def chunks(first: int, last: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, length) pieces of first..last, cut at multiples of `size`."""
    while first < last:
        length = min(size - first % size, last - first)
        yield first, length
        first += length


@contextmanager
def parts(
    data: DeviceData | Stream, batch: int, seed: int, pieces: Sequence[tuple[int, int]]
) -> Iterator[Iterator[Part]]:
    """Yield an iterator over what each of `pieces` = (first step, steps) reads.

    Of a stream two parts are on the device, the one in use and the next, and one part's images in
    host memory while they are decoded. Raises what `streamed` does.
    """
    orders = (batch_rows(len(data.images), batch, seed, *piece) for piece in pieces)
    match data:
        case DeviceData():
            yield (Part(data, jnp.asarray(rows)) for rows in orders)
        case Stream():
            flat = (rows.ravel() for rows in orders)
            with streamed(data.images, flat, data.workers, _hand_over(data, batch)) as images:
                yield images


def _hand_over(data: Stream, batch: int):
    """Return (images `[S * B]`, their rows) -> Part on the device, when it has arrived there.

    The images are gathered there by the program that gathers them from a whole set: another
    program could round differently.
    """

    def hand_over(images: np.ndarray, rows: np.ndarray) -> Part:
        labels = data.targets[rows], data.weights[rows]
        order = np.arange(len(rows), dtype=np.int32).reshape(-1, batch)
        part = DeviceData(*(jnp.asarray(value) for value in (images, *labels)))
        return jax.block_until_ready(Part(part, jnp.asarray(order)))

    return hand_over
