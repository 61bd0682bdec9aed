# SPDX-License-Identifier: Apache-2.0
"""Classification: cross-entropy and top-1 accuracy of scores on a 1x1 map."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class ClassifyLoss(NamedTuple):
    """Mean cross-entropy (nats) and the fraction of the batch that is right."""

    total: Float[Array, ""]
    accuracy: Float[Array, ""]


def loss(
    y: Float[Array, "n 1 1 classes"], labels: Int[Array, " n"], weights: Float[Array, " n"]
) -> ClassifyLoss:
    """Return the mean of weights[n] (-log softmax(y[n])[label]), and the accuracy."""
    scores = y[:, 0, 0]
    logs = jax.nn.log_softmax(scores)
    taken = jnp.take_along_axis(logs, labels[:, None], 1)[:, 0]
    return ClassifyLoss(-(weights * taken).mean(), (scores.argmax(-1) == labels).mean())


def decide(y: Float[Array, "n 1 1 classes"]) -> Int[Array, " n"]:
    """Return the class with the highest score; of several the first, as hardware would."""
    return y[:, 0, 0].argmax(-1)
