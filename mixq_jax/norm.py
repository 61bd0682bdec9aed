# SPDX-License-Identifier: Apache-2.0
"""Batch normalisation of scaled accumulators, with a hand-written VJP.

The convolution yields integers `acc`; the real pre-activation is scale * acc. Normalising it,

    y = gamma (scale acc - scale mean) / sqrt(scale^2 var + eps) + beta,

needs no extra pass for the scale. Automatic differentiation keeps three feature maps and reads them
several times; the VJP below keeps `acc` and reads it once.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

EPS = 1e-5  # as torch.nn.BatchNorm2d
MOMENTUM = 0.1  # weight of the newest batch in the running statistics, as torch


class BatchStats(NamedTuple):
    """Mean and (biased) variance per channel."""

    mean: Float[Array, " c"]
    var: Float[Array, " c"]


@partial(jax.custom_vjp)
def batch_norm(
    acc: Float[Array, "n h w c"],
    scale: Float[Array, ""],
    gamma: Float[Array, " c"],
    beta: Float[Array, " c"],
) -> tuple[Float[Array, "n h w c"], BatchStats]:
    """Return y and the batch statistics of scale * acc (which carry no gradient)."""
    return _forward(acc, scale, gamma, beta)[0]


def _forward(acc, scale, gamma, beta):
    mean = acc.mean((0, 1, 2))
    var = jnp.square(acc - mean).mean((0, 1, 2))
    inv = jax.lax.rsqrt(scale**2 * var + EPS)
    y = (acc - mean) * (scale * inv * gamma) + beta
    return (y, BatchStats(scale * mean, scale**2 * var)), (acc, mean, inv, scale, gamma)


def _backward(residuals, cotangents):
    acc, mean, inv, scale, gamma = residuals
    g = cotangents[0]
    count = g.size // g.shape[-1]
    centred = acc - mean
    g_sum = g.sum((0, 1, 2))
    g_dot = (g * centred).sum((0, 1, 2))
    slope = scale * inv * gamma
    curvature = gamma * (scale * inv) ** 3 * g_dot / count
    d_acc = slope * (g - g_sum / count) - centred * curvature
    d_scale = jnp.sum(gamma * g_dot * inv**3) * EPS
    return d_acc, d_scale, scale * inv * g_dot, g_sum


batch_norm.defvjp(_forward, _backward)


def affine(
    acc: Float[Array, "n h w c"],
    scale: Float[Array, ""],
    gamma: Float[Array, " c"],
    beta: Float[Array, " c"],
    running: BatchStats,
) -> Float[Array, "n h w c"]:
    """Return y of scale * acc with the running statistics (inference)."""
    inv = jax.lax.rsqrt(running.var + EPS)
    return acc * (scale * inv * gamma) + (beta - running.mean * inv * gamma)


def update(running: BatchStats, batch: BatchStats, count: int) -> BatchStats:
    """Move the running statistics towards the batch; variance unbiased (n - 1) as torch does."""
    unbiased = batch.var * (count / (count - 1))
    return BatchStats(
        (1 - MOMENTUM) * running.mean + MOMENTUM * batch.mean,
        (1 - MOMENTUM) * running.var + MOMENTUM * unbiased,
    )
