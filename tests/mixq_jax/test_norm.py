# SPDX-License-Identifier: Apache-2.0
"""Batch normalisation: definitions, its hand-written VJP against autodiff, running statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixq_jax.norm import EPS, MOMENTUM, BatchStats, affine, batch_norm, update

SHAPES = [(2, 4, 6, 3), (3, 5, 7, 2), (1, 1, 2, 1)]


def plain(acc, scale, gamma, beta):
    """Normalise scale * acc as the definition says."""
    x = scale * acc
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return gamma * (x - mean) / jnp.sqrt(var + EPS) + beta


def draw(shape, seed=0):
    rng = np.random.default_rng(seed)
    acc = rng.integers(-400, 400, shape).astype(float)
    gamma = rng.uniform(0.5, 1.5, shape[-1]) * rng.choice((-1, 1), shape[-1])
    return acc, rng.standard_normal(shape[-1]), gamma, rng.standard_normal(shape)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scale", [1e-5, 0.01])
def test_gradients_equal_autodiff_in_float64(shape, scale):
    """A scale of 1e-5 makes the variance comparable with EPS, and its own gradient matter."""
    acc, beta, gamma, g = draw(shape)
    with jax.enable_x64(True):
        arguments = jax.tree.map(jnp.asarray, (acc, scale, gamma, beta))

        @jax.jit
        def both(arguments, g):
            y, pull = jax.vjp(plain, *arguments)
            (mine, stats), my_pull = jax.vjp(batch_norm, *arguments)
            # The statistics carry no gradient, whatever arrives there.
            return (y, pull(g)), (mine, my_pull((g, jax.tree.map(jnp.ones_like, stats))))

        (expected_y, expected), (y, got) = both(arguments, jnp.asarray(g))
        assert y.dtype == jnp.float64
        np.testing.assert_allclose(y, expected_y, rtol=1e-10, atol=1e-10)
        for mine, reference in zip(got, expected, strict=True):
            limit = 1e-9 * np.abs(reference).max() + 1e-12
            assert np.abs(mine - reference).max() <= limit
    assert np.abs(got[1]) > 1e-3 or scale > 1e-3


def test_float32_agrees_to_its_precision(strict):
    acc, beta, gamma, _ = draw((4, 5, 7, 3))
    arguments = [jnp.asarray(v, jnp.float32) for v in (acc, 0.01, gamma, beta)]
    y, stats = batch_norm(*arguments)
    assert {v.dtype for v in (y, *stats)} == {jnp.dtype(jnp.float32)}
    with jax.enable_x64(True):
        expected = plain(*(jnp.asarray(v) for v in (acc, 0.01, gamma, beta)))
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_batch_statistics_are_of_the_scaled_values(strict):
    acc, beta, gamma, _ = draw((3, 5, 7, 2))
    arguments = [jnp.asarray(v, jnp.float32) for v in (acc, 0.01, gamma, beta)]
    _, stats = batch_norm(*arguments)
    np.testing.assert_allclose(stats.mean, 0.01 * acc.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stats.var, 1e-4 * acc.var((0, 1, 2)), rtol=1e-5)


def test_affine_is_normalisation_by_the_running_statistics(strict):
    acc, beta, gamma, _ = draw((2, 3, 5, 4))
    mean, var = np.array([0.5, -1, 0, 2]), np.array([1.0, 0.1, 1e-6, 4])
    got = affine(
        *(jnp.asarray(v, jnp.float32) for v in (acc, 0.01, gamma, beta)),
        BatchStats(jnp.asarray(mean, jnp.float32), jnp.asarray(var, jnp.float32)),
    )
    expected = gamma * (0.01 * acc - mean) / np.sqrt(var + EPS) + beta
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


def test_running_statistics_move_to_the_unbiased_variance(strict):
    """After one update from zero they are a tenth of mean and n - 1 variance of the batch."""
    acc = draw((2, 3, 5, 2))[0].astype(np.float32)
    ones = jnp.ones(2)
    _, stats = batch_norm(jnp.asarray(acc), jnp.float32(1), ones, ones)
    zero = BatchStats(jnp.zeros(2), jnp.zeros(2))
    moved = update(zero, stats, acc.size // 2)
    flat = acc.reshape(-1, 2).astype(np.float64)
    np.testing.assert_allclose(moved.mean, 0.1 * flat.mean(0), rtol=1e-4)
    np.testing.assert_allclose(moved.var, 0.1 * flat.var(0, ddof=1), rtol=1e-5)


def test_repeated_updates_converge_geometrically(strict):
    batch = BatchStats(jnp.array([2.0]), jnp.array([3.0]))
    running = BatchStats(jnp.zeros(1), jnp.ones(1))
    for _ in range(5):
        running = update(running, batch, 4)
    left = (1 - MOMENTUM) ** 5
    np.testing.assert_allclose(running.mean, 2 * (1 - left), rtol=1e-6)
    np.testing.assert_allclose(running.var, 4 + (1 - 4) * left, rtol=1e-6)
