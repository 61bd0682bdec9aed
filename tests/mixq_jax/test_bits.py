# SPDX-License-Identifier: Apache-2.0
"""Bit strings, relaxations and what is read out of them."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy

from mixq_jax.bits import (
    WIDTHS,
    Alphas,
    BitsError,
    FixedBits,
    entropy,
    expected_bits,
    init_alphas,
    one_hot,
    parse_bits,
    read_out,
    soft_bits,
)

pytestmark = pytest.mark.usefixtures("strict")

layer_bits = st.tuples(*[st.tuples(*[st.sampled_from(WIDTHS)] * 4)] * 2)
ALPHAS = Alphas(
    *(jnp.asarray(np.random.default_rng(s).standard_normal((3, 7)), jnp.float32) for s in (0, 1))
)
KEY = jax.random.key(5)


NONE = (None,) * 3


@given(layer_bits)
def test_strings_and_one_hot_rows_come_back(pair):
    bits = FixedBits(*pair)
    w, a = ("".join(map(str, widths)) for widths in pair)
    assert parse_bits(w, a, (None,) * len(pair[0])) == bits
    assert str(bits) == f"w {w} a {a}"
    soft = one_hot(bits)
    for probs, chosen in zip(soft, pair, strict=True):
        assert probs.dtype == jnp.float32
        assert np.asarray(probs).sum() == len(chosen)
        assert expected_bits(probs).tolist() == list(chosen)
    assert read_out(Alphas(*soft)) == bits


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixedBits((2, 9), (2, 2)), "bit-width 9 is not in 2..8"),
        (lambda: FixedBits((2, 2), (1, 2)), "bit-width 1 is not in 2..8"),
        (lambda: FixedBits((2,), (2, 3)), "1 weight widths but 2 activation widths"),
        (
            lambda: parse_bits("44", "444", NONE),
            "bit string '44' must have 3 digits, one for each layer",
        ),
        (
            lambda: parse_bits("444", "4x4", NONE),
            "bit string '4x4' must have 3 digits, one for each layer",
        ),
        (
            lambda: parse_bits("²44", "444", NONE),
            "bit string '²44' must have 3 digits, one for each layer",
        ),
        (lambda: parse_bits("449", "444", NONE), "bit-width 9 is not in 2..8"),
    ],
)
def test_bits_that_make_no_sense_are_refused(make, message):
    with pytest.raises(BitsError, match=f"^{re.escape(message)}$"):
        make()


def test_fresh_alphas_are_uniform_and_do_not_share_memory():
    alphas = init_alphas(4)
    assert [a.shape for a in alphas] == [(4, 7)] * 2
    for logits in alphas:
        assert len(np.unique(logits)) == 1
    # Training donates its state; one buffer cannot be donated twice.
    assert alphas.w.unsafe_buffer_pointer() != alphas.a.unsafe_buffer_pointer()


def test_softmax_relaxation():
    for tau in (0.1, 1.0, 4.0):
        soft = soft_bits(ALPHAS, "softmax", jnp.float32(tau), KEY)
        for probs, logits in zip(soft, ALPHAS, strict=True):
            powers = np.exp(np.asarray(logits, np.float64) / tau)
            np.testing.assert_allclose(probs, powers / powers.sum(-1, keepdims=True), rtol=1e-5)


def test_gumbel_samples_follow_the_key_and_differ_between_operands():
    equal = Alphas(ALPHAS.w, ALPHAS.w)
    first, same, other = (
        soft_bits(equal, "gumbel", jnp.float32(1), key) for key in (KEY, KEY, jax.random.key(6))
    )
    assert first.w.tolist() == same.w.tolist()
    assert not np.isclose(first.w, other.w).any()
    assert not np.isclose(first.w, first.a).any()
    np.testing.assert_allclose(first.w.sum(-1), 1, rtol=1e-6)


def test_gumbel_hard_is_one_hot_forward_and_soft_backward():
    weights = jnp.arange(21.0).reshape(3, 7)

    @partial(jax.jit, static_argnums=0)
    def run(kind, tau):
        def objective(alphas):
            soft = soft_bits(alphas, kind, tau, KEY)
            return (soft.w * weights).sum() - (soft.a * weights).sum(), soft

        return jax.grad(objective, has_aux=True)(ALPHAS)

    for tau in (0.05, 1.0, 5.0):
        (soft_gradient, soft), (gradient, hard) = (
            run(kind, jnp.float32(tau)) for kind in ("gumbel", "gumbel_hard")
        )
        for s, h in zip(soft, hard, strict=True):
            assert h.tolist() == np.eye(7)[np.asarray(s).argmax(-1)].tolist()
        for s, h in zip(soft_gradient, gradient, strict=True):
            close = np.abs(s - h) <= 1e-6 * np.abs(s).max()  # two compiled programs
            assert close.all()
            assert np.abs(s).max() > 0


def test_hard_samples_have_the_softmax_frequencies():
    keys = jax.random.split(KEY, 4000)
    tau = jnp.float32(0.7)  # the arg max does not depend on it
    draw = jax.jit(jax.vmap(lambda key: soft_bits(ALPHAS, "gumbel_hard", tau, key)))
    for samples, logits in zip(draw(keys), ALPHAS, strict=True):
        assert set(np.unique(samples)) == {0, 1}
        expected = np.asarray(jax.nn.softmax(logits))
        deviation = np.sqrt(expected * (1 - expected) / len(keys))
        assert (np.abs(np.asarray(samples).mean(0) - expected) < 5 * deviation).all()


def test_read_out_takes_the_smaller_width_of_a_tie():
    logits = jnp.array([[0, 1, 1, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0, 2]], jnp.float32)
    assert read_out(Alphas(logits, logits[::-1])) == FixedBits((3, 8), (8, 3))


def test_entropy():
    probs = jax.nn.softmax(ALPHAS.w)
    np.testing.assert_allclose(entropy(probs), scipy_entropy(np.asarray(probs), axis=-1), rtol=1e-5)
    assert entropy(jnp.eye(7)).tolist() == [0] * 7
    np.testing.assert_allclose(entropy(jnp.full((1, 7), 1 / 7)), np.log(7), rtol=1e-6)
    assert np.isfinite(jax.grad(lambda p: entropy(p).sum())(jnp.eye(7))).all()


def test_digits_of_fixed_layers_may_be_left_out():
    fixed = (None, (8, 7), None)
    assert parse_bits("23", "45", fixed) == FixedBits((2, 8, 3), (4, 7, 5))
    assert parse_bits("283", "45", fixed) == FixedBits((2, 8, 3), (4, 7, 5))
    with pytest.raises(BitsError, match="'2345' must have 2 or 3 digits"):
        parse_bits("2345", "45", fixed)
