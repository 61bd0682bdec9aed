# SPDX-License-Identifier: Apache-2.0
"""Quantisers against their definitions: codes, mixtures, gradients and the origin of the steps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from hw.intmath import activation_range, weight_range
from mixq_jax import quant
from mixq_jax.bits import WIDTHS

pytestmark = pytest.mark.usefixtures("strict")

widths = st.sampled_from(WIDTHS)
values = arrays(np.float32, 40, elements=st.floats(-20, 20, width=32))
steps = st.floats(2**-6, 3, width=32)
TABLES = [
    *((quant.WEIGHT_STEPS["mse", narrow], weight_range, narrow) for narrow in (False, True)),
    (quant.ACT_STEPS["mse"], lambda bits, _: activation_range(bits), None),
]


def gaussian_error(step: float, lo: int, hi: int) -> float:
    """Return E (x - step clip(round(x / step), lo, hi))^2 for x from N(0, 1), in closed form."""
    codes = np.arange(lo, hi + 1) * step
    edges = np.concatenate([[-np.inf], (codes[:-1] + codes[1:]) / 2, [np.inf]])
    if lo == 0:
        edges[0] = 0.0  # what is below zero becomes zero, whatever the step
    phi, cdf = norm.pdf(edges), norm.cdf(edges)
    mass, first = np.diff(cdf), -np.diff(phi)
    second = mass - np.diff(np.where(np.isinf(edges), 0, edges) * phi)
    return float((second - 2 * codes * first + codes**2 * mass).sum())


@pytest.mark.parametrize(("table", "code_range", "narrow"), TABLES, ids=["full", "narrow", "act"])
@pytest.mark.parametrize("index", range(len(WIDTHS)), ids=[f"{b}_bits" for b in WIDTHS])
def test_mse_steps_minimise_the_error_on_a_gaussian(table, code_range, narrow, index):
    lo, hi = code_range(WIDTHS[index], narrow)
    step = table[index]
    best = minimize_scalar(
        gaussian_error, bounds=(step / 2, step * 2), args=(lo, hi), options={"xatol": 1e-9}
    )
    last_digit = 10.0 ** -len(str(step).split(".")[1])
    assert abs(best.x - step) <= 0.5 * last_digit


def test_gaussian_error_is_what_sampling_shows():
    x = np.random.default_rng(0).standard_normal(400_000)
    for lo, hi, step in ((-1, 1, 1.2), (-4, 3, 0.6), (0, 3, 0.65)):
        y = np.maximum(x, 0) if lo == 0 else x
        error = np.square(y - step * np.clip(np.round(y / step), lo, hi)).mean()
        assert gaussian_error(step, lo, hi) == pytest.approx(error, rel=0.02)


def test_published_steps():
    weights = (0.996, 0.586, 0.336, 0.190, 0.106, 0.059, 0.032)
    assert quant.WEIGHT_STEPS["reference", True] == weights
    assert quant.WEIGHT_STEPS["reference", False] == weights
    assert quant.ACT_STEPS["reference"] == (0.538, 0.3217, 0.185, 0.104, 0.058, 0.033, 0.019)


def check_codes(codes, again, x, step, lo, hi) -> None:
    """Codes are the integers of lo..hi nearest to x / step (1e-5 of a code for float32)."""
    assert (codes == np.clip(np.rint(codes), lo, hi)).all()
    wanted = np.clip(x.astype(np.float64) / step, lo, hi)
    assert np.abs(codes - wanted).max() <= 0.5 + 1e-5 * max(-lo, hi)
    assert (again == codes).all()


@given(values, widths, steps)
def test_activation_codes_are_nearest_and_idempotent(x, bits, step):
    def quantise(x):
        return np.asarray(quant.act_code(jnp.asarray(x), step, float(2**bits - 1)))

    codes = quantise(x)
    check_codes(codes, quantise(codes * np.float32(step)), x, step, 0, 2**bits - 1)


@given(values, widths, st.booleans(), steps)
def test_weight_codes_are_nearest_and_idempotent(w, bits, narrow, step):
    def quantise(w):
        return np.asarray(quant.weight_code(jnp.asarray(w), jnp.float32(step), bits, narrow))

    codes = quantise(w)
    half = 1 << (bits - 1)
    check_codes(codes, quantise(codes * np.float32(step)), w, step, narrow - half, half - 1)


def test_activations_round_half_up_as_the_hardware_weights_half_to_even():
    x = jnp.array([0.5, 1.5, 2.5, -0.5, -1.5], jnp.float32)
    assert quant.act_code(x, 1.0, 7.0).tolist() == [1, 2, 3, 0, 0]
    assert quant.grid_code(x, 1.0, -4, 3).tolist() == [1, 2, 3, 0, -1]
    assert quant.weight_code(x, jnp.float32(1), 4, True).tolist() == [0, 2, 2, 0, -2]


@pytest.mark.parametrize("bits", WIDTHS)
def test_multiples_of_a_power_of_two_tie_where_the_integers_do(bits):
    """k / 16 read with a step of 1 / levels: floor(k levels / 16 + 1/2), no rounding between."""
    k, levels = np.arange(256), 2**bits - 1
    step = quant.ACT_STEPS["dorefa"][WIDTHS.index(bits)]
    codes = jax.jit(partial(quant.act_code, step=step, levels=levels))(jnp.asarray(k / 16))
    assert codes.tolist() == np.minimum((k * levels + 8) // 16, levels).tolist()


def test_the_largest_number_below_a_half_is_no_tie():
    below = np.nextafter(np.float32(0.5), np.float32(0))
    assert quant.act_code(jnp.asarray([below, 0.5]), 1.0, 7.0).tolist() == [0, 1]


@pytest.mark.parametrize("bits", WIDTHS)
def test_image_codes_are_the_top_bits_of_the_byte(bits):
    pixels = np.arange(256)
    codes = quant.image_code(jnp.asarray(pixels, jnp.float32), bits)
    assert np.asarray(codes).astype(int).tolist() == (pixels >> (8 - bits)).tolist()
    assert quant.image_steps(256)[WIDTHS.index(bits)] == 2.0**-bits


def test_levels():
    assert quant.LEVELS.tolist() == [2**b - 1 for b in WIDTHS]


def test_weight_deviation_is_unbiased_and_constant():
    w = jnp.asarray(np.random.default_rng(0).standard_normal((3, 3, 2, 4)), jnp.float32)
    deviation, gradient = jax.value_and_grad(quant.weight_deviation)(w)
    assert float(deviation) == pytest.approx(np.asarray(w, np.float64).std(ddof=1), rel=1e-6)
    assert not gradient.any()


@pytest.mark.parametrize("bits", [2, 5, 8])
def test_fixed_activation_gradient_is_straight_through_inside(bits):
    step, levels = 0.25, float(2**bits - 1)
    top = step * levels
    x = jnp.array([-1.0, -1e-6, 0.0, 1e-6, 0.3, top - 1e-3, top, top + 1.0], jnp.float32)
    codes, pull = jax.vjp(lambda x: quant.fixed_act(x, step, levels), x)
    g = jnp.arange(1.0, 9.0)
    inside = np.array([0, 0, 0, 1, 1, 1, 0, 0])
    assert (np.asarray(pull(g)[0]) == np.asarray(g) * 4 * inside).all()
    assert codes.tolist() == quant.act_code(x, step, levels).tolist()


@pytest.mark.parametrize("narrow", [True, False])
def test_fixed_weight_gradient_passes_everywhere(narrow):
    w = jnp.array([-9.0, -1.0, 0.0, 0.2, 9.0], jnp.float32)
    step = jnp.float32(0.5)
    codes, pull = jax.vjp(lambda w, s: quant.fixed_weight(w, s, 3, narrow), w, step)
    dw, dstep = pull(jnp.arange(1.0, 6.0))
    assert dw.tolist() == [2, 4, 6, 8, 10]
    assert dstep == 0
    assert codes.tolist() == [-3 if narrow else -4, -2, 0, 0, 3]


def test_one_hot_mixture_is_exact():
    """The ratio must be exactly 1 and the scale exactly the step, whatever the deviation is."""
    rng = np.random.default_rng(0)
    tables = np.array([*quant.ACT_STEPS.values(), *quant.WEIGHT_STEPS.values()], np.float32)
    deviations = np.concatenate([[1], rng.uniform(1e-3, 2, 200)]).astype(np.float32)
    many = (tables[:, None] * deviations[:, None]).reshape(-1, len(WIDTHS))
    for probs in jnp.eye(len(WIDTHS), dtype=jnp.float32):
        r, scale = jax.jit(jax.vmap(quant.mixture, (None, 0)))(probs, jnp.asarray(many))
        assert (r == probs[None]).all()
        assert (scale == many @ np.asarray(probs)).all()
        for steps in many[:3]:
            r, scale = quant.mixture(probs, jnp.asarray(steps))
            assert r.tolist() == probs.tolist()


@pytest.fixture(params=["mixed", "one_hot"])
def mixing(request):
    """Return (rng, probabilities); every width has a say in "mixed", one in "one_hot"."""
    rng = np.random.default_rng(1)
    mixed, chosen = rng.dirichlet(np.ones(len(WIDTHS))), np.eye(len(WIDTHS))[3]
    return rng, jnp.asarray(mixed if request.param == "mixed" else chosen, jnp.float32)


def close(got: jax.Array, expected: jax.Array) -> None:
    """Compare float32 sums of a few hundred terms taken in two orders: 1e-5 of the largest."""
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("table", quant.ACT_STEPS.values(), ids=quant.ACT_STEPS)
def test_activation_mixture_equals_a_plain_one_with_its_gradients(mixing, table):
    rng, probs = mixing
    x = jnp.asarray(rng.uniform(-1, 12, (5, 8)), jnp.float32)
    g = jnp.asarray(rng.standard_normal((5, 8)), jnp.float32)

    def plain(x, p):
        total = jnp.zeros_like(x)
        for i, step in enumerate(table):
            clipped = jnp.clip(x, 0.0, step * quant.LEVELS[i])
            rounded = jnp.round(clipped / step) * step
            total = total + p[i] * (clipped + jax.lax.stop_gradient(rounded - clipped))
        return total

    def ours(x, p):
        r, scale = quant.mixture(p, jnp.array(table, jnp.float32))
        return scale * quant.mix_act(x, r, table)

    compare(plain, ours, (x, probs), g)


@pytest.mark.parametrize(("kind", "narrow"), quant.WEIGHT_STEPS)
def test_weight_mixture_equals_a_plain_one_with_its_gradients(mixing, kind, narrow):
    rng, probs = mixing
    table = jnp.array(quant.WEIGHT_STEPS[kind, narrow], jnp.float32)
    w = jnp.asarray(rng.standard_normal((6, 8)) * 0.3, jnp.float32)
    g = jnp.asarray(rng.standard_normal((6, 8)), jnp.float32)

    def plain(w, p):
        steps, total = table * jax.lax.stop_gradient(jnp.std(w, ddof=1)), jnp.zeros_like(w)
        for i, bits in enumerate(WIDTHS):
            lo, hi = weight_range(bits, narrow)
            rounded = jnp.clip(jnp.round(w / steps[i]), lo, hi) * steps[i]
            total = total + p[i] * (w + jax.lax.stop_gradient(rounded - w))
        return total

    def ours(w, p):
        steps = table * quant.weight_deviation(w)
        r, scale = quant.mixture(p, steps)
        return scale * quant.mix_weight(w, r, steps, narrow)

    compare(plain, ours, (w, probs), g)


def compare(plain, ours, arguments, g) -> None:
    @jax.jit
    def both(arguments, g):
        (first, pull), (second, my_pull) = jax.vjp(plain, *arguments), jax.vjp(ours, *arguments)
        return (first, *pull(g)), (second, *my_pull(g))

    for expected, got in zip(*both(arguments, g), strict=True):
        close(got, expected)


def test_image_mixture_moves_probabilities_only(mixing):
    rng, probs = mixing
    pixels = jnp.asarray(rng.integers(0, 256, (3, 4)), jnp.float32)

    @jax.jit
    def run(pixels, probs):
        y, pull = jax.vjp(quant.mix_image, pixels, probs)
        return y, *pull(jnp.ones_like(y))

    y, to_pixels, to_probs = run(pixels, probs)
    codes = np.stack([np.asarray(pixels).astype(int) >> (8 - b) for b in WIDTHS])
    close(y, np.einsum("i,inm->nm", np.asarray(probs), codes))
    assert not to_pixels.any()
    assert to_probs.tolist() == codes.sum((1, 2)).tolist()
