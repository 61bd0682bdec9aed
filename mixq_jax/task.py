# SPDX-License-Identifier: Apache-2.0
"""What a network learns: the loss that belongs to its head."""

from typing import NamedTuple

from jaxtyping import Array, Float

from mixq_jax import classify, detect
from mixq_jax.spec import ClassifyHead, DetectHead, NetSpec


def score_name(spec: NetSpec) -> str:
    """Return what `evaluate` measures: "iou" or "accuracy"."""
    return "iou" if isinstance(spec.head, DetectHead) else "accuracy"


class TaskLoss(NamedTuple):
    """The loss and what it is made of (or other figures of the batch), by name."""

    total: Float[Array, ""]
    terms: dict[str, Float[Array, ""]]


def loss(
    spec: NetSpec,
    y: Float[Array, "n h w m"],
    targets: Array,
    weights: Float[Array, " n"],
    gains: detect.LossGains,
) -> TaskLoss:
    """Return the loss of outputs `y`; `targets` are boxes `[N, 4]` or labels `[N]`.

    `gains` weigh the terms of a detection loss, a classifier has but one.
    """
    match spec.head:
        case DetectHead():
            found = detect.loss(spec, y, targets, weights, gains)
            return TaskLoss(found.total, {"box": found.box, "objectness": found.objectness})
        case ClassifyHead():
            known = classify.loss(y, targets, weights)
            return TaskLoss(known.total, {"accuracy": known.accuracy})
