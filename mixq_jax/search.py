# SPDX-License-Identifier: Apache-2.0
"""Bit-width search: shared weights and alphas trained together under a hardware penalty."""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mixq_jax import detect, model, optim
from mixq_jax.bits import WIDTHS, Relaxation, SoftBits, entropy, expected_bits, pin, soft_bits
from mixq_jax.data.augment import AugmentConfig
from mixq_jax.data.crop import CropConfig
from mixq_jax.loop import Batch, Step, TrainState, augmented
from mixq_jax.optim import OptimConfig
from mixq_jax.spec import NetSpec
from mixq_jax.surrogate import expected_cost
from mixq_jax.task import loss as task_loss


@dataclass(frozen=True)
class SearchConfig:
    """Static choices of a search."""

    steps: int
    batch: int
    seed: int = 0
    relaxation: Relaxation = "softmax"
    optim: OptimConfig = field(default_factory=OptimConfig)
    augment: AugmentConfig | CropConfig = field(default_factory=AugmentConfig)
    gains: detect.LossGains = field(default_factory=detect.LossGains)


class Hyper(NamedTuple):
    """Choices that may differ between members of a population: array leaves.

    `lam[r]` weighs resource r of the cost table; the temperature falls geometrically from
    `tau_first` to `tau_last`.
    """

    lam: Float[Array, " resources"]
    tau_first: Float[Array, ""]
    tau_last: Float[Array, ""]


class SearchMetrics(NamedTuple):
    """One step of a search; `terms` are those of the task's loss.

    Alphas, entropies (nats) and bits are per layer.
    """

    total: Float[Array, ""]
    task: Float[Array, ""]
    terms: dict[str, Float[Array, ""]]
    cost: Float[Array, " resources"]
    tau: Float[Array, ""]
    alpha_w: Float[Array, "layers widths"]
    alpha_a: Float[Array, "layers widths"]
    entropy_w: Float[Array, " layers"]
    entropy_a: Float[Array, " layers"]
    expected_w: Float[Array, " layers"]
    expected_a: Float[Array, " layers"]
    argmax_w: Int[Array, " layers"]
    argmax_a: Int[Array, " layers"]


def init_state(spec: NetSpec, config: SearchConfig) -> TrainState:
    """Return a fresh supernet with uniform alphas."""
    variables = model.init(spec, jax.random.key(config.seed))
    params = {"net": variables["params"], "alphas": model.alphas_of(spec)}
    opt_state = optim.make(config.optim, config.steps).init(params)
    return TrainState(params, variables["batch_stats"], opt_state, jnp.int32(0))


def temperature(hyper: Hyper, step: Int[Array, ""], steps: int) -> Float[Array, ""]:
    """Return tau_first (tau_last / tau_first)^(step / (steps - 1))."""
    progress = step / max(steps - 1, 1)
    return hyper.tau_first * (hyper.tau_last / hyper.tau_first) ** progress


def make_step(spec: NetSpec, config: SearchConfig, table: Float[Array, "l w a r"]) -> Step:
    """Return step(state, batch, hyper) -> (state, SearchMetrics); `table` as `normalised` gives it.

    Loss = loss of the task + sum_r lam_r E[cost_r].
    """
    transform = optim.make(config.optim, config.steps)

    def objective(params, batch_stats, batch, bits_key, hyper, tau):
        alphas = pin(params["alphas"], spec.fixed_bits)
        bits = soft_bits(alphas, config.relaxation, tau, bits_key)
        variables = {"params": params["net"], "batch_stats": batch_stats}
        y, batch_stats = model.apply(spec, variables, batch.images, bits, True)
        task = task_loss(spec, y, batch.targets, batch.weights, config.gains)
        cost = expected_cost(table, bits)
        return task.total + hyper.lam @ cost, (task, cost, batch_stats)

    def step(state: TrainState, batch: Batch, hyper: Hyper):
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        augment_key, bits_key = jax.random.split(key)
        batch = augmented(augment_key, batch, config.augment)
        tau = temperature(hyper, state.step, config.steps)
        (total, (task, cost, stats)), grads = jax.value_and_grad(objective, has_aux=True)(
            state.params, state.batch_stats, batch, bits_key, hyper, tau
        )
        updates, opt_state = transform.update(grads, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        metrics = _metrics(spec, total, task, cost, tau, state.params["alphas"])
        return TrainState(params, stats, opt_state, state.step + 1), metrics

    return step


def _metrics(spec, total, task, cost, tau, alphas) -> SearchMetrics:
    pinned = pin(alphas, spec.fixed_bits)
    probs = SoftBits(*(jax.nn.softmax(logits / tau) for logits in pinned))
    widths = jnp.array(WIDTHS)
    return SearchMetrics(
        total,
        task.total,
        task.terms,
        cost,
        tau,
        alphas.w,
        alphas.a,
        entropy(probs.w),
        entropy(probs.a),
        expected_bits(probs.w),
        expected_bits(probs.a),
        widths[pinned.w.argmax(-1)],
        widths[pinned.a.argmax(-1)],
    )
