# SPDX-License-Identifier: Apache-2.0
"""Batches are a function of (seed, step), and the same from device memory and from files."""

import multiprocessing
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixq_jax import loop, search, source
from mixq_jax.data import DataError, SyntheticConfig, generate, load
from mixq_jax.data.augment import AugmentConfig, reference
from mixq_jax.data.frames import FrameFiles

counts, batches, seeds = st.integers(1, 40), st.integers(1, 12), st.integers(0, 99)


@given(counts, batches, seeds, st.integers(0, 50), st.integers(1, 20), st.integers(0, 20))
def test_batches_are_a_function_of_seed_and_step(count, batch, seed, first, steps, cut):
    whole = source.batch_rows(count, batch, seed, first, steps)
    cut = min(cut, steps)
    parts = [
        source.batch_rows(count, batch, seed, first, cut),
        source.batch_rows(count, batch, seed, first + cut, steps - cut),
    ]
    assert np.array_equal(whole, np.concatenate(parts))
    assert whole.shape == (steps, batch)
    assert whole.min() >= 0
    assert whole.max() < count


@given(counts, batches, seeds, st.integers(0, 5))
def test_an_epoch_shows_every_row_once_but_for_a_remainder(count, batch, seed, epoch):
    steps = max(count // batch, 1)
    rows = source.batch_rows(count, batch, seed, epoch * steps, steps)
    times = np.bincount(rows.ravel(), minlength=count)
    if count >= batch:
        assert times.max() == 1
        assert times.sum() == count // batch * batch
    else:
        assert times.min() >= batch // count
        assert times.max() <= batch // count + 1


def test_epochs_and_seeds_differ_and_no_row_is_left_out_for_ever():
    first, second = (source.batch_rows(64, 64, 0, epoch, 1)[0].tolist() for epoch in (0, 1))
    assert first != second
    assert source.batch_rows(64, 64, 1, 0, 1)[0].tolist() != first
    seen = source.batch_rows(10, 8, 0, 0, 20)
    assert set(seen.ravel().tolist()) == set(range(10))


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 20))
def test_chunks_cover_the_run_and_end_at_multiples(first, last, size):
    pieces = list(source.chunks(first, last, size))
    steps = [step for start, length in pieces for step in range(start, start + length)]
    assert steps == list(range(first, last))
    for start, length in pieces:
        assert 1 <= length <= size
        assert (start + length) % size == 0 or start + length == last


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """A folder of eleven training frames."""
    folder = tmp_path_factory.mktemp("frames") / "set"
    generate(folder, SyntheticConfig(width=48, height=32, train_frames=11, test_frames=2))
    return folder


@pytest.fixture(scope="module")
def both(frames):
    """The same training set in device memory and as a stream."""
    whole, files = (load(frames, 9, 13, "train", limit_bytes=limit) for limit in (np.inf, 0))
    held, stream = (source.to_source(data, workers=2) for data in (whole, files))
    assert isinstance(held, source.DeviceData)
    assert isinstance(stream, source.Stream)
    return held, stream


def batches_of(data, first, last, chunk, batch=4):
    """Return what the steps first..last read: images, targets and weights, one array each."""
    pieces = list(source.chunks(first, last, chunk))
    with source.parts(data, batch, 3, pieces) as parts:
        taken = [jax.device_get(loop.take(part.data, rows)) for part in parts for rows in part.rows]
    return [np.stack(field) for field in zip(*taken, strict=True)]


@pytest.mark.parametrize("batch", [4, 16])  # also one that repeats frames
def test_a_stream_gives_the_batches_of_a_set_in_memory(both, batch):
    held, streamed = (batches_of(data, 0, 7, 3, batch) for data in both)
    for expected, found in zip(held, streamed, strict=True):
        assert expected.dtype == found.dtype
        assert np.array_equal(expected, found)


def test_a_stream_that_begins_inside_a_chunk_goes_on_with_its_batches(both):
    whole = batches_of(both[0], 0, 7, 3)
    for expected, found in zip(whole, batches_of(both[1], 4, 7, 3), strict=True):
        assert np.array_equal(expected[4:], found)


class Total(NamedTuple):
    """Metrics of the steps below."""

    total: jax.Array


def start(net) -> loop.TrainState:
    return loop.TrainState({"net": net}, {}, (), jnp.int32(0))


def learnt(step, fresh, data, hyper):
    """Return every number of the end of four steps and of their metrics."""
    seen = []
    end = loop.train(
        step,
        fresh,
        data,
        hyper,
        batch=4,
        seed=5,
        steps=4,
        chunk=2,
        observe=lambda _, done: seen.append(done.metrics),
    )
    return jax.tree.leaves(jax.device_get((end, seen)))


def regression(state, batch, hyper):
    """A step with floats that another order of additions would change."""
    batch = loop.augmented(
        jax.random.fold_in(jax.random.key(0), state.step), batch, AugmentConfig()
    )

    def loss(net):
        found = jnp.einsum("nhwc,cm->nm", batch.images / 255, net)
        return (batch.weights[:, None] * (found - batch.targets) ** 2).mean()

    total, gradient = jax.value_and_grad(loss)(state.params["net"])
    net = state.params["net"] - 1e-4 * gradient
    return state._replace(params={"net": net}, step=state.step + 1), Total(total)


def test_training_from_files_equals_training_from_memory_bit_for_bit(both):
    ends = [learnt(regression, start(jnp.full((3, 4), 0.01)), data, None) for data in both]
    assert len(ends[0]) == 4  # weights, step and the losses of two chunks
    for expected, found in zip(*ends, strict=True):
        assert np.array_equal(expected, found)


@pytest.mark.slow  # the same at the product's own level of optimisation, with every mixture
def test_a_search_from_files_equals_one_from_memory_bit_for_bit(small_spec, both):
    config = search.SearchConfig(steps=4, batch=4, relaxation="gumbel", augment=reference())
    step = search.make_step(small_spec, config, jnp.ones((3, 7, 7, 1), jnp.float32))
    hyper = search.Hyper(jnp.ones(1), jnp.float32(2), jnp.float32(1))
    ends = [learnt(step, search.init_state(small_spec, config), data, hyper) for data in both]
    for expected, found in zip(*ends, strict=True):
        assert np.array_equal(expected, found)


def summing(state, batch, hyper):
    net = state.params["net"] + batch.images.sum()
    return state._replace(params={"net": net}, step=state.step + 1), Total(net)


def test_a_damaged_frame_stops_the_run_and_leaves_no_process(frames, both):
    files = both[1].images
    wrong = replace(files.samples[2], width=47)
    files = FrameFiles((*files.samples[:2], wrong, *files.samples[3:]), 9, 13)
    with pytest.raises(DataError, match=r"\.xml: size says 47x32 but \d+\.jpg is 48x32; correct"):
        loop.train(
            summing,
            start(jnp.float32(0)),
            both[1]._replace(images=files),
            None,
            batch=11,
            seed=0,
            steps=2,
            chunk=1,
            observe=lambda *_: None,
        )
    assert multiprocessing.active_children() == []
