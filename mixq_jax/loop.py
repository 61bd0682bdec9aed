# SPDX-License-Identifier: Apache-2.0
"""Training loop: batches gathered on the device, many steps a dispatch, resumable at any step."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from mixq_jax.data.augment import AugmentConfig, augment
from mixq_jax.data.crop import CropConfig, crop
from mixq_jax.source import DeviceData, Stream, chunks, parts


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


class Chunk(NamedTuple):
    """Some steps that were run: the first one's number, their metrics stacked.

    `waited_seconds` is how long they waited for their data, with nothing for the device to do.
    """

    first: int
    metrics: Any
    waited_seconds: float


def train(
    step: Step,
    state: TrainState,
    data: DeviceData | Stream,
    hyper: Any,
    *,
    batch: int,
    seed: int,
    steps: int,
    chunk: int,
    observe: Callable[[TrainState, Chunk], None],
) -> TrainState:
    """Run from `state.step` to `steps`; `observe(state, done)` after every chunk.

    Raises FloatingPointError naming the step if the loss stops being finite.
    """
    run, pieces = scan(step), list(chunks(int(state.step), steps, chunk))
    with parts(data, batch, seed, pieces) as arriving:
        for first, _ in pieces:
            started = time.perf_counter()
            part = next(arriving)
            waited = time.perf_counter() - started
            state, metrics = run(state, *part, hyper)
            metrics = jax.device_get(metrics)
            finite = np.isfinite(metrics.total)
            if not finite.all():
                raise FloatingPointError(
                    f"loss is not finite at step {first + int(finite.argmin())}; "
                    "lower the learning rate, lam or the box gain"
                )
            observe(state, Chunk(first, metrics, waited))
    return state
