# SPDX-License-Identifier: Apache-2.0
"""One network under float, soft and fixed widths: equalities between them, and to loops."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from mixq_jax import model
from mixq_jax.bits import (
    WIDTHS,
    Alphas,
    BitsError,
    FixedBits,
    FloatBits,
    SoftBits,
    one_hot,
    pin,
    read_out,
    soft_bits,
)
from mixq_jax.norm import EPS
from mixq_jax.spec import NetSpec, PoolSpec

pytestmark = pytest.mark.usefixtures("strict")


def forward(spec, variables, images, bits):
    """Return output and intermediates in inference, output and statistics in training."""
    network = model.Network(spec)
    y, state = network.apply(variables, images, bits, False, mutable=["intermediates"])
    return y, state["intermediates"], model.apply(spec, variables, images, bits, True)


def random_bits(spec, seed: int) -> FixedBits:
    rng = np.random.default_rng(seed)
    return FixedBits(*(tuple(rng.choice(WIDTHS, len(spec.convs)).tolist()) for _ in range(2)))


def assert_same_bits(first, second) -> None:
    paths = jax.tree.leaves_with_path(first)
    for (path, a), b in zip(paths, jax.tree.leaves(second), strict=True):
        assert np.array_equal(a, b), jax.tree_util.keystr(path)


@pytest.mark.parametrize(
    ("name", "cases"), [("small", 5), ("chain", 1), ("bypass", 2), ("residual", 1)]
)
def test_one_hot_widths_equal_fixed_widths_bit_for_bit(
    request, random_variables, random_images, name, cases
):
    """Codes, accumulators, outputs and statistics, in inference and in training."""
    spec = request.getfixturevalue(f"{name}_spec")
    soft = jax.jit(lambda v, x, bits: forward(spec, v, x, bits))
    for seed in range(cases):
        bits, variables = random_bits(spec, seed), random_variables(spec, seed)
        images = random_images(spec, seed).astype(np.float32)
        fixed = jax.jit(lambda v, x, bits=bits: forward(spec, v, x, bits))
        expected = fixed(variables, images)
        assert_same_bits(expected, soft(variables, images, one_hot(bits)))
        for value in jax.tree.leaves(expected[1]):  # inputs and accumulators are integers
            assert np.array_equal(value, np.round(value))


def test_one_hot_gradients_equal_fixed_gradients(small_spec, random_variables, random_images):
    """To 1e-5 of the largest: g / step and g (r / step) round apart, and sums reassociate."""
    bits, variables = FixedBits((3, 4, 6), (8, 3, 5)), random_variables(small_spec, 0)
    images = random_images(small_spec, 0).astype(np.float32)
    g = jnp.asarray(np.random.default_rng(0).standard_normal((2, 4, 6, 6)), jnp.float32)

    def objective(params, bits):
        y, _ = model.apply(small_spec, {**variables, "params": params}, images, bits, True)
        return (y * g).sum()

    params = jax.tree.map(jnp.asarray, variables["params"])
    fixed = jax.jit(jax.grad(lambda p: objective(p, bits)))(params)
    soft, to_bits = jax.jit(jax.grad(objective, (0, 1)))(params, one_hot(bits))
    for name, expected in fixed.items():
        assert np.abs(soft[name] - expected).max() <= 1e-5 * np.abs(expected).max(), name
        assert np.abs(expected).max() > 0, name
    # Every layer's choice matters to the loss, also the first one's of the image bits.
    assert all((np.abs(slope).max(-1) > 0).all() for slope in to_bits)


def test_mixture_of_two_widths_lies_between_them(small_spec, random_variables, random_images):
    """The head's weights mix linearly: its output at p is the mean of those at either width."""
    variables = random_variables(small_spec, 1)
    images = random_images(small_spec, 1).astype(np.float32)
    run = jax.jit(lambda bits: model.apply(small_spec, variables, images, bits, False)[0])
    first, second = (one_hot(FixedBits((4, 4, w), (8, 4, 4))) for w in (2, 7))
    mixed = SoftBits(0.25 * first.w + 0.75 * second.w, first.a)
    expected = 0.25 * run(first) + 0.75 * run(second)
    assert np.abs(run(mixed) - expected).max() <= 1e-5 * np.abs(expected).max()


def plain_float_network(spec, variables, images: np.ndarray) -> np.ndarray:
    """Run a chain of convolutions, norms and pools in float64 with scipy."""
    params, x = variables["params"], images.astype(np.float64) / 256
    for layer in spec.layers:
        if isinstance(layer, PoolSpec):
            n, h, w, c = x.shape
            x = x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))
            continue
        if layer.source != "image":
            x = np.maximum(x, 0)
        kernel, pad = params[f"{layer.name}_kernel"], layer.kernel // 2
        padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        x = np.array(
            [
                sum(
                    correlate2d(image[..., c], kernel[:, :, c, m], "valid")
                    for c in range(image.shape[-1])
                )
                for image in padded
                for m in range(kernel.shape[-1])
            ]
        )
        x = x.reshape(len(images), -1, *x.shape[1:]).transpose(0, 2, 3, 1)
        if layer.norm:
            stats = variables["batch_stats"][layer.name]
            x = (x - stats.mean) / np.sqrt(stats.var + EPS) * params[f"{layer.name}_gamma"]
            x = x + params[f"{layer.name}_beta"]
        else:
            x = x + params[f"{layer.name}_bias"]
    return x


def test_float_network_equals_a_plain_one(small_spec, random_variables, random_images):
    """To 1e-5 of the largest output: three layers of float32 sums."""
    variables, images = random_variables(small_spec, 2), random_images(small_spec, 2)
    run = jax.jit(lambda x: model.apply(small_spec, variables, x, FloatBits(), False)[0])
    expected = plain_float_network(small_spec, variables, images)
    got = run(images.astype(np.float32))
    assert got.shape == expected.shape == (2, 4, 6, 6)
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


def test_widths_approach_the_float_network(small_spec, random_variables, random_images):
    """Quantisation error falls with every two bits: 2, 4, 6, 8."""
    variables, images = random_variables(small_spec, 3), random_images(small_spec, 3)
    run = jax.jit(lambda x, bits: model.apply(small_spec, variables, x, bits, False)[0])
    exact = plain_float_network(small_spec, variables, images)
    errors = []
    for width in (2, 4, 6, 8):
        bits = one_hot(FixedBits((width,) * 3, (width,) * 3))
        errors.append(float(np.abs(run(images.astype(np.float32), bits) - exact).mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 5 * errors[2]
    assert errors[3] < 0.1 * np.abs(exact).mean()


def test_training_moves_statistics_and_inference_does_not(
    small_spec, random_variables, random_images
):
    variables = random_variables(small_spec, 4)
    for stats in variables["batch_stats"]["conv0"]:
        stats[:] = 0  # so that what moves is seen to the last digits
    images = random_images(small_spec, 4).astype(np.float32)
    network = model.Network(small_spec)
    bits = FixedBits((4,) * 3, (4,) * 3)

    @jax.jit
    def run(variables):
        _, moved = model.apply(small_spec, variables, images, bits, True)
        _, kept = model.apply(small_spec, variables, images, bits, False)
        collections = ["intermediates", "batch_stats"]
        _, state = network.apply(variables, images, bits, True, mutable=collections)
        return moved, kept, state["intermediates"]

    moved, kept, seen = run(variables)
    assert_same_bits(kept, variables["batch_stats"])
    assert set(moved) == {"conv0", "conv1"}
    acc = np.asarray(seen["conv0_acc"][0], np.float64).reshape(-1, 4)
    step = 0.353 / 16 * variables["params"]["conv0_kernel"].std(ddof=1)
    np.testing.assert_allclose(moved["conv0"].mean, 0.1 * step * acc.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(moved["conv0"].var, 0.1 * step**2 * acc.var(0, ddof=1), rtol=1e-5)


@pytest.fixture
def fixed_head(small_spec) -> NetSpec:
    head = replace(small_spec.output, fixed_bits=(8, 7))
    return replace(small_spec, layers=(*small_spec.layers[:-1], head))


@pytest.mark.parametrize("relaxation", ["softmax", "gumbel", "gumbel_hard"])
def test_pinned_logits_run_as_the_fixed_layer(fixed_head, relaxation):
    alphas = Alphas(*(jax.random.normal(jax.random.key(i), (3, 7)) for i in range(2)))

    def soft(alphas: Alphas) -> SoftBits:
        pinned = pin(alphas, fixed_head.fixed_bits)
        return soft_bits(pinned, relaxation, jnp.float32(0.7), jax.random.key(2))

    fixed = one_hot(FixedBits((2, 2, 8), (2, 2, 7)))
    free = soft_bits(alphas, relaxation, jnp.float32(0.7), jax.random.key(2))
    for got, pinned, unpinned in zip(soft(alphas), fixed, free, strict=True):
        assert_same_bits(got[2], pinned[2])
        assert_same_bits(got[:2], unpinned[:2])
    jacobian = jax.jacobian(soft)(alphas)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jacobian))
    assert not any(np.any(leaf[2]) for leaf in jax.tree.leaves(jacobian))
    assert read_out(pin(alphas, fixed_head.fixed_bits)).w[2] == 8


def test_uniform_bits_keep_fixed_layers(small_spec, fixed_head):
    assert model.uniform_bits(small_spec, 3, 5) == FixedBits((3, 3, 3), (8, 5, 5))
    assert model.uniform_bits(fixed_head, 3, 5, 6) == FixedBits((3, 3, 8), (6, 5, 7))


def test_widths_against_the_fixed_ones_are_refused(fixed_head, random_variables):
    message = "layer 'conv2' of 'small' has w, a = (8, 8); it is fixed to (8, 7)"
    with pytest.raises(BitsError, match=f"^{re.escape(message)}$"):
        model.check_bits(fixed_head, FixedBits((3, 4, 8), (5, 6, 8)))
    model.check_bits(fixed_head, FixedBits((3, 4, 8), (5, 6, 7)))


def test_fresh_variables(small_spec):
    variables = jax.jit(lambda key: model.init(small_spec, key))(jax.random.key(0))
    shapes = jax.tree.map(jnp.shape, variables["params"])
    assert shapes == {
        "conv0_kernel": (3, 3, 3, 4),
        "conv0_gamma": (4,),
        "conv0_beta": (4,),
        "conv1_kernel": (3, 3, 4, 6),
        "conv1_gamma": (6,),
        "conv1_beta": (6,),
        "conv2_kernel": (1, 1, 6, 6),
        "conv2_bias": (6,),
    }
    for stats in variables["batch_stats"].values():
        assert not stats.mean.any()
        assert (stats.var == 1).all()
    assert [a.shape for a in model.alphas_of(small_spec)] == [(3, 7)] * 2


@pytest.mark.parametrize("layers", [1, 2, 4])
@pytest.mark.parametrize("soft", [True, False])
def test_another_number_of_layers_is_refused(small_spec, random_variables, layers, soft):
    bits = FixedBits((4,) * layers, (4,) * layers)
    images = jax.ShapeDtypeStruct((1, 9, 13, 3), jnp.float32)
    message = f"bits of {layers} layers for 'small', which has 3"
    with pytest.raises(BitsError, match=f"^{re.escape(message)}"):
        jax.eval_shape(
            lambda x: model.apply(
                small_spec,
                random_variables(small_spec, 0),
                x,
                one_hot(bits) if soft else bits,
                False,
            ),
            images,
        )
