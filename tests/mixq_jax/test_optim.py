# SPDX-License-Identifier: Apache-2.0
"""Learning rates seen through single steps; who is decayed; who rests."""

from math import cos, pi

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixq_jax.optim import OptimConfig, cosine, labels, make

STEPS = 40
PARAMS = {
    "net": {
        "conv0_kernel": jnp.full((2, 2), 3.0),
        "conv0_gamma": jnp.full(2, 5.0),
        "conv0_beta": jnp.full(2, 7.0),
        "conv1_bias": jnp.full(2, 9.0),
    },
    "alphas": {"w": jnp.full((1, 7), 2.0)},
}
NO_MOMENTUM = {"momentum": 0.0, "alpha_weight_decay": 0.0}


def rates(config: OptimConfig) -> dict[str, np.ndarray]:
    """Return, by leaf name, the step taken against a gradient of one at steps 0..STEPS."""
    transform = make(config, STEPS)
    gradients = jax.tree.map(jnp.ones_like, PARAMS)

    @jax.jit
    def run():
        def step(state, _):
            updates, state = transform.update(gradients, state, PARAMS)
            return state, {**updates["net"], **updates["alphas"]}

        return jax.lax.scan(step, transform.init(PARAMS), None, STEPS + 1)[1]

    return {name: -np.asarray(u).reshape(STEPS + 1, -1)[:, 0] for name, u in run().items()}


def test_labels():
    found = labels(PARAMS)
    assert found == {
        "net": {
            "conv0_kernel": "kernel",
            "conv0_gamma": "gamma",
            "conv0_beta": "bias",
            "conv1_bias": "bias",
        },
        "alphas": {"w": "alpha"},
    }
    assert set(labels({"net": PARAMS["net"]})) == {"net"}


def test_cosine_at_its_ends_and_middle():
    rate = cosine(0.5, 10, 0.1)
    assert [float(rate(t)) for t in (0, 5, 10, 99)] == pytest.approx([0.5, 0.275, 0.05, 0.05])
    for t in range(11):
        assert float(rate(t)) == pytest.approx(0.5 * ((1 + cos(pi * t / 10)) / 2 * 0.9 + 0.1))


def test_rates_of_the_published_recipe():
    """Biases go at twice the rate; weights end at a thousandth, alphas at a tenth."""
    taken = rates(OptimConfig(**NO_MOMENTUM))
    for name in ("conv0_kernel", "conv0_gamma"):
        assert taken[name][[0, -1]] == pytest.approx([0.01, 0.01 * 0.001])
    for name in ("conv0_beta", "conv1_bias"):
        assert taken[name][[0, -1]] == pytest.approx([0.02, 0.02 * 0.001])
    assert taken["w"][[0, -1]] == pytest.approx([0.01, 0.01 * 0.1])
    assert all((np.diff(values) < 0).all() for values in taken.values())


def test_warm_up_of_biases_ends_in_the_cosine_of_the_whole_run():
    plain = rates(OptimConfig(**NO_MOMENTUM))
    taken = rates(OptimConfig(**NO_MOMENTUM, bias_warmup_momentum=0.0, bias_warmup_steps=10))
    for name in ("conv0_beta", "conv1_bias"):
        assert taken[name][:10] == pytest.approx(np.linspace(0.1, 0.02, 11)[:10], rel=1e-5)
        assert taken[name][10:] == pytest.approx(plain[name][10:], rel=1e-5)
    assert taken["conv0_kernel"] == pytest.approx(rates(OptimConfig(**NO_MOMENTUM))["conv0_kernel"])


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_alphas_rest_during_their_warm_up(name):
    config = OptimConfig(name=name, alpha_warmup_steps=10, alpha_learning_rate=0.03)
    taken = rates(config)
    assert not taken["w"][:10].any()
    assert (taken["w"][10:] > 0).all()
    plain = rates(
        OptimConfig(name=name, alpha_warmup_steps=10, alpha_learning_rate=0.03, **NO_MOMENTUM)
    )
    assert plain["w"][-1] == pytest.approx(0.003, rel=1e-4)
    assert taken["conv0_kernel"][0] > 0


def test_momentum_is_nesterov_for_weights_and_plain_for_alphas():
    """First steps against a constant gradient: 1 + m and 1; second ones: 1 + m + m^2 and 1 + m."""
    m = 0.9
    config = OptimConfig(momentum=m, alpha_weight_decay=0.0)
    taken, steps = rates(config), cosine(1.0, STEPS, 0.001)
    alpha_steps = cosine(1.0, STEPS, 0.1)
    assert taken["conv0_kernel"][:2] == pytest.approx(
        [0.01 * (1 + m), 0.01 * (1 + m + m * m) * float(steps(1))], rel=1e-5
    )
    assert taken["w"][:2] == pytest.approx([0.01, 0.01 * (1 + m) * float(alpha_steps(1))], rel=1e-5)


def test_momentum_of_biases_rises_during_their_warm_up():
    """Nesterov against a constant gradient: u_t = m_t u_(t-1) + 1, step rate (1 + m_t u_t)."""
    warm, last, ramp = 5, 0.9, np.linspace(0.5, 0.9, 6)
    config = OptimConfig(
        momentum=last, bias_warmup_momentum=0.5, bias_warmup_steps=warm, bias_warmup_rate=0.02
    )
    taken = rates(config)["conv0_beta"]
    trace, expected = 0.0, []
    for t in range(warm):
        trace = ramp[t] * trace + 1
        expected.append(0.02 * (1 + ramp[t] * trace))
    assert taken[:warm] == pytest.approx(expected, rel=1e-5)


def test_only_alphas_are_decayed_by_default():
    taken = rates(OptimConfig(momentum=0.0))
    assert taken["w"][0] == pytest.approx(0.01 * (1 + 4.84e-4 * 2.0))
    assert taken["conv0_kernel"][0] == pytest.approx(0.01)
    decayed = rates(OptimConfig(momentum=0.0, weight_decay=0.1))
    assert decayed["conv0_kernel"][0] == pytest.approx(0.01 * (1 + 0.1 * 3.0))
    assert decayed["conv0_beta"][0] == pytest.approx(0.02)
    assert decayed["conv0_gamma"][0] == pytest.approx(0.01)


def test_adam_takes_steps_of_the_rate():
    """Against a constant gradient Adam's ratio is one; decay is added after it."""
    taken = rates(OptimConfig(name="adam", learning_rate=0.002, bias_factor=1.0))
    assert taken["conv0_kernel"][[0, -1]] == pytest.approx([0.002, 0.002 * 0.001], rel=1e-3)
    assert taken["conv0_beta"][0] == pytest.approx(0.002, rel=1e-3)
    assert taken["w"][0] == pytest.approx(0.01 * (1 + 4.84e-4 * 2.0), rel=1e-4)
