# SPDX-License-Identifier: Apache-2.0
"""Training at fixed widths: it learns, and a warm start leaves the supernet as it was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixq_jax import evaluate, finetune, loop, search
from mixq_jax.bits import FixedBits
from mixq_jax.data.augment import AugmentConfig
from mixq_jax.data.dacsdc import Dataset
from mixq_jax.optim import OptimConfig
from mixq_jax.source import to_device

BITS = FixedBits((4, 4, 6), (8, 4, 6))
CONFIG = finetune.FinetuneConfig(
    120, 4, 3, OptimConfig("adam", 0.02, bias_factor=1.0), AugmentConfig(flip=0.0)
)


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Four frames: a bright box on black, at four places."""
    images = np.zeros((4, 9, 13, 3), np.uint8)
    boxes = np.zeros((4, 4), np.float32)
    for n, (row, column) in enumerate([(0, 1), (5, 8), (1, 7), (5, 2)]):
        images[n, row : row + 3, column : column + 4] = 255
        boxes[n] = [(column + 2) / 13, (row + 1.5) / 9, 4 / 13, 3 / 9]
    return Dataset(images, boxes, np.ones(4, np.float32), ("a", "b", "c", "d"))


def train(step, state, data):
    losses = []
    state = loop.train(
        step,
        state,
        to_device(data),
        None,
        batch=CONFIG.batch,
        seed=CONFIG.seed,
        steps=CONFIG.steps,
        chunk=40,
        observe=lambda state, done: losses.extend(done.metrics.total.tolist()),
    )
    return state, losses


def test_training_learns_four_frames(small_spec, data):
    step = finetune.make_step(small_spec, CONFIG, BITS)
    state, losses = train(step, finetune.init_state(small_spec, CONFIG), data)
    assert losses[-1] < 0.2 * losses[0]
    variables = {"params": state.params["net"], "batch_stats": state.batch_stats}
    found = evaluate.evaluated(
        small_spec, evaluate.predictor(small_spec, variables, BITS), data, batch=4
    )
    assert found.score > 0.4
    assert int(state.step) == CONFIG.steps


@pytest.mark.parametrize("warm", [False, True])
def test_a_step_keeps_the_types_of_its_state(small_spec, data, warm):
    """Else the second chunk would be compiled anew."""

    def first() -> loop.TrainState:
        supernet = search.init_state(small_spec, search.SearchConfig(5, 4, seed=1))
        return finetune.init_state(
            small_spec, CONFIG, loop.variables_of(supernet) if warm else None
        )

    state, rows = jax.eval_shape(first), jax.ShapeDtypeStruct((2, 4), jnp.int32)
    run = loop.scan(finetune.make_step(small_spec, CONFIG, BITS))
    after, _ = run.eval_shape(state, to_device(data), rows, None)
    assert after == state


def test_a_warm_start_leaves_the_supernet_usable(small_spec, data):
    """Training consumes the arrays of its first state; they must not be the supernet's own."""
    supernet = search.init_state(small_spec, search.SearchConfig(5, 4, seed=1))
    warm = finetune.init_state(small_spec, CONFIG, loop.variables_of(supernet))

    def step(state, batch, hyper):
        return state._replace(step=state.step + 1), state.step

    loop.scan(step)(warm, to_device(data), jnp.zeros((1, 4), jnp.int32), None)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(supernet))


def test_a_warm_start_has_the_supernets_weights_and_a_fresh_optimiser(small_spec):
    config = search.SearchConfig(5, 4, seed=1)
    supernet = search.init_state(small_spec, config)
    supernet = supernet._replace(step=jnp.int32(5))
    warm = finetune.init_state(small_spec, CONFIG, loop.variables_of(supernet))
    assert set(warm.params) == {"net"}
    for name, values in supernet.params["net"].items():
        assert np.array_equal(warm.params["net"][name], values)
    assert int(warm.step) == 0
    cold = finetune.init_state(small_spec, CONFIG)
    assert jax.tree.structure(cold) == jax.tree.structure(warm)
    kernel = "conv0_kernel"
    assert not np.array_equal(cold.params["net"][kernel], warm.params["net"][kernel])
