# SPDX-License-Identifier: Apache-2.0
"""Bilinear resize in integers: the same bytes on every machine."""

import numpy as np
from jaxtyping import UInt8

WEIGHT_BITS = 8


def _taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return left neighbour, right neighbour and the right one's weight in 1/256, each [target]."""
    centre = (np.arange(target) + 0.5) * (source / target) - 0.5
    centre = np.clip(centre, 0, source - 1)
    left = np.floor(centre).astype(np.intp)
    weight = np.rint((centre - left) * (1 << WEIGHT_BITS)).astype(np.uint16)
    return left, np.minimum(left + 1, source - 1), weight


def resize_bilinear(
    image: UInt8[np.ndarray, "h w c"], height: int, width: int
) -> UInt8[np.ndarray, "height width c"]:
    """Resize to `height` x `width` from the two nearest rows and columns, aspect not kept.

    Pixel centres lie at half integers, weights are multiples of 1/256, the result is rounded half
    up: the arithmetic of OpenCV's INTER_LINEAR_EXACT. No low-pass filter when shrinking.
    """
    if image.shape[:2] == (height, width):
        return image
    channels = image.shape[2]
    top, bottom, wy = _taps(image.shape[0], height)
    left, right, wx = _taps(image.shape[1], width)
    # Sums of two bytes by weights that add up to 256 fit 16 bits: half the memory to move.
    wy, one = wy[:, None, None], np.uint16(1 << WEIGHT_BITS)
    rows = (image[top] * (one - wy) + image[bottom] * wy).reshape(height, -1)
    # The columns of a row of pixels and channels: one flat gather is faster than one of triples.
    left, right = (
        (side[:, None] * channels + np.arange(channels)).ravel() for side in (left, right)
    )
    wx = np.repeat(wx, channels).astype(np.uint32)
    blend = rows.take(left, 1) * (np.uint32(1 << WEIGHT_BITS) - wx) + rows.take(right, 1) * wx
    blend += np.uint32(1 << (2 * WEIGHT_BITS - 1))
    blend >>= np.uint32(2 * WEIGHT_BITS)
    return blend.astype(np.uint8).reshape(height, width, channels)
