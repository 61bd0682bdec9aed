# SPDX-License-Identifier: Apache-2.0
"""Convolution in full float32, each product and gradient in the form that is fastest for its shape.

Integers stay exact while sums of |products| are below 2^24, whatever the form: all forms add the
same products, and zeros. `Precision.HIGHEST` keeps accelerators from rounding to tf32 or bfloat16.
The gradients are written as plain NHWC convolutions: the forms that automatic differentiation
chooses leave XLA's fast CPU kernels inside `lax.scan` (a filter gradient there takes 50 times
longer).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

FEW_CHANNELS = 4
IN_COLUMNS, OUT_COLUMNS = 2, 4  # output columns computed together for few inputs, few outputs
DIMENSIONS = ("NHWC", "HWIO", "NHWC")
PRECISION = jax.lax.Precision.HIGHEST


def convolve(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "k k cg m"],
    stride: int = 1,
    groups: int = 1,
) -> Float[Array, "n h2 w2 m"]:
    """Return the cross-correlation with zero padding k // 2 on every side."""
    side = kernel.shape[0]
    if stride != 1 or groups != 1 or side % 2 == 0:
        return _convolve(x, kernel, side // 2, (stride, stride), groups)
    if side == 1:
        # As a product: partitioned 1x1 convolutions have given wrong results (decisions.md).
        return jnp.einsum("nhwc,cm->nhwm", x, kernel[0, 0], precision=PRECISION)
    return _same(x, kernel)


@jax.custom_vjp
def _same(x: Array, kernel: Array) -> Array:
    """Convolve with an odd kernel at stride 1, output of the input's size."""
    side, _, c, m = kernel.shape
    if c <= FEW_CHANNELS and x.shape[2] % IN_COLUMNS == 0:
        return _few_inputs(x, kernel)
    if m <= FEW_CHANNELS and x.shape[2] % OUT_COLUMNS == 0:
        return _few_outputs(x, kernel)
    return _convolve(x, kernel, side // 2)


def _same_fwd(x, kernel):
    return _same(x, kernel), (x, kernel)


def _same_bwd(residuals, g):
    x, kernel = residuals
    pad = kernel.shape[0] // 2
    d_x = _same(g, kernel[::-1, ::-1].transpose(0, 1, 3, 2))
    # Channels as batch, images as channels: [C, H, W, N] * [H, W, N, M] -> [C, k, k, M].
    d_kernel = _convolve(x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3), pad)
    return d_x, d_kernel.transpose(1, 2, 0, 3)


_same.defvjp(_same_fwd, _same_bwd)


def _convolve(
    x: Array, kernel: Array, pad: int, strides: tuple[int, int] = (1, 1), groups: int = 1
) -> Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        [(pad, pad)] * 2,
        dimension_numbers=DIMENSIONS,
        feature_group_count=groups,
        precision=PRECISION,
    )


def _few_inputs(x: Array, kernel: Array) -> Array:
    """Compute pairs of output columns per window of a one-channel image of width W C.

    A 3x3 window of 3 channels is too narrow for vector units; one of 3 x 12 that yields 2 columns
    of every output channel keeps them busy (about 4 times faster on CPU).
    """
    side, _, c, m = kernel.shape
    n, h, w, _ = x.shape
    pad = side // 2
    y = jax.lax.conv_general_dilated(
        x.reshape(n, h, w * c, 1),
        _shifted(kernel, IN_COLUMNS).reshape(side, -1, 1, IN_COLUMNS * m),
        (1, IN_COLUMNS * c),
        [(pad, pad), (pad * c, pad * c)],
        dimension_numbers=DIMENSIONS,
        precision=PRECISION,
    )
    return y.reshape(n, h, w, m)


def _few_outputs(x: Array, kernel: Array) -> Array:
    """Compute four output columns per window, as channels: 4 m outputs instead of m."""
    side, _, c, m = kernel.shape
    n, h, w, _ = x.shape
    pad = side // 2
    window = _shifted(kernel, OUT_COLUMNS).reshape(side, -1, c, OUT_COLUMNS * m)
    y = _convolve(x, window, pad, (1, OUT_COLUMNS))
    return y.reshape(n, h, w, m)


def _shifted(kernel: Array, columns: int) -> Array:
    """Return `[k, k + columns - 1, c, columns, m]`: the kernel for each of `columns` outputs."""
    pads = [((0, 0), (j, columns - 1 - j), (0, 0), (0, 0)) for j in range(columns)]
    return jnp.stack([jnp.pad(kernel, pad) for pad in pads], 3)
