# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixq_jax.data.resize import resize_bilinear


def noise_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def in_exact_fractions(image, height, width):
    """Return the resize computed pixel by pixel, weights to 1/256, rounded half up."""

    def tap(i, source, target):
        place = min(max((i + 0.5) * source / target - 0.5, 0), source - 1)
        left = int(place)
        return left, min(left + 1, source - 1), round((place - left) * 256)

    out = np.empty((height, width, image.shape[2]), np.uint8)
    for i in range(height):
        top, bottom, wy = tap(i, image.shape[0], height)
        for j in range(width):
            left, right, wx = tap(j, image.shape[1], width)
            rows = [
                image[r].astype(int)[left] * (256 - wx) + image[r].astype(int)[right] * wx
                for r in (top, bottom)
            ]
            out[i, j] = (rows[0] * (256 - wy) + rows[1] * wy + (1 << 15)) >> 16
    return out


sides = st.integers(1, 24)


@given(sides, sides, sides, sides)
def test_equals_the_definition(h, w, height, width):
    image = noise_image(h, w)
    assert np.array_equal(
        resize_bilinear(image, height, width), in_exact_fractions(image, height, width)
    )


def test_contest_frame_to_network_input():
    image = noise_image(36, 64)
    assert np.array_equal(resize_bilinear(image, 16, 32), in_exact_fractions(image, 16, 32))


def test_halving_averages_two_by_two():
    image = noise_image(8, 12)
    blocks = image.reshape(4, 2, 6, 2, 3).astype(int).sum((1, 3))
    assert np.array_equal(resize_bilinear(image, 4, 6), (blocks + 2) // 4)


@pytest.mark.parametrize("level", [0, 1, 254, 255])
def test_constant_stays_constant(level):
    image = np.full((7, 5, 3), level, np.uint8)
    assert np.all(resize_bilinear(image, 19, 11) == level)


def test_same_size_is_untouched():
    image = noise_image(6, 9)
    assert resize_bilinear(image, 6, 9) is image
