# SPDX-License-Identifier: Apache-2.0
"""The search step: what it reports, what it changes, and that it resumes bit for bit."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from hw.device import device
from hw.resources import cost_table
from mixq_jax import checkpoint, loop, search
from mixq_jax.bits import WIDTHS, FixedBits
from mixq_jax.checkpoint import Card
from mixq_jax.data.augment import light
from mixq_jax.data.dacsdc import Dataset
from mixq_jax.export import to_graph
from mixq_jax.optim import OptimConfig
from mixq_jax.source import to_device

STEPS, CHUNK, BATCH = 6, 2, 4


@pytest.fixture(scope="module")
def data() -> Dataset:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (9, 9, 13, 3), np.uint8)
    boxes = rng.uniform(0.2, 0.6, (9, 4)).astype(np.float32)
    return Dataset(images, boxes, np.ones(9, np.float32), tuple(map(str, range(9))))


@pytest.fixture(scope="module")
def config() -> search.SearchConfig:
    optim = OptimConfig(alpha_learning_rate=0.5, alpha_warmup_steps=2, bias_warmup_steps=2)
    return search.SearchConfig(STEPS, BATCH, 7, "gumbel_hard", optim, light())


@pytest.fixture(scope="module")
def table(small_spec) -> np.ndarray:
    graph = to_graph(small_spec, FixedBits((4,) * 3, (4,) * 3))
    return cost_table(graph, device("xczu3eg")).values


@pytest.fixture(scope="module")
def step(small_spec, config, table):
    """The search step, compiled once for all tests of this file."""
    return search.make_step(small_spec, config, jnp.asarray(table, jnp.float32))


@pytest.fixture(scope="module")
def compiled(small_spec, config, step, data):
    """The scanned step, compiled ahead of time for chunks of `CHUNK` batches."""
    state = jax.eval_shape(lambda: search.init_state(small_spec, config))
    rows = jax.ShapeDtypeStruct((CHUNK, BATCH), jnp.int32)
    return loop.scan(step).lower(state, to_device(data), rows, hyper(0.0)).compile()


def hyper(lam: float) -> search.Hyper:
    return search.Hyper(jnp.array([lam, 0, 0]), jnp.float32(4), jnp.float32(0.25))


@pytest.fixture
def run(monkeypatch, compiled, data, config):
    """Return a function (state, steps, lam) -> (state, metrics of all steps)."""
    monkeypatch.setattr(loop, "scan", lambda _: compiled)

    def train(state, steps=STEPS, lam=0.0):
        seen = []
        state = loop.train(
            None,
            state,
            to_device(data),
            hyper(lam),
            batch=BATCH,
            seed=config.seed,
            steps=steps,
            chunk=CHUNK,
            observe=lambda state, done: seen.append(done.metrics),
        )
        return state, jax.tree.map(lambda *parts: np.concatenate(parts), *seen)

    return train


@pytest.fixture(scope="module")
def fresh(small_spec, config):
    """Return a function that makes the first state anew (training consumes it)."""
    state = jax.device_get(jax.jit(lambda: search.init_state(small_spec, config))())
    return lambda: jax.tree.map(jnp.array, state)


def test_metrics_say_what_the_step_did(run, fresh, table):
    start = jax.device_get(fresh())
    _, metrics = run(fresh(), lam=1e-4)
    assert metrics.total.shape == (STEPS,)
    np.testing.assert_allclose(
        metrics.total, metrics.task + 1e-4 * metrics.cost[:, 0], rtol=1e-6, atol=1e-6
    )
    np.testing.assert_allclose(metrics.task, sum(metrics.terms.values()), rtol=1e-5)
    # The temperature falls geometrically from 4 to 1/4, both included.
    np.testing.assert_allclose(metrics.tau, 4 * (1 / 16) ** (np.arange(STEPS) / 5), rtol=1e-5)
    assert np.array_equal(metrics.alpha_w[0], start.params["alphas"].w)
    for alphas, entropies, means, argmax in (
        (metrics.alpha_w, metrics.entropy_w, metrics.expected_w, metrics.argmax_w),
        (metrics.alpha_a, metrics.entropy_a, metrics.expected_a, metrics.argmax_a),
    ):
        probs = softmax(alphas / metrics.tau[:, None, None], -1)
        np.testing.assert_allclose(entropies, entropy(probs, axis=-1), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(means, probs @ np.array(WIDTHS), rtol=1e-5)
        assert np.array_equal(argmax, np.array(WIDTHS)[alphas.argmax(-1)])


def test_hard_samples_cost_what_some_choice_of_widths_costs(run, fresh, table):
    """With gumbel_hard every step's cost is a sum of table entries, one for each layer."""
    _, metrics = run(fresh())
    dsp = table[..., 0].reshape(3, 49)
    sums = {int(a + b + c) for a in dsp[0] for b in dsp[1] for c in dsp[2]}
    assert {float(cost) for cost in metrics.cost[:, 0]} <= sums
    assert len(set(metrics.cost[:, 0].tolist())) > 1  # each step draws anew


def test_alphas_rest_then_move_and_weights_move_at_once(run, fresh):
    start = jax.device_get(fresh())
    state, metrics = run(fresh(), lam=1e-4)
    assert np.array_equal(metrics.alpha_w[2], metrics.alpha_w[0])  # two steps of warm-up
    assert not np.array_equal(metrics.alpha_w[3], metrics.alpha_w[2])
    assert not np.array_equal(metrics.alpha_a[3], metrics.alpha_a[2])
    early, _ = run(fresh(), steps=2)
    for name, before in start.params["net"].items():
        assert not np.array_equal(early.params["net"][name], before), name
    for name, stats in start.batch_stats.items():
        assert not np.array_equal(state.batch_stats[name].mean, stats.mean), name


def test_a_heavy_penalty_lowers_the_cost(run, fresh, table):
    def expected(metrics):
        probs = [softmax(a[-1], -1) for a in (metrics.alpha_w, metrics.alpha_a)]
        return np.einsum("li,lj,lij->", *probs, table[..., 0])

    free, priced = (expected(run(fresh(), lam=lam)[1]) for lam in (0.0, 1.0))
    assert priced < 0.8 * free


def test_an_interrupted_run_resumes_bit_for_bit(run, fresh, tmp_path):
    """Stop after a chunk, save, load into a fresh template, go on: same state, same metrics."""
    whole, metrics = run(fresh(), lam=1e-4)
    half, first = run(fresh(), steps=4, lam=1e-4)
    card = Card("search", "net", "config", "", 4)
    checkpoint.save(tmp_path, card, half)
    del half
    _, loaded = checkpoint.load(tmp_path, card, fresh())
    resumed, second = run(loaded, lam=1e-4)
    for (path, a), b in zip(
        jax.tree.leaves_with_path(whole), jax.tree.leaves(resumed), strict=True
    ):
        assert np.array_equal(a, b), jax.tree_util.keystr(path)
    parts = jax.tree.map(lambda *halves: np.concatenate(halves), first, second)
    for (path, a), b in zip(
        jax.tree.leaves_with_path(metrics), jax.tree.leaves(parts), strict=True
    ):
        assert np.array_equal(a, b), jax.tree_util.keystr(path)


def test_the_step_is_traced_once(small_spec, config, table, data):
    """What a step returns has the types of what it takes: nothing is compiled anew."""
    traces = []
    step = search.make_step(small_spec, config, jnp.asarray(table, jnp.float32))

    def counted(*arguments):
        traces.append(1)
        return step(*arguments)

    run = loop.scan(counted)
    state = jax.eval_shape(lambda: search.init_state(small_spec, config))
    rows = jax.ShapeDtypeStruct((CHUNK, BATCH), jnp.int32)
    for _ in range(3):
        state, _ = run.eval_shape(state, to_device(data), rows, hyper(0.0))
    assert len(traces) == 1


@pytest.mark.slow
def test_layers_with_fixed_widths_are_priced_at_them(small_spec, config, table, data):
    head = replace(small_spec.output, fixed_bits=(8, 7))
    spec = replace(small_spec, layers=(*small_spec.layers[:-1], head))
    values = np.zeros_like(table)
    values[2, :, :, 0] = np.arange(49).reshape(7, 7)  # only the fixed layer costs
    step = search.make_step(spec, config, jnp.asarray(values, jnp.float32))
    state = search.init_state(spec, config)
    batch = loop.take(to_device(data), jnp.arange(BATCH))
    _, metrics = jax.jit(step)(state, batch, hyper(1.0))
    assert metrics.cost.tolist() == [values[2, 8 - 2, 7 - 2, 0], 0, 0]
    assert (metrics.argmax_w[2], metrics.argmax_a[2]) == (8, 7)
    assert (metrics.expected_w[2], metrics.entropy_w[2]) == (8, 0)


@pytest.mark.parametrize(("step_index", "tau"), [(0, 2.0), (9, 0.5), (3, 2.0 * 0.25 ** (1 / 3))])
def test_temperature(strict, step_index, tau):
    falling = search.Hyper(jnp.zeros(1), jnp.float32(2), jnp.float32(0.5))
    assert float(search.temperature(falling, jnp.int32(step_index), 10)) == pytest.approx(tau)
    assert float(search.temperature(falling, jnp.int32(0), 1)) == 2
