# SPDX-License-Identifier: Apache-2.0
"""Augmentation of classification batches: random crops and mirroring; pure, keyed, jittable."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

Images = Float[Array, "b h w c"]


@dataclass(frozen=True)
class CropConfig:
    """Crops of the image's size after padding with black, and mirroring; 0 switches one off.

    The defaults are the usual recipe for CIFAR-10 (and the published one).
    """

    pad: int = 4  # pixels on every side
    flip: float = 0.5  # probability of mirroring left and right


def crop(key: PRNGKeyArray, images: Images, config: CropConfig) -> Images:
    """Return changed images, each with draws of its own. `key` is consumed."""
    crop_key, flip_key = jax.random.split(key)
    del key
    count, pad = len(images), config.pad
    if pad:
        corners = jax.random.randint(crop_key, (count, 2), 0, 2 * pad + 1)
        padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))

        def cut(image: Array, corner: Array) -> Array:
            return jax.lax.dynamic_slice(image, (*corner, 0), images.shape[1:])

        images = jax.vmap(cut)(padded, corners)
    if config.flip:
        mirrored = jax.random.bernoulli(flip_key, float(config.flip), (count, 1, 1, 1))
        images = jnp.where(mirrored, images[:, :, ::-1], images)
    return images
