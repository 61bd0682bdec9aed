# SPDX-License-Identifier: Apache-2.0
"""Single-object detection: targets, loss, decoding and the IoU metric.

Boxes are normalised (cx, cy, w, h) in [0, 1]. The head gives `[N, gh, gw, 6 anchors]`; per anchor
(tx, ty, tw, th, confidence, class). Formulas: the YOLO-style loss of DeepBurning-MixQ with CIoU
(Zheng et al., AAAI 2020).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mixq_jax.spec import DetectHead, NetSpec

NOMINAL_BATCH = 64
MAX_LOG_SIZE = math.log(1e3)  # clamp of tw, th: exp(t) is at most 1e3 anchors


@dataclass(frozen=True)
class LossGains:
    """Weights of the two terms; the defaults are the published ones."""

    box: float = 3.54
    objectness: float = 64.3


class DetectLoss(NamedTuple):
    """Total loss and its two terms (already weighted)."""

    total: Float[Array, ""]
    box: Float[Array, ""]
    objectness: Float[Array, ""]


def split_head(y: Float[Array, "n gh gw m"], head: DetectHead) -> Float[Array, "n gh gw anchors 6"]:
    return y.reshape(*y.shape[:3], head.anchors, 6)


def to_boxes(raw: Float[Array, "... 6"], cell: Float[Array, "... 2"], grid, anchor) -> Array:
    """Return normalised boxes: centre = (sigmoid(t) + cell) / grid, size = exp(t) anchor / grid."""
    centre = (jax.nn.sigmoid(raw[..., :2]) + cell) / grid
    size = jnp.exp(jnp.minimum(raw[..., 2:4], MAX_LOG_SIZE)) * anchor / grid
    return jnp.concatenate([centre, size], -1)


def _grid(spec: NetSpec, y: Array) -> tuple[Array, float]:
    """Return (gw, gh) and the anchor's side in cells."""
    grid = jnp.array([y.shape[2], y.shape[1]], jnp.float32)
    return grid, spec.head.anchor_pixels * y.shape[2] / spec.width


def iou(a: Float[Array, "*n 4"], b: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Return intersection over union of centre/size boxes (1e-16 guards empty unions)."""
    a_lo, a_hi = a[..., :2] - a[..., 2:] / 2, a[..., :2] + a[..., 2:] / 2
    b_lo, b_hi = b[..., :2] - b[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2
    overlap = jnp.maximum(jnp.minimum(a_hi, b_hi) - jnp.maximum(a_lo, b_lo), 0).prod(-1)
    union = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - overlap
    return overlap / (union + 1e-16)


def ciou(a: Float[Array, "*n 4"], b: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Return complete IoU: IoU - distance^2 / diagonal^2 - alpha v (alpha without gradient)."""
    a_lo, a_hi = a[..., :2] - a[..., 2:] / 2, a[..., :2] + a[..., 2:] / 2
    b_lo, b_hi = b[..., :2] - b[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2
    hull = jnp.maximum(a_hi, b_hi) - jnp.minimum(a_lo, b_lo)
    distance = jnp.square(a[..., :2] - b[..., :2]).sum(-1)
    angle = jnp.arctan(b[..., 2] / b[..., 3]) - jnp.arctan(a[..., 2] / a[..., 3])
    v = 4 / jnp.pi**2 * jnp.square(angle)
    overlap = iou(a, b)
    alpha = jax.lax.stop_gradient(v / (1 - overlap + v + 1e-16))
    return overlap - distance / (jnp.square(hull).sum(-1) + 1e-16) - alpha * v


def loss(
    spec: NetSpec,
    y: Float[Array, "n gh gw m"],
    boxes: Float[Array, "n 4"],
    weights: Float[Array, " n"],
    gains: LossGains = LossGains(),
) -> DetectLoss:
    """Return (Lbox + Lobj) batch / 64.

    Lbox = gains.box mean over positives of 1 - CIoU, positives = every anchor of the cell with
    the box's centre. Lobj = gains.objectness mean over all anchors of weights[n] BCE(confidence,
    positive). An image of weight 0 has no object (its box left the frame): it is all negative,
    with weight 1.
    """
    raw, (grid, anchor) = split_head(y, spec.head), _grid(spec, y)
    present = (weights > 0).astype(y.dtype)
    # A box that left the frame may be empty: its CIoU is not finite, and nor is 0 times that.
    boxes = jnp.where(weights[:, None] > 0, boxes, 0.5)
    cell = jnp.clip(jnp.floor(boxes[:, :2] * grid), 0, grid - 1)
    row, column = cell[:, 1].astype(jnp.int32), cell[:, 0].astype(jnp.int32)
    positive = raw[jnp.arange(len(raw)), row, column]
    predicted = to_boxes(positive, cell[:, None], grid, anchor)
    # In grid units, as published: CIoU is not invariant to different scales of x and y.
    unit = jnp.concatenate([grid, grid])
    error = (1 - ciou(predicted * unit, boxes[:, None] * unit)).mean(-1)
    box = gains.box * (present * error).sum() / jnp.maximum(present.sum(), 1)
    target = jnp.zeros(raw.shape[:3], y.dtype).at[jnp.arange(len(raw)), row, column].set(present)
    logits = raw[..., 4]
    bce = jnp.maximum(logits, 0) - logits * target[..., None] + jnp.log1p(jnp.exp(-jnp.abs(logits)))
    image = jnp.where(weights > 0, weights, 1.0)[:, None, None, None]
    objectness = gains.objectness * (image * bce).mean()
    gain = len(y) / NOMINAL_BATCH
    return DetectLoss(gain * (box + objectness), gain * box, gain * objectness)


def decode(spec: NetSpec, y: Float[Array, "n gh gw m"]) -> tuple[Array, Array]:
    """Return the best box `[N, 4]` and its confidence `[N]`: anchors averaged, best cell taken."""
    raw, (grid, anchor) = split_head(y, spec.head), _grid(spec, y)
    rows, columns = jnp.meshgrid(jnp.arange(y.shape[1]), jnp.arange(y.shape[2]), indexing="ij")
    cell = jnp.stack([columns, rows], -1)[:, :, None].astype(y.dtype)
    boxes = to_boxes(raw, cell, grid, anchor).mean(3).reshape(len(y), -1, 4)
    logits = raw[..., 4].reshape(len(y), -1, raw.shape[3])
    if spec.head.score == "logit":
        score = logits.mean(2)
        confidence = jax.nn.sigmoid(score)
    else:
        score = confidence = jax.nn.sigmoid(logits).mean(2)
    best = score.argmax(-1)
    images = jnp.arange(len(y))
    return boxes[images, best], confidence[images, best]
