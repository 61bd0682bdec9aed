# SPDX-License-Identifier: Apache-2.0
"""Training at chosen widths: from scratch or from a supernet's shared weights."""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mixq_jax import detect, model, optim
from mixq_jax.data.augment import AugmentConfig
from mixq_jax.data.crop import CropConfig
from mixq_jax.loop import Batch, Step, TrainState, augmented
from mixq_jax.optim import OptimConfig
from mixq_jax.spec import NetSpec
from mixq_jax.task import loss as task_loss


@dataclass(frozen=True)
class FinetuneConfig:
    """Static choices of a training run."""

    steps: int
    batch: int
    seed: int = 0
    optim: OptimConfig = field(default_factory=OptimConfig)
    augment: AugmentConfig | CropConfig = field(default_factory=AugmentConfig)
    gains: detect.LossGains = field(default_factory=detect.LossGains)


class TrainMetrics(NamedTuple):
    """One step of training."""

    total: Float[Array, ""]
    terms: dict[str, Float[Array, ""]]


def init_state(spec: NetSpec, config: FinetuneConfig, start: dict | None = None) -> TrainState:
    """Return the first state; `start`: variables to go on from (a warm start), left usable."""
    if start is None:
        variables = model.init(spec, jax.random.key(config.seed))
    else:
        variables = jax.tree.map(jnp.copy, start)  # training consumes its first state
    params = {"net": variables["params"]}
    opt_state = optim.make(config.optim, config.steps).init(params)
    return TrainState(params, variables["batch_stats"], opt_state, jnp.int32(0))


def make_step(spec: NetSpec, config: FinetuneConfig, bits: model.Bits) -> Step:
    """Return step(state, batch, hyper=None) -> (state, TrainMetrics) at fixed (or float) bits."""
    transform = optim.make(config.optim, config.steps)

    def objective(params, batch_stats, batch):
        variables = {"params": params["net"], "batch_stats": batch_stats}
        y, batch_stats = model.apply(spec, variables, batch.images, bits, True)
        task = task_loss(spec, y, batch.targets, batch.weights, config.gains)
        return task.total, (task, batch_stats)

    def step(state: TrainState, batch: Batch, hyper: None):
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        batch = augmented(key, batch, config.augment)
        (_, (task, stats)), grads = jax.value_and_grad(objective, has_aux=True)(
            state.params, state.batch_stats, batch
        )
        updates, opt_state = transform.update(grads, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        return TrainState(params, stats, opt_state, state.step + 1), TrainMetrics(*task)

    return step
