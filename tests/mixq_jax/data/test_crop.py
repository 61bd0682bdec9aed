# SPDX-License-Identifier: Apache-2.0
"""Crops are windows of the padded image, mirrored or not; keyed, jittable."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mixq_jax.data.crop import CropConfig, crop


def windows(image: np.ndarray, pad: int) -> list[np.ndarray]:
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    height, width = image.shape[:2]
    return [
        padded[y : y + height, x : x + width]
        for y in range(2 * pad + 1)
        for x in range(2 * pad + 1)
    ]


@settings(max_examples=20)
@given(st.integers(0, 3), st.sampled_from((0.0, 0.5, 1.0)), st.integers(0, 2**32 - 1))
def test_every_image_is_a_window_or_its_mirror_image(pad, flip, seed):
    images = np.random.default_rng(seed).integers(1, 256, (6, 5, 4, 3)).astype(np.float32)
    found = np.asarray(crop(jax.random.key(seed), jnp.asarray(images), CropConfig(pad, flip)))
    for image, got in zip(images, found, strict=True):
        whole = windows(image, pad)
        straight = any(np.array_equal(got, one) for one in whole)
        mirrored = any(np.array_equal(got, one[:, ::-1]) for one in whole)
        assert straight if flip == 0 else mirrored if flip == 1 else straight or mirrored


def test_draws_differ_between_images_and_keys_and_cover_everything():
    image = np.arange(1, 17, dtype=np.float32).reshape(4, 4, 1)
    images = jnp.asarray(np.tile(image, (400, 1, 1, 1)))
    found = crop(jax.random.key(0), images, CropConfig(pad=1))
    kinds = {np.asarray(one).tobytes() for one in found}
    assert len(kinds) == 18  # nine corners, mirrored or not
    again = crop(jax.random.key(0), images, CropConfig(pad=1))
    other = crop(jax.random.key(1), images, CropConfig(pad=1))
    assert np.array_equal(found, again)
    assert not np.array_equal(found, other)


def test_it_is_the_same_under_jit():
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)), jnp.float32)
    key, config = jax.random.key(3), CropConfig()
    compiled = jax.jit(crop, static_argnums=2)(key, images, config)
    assert np.array_equal(crop(key, images, config), compiled)
