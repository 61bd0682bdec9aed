# SPDX-License-Identifier: Apache-2.0
"""2x2 maximum pooling whose gradient goes to the first maximum in scan order, as in torch.

The gradient of `reduce_window` (select-and-scatter) costs about a hundred forward passes on CPU;
strided slices and one broadcast comparison cost three.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def _quarters(x: Array) -> tuple[Array, ...]:
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    return tuple(x[:, dy:height:2, dx:width:2] for dy in (0, 1) for dx in (0, 1))


@jax.custom_vjp
def max_pool(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """Return the maximum of 2x2 blocks at stride 2; an odd last row or column is dropped."""
    a, b, c, d = _quarters(x)
    return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))


def _max_pool_fwd(x):
    return max_pool(x), x


def _max_pool_bwd(x, g):
    a, b, c, d = _quarters(x)
    upper = jnp.maximum(a, b) >= jnp.maximum(c, d)
    winner = jnp.where(upper, jnp.where(a >= b, 0.0, 1.0), jnp.where(c >= d, 2.0, 3.0))
    # Barriers: fused into its neighbours' reductions, this selection is recomputed for each.
    winner, g = jax.lax.optimization_barrier((winner, g))
    n, h, w, channels = g.shape
    place = jnp.arange(4.0).reshape(1, 1, 2, 1, 2, 1)
    blocks = (n, h, 1, w, 1, channels)
    d_x = jnp.where(winner.reshape(blocks) == place, g.reshape(blocks), 0.0)
    odd = ((0, 0), (0, x.shape[1] - 2 * h), (0, x.shape[2] - 2 * w), (0, 0))
    d_x = jnp.pad(d_x.reshape(n, 2 * h, 2 * w, channels), odd)
    return (jax.lax.optimization_barrier(d_x),)


max_pool.defvjp(_max_pool_fwd, _max_pool_bwd)


def space_to_depth(x: Array, block: int = 2) -> Array:
    """Return `[N, H/b, W/b, b^2 C]` with out channel = (b dy + dx) C + c, b = `block`."""
    offsets = [(dy, dx) for dy in range(block) for dx in range(block)]
    return jnp.concatenate([x[:, dy::block, dx::block] for dy, dx in offsets], -1)
