# SPDX-License-Identifier: Apache-2.0
"""Pooling and space-to-depth against their definitions, gradients against autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixq_jax.pool import max_pool, space_to_depth

pytestmark = pytest.mark.usefixtures("strict")

SHAPES = [(2, 4, 6, 3), (1, 5, 7, 2), (1, 2, 9, 4)]


def plain(x):
    window = (1, 2, 2, 1)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_equal_autodiff(shape):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.permutation(np.prod(shape)).reshape(shape), jnp.float32)  # no ties
    g = jnp.asarray(
        rng.standard_normal((shape[0], shape[1] // 2, shape[2] // 2, shape[3])), jnp.float32
    )

    @jax.jit
    def both(x, g):
        (y, pull), (expected, expected_pull) = jax.vjp(max_pool, x), jax.vjp(plain, x)
        return (y, pull(g)), (expected, expected_pull(g))

    (y, (dx,)), (expected, (expected_dx,)) = both(x, g)
    assert y.tolist() == expected.tolist()
    assert dx.tolist() == expected_dx.tolist()


def test_the_first_maximum_in_scan_order_takes_the_gradient():
    """Every pattern of maxima in a 2x2 block."""
    patterns = np.array(np.unravel_index(np.arange(1, 16), (2, 2, 2, 2))).T
    x = jnp.asarray(patterns.reshape(15, 2, 2, 1), jnp.float32)
    _, pull = jax.vjp(max_pool, x)
    got = np.asarray(pull(jnp.ones((15, 1, 1, 1)))[0]).reshape(15, 4)
    assert got.argmax(1).tolist() == patterns.argmax(1).tolist()
    assert got.sum(1).tolist() == [1] * 15


def test_integers_are_pooled_too():
    x = jnp.arange(-6, 6, dtype=jnp.int32).reshape(1, 4, 3, 1)
    assert max_pool(x).tolist() == [[[[-2]], [[4]]]]
    assert max_pool(x).dtype == jnp.int32


@pytest.mark.parametrize("block", [1, 2, 3])
def test_space_to_depth_order(block):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 99, (2, 2 * block, 3 * block, 2))
    y = np.asarray(space_to_depth(jnp.asarray(x, jnp.int32), block))
    assert y.shape == (2, 2, 3, 2 * block**2)
    for (_, row, column, channel), value in np.ndenumerate(y[:1]):
        place, c = divmod(channel, 2)
        dy, dx = divmod(place, block)
        assert value == x[0, block * row + dy, block * column + dx, c]
