# SPDX-License-Identifier: Apache-2.0
"""The loop cuts, stops and resumes where it says."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixq_jax import loop
from mixq_jax.data.augment import AugmentConfig
from mixq_jax.data.dacsdc import Dataset
from mixq_jax.source import batch_rows, to_device


def dataset(n: int = 6) -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset(
        rng.integers(0, 256, (n, 4, 6, 3), np.uint8),
        rng.uniform(0.2, 0.5, (n, 4)).astype(np.float32),
        rng.uniform(0.5, 1.5, n).astype(np.float32),
        tuple(map(str, range(n))),
    )


def test_rows_are_gathered_and_widened(strict):
    data, rows = dataset(), np.array([4, 0, 4], np.int32)
    batch = loop.take(to_device(data), jnp.asarray(rows))
    assert {v.dtype for v in batch} == {jnp.dtype(jnp.float32)}
    for got, source in zip(batch, (data.images, data.targets, data.weights), strict=True):
        assert np.array_equal(got, source[rows])


def test_weights_of_dropped_boxes_are_zero_and_others_stay(strict):
    data = to_device(dataset())
    batch = loop.take(data, jnp.arange(6))
    augmented = jax.jit(loop.augmented, static_argnums=2)
    same = augmented(jax.random.key(0), batch, AugmentConfig(flip=0.0))
    for before, after in zip(batch, same, strict=True):
        assert np.array_equal(before, after)
    dropping = AugmentConfig(flip=0.0, translate=1e-6, min_side_px=100.0)
    assert not augmented(jax.random.key(0), batch, dropping).weights.any()


class ToyMetrics(NamedTuple):
    total: jax.Array
    seen: jax.Array


class Toy:
    """A step that sums images, becomes NaN at step `breaks`, and counts its traces."""

    def __init__(self, breaks: int = -1):
        self.breaks, self.traces = breaks, 0

    def __call__(self, state, batch, hyper):
        self.traces += 1
        total = jnp.where(state.step == self.breaks, jnp.nan, batch.images.sum() * hyper)
        params = {"net": state.params["net"] + total}
        state = state._replace(params=params, step=state.step + 1)
        return state, ToyMetrics(total, batch.weights)


def start(step: int = 0) -> loop.TrainState:
    return loop.TrainState({"net": jnp.float32(0)}, {}, (), jnp.int32(step))


def train(toy, state, steps, chunk, observe=lambda *_: None):
    return loop.train(
        toy,
        state,
        to_device(dataset()),
        jnp.float32(0.5),
        batch=4,
        seed=3,
        steps=steps,
        chunk=chunk,
        observe=observe,
    )


def test_training_visits_every_step_with_its_batch():
    data, seen = dataset(), []

    def observe(state, done):
        assert int(state.step) == done.first + len(done.metrics.total)
        assert done.waited_seconds >= 0
        rows = enumerate(zip(*done.metrics, strict=True))
        seen.extend((done.first + i, total, w) for i, (total, w) in rows)

    end = train(Toy(), start(), steps=7, chunk=3, observe=observe)
    assert [step for step, *_ in seen] == list(range(7))
    rows = batch_rows(6, 4, 3, 0, 7)
    sums = [0.5 * data.images[r].astype(np.float64).sum() for r in rows]
    assert [total for _, total, _ in seen] == pytest.approx(sums)
    assert np.array_equal([w for *_, w in seen], data.weights[rows])
    assert float(end.params["net"]) == pytest.approx(sum(sums))
    assert int(end.step) == 7


def test_a_step_is_traced_once_for_each_length_of_chunk():
    toy = Toy()
    train(toy, start(), steps=12, chunk=3)
    assert toy.traces == 1
    toy = Toy()
    train(toy, start(), steps=11, chunk=3)
    assert toy.traces == 2


def test_a_run_that_is_over_does_nothing():
    toy = Toy()
    end = train(toy, start(5), steps=5, chunk=3)
    assert (toy.traces, int(end.step)) == (0, 5)


@pytest.mark.parametrize("breaks", [0, 3, 4])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(breaks):
    observed = []
    message = (
        rf"^loss is not finite at step {breaks}; "
        r"lower the learning rate, lam or the box gain$"
    )
    with pytest.raises(FloatingPointError, match=message):
        train(Toy(breaks), start(), 9, 3, lambda state, done: observed.append(done.first))
    assert observed == list(range(0, breaks - 2, 3))


def test_a_resumed_run_ends_like_an_uninterrupted_one():
    whole = train(Toy(), start(), 9, 3)
    half = train(Toy(), start(), 6, 3)
    assert float(train(Toy(), half, 9, 3).params["net"]) == float(whole.params["net"])
