# SPDX-License-Identifier: Apache-2.0
"""Augmentation of detection batches: pure, keyed, jittable, vmappable.

Images are BGR and leave as float32 holding whole numbers 0..255, so that the image quantiser of
the network stays exact.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from mixq_jax.data.hsv import scale_hsv, scale_value
from mixq_jax.data.warp import affine, warp_box, warp_image

Images = Float[Array, "b h w 3"]
Boxes = Float[Array, "b 4"]


@dataclass(frozen=True)
class AugmentConfig:
    """Which changes are drawn for each image, and how large they get; 0 switches one off.

    `hue`, `saturation`, `value` are the largest deviations of HSV gains from 1, `scale` that of the
    zoom, `translate` the largest shift in units of the *other* side. A box is dropped if what the
    frame still shows of it is no longer than `min_side_px` on one side, has at most `min_visible`
    of its area, or is `max_aspect` times longer than wide.
    """

    flip: float = 0.5  # probability of mirroring left and right
    hue: float = 0.0
    saturation: float = 0.0
    value: float = 0.0
    rotate_deg: float = 0.0
    shear_deg: float = 0.0
    scale: float = 0.0
    translate: float = 0.0
    border: float = 128.0  # brightness of what the warp brings in from outside
    min_side_px: float = 3.0
    min_visible: float = 0.2
    max_aspect: float = 10.0


def reference() -> AugmentConfig:
    """Return the recipe of the reference UltraNet training at 160 x 320."""
    return AugmentConfig(
        hue=0.0138,
        saturation=0.678,
        value=0.36,
        rotate_deg=1.98,
        shear_deg=0.641,
        scale=0.05,
        translate=0.05,
    )


def light() -> AugmentConfig:
    """Return mirroring and brightness alone: no gather, a fraction of the cost of `reference`."""
    return AugmentConfig(value=0.36)


def augment(
    key: PRNGKeyArray,
    images: UInt8[Array, "b h w 3"] | Images,
    boxes: Boxes,
    config: AugmentConfig,
) -> tuple[Images, Boxes, Float[Array, " b"]]:
    """Return changed images and boxes, and 1 for every box kept or 0 for every box dropped.

    `images` are BGR 0..255, `boxes` (cx, cy, w, h) in units of the frame. Each image has draws of
    its own; boxes leave clipped to the frame. `key` is consumed.
    """
    warp_key, colour_key, flip_key = jax.random.split(key, 3)
    del key
    images = images.astype(jnp.float32)
    kept = jnp.ones(boxes.shape[0], jnp.float32)
    if config.rotate_deg or config.shear_deg or config.scale or config.translate:
        images, boxes, kept = _warp(warp_key, images, boxes, config)
    if config.hue or config.saturation or config.value:
        images = _recolour(colour_key, images, config)
    if config.flip:
        mirrored = jax.random.bernoulli(flip_key, float(config.flip), boxes.shape[:1])
        images = jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
        boxes = boxes.at[:, 0].set(jnp.where(mirrored, 1 - boxes[:, 0], boxes[:, 0]))
    return jnp.round(images), boxes, kept


def _warp(
    key: PRNGKeyArray, images: Images, boxes: Boxes, config: AugmentConfig
) -> tuple[Images, Boxes, Float[Array, " b"]]:
    """Rotate, zoom, shear and shift each image and its box."""
    count, height, width = images.shape[:3]
    draws = jax.random.uniform(key, (6, count), jnp.float32, -1.0)
    shifts = jnp.stack([draws[4] * height, draws[5] * width], 1) * config.translate
    matrices = jax.vmap(partial(affine, height=height, width=width))(
        draws[0] * config.rotate_deg,
        1 + draws[1] * config.scale,
        draws[2:4].T * config.shear_deg,
        shifts,
    )
    images = jax.vmap(partial(warp_image, border=config.border))(images, matrices)
    boxes, shown = jax.vmap(partial(warp_box, height=height, width=width))(boxes, matrices)
    w, h = boxes[:, 2] * width, boxes[:, 3] * height
    kept = (
        (jnp.minimum(w, h) > config.min_side_px)
        & (shown > config.min_visible)
        & (jnp.maximum(w, h) < config.max_aspect * jnp.minimum(w, h))
    )
    return images, boxes, kept.astype(jnp.float32)


def _recolour(key: PRNGKeyArray, images: Images, config: AugmentConfig) -> Images:
    """Scale hue, saturation and value of each image."""
    limits = jnp.array([[config.hue, config.saturation, config.value]], jnp.float32)
    gains = 1 + limits * jax.random.uniform(key, (images.shape[0], 3), jnp.float32, -1.0)
    if config.hue or config.saturation:
        return jax.vmap(scale_hsv)(images, gains)
    return jax.vmap(scale_value)(images, gains[:, 2])
