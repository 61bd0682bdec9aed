# SPDX-License-Identifier: Apache-2.0
import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixq_jax.data.hsv import scale_hsv, scale_value

byte = st.integers(0, 255)
gain = st.floats(0.125, 2.0, width=32)
hsv = jax.jit(scale_hsv)


def by_colorsys(b, g, r, gains):
    h, s, v = colorsys.rgb_to_hsv(r / 255, g / 255, b / 255)
    red, green, blue = colorsys.hsv_to_rgb(
        h * gains[0] % 1, min(s * gains[1], 1), min(v * gains[2], 1)
    )
    return 255 * np.array([blue, green, red])


def pixel(b, g, r):
    return jnp.array([[[b, g, r]]], jnp.float32)


@given(byte, byte, byte, st.tuples(gain, gain, gain))
def test_equals_the_standard_library(b, g, r, gains):
    ours = hsv(pixel(b, g, r), jnp.array(gains, jnp.float32))[0, 0]
    # float32 against float64: a hue near a sector's border costs up to 1e-6 of the chroma's turn.
    assert np.allclose(ours, by_colorsys(b, g, r, gains), atol=2e-3)


@given(byte, byte, byte)
def test_unit_gains_are_the_identity(b, g, r):
    image = pixel(b, g, r)
    assert jnp.array_equal(jnp.round(hsv(image, jnp.ones(3))), image)
    assert jnp.array_equal(jnp.round(scale_value(image, jnp.float32(1))), image)


@given(byte, byte, byte, gain)
def test_value_alone_equals_hsv_with_that_gain(b, g, r, value):
    image, value = pixel(b, g, r), jnp.float32(value)
    full = hsv(image, jnp.array([1, 1, value], jnp.float32))
    assert np.allclose(scale_value(image, value), full, atol=1e-3)


@pytest.mark.parametrize("level", [0, 100, 255])
def test_grey_stays_grey(level):
    image = pixel(level, level, level)
    assert np.ptp(hsv(image, jnp.array([1.3, 1.9, 0.8]))) == 0
