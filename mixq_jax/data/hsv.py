# SPDX-License-Identifier: Apache-2.0
"""Gains on the hue, saturation and value of BGR images."""

import jax.numpy as jnp
from jaxtyping import Array, Float

Image = Float[Array, "h w 3"]
Plane = Float[Array, "h w"]


def scale_value(image: Image, gain: Float[Array, ""]) -> Image:
    """Return `image` (0..255) with its HSV value multiplied by `gain` and clipped to 255."""
    value = _largest(*_planes(image))
    return image * jnp.minimum(gain, 255.0 / jnp.maximum(value, 1.0))[..., None]


def scale_hsv(image: Image, gains: Float[Array, "3"]) -> Image:
    """Return BGR `image` (0..255) with hue, saturation and value multiplied by `gains`.

    Hue wraps around, saturation and value are clipped. A channel is value - chroma * depth, with
    depths of 0..1 that depend on the hue alone.
    """
    b, g, r = _planes(image)
    value = _largest(b, g, r)
    chroma = value - jnp.minimum(jnp.minimum(b, g), r)
    hue = _hue(b, g, r, value, jnp.where(chroma > 0, chroma, 1.0)) * gains[0]
    saturation = jnp.minimum(chroma / jnp.maximum(value, 1.0) * gains[1], 1.0)
    value = jnp.minimum(value * gains[2], 255.0)
    channels = [value * (1 - saturation * _depth(hue + offset)) for offset in (1.0, 3.0, 5.0)]
    return jnp.stack(channels, -1)


def _planes(image: Image) -> tuple[Plane, Plane, Plane]:
    # Slices, because a reduction over a last axis of three is several times slower on a CPU.
    return image[..., 0], image[..., 1], image[..., 2]


def _largest(b: Plane, g: Plane, r: Plane) -> Plane:
    return jnp.maximum(jnp.maximum(b, g), r)


def _hue(b: Plane, g: Plane, r: Plane, value: Plane, chroma: Plane) -> Plane:
    """Return the hue in sectors, 0..6 from red over green (2) and blue (4)."""
    cool = jnp.where(value == g, 2 + (b - r) / chroma, 4 + (r - g) / chroma)
    return jnp.where(value == r, (g - b) / chroma, cool) % 6


def _depth(turn: Plane) -> Plane:
    """Return how far a channel lies below the largest, in units of the chroma.

    `turn` is the hue plus 1 for blue, 3 for green, 5 for red.
    """
    turn = turn % 6
    return jnp.clip(jnp.minimum(turn, 4 - turn), 0, 1)
