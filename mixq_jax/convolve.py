# SPDX-License-Identifier: Apache-2.0
"""Convolution in full float32, in the form that is fastest for its shape.

Integers stay exact while sums of |products| are below 2^24, whatever the form: all forms add the
same products, and zeros. `Precision.HIGHEST` keeps accelerators from rounding to tf32 or bfloat16.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

FEW_CHANNELS = 4
COLUMNS = 4  # output columns computed together for few-channel inputs
DIMENSIONS = ("NHWC", "HWIO", "NHWC")
PRECISION = jax.lax.Precision.HIGHEST


def convolve(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "k k cg m"],
    stride: int = 1,
    groups: int = 1,
) -> Float[Array, "n h2 w2 m"]:
    """Return the cross-correlation with zero padding k // 2 on every side."""
    side, channels = kernel.shape[0], x.shape[-1]
    if side == 1 and groups == 1 and stride == 1:
        # As a product: partitioned 1x1 convolutions have given wrong results (decisions.md).
        return jnp.einsum("nhwc,cm->nhwm", x, kernel[0, 0], precision=PRECISION)
    plain = stride == 1 and groups == 1 and side > 1
    if plain and channels <= FEW_CHANNELS and x.shape[2] % COLUMNS == 0:
        return _few_channels(x, kernel)
    padding = [(side // 2, side // 2)] * 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=DIMENSIONS,
        feature_group_count=groups,
        precision=PRECISION,
    )


def _few_channels(x: Array, kernel: Array) -> Array:
    """Compute `COLUMNS` output columns per window of a one-channel image of width W C.

    A 3x3 window of 3 channels is too narrow for vector units; one of 3 x 18 that yields 4 columns
    of every output channel keeps them busy (about 4 times faster on CPU, twice the arithmetic).
    """
    side, _, c, m = kernel.shape
    n, h, w, _ = x.shape
    rows = kernel.reshape(side, side * c, m)
    window = jnp.stack(
        [
            jnp.pad(rows, ((0, 0), (column * c, (COLUMNS - 1 - column) * c), (0, 0)))
            for column in range(COLUMNS)
        ],
        2,
    )
    y = jax.lax.conv_general_dilated(
        x.reshape(n, h, w * c, 1),
        window.reshape(side, -1, 1, COLUMNS * m),
        (1, COLUMNS * c),
        [(side // 2, side // 2), (side // 2 * c, side // 2 * c)],
        dimension_numbers=DIMENSIONS,
        precision=PRECISION,
    )
    return y.reshape(n, h, w, m)
