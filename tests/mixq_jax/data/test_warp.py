# SPDX-License-Identifier: Apache-2.0
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from mixq_jax.data import warp

H, W = 24, 40
affine = jax.jit(partial(warp.affine, height=H, width=W))
warp_box = jax.jit(partial(warp.warp_box, height=H, width=W))
warp_image = jax.jit(warp.warp_image)


def matrix(angle=0.0, zoom=1.0, shear=(0.0, 0.0), shift=(0.0, 0.0)):
    return affine(*(np.array(values, np.float32) for values in (angle, zoom, shear, shift)))


def noise_image(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (H, W, 3)).astype(np.float32)


def rectangle(box):
    """Return an image that is 1 inside `box` (pixel edges), 0 elsewhere."""
    xmin, ymin, xmax, ymax = box
    image = np.zeros((H, W, 1), np.float32)
    image[ymin:ymax, xmin:xmax] = 1
    return image


def normalised(xmin, ymin, xmax, ymax):
    return jnp.array([(xmin + xmax) / 2 / W, (ymin + ymax) / 2 / H, (xmax - xmin) / W,
                      (ymax - ymin) / H], jnp.float32)  # fmt: skip


def edges(box):
    cx, cy, w, h = np.asarray(box, np.float64) * [W, H, W, H]
    return np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])


moves = st.builds(
    matrix,
    angle=st.floats(-180, 180, width=32),
    zoom=st.floats(0.5, 1.5, width=32),
    shear=st.tuples(st.floats(-20, 20, width=32), st.floats(-20, 20, width=32)),
    shift=st.tuples(st.floats(-15, 15, width=32), st.floats(-15, 15, width=32)),
)
boxes = st.tuples(
    st.integers(0, W - 4), st.integers(0, H - 4), st.integers(3, 20), st.integers(3, 20)
).map(lambda b: (b[0], b[1], min(b[0] + b[2], W), min(b[1] + b[3], H)))


def test_identity_changes_nothing():
    image = noise_image()
    assert np.array_equal(warp_image(image, matrix(), 128.0), image)
    box, shown = warp_box(normalised(3, 4, 20, 10), matrix())
    assert edges(box) == pytest.approx([3, 4, 20, 10], abs=1e-4)
    assert shown == pytest.approx(1)


def test_whole_shift_moves_pixels_and_brings_in_the_border():
    image = noise_image()
    moved = warp_image(image, matrix(shift=(5, -3)), 7.0)
    assert np.array_equal(moved[: H - 3, 5:], image[3:, : W - 5])
    assert np.all(moved[H - 3 :] == 7)
    assert np.all(moved[:, :5] == 7)


def test_half_turn_reverses_both_axes():
    moved = warp_image(noise_image(), matrix(angle=180), 0.0)
    assert np.allclose(moved, noise_image()[::-1, ::-1], atol=0.01)


def test_positive_angle_turns_clockwise():
    right = rectangle((W - 8, H // 2 - 2, W - 4, H // 2 + 2))
    moved = warp_image(right, matrix(angle=45), 0.0)
    rows, _, _ = np.nonzero(np.asarray(moved) > 0.5)
    assert rows.min() > H // 2


@given(moves)
def test_image_equals_scipy(move):
    """Inside, where the two treat the border alike; float32 against float64."""
    image = noise_image()
    linear, offset = np.asarray(move[:, :2], np.float64), np.asarray(move[:, 2], np.float64)
    inverse = np.linalg.inv(linear)[::-1, ::-1]  # scipy counts (row, column) from pixel centres
    start = inverse @ (0.5 - offset[::-1]) - 0.5
    ours = np.asarray(warp_image(image, move, 50.0))
    for channel in range(3):
        theirs = ndimage.affine_transform(
            np.asarray(image[..., channel], np.float64), inverse, start, order=1,
            mode="grid-constant", cval=50.0,
        )  # fmt: skip
        assert np.allclose(ours[..., channel], theirs, atol=0.05)


@given(boxes, moves)
def test_box_holds_what_moved_and_no_more(box, move):
    """The hull of the moved pixels is the moved box up to the reach of bilinear blending."""
    rows, columns, _ = np.nonzero(np.asarray(warp_image(rectangle(box), move, 0.0)) > 0.02)
    hull, _ = warp_box(normalised(*box), move)
    xmin, ymin, xmax, ymax = edges(hull)
    reach = 1.5 * np.abs(move[:, :2]).sum(1).max() / 2 + 0.5
    if len(rows) == 0:
        assert (xmax - xmin) * (ymax - ymin) <= 4 * reach**2
        return
    assert columns.min() >= xmin - reach
    assert columns.max() + 1 <= xmax + reach
    assert rows.min() >= ymin - reach
    assert rows.max() + 1 <= ymax + reach


@given(boxes, st.integers(-10, 10), st.integers(-10, 10))
def test_shifted_box_is_clipped_to_the_frame(box, dx, dy):
    hull, shown = warp_box(normalised(*box), matrix(shift=(dx, dy)))
    xmin, ymin, xmax, ymax = box
    x0, x1 = np.clip([xmin + dx, xmax + dx], 0, W)
    y0, y1 = np.clip([ymin + dy, ymax + dy], 0, H)
    assert edges(hull) == pytest.approx([x0, y0, x1, y1], abs=1e-3)
    whole = (xmax - xmin) * (ymax - ymin)
    assert float(shown) == pytest.approx((x1 - x0) * (y1 - y0) / whole, abs=1e-3)


@given(boxes, moves)
def test_boxes_stay_inside(box, move):
    hull, shown = warp_box(normalised(*box), move)
    xmin, ymin, xmax, ymax = edges(hull)
    assert -1e-3 <= xmin <= xmax + 1e-3
    assert xmax <= W + 1e-3
    assert -1e-3 <= ymin <= ymax + 1e-3
    assert ymax <= H + 1e-3
    assert shown >= 0
