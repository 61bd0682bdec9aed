# SPDX-License-Identifier: Apache-2.0
"""Boxes, losses and decoding against definitions, brute force and each other."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixq_jax import detect
from mixq_jax.nets import ultranet

pytestmark = pytest.mark.usefixtures("strict")

SPEC = ultranet(32, 64, channels=(4,) * 8)  # grid 2 x 4, stride 16, anchors of 4 pixels
GRID = (2, 4)
decode = jax.jit(lambda y: detect.decode(SPEC, y))
BOXES = jnp.array([[0.3, 0.6, 0.2, 0.3], [0.8, 0.2, 0.1, 0.5]], jnp.float32)
ONES = jnp.ones(2, jnp.float32)
sixteenths = st.integers(0, 16)


def head(seed: int = 0, n: int = 2) -> jax.Array:
    y = np.random.default_rng(seed).standard_normal((n, *GRID, 36))
    return jnp.asarray(y, jnp.float32)


@jax.jit
def loss_and_slope(y, boxes, weights):
    """Return the loss of two images and the gradient of its total to the head's output."""

    def objective(y):
        loss = detect.loss(SPEC, y, boxes, weights)
        return loss.total, loss

    slope, loss = jax.grad(objective, has_aux=True)(y)
    return loss, slope


def corners_to_box(x0, y0, x1, y1):
    return (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0


@given(st.lists(st.tuples(*[sixteenths] * 4), min_size=16, max_size=16))
def test_iou_counts_cells(corners):
    """Boxes with corners on a grid of 1/16: overlap and union are numbers of grid cells."""
    boxes, masks = [], []
    for a, b, c, d in corners:
        (x0, x1), (y0, y1) = sorted((a, b)), sorted((c, d))
        boxes.append([v / 16 for v in corners_to_box(x0, y0, x1, y1)])
        mask = np.zeros((16, 16), bool)
        mask[y0:y1, x0:x1] = True
        masks.append(mask)
    boxes = jnp.array(boxes, jnp.float32)
    got = np.asarray(detect.iou(boxes[:8], boxes[8:]))
    for value, first, second in zip(got, masks[:8], masks[8:], strict=True):
        union = (first | second).sum()
        assert value == pytest.approx((first & second).sum() / union if union else 0, abs=1e-5)


def naive_ciou(a, b) -> float:
    """Zheng et al. 2020, equations 10 to 12, in Python floats."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = map(float, a), map(float, b)
    across = min(ax + aw / 2, bx + bw / 2) - max(ax - aw / 2, bx - bw / 2)
    down = min(ay + ah / 2, by + bh / 2) - max(ay - ah / 2, by - bh / 2)
    overlap = max(across, 0) * max(down, 0)
    iou = overlap / (aw * ah + bw * bh - overlap)
    hull_w = max(ax + aw / 2, bx + bw / 2) - min(ax - aw / 2, bx - bw / 2)
    hull_h = max(ay + ah / 2, by + bh / 2) - min(ay - ah / 2, by - bh / 2)
    distance = ((ax - bx) ** 2 + (ay - by) ** 2) / (hull_w**2 + hull_h**2)
    v = 4 / np.pi**2 * (np.arctan(bw / bh) - np.arctan(aw / ah)) ** 2
    return iou - distance - (v * v / (1 - iou + v) if v else 0)


def test_ciou_equals_its_formula():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.1, 0.9, (2, 50, 4)).astype(np.float32)
    expected = [naive_ciou(*pair) for pair in zip(a, b, strict=True)]
    np.testing.assert_allclose(detect.ciou(jnp.asarray(a), jnp.asarray(b)), expected, atol=1e-5)


def test_ciou_of_equal_boxes_is_one_and_flat():
    value, gradient = jax.jit(jax.value_and_grad(lambda a: detect.ciou(a, BOXES).sum()))(BOXES)
    assert float(value) == pytest.approx(2, abs=1e-5)
    assert np.isfinite(gradient).all()


def test_alpha_carries_no_gradient():
    """The slope in the width is that of the formula with alpha held constant."""
    a, b = jnp.array([0.5, 0.5, 0.2, 0.4]), jnp.array([0.5, 0.5, 0.4, 0.3])
    slope = float(jax.jit(jax.grad(lambda a: detect.ciou(a, b)))(a)[2])
    aw, ah, bw, bh = 0.2, 0.4, 0.4, 0.3
    inter, union = aw * bh, aw * ah + bw * bh - aw * bh
    d_iou = (bh * union - inter * (ah - bh)) / union**2
    angle = np.arctan(bw / bh) - np.arctan(aw / ah)
    v = 4 / np.pi**2 * angle**2
    alpha = v / (1 - inter / union + v)
    d_v = 4 / np.pi**2 * 2 * angle * -(1 / ah) / (1 + (aw / ah) ** 2)
    assert slope == pytest.approx(d_iou - alpha * d_v, rel=1e-4)


def encode(boxes: np.ndarray, confidence: float = 6.0) -> jax.Array:
    """Return a head output that says exactly `boxes`, by the inverse of the decoding formulas."""
    y = np.full((len(boxes), *GRID, 6, 6), -confidence)
    for n, (cx, cy, w, h) in enumerate(boxes):
        column, row = int(cx * GRID[1]), int(cy * GRID[0])
        inside = np.array([cx * GRID[1] - column, cy * GRID[0] - row])
        size = np.array([w * SPEC.width, h * SPEC.height]) / SPEC.head.anchor_pixels
        y[n, row, column, :, :2] = np.log(inside / (1 - inside))
        y[n, row, column, :, 2:4] = np.log(size)
        y[n, row, column, :, 4] = confidence
    return jnp.asarray(y.reshape(len(boxes), *GRID, 36), jnp.float32)


def test_decoding_inverts_encoding():
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.uniform(0.02, 0.98, (20, 2)), rng.uniform(0.02, 0.9, (20, 2))], 1)
    found, confidence = decode(encode(boxes))
    np.testing.assert_allclose(found, boxes, atol=1e-5)
    np.testing.assert_allclose(confidence, 1 / (1 + np.exp(-6)), rtol=1e-5)


def test_decoding_averages_anchors_of_the_best_cell():
    y = np.zeros((1, *GRID, 6, 6), np.float32)
    y[..., 4] = -1
    y[0, 1, 2, :, 4] = [9, 9, -9, -9, -9, -9]  # mean probability 1/3 beats 0.27 elsewhere
    y[0, 1, 2, :, 2] = np.log(np.arange(1, 7))
    boxes, confidence = decode(jnp.asarray(y.reshape(1, *GRID, 36)))
    np.testing.assert_allclose(boxes[0], [2.5 / 4, 1.5 / 2, 3.5 * 4 / 64, 4 / 32], rtol=1e-5)
    np.testing.assert_allclose(confidence, 1 / 3, rtol=1e-3)


def naive_loss(y, boxes, weights) -> tuple[float, float]:
    """Return (box, objectness) by loops over images, cells and anchors."""
    raw = np.asarray(y, np.float64).reshape(len(y), *GRID, 6, 6)
    errors, bce = [], []
    for n, (cx, cy, w, h) in enumerate(np.asarray(boxes, np.float64)):
        here = (int(cy * GRID[0]), int(cx * GRID[1])) if weights[n] > 0 else None
        for row, column in np.ndindex(*GRID):
            for t in raw[n, row, column]:
                target = float((row, column) == here)
                p = 1 / (1 + np.exp(-t[4]))
                image_weight = weights[n] if weights[n] > 0 else 1
                bce.append(-image_weight * (np.log(p) if target else np.log(1 - p)))
                if target:
                    centre = 1 / (1 + np.exp(-t[:2])) + [column, row]
                    size = np.exp(t[2:4]) * SPEC.head.anchor_pixels / 16
                    truth = np.array([cx, cy, w, h]) * [4, 2, 4, 2]
                    errors.append(1 - naive_ciou([*centre, *size], truth))
    gain = len(y) / 64
    return gain * 3.54 * np.sum(errors) / max(len(errors), 1), gain * 64.3 * np.mean(bce)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.5, 1.5), (0.0, 1.0), (0.0, 0.0)])
def test_loss_equals_loops(weights):
    y = head()
    got, _ = loss_and_slope(y, BOXES, jnp.array(weights, jnp.float32))
    box, objectness = naive_loss(y, BOXES, weights)
    assert float(got.box) == pytest.approx(box, rel=1e-5)
    assert float(got.objectness) == pytest.approx(objectness, rel=1e-5)
    assert float(got.total) == pytest.approx(box + objectness, rel=1e-5)


def test_gains_scale_their_terms():
    plain, _ = loss_and_slope(head(), BOXES, ONES)
    gains = detect.LossGains(box=2 * 3.54, objectness=64.3 / 4)
    scaled = jax.jit(lambda y: detect.loss(SPEC, y, BOXES, ONES, gains))(head())
    assert float(scaled.box) == pytest.approx(2 * float(plain.box), rel=1e-6)
    assert float(scaled.objectness) == pytest.approx(float(plain.objectness) / 4, rel=1e-6)


def test_centres_on_the_far_edge_belong_to_the_last_cell():
    boxes = jnp.array([[1.0, 1.0, 0.1, 0.1]], jnp.float32)
    slope = jax.jit(jax.grad(lambda y: detect.loss(SPEC, y, boxes, ONES[:1]).box))(head(n=1))
    touched = np.abs(np.asarray(slope)).sum(-1)[0] > 0
    assert np.argwhere(touched).tolist() == [[GRID[0] - 1, GRID[1] - 1]]


@pytest.mark.parametrize(
    "lost", [(0.0, 0.0, 0.0, 0.0), (0.0, 0.4, 0.0, 0.3), (1.2, -3.0, 0.1, 0.1)]
)
def test_an_image_without_its_object_is_all_negative(lost):
    """A box that left the frame may be empty or outside; nothing of it reaches the loss."""
    weights = jnp.array([1.0, 0.0], jnp.float32)
    boxes = jnp.stack([BOXES[0], jnp.array(lost, jnp.float32)])

    got, slope = loss_and_slope(head(), boxes, weights)
    expected, _ = loss_and_slope(head(), BOXES, weights)
    assert [float(v) for v in got] == [float(v) for v in expected]
    assert np.isfinite(slope).all()
    confidence = np.asarray(slope).reshape(2, *GRID, 6, 6)
    assert (confidence[1, ..., 4] > 0).all()
    assert not confidence[1, ..., :4].any()


def test_huge_logits_leave_finite_gradients():
    """exp(t) of a diverged head overflows; its clamp must not turn 0 times infinity into NaN."""
    y = head().at[..., 2::6].set(200.0).at[..., 3::6].set(200.0)
    loss, slope = loss_and_slope(y, BOXES, ONES)
    assert np.isfinite(float(loss.total))
    assert np.isfinite(slope).all()
    boxes, _ = decode(y)
    np.testing.assert_allclose(boxes[:, 2], 1e3 * 4 / 64, rtol=1e-4)


def test_descending_the_loss_finds_the_boxes():
    adam = optax.adam(0.05)

    def objective(y):
        return detect.loss(SPEC, y, BOXES, ONES).total

    @jax.jit
    def descend(y):
        def step(carry, _):
            y, state = carry
            updates, state = adam.update(jax.grad(objective)(y), state)
            return (y + updates, state), objective(y)

        (y, _), losses = jax.lax.scan(step, (y, adam.init(y)), None, 400)
        return y, losses

    with jax.numpy_dtype_promotion("standard"):  # optax relies on it
        end, losses = descend(head())
    assert losses[-1] < 0.02 * losses[0]
    boxes, _ = decode(end)
    assert (np.asarray(detect.iou(boxes, BOXES)) > 0.9).all()


def test_the_target_itself_has_almost_no_loss():
    loss, _ = loss_and_slope(encode(np.asarray(BOXES), 12.0), BOXES, ONES)
    assert float(loss.total) < 1e-3
