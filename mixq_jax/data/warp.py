# SPDX-License-Identifier: Apache-2.0
"""Affine warps of one image and of the box in it.

Coordinates are pixels with the origin at the image's top left corner, so that pixel (i, j) has its
centre at (x, y) = (j + 0.5, i + 0.5). A warp is a 2x3 matrix that takes a source point (x, y, 1) to
where it lands.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

Scalar = Float[Array, ""]
Matrix = Float[Array, "2 3"]


def affine(
    angle_deg: Scalar,
    zoom: Scalar,
    shear_deg: Float[Array, "2"],
    shift: Float[Array, "2"],
    height: int,
    width: int,
) -> Matrix:
    """Return the warp that turns and zooms, then shears along x and y, then shifts.

    All but the shift (x, y in pixels) leave the centre of the `height` x `width` image in place.
    Positive angles turn clockwise as seen, y pointing down.
    """
    angle = jnp.deg2rad(angle_deg)
    cosine, sine = zoom * jnp.cos(angle), zoom * jnp.sin(angle)
    rotation = jnp.array([[cosine, -sine], [sine, cosine]])
    slope = jnp.tan(jnp.deg2rad(shear_deg))
    linear = (jnp.eye(2, dtype=slope.dtype) + jnp.diag(slope)[:, ::-1]) @ rotation
    centre = jnp.array([width / 2, height / 2], shift.dtype)
    return jnp.column_stack([linear, centre + shift - linear @ centre])


def warp_image(
    image: Float[Array, "h w c"], matrix: Matrix, border: float
) -> Float[Array, "h w c"]:
    """Return `image` moved by `matrix`, bilinear, `border` where it does not reach."""
    height, width, channels = image.shape
    (a, b, tx), (c, d, ty) = matrix
    rows, columns = (jnp.arange(n, dtype=image.dtype) + 0.5 for n in (height, width))
    y, x = jnp.meshgrid(rows, columns, indexing="ij")
    dx, dy = x.ravel() - tx, y.ravel() - ty
    column = (d * dx - b * dy) / (a * d - b * c) - 0.5
    row = (a * dy - c * dx) / (a * d - b * c) - 0.5
    left, top = jnp.floor(column), jnp.floor(row)

    def neighbour(right: int, down: int) -> Float[Array, "p c"]:
        j, i = left.astype(int) + right, top.astype(int) + down
        inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
        index = jnp.clip(i, 0, height - 1) * width + jnp.clip(j, 0, width - 1)
        pixels = image.reshape(-1, channels)[index]
        return jnp.where(inside[:, None], pixels, border)

    across, down = (column - left)[:, None], (row - top)[:, None]
    upper = neighbour(0, 0) * (1 - across) + neighbour(1, 0) * across
    lower = neighbour(0, 1) * (1 - across) + neighbour(1, 1) * across
    return (upper * (1 - down) + lower * down).reshape(image.shape)


def warp_box(
    box: Float[Array, "4"], matrix: Matrix, height: int, width: int
) -> tuple[Float[Array, "4"], Scalar]:
    """Return the hull of the moved `box` inside the frame, and the part of its area still shown.

    Boxes are (cx, cy, w, h) in units of the frame. The part compares areas after and before, so
    zooming in may bring it above 1.
    """
    size = jnp.array([width, height], box.dtype)
    centre, half = box[:2] * size, box[2:] * size / 2
    signs = jnp.array([[-1, 1, -1, 1], [-1, -1, 1, 1]], box.dtype)
    corners = matrix[:, :2] @ (centre[:, None] + half[:, None] * signs) + matrix[:, 2:]
    low = jnp.clip(corners.min(1), 0.0, size)
    high = jnp.clip(corners.max(1), 0.0, size)
    shown = (high - low).prod() / (4 * half.prod())
    return jnp.concatenate([(low + high) / (2 * size), (high - low) / size]), shown
