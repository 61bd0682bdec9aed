# SPDX-License-Identifier: Apache-2.0
"""Optimisers: one for weights, one for biases, one for alphas, joined by optax.multi_transform."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser of one run; the defaults are the published DAC-SDC recipe.

    Learning rates fall with a cosine from 1 to `final_factor` over the run. Biases (batch norm's
    beta, the head's bias) have `bias_factor` times the rate; during the first `bias_warmup_steps`
    they fall to it linearly from `bias_warmup_rate`, and their momentum rises from
    `bias_warmup_momentum`. Momentum is Nesterov's, but plain for alphas.
    """

    name: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.937
    final_factor: float = 0.001
    bias_factor: float = 2.0
    bias_warmup_rate: float = 0.1
    bias_warmup_momentum: float = 0.9
    bias_warmup_steps: int = 0
    weight_decay: float = 0.0  # the published 4.84e-4 never reached a weight (decisions.md)
    alpha_learning_rate: float = 0.01
    alpha_weight_decay: float = 4.84e-4
    alpha_final_factor: float = 0.1
    alpha_warmup_steps: int = 0  # alphas rest while the shared weights find their scale


def cosine(rate: float, steps: int, final_factor: float) -> optax.Schedule:
    """Return rate ((1 + cos(pi t / steps)) / 2 (1 - final) + final)."""
    return optax.cosine_decay_schedule(rate, max(steps, 1), alpha=final_factor)


def _warmed(first: float, last: float, after: optax.Schedule, steps: int) -> optax.Schedule:
    """Return `first`..`last` linearly over `steps`, then `after`, which never waited."""
    ramp = optax.linear_schedule(first, last, steps)
    return lambda count: jnp.where(count < steps, ramp(count), after(count))


def make(config: OptimConfig, steps: int) -> optax.GradientTransformation:
    """Return the optimiser for params {"net": ..., "alphas": ...} over `steps` steps."""
    bias_rate = config.learning_rate * config.bias_factor
    bias = cosine(bias_rate, steps, config.final_factor)
    momentum = config.momentum
    if config.bias_warmup_steps:
        bias = _warmed(config.bias_warmup_rate, bias_rate, bias, config.bias_warmup_steps)
        momentum = optax.linear_schedule(
            config.bias_warmup_momentum, config.momentum, config.bias_warmup_steps
        )
    alpha_steps = steps - config.alpha_warmup_steps
    alpha_rate = cosine(config.alpha_learning_rate, alpha_steps, config.alpha_final_factor)
    if config.alpha_warmup_steps:
        still = optax.constant_schedule(0.0)
        alpha_rate = optax.join_schedules([still, alpha_rate], [config.alpha_warmup_steps])
    weight = cosine(config.learning_rate, steps, config.final_factor)
    return optax.multi_transform(
        {
            "kernel": _descend(config, weight, config.momentum, config.weight_decay),
            "gamma": _descend(config, weight, config.momentum),
            "bias": _descend(config, bias, momentum),
            "alpha": _descend(
                config, alpha_rate, config.momentum, config.alpha_weight_decay, nesterov=False
            ),
        },
        labels,
    )


def labels(params: dict) -> dict:
    """Label every leaf: kernel, gamma, bias (betas too) or alpha."""

    def label(path: tuple, _) -> str:
        if path[0].key == "alphas":
            return "alpha"
        kind = path[-1].key.rpartition("_")[2]
        return "bias" if kind == "beta" else kind

    return jax.tree_util.tree_map_with_path(label, params)


def _descend(
    config: OptimConfig,
    rate: optax.Schedule,
    momentum: optax.ScalarOrSchedule,
    decay: float = 0.0,
    nesterov: bool = True,
) -> optax.GradientTransformation:
    regularise = optax.add_decayed_weights(decay) if decay else optax.identity()
    if config.name == "adam":
        return optax.chain(optax.scale_by_adam(), regularise, optax.scale_by_learning_rate(rate))
    descend = optax.inject_hyperparams(optax.sgd, static_args="nesterov")
    return optax.chain(regularise, descend(rate, momentum, nesterov))
