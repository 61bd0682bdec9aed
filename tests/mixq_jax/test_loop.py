# SPDX-License-Identifier: Apache-2.0
"""Batches are a function of (seed, step); the loop cuts, stops and resumes where it says."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixq_jax import loop
from mixq_jax.data.augment import AugmentConfig
from mixq_jax.data.dacsdc import Dataset

counts, batches, seeds = st.integers(1, 40), st.integers(1, 12), st.integers(0, 99)


@given(counts, batches, seeds, st.integers(0, 50), st.integers(1, 20), st.integers(0, 20))
def test_batches_are_a_function_of_seed_and_step(count, batch, seed, first, steps, cut):
    whole = loop.batch_rows(count, batch, seed, first, steps)
    cut = min(cut, steps)
    parts = [
        loop.batch_rows(count, batch, seed, first, cut),
        loop.batch_rows(count, batch, seed, first + cut, steps - cut),
    ]
    assert np.array_equal(whole, np.concatenate(parts))
    assert whole.shape == (steps, batch)
    assert whole.min() >= 0
    assert whole.max() < count


@given(counts, batches, seeds, st.integers(0, 5))
def test_an_epoch_shows_every_row_once_but_for_a_remainder(count, batch, seed, epoch):
    steps = max(count // batch, 1)
    rows = loop.batch_rows(count, batch, seed, epoch * steps, steps)
    times = np.bincount(rows.ravel(), minlength=count)
    if count >= batch:
        assert times.max() == 1
        assert times.sum() == count // batch * batch
    else:
        assert times.min() >= batch // count
        assert times.max() <= batch // count + 1


def test_epochs_and_seeds_differ_and_no_row_is_left_out_for_ever():
    first, second = (loop.batch_rows(64, 64, 0, epoch, 1)[0].tolist() for epoch in (0, 1))
    assert first != second
    assert loop.batch_rows(64, 64, 1, 0, 1)[0].tolist() != first
    seen = loop.batch_rows(10, 8, 0, 0, 20)
    assert set(seen.ravel().tolist()) == set(range(10))


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 20))
def test_chunks_cover_the_run_and_end_at_multiples(first, last, size):
    pieces = list(loop.chunks(first, last, size))
    steps = [step for start, length in pieces for step in range(start, start + length)]
    assert steps == list(range(first, last))
    for start, length in pieces:
        assert 1 <= length <= size
        assert (start + length) % size == 0 or start + length == last


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
    batch = loop.take(loop.to_device(data), jnp.asarray(rows))
    assert {v.dtype for v in batch} == {jnp.dtype(jnp.float32)}
    for got, source in zip(batch, (data.images, data.targets, data.weights), strict=True):
        assert np.array_equal(got, source[rows])


def test_weights_of_dropped_boxes_are_zero_and_others_stay(strict):
    data = loop.to_device(dataset())
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
        loop.to_device(dataset()),
        jnp.float32(0.5),
        batch=4,
        seed=3,
        steps=steps,
        chunk=chunk,
        observe=observe,
    )


def test_training_visits_every_step_with_its_batch():
    data, seen = dataset(), []

    def observe(state, first, metrics):
        assert int(state.step) == first + len(metrics.total)
        seen.extend(
            (first + i, total, w) for i, (total, w) in enumerate(zip(*metrics, strict=True))
        )

    end = train(Toy(), start(), steps=7, chunk=3, observe=observe)
    assert [step for step, *_ in seen] == list(range(7))
    rows = loop.batch_rows(6, 4, 3, 0, 7)
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
        train(Toy(breaks), start(), 9, 3, lambda state, first, _: observed.append(first))
    assert observed == list(range(0, breaks - 2, 3))


def test_a_resumed_run_ends_like_an_uninterrupted_one():
    whole = train(Toy(), start(), 9, 3)
    half = train(Toy(), start(), 6, 3)
    assert float(train(Toy(), half, 9, 3).params["net"]) == float(whole.params["net"])
