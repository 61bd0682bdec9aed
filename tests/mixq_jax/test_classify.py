# SPDX-License-Identifier: Apache-2.0
"""Cross-entropy, accuracy and the loss that a head asks for."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixq_jax import classify, detect, task
from mixq_jax.nets import ultranet, vgg_tiny

VGG = vgg_tiny(16, channels=(4,) * 6)
NET = ultranet(32, 64, channels=(4,) * 8)


@given(st.sampled_from((1, 6)), st.integers(0, 99))
def test_cross_entropy_is_its_definition(count, seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 3, (count, 1, 1, 10)).astype(np.float32)
    labels, weights = rng.integers(0, 10, count), rng.uniform(0, 2, count).astype(np.float32)
    found = classify.loss(jnp.asarray(scores), jnp.asarray(labels), jnp.asarray(weights))
    shares = np.exp(scores[:, 0, 0].astype(float))
    shares /= shares.sum(-1, keepdims=True)
    expected = -(weights * np.log(shares[np.arange(count), labels])).mean()
    assert float(found.total) == pytest.approx(expected, rel=1e-4, abs=1e-6)  # float32 sums
    assert float(found.accuracy) == pytest.approx((shares.argmax(-1) == labels).mean())


def test_the_first_of_equal_scores_wins():
    scores = jnp.zeros((2, 1, 1, 4)).at[1, 0, 0, 2:].set(1.0)
    assert classify.decide(scores).tolist() == [0, 2]


def test_the_head_decides_the_loss():
    scores, labels, weights = jnp.ones((3, 1, 1, 10)), jnp.arange(3), jnp.ones(3)
    gains = detect.LossGains()
    known = task.loss(VGG, scores, labels, weights, gains)
    assert float(known.total) == pytest.approx(np.log(10), rel=1e-6)
    assert set(known.terms) == {"accuracy"}
    outputs, boxes = jnp.ones((3, 2, 4, 36)), jnp.full((3, 4), 0.4)
    found = task.loss(NET, outputs, boxes, weights, gains)
    assert float(found.total) == float(detect.loss(NET, outputs, boxes, weights, gains).total)
    assert float(sum(found.terms.values())) == pytest.approx(float(found.total), rel=1e-6)
    assert (task.score_name(VGG), task.score_name(NET)) == ("accuracy", "iou")
