# SPDX-License-Identifier: Apache-2.0
"""Training loop: batches gathered on the device, many steps a dispatch, resumable at any step."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from mixq_jax.data.augment import AugmentConfig, augment
from mixq_jax.data.crop import CropConfig, crop
from mixq_jax.data.dacsdc import Dataset
from mixq_jax.data.labelled import Labelled


class DeviceData(NamedTuple):
    """A whole data set in device memory.

    `targets` are boxes (cx, cy, w, h) `[N, 4]`, in units of the frame, or labels `[N]`.
    """

    images: UInt8[Array, "n h w c"]
    targets: Array
    weights: Float[Array, " n"]


class Batch(NamedTuple):
    """One batch: images are float32 holding the bytes 0..255."""

    images: Float[Array, "b h w c"]
    targets: Array
    weights: Float[Array, " b"]


class TrainState(NamedTuple):
    """Everything a step changes. `params` = {"net": ..., "alphas": ...} ("alphas" in a search)."""

    params: dict
    batch_stats: dict
    opt_state: Any
    step: Int[Array, ""]


def variables_of(state: TrainState) -> dict:
    """Return the Flax variables of a state: {"params", "batch_stats"}."""
    return {"params": state.params["net"], "batch_stats": state.batch_stats}


Step = Callable[[TrainState, Batch, Any], tuple[TrainState, Any]]


def to_device(data: Dataset | Labelled) -> DeviceData:
    """Copy a data set to the default device."""
    return DeviceData(*(jnp.asarray(v) for v in (data.images, data.targets, data.weights)))


def take(data: DeviceData, rows: Int[Array, " b"]) -> Batch:
    """Gather a batch and widen its bytes to float32."""
    return Batch(data.images[rows].astype(jnp.float32), data.targets[rows], data.weights[rows])


def augmented(key: PRNGKeyArray, batch: Batch, config: AugmentConfig | CropConfig) -> Batch:
    """Return a changed batch; an image whose box left the frame gets weight 0."""
    match config:
        case AugmentConfig():
            images, boxes, kept = augment(key, batch.images, batch.targets, config)
            return Batch(images, boxes, batch.weights * kept)
        case CropConfig():
            return Batch(crop(key, batch.images, config), batch.targets, batch.weights)


def scan(step: Step) -> Callable:
    """Return jit((state, data, rows `[S, B]`, hyper) -> (state, metrics stacked over S))."""

    def run(state: TrainState, data: DeviceData, rows: Int[Array, "s b"], hyper: Any):
        return jax.lax.scan(lambda s, r: step(s, take(data, r), hyper), state, rows)

    return jax.jit(run, donate_argnums=0)


def batch_rows(count: int, batch: int, seed: int, first: int, steps: int) -> np.ndarray:
    """Return the rows `[steps, batch]` of steps first.. : a new permutation every epoch.

    A pure function of (seed, step), so that a resumed run sees the same batches. The last rows of
    an epoch that do not fill a batch are left out; fewer rows than a batch are repeated.
    """
    batches = max(count // batch, 1)
    rows = np.empty((steps, batch), np.int32)
    for offset in range(steps):
        epoch, position = divmod(first + offset, batches)
        order = np.random.default_rng([seed, epoch]).permutation(max(count, batch)) % count
        rows[offset] = order[position * batch : (position + 1) * batch]
    return rows


def chunks(first: int, last: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, length) pieces of first..last, cut at multiples of `size`."""
    while first < last:
        length = min(size - first % size, last - first)
        yield first, length
        first += length


def train(
    step: Step,
    state: TrainState,
    data: DeviceData,
    hyper: Any,
    *,
    batch: int,
    seed: int,
    steps: int,
    chunk: int,
    observe: Callable[[TrainState, int, Any], None],
) -> TrainState:
    """Run from `state.step` to `steps`; `observe(state, first_step, metrics)` after every chunk.

    Raises FloatingPointError naming the step if the loss stops being finite.
    """
    run = scan(step)
    for first, length in chunks(int(state.step), steps, chunk):
        rows = batch_rows(len(data.images), batch, seed, first, length)
        state, metrics = run(state, data, jnp.asarray(rows), hyper)
        metrics = jax.device_get(metrics)
        finite = np.isfinite(metrics.total)
        if not finite.all():
            raise FloatingPointError(
                f"loss is not finite at step {first + int(finite.argmin())}; "
                "lower the learning rate, lam or the box gain"
            )
        observe(state, first, metrics)
    return state
