# SPDX-License-Identifier: Apache-2.0
"""Every form of the convolution against the plain one: exact on integers, gradients too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixq_jax.convolve import convolve

SHAPES = [  # height, width, in, out, side
    (6, 8, 3, 5, 3),  # few channels, two columns a window
    (5, 12, 1, 4, 5),
    (6, 7, 3, 5, 3),  # few channels, but columns do not come in pairs
    (5, 6, 8, 4, 3),
    (4, 8, 8, 3, 3),  # few outputs
    (6, 8, 5, 2, 5),
    (4, 6, 7, 9, 1),
]


def plain(x, kernel, stride=1, groups=1):
    pad = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(pad, pad)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        precision="highest",
    )


def integers(seed, *shape, low=-7, high=8):
    values = np.random.default_rng(seed).integers(low, high, shape)
    return jnp.asarray(values, jnp.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_integers_are_exact(shape):
    h, w, c, m, k = shape
    x, kernel = integers(0, 2, h, w, c, low=0, high=256), integers(1, k, k, c, m)
    assert (convolve(x, kernel) == plain(x, kernel)).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_exact_on_integers(shape):
    h, w, c, m, k = shape
    x, kernel, g = integers(0, 2, h, w, c), integers(1, k, k, c, m), integers(2, 2, h, w, m)
    ours, theirs = (jax.vjp(f, x, kernel)[1](g) for f in (convolve, plain))
    for a, b in zip(ours, theirs, strict=True):
        assert (a == b).all()


@pytest.mark.parametrize(("stride", "groups"), [(2, 1), (1, 4), (2, 4)])
def test_stride_and_groups(stride, groups):
    x, kernel = integers(0, 2, 6, 6, 4), integers(1, 3, 3, 4 // groups, 8)
    assert (convolve(x, kernel, stride, groups) == plain(x, kernel, stride, groups)).all()
