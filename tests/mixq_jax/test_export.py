# SPDX-License-Identifier: Apache-2.0
"""Folding: the graph's integers are those of the network, its constants those of the formulas."""

from dataclasses import replace
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hw.execute import run
from hw.ir import Add, Concat, Conv, MaxPool, Reorg, Requant
from hw.ir_verify import requant_fits_dsp, verify
from mixq_jax import model, quant
from mixq_jax.bits import WIDTHS, BitsError, FixedBits
from mixq_jax.export import MAX_SHIFT, ExportError, integer_bits, to_graph
from mixq_jax.integer import executor
from mixq_jax.nets.baselines import CONTEST
from mixq_jax.norm import EPS
from mixq_jax.spec import ConcatSpec, ConvSpec, NetSpec, QuantSpec

SPECS = ("small", "chain", "bypass")


def random_bits(spec, seed: int) -> FixedBits:
    rng = np.random.default_rng(seed)
    return FixedBits(*(tuple(rng.choice(WIDTHS, len(spec.convs)).tolist()) for _ in range(2)))


CASES = [*((name, seed) for name in SPECS for seed in (0, 1)), ("residual", 0)]


@pytest.fixture(params=CASES, ids=str)
def exported(request, random_variables):
    """Return (spec, bits, variables, graph) of a network at random widths."""
    name, seed = request.param
    spec = request.getfixturevalue(f"{name}_spec")
    if seed:
        spec = replace(spec, quant=QuantSpec(False, "reference", "reference"))
    bits, variables = random_bits(spec, seed), random_variables(spec, seed)
    return spec, bits, variables, to_graph(spec, bits, variables)


def test_network_on_integers_equals_execution(exported, random_images):
    """Every layer's input codes and accumulators, and what the head says, with ==."""
    spec, bits, variables, graph = exported
    images = random_images(spec, 7)
    integer, network = integer_bits(spec, bits, variables), model.Network(spec)
    values = run(graph, images)

    @jax.jit
    def forward(x):
        return network.apply(variables, x, integer, False, mutable=["intermediates"])

    y, state = forward(images.astype(np.float32))
    seen = state["intermediates"]
    for layer in spec.convs:
        node = graph[layer.name]
        codes = np.asarray(seen[f"{layer.name}_input"][0])
        acc = np.asarray(seen[f"{layer.name}_acc"][0])
        bias = 0 if node.bias is None else node.bias
        assert np.array_equal(codes, values[node.source]), layer.name
        assert np.array_equal(acc, values[layer.name] - bias), layer.name
        assert len(np.unique(codes)) > 2, f"{layer.name}: codes do not vary"
    # The head's bias is rounded to an integer in the graph alone.
    scale = graph.output.scale[0]
    assert np.abs(values["output"] * scale - y).max() <= 0.51 * scale + 1e-5 * np.abs(y).max()


def test_weights_on_the_edge_of_two_codes_are_those_of_the_graph(
    small_spec, random_variables, random_images
):
    """Halfway between DoReFa's codes the last place of tanh decides, in every program anew."""
    spec, bits = replace(small_spec, quant=CONTEST), FixedBits((4,) * 3, (4,) * 3)
    variables, rng = random_variables(spec, 0), np.random.default_rng(0)
    for layer in spec.convs:
        kernel = variables["params"][f"{layer.name}_kernel"]
        kernel[...] = np.arctanh(0.76 * (rng.integers(-7, 7, kernel.shape) + 0.5) / 7)
        kernel.flat[0] = np.arctanh(0.76)
    graph, images = to_graph(spec, bits, variables), random_images(spec, 0)
    integer, expected = integer_bits(spec, bits, variables), run(graph, images)

    @jax.jit
    def forward(x):  # the parameters are constants, which XLA folds with a tanh of its own
        return model.Network(spec).apply(variables, x, integer, False, mutable=["intermediates"])

    seen = forward(images.astype(np.float32))[1]["intermediates"]
    for layer in spec.convs[:-1]:
        assert np.array_equal(seen[f"{layer.name}_acc"][0], expected[layer.name]), layer.name


def graph_width(graph, node) -> int:
    return verify(graph)[node.source].bits


def test_jitted_executor_equals_execution(exported, random_images):
    spec, _, _, graph = exported
    images = random_images(spec, 8)
    expected, got = run(graph, images), executor(graph)(jnp.asarray(images, jnp.int32))
    for name, values in expected.items():
        assert np.array_equal(got[name], values), name


def requants(exported):
    """Yield (spec, bits, variables, producer, consumer, node) of requantisers between layers."""
    spec, bits, variables, graph = exported
    order = {layer.name: index for index, layer in enumerate(spec.convs)}
    for node in graph.of_type(Requant):
        consumer = graph.consumers(node.name)
        while not isinstance(consumer[0], Conv | Add):
            consumer = graph.consumers(consumer[0].name)
        if node.source in order and consumer[0].name in order:  # neither end is a sum
            yield spec, bits, variables, order[node.source], order[consumer[0].name], node


def folded(spec, bits, variables, producer: int, consumer: int) -> tuple[np.ndarray, np.ndarray]:
    """Return gain and offset from accumulators to codes in float64."""
    layer, stats = spec.convs[producer], variables["batch_stats"][spec.convs[producer].name]
    act_steps = quant.ACT_STEPS[spec.quant.act_steps]
    a, w = WIDTHS.index(bits.a[producer]), WIDTHS.index(bits.w[producer])
    kernel = variables["params"][f"{layer.name}_kernel"].astype(np.float64)
    weight_step = quant.WEIGHT_STEPS[spec.quant.weight_steps, spec.quant.narrow][w]
    scale = (2.0 ** -bits.a[producer] if layer.source == "image" else act_steps[a]) * (
        weight_step * kernel.std(ddof=1)
    )
    slope = variables["params"][f"{layer.name}_gamma"] / np.sqrt(stats.var.astype(float) + EPS)
    out_step = act_steps[WIDTHS.index(bits.a[consumer])]
    offset = variables["params"][f"{layer.name}_beta"] - slope * stats.mean
    return scale * slope / out_step, offset / out_step


def test_constants_are_the_rounded_float64_fold(exported):
    """The float32 weight step is the only deviation: 1e-6 of the gain."""
    for spec, bits, variables, producer, consumer, node in requants(exported):
        gain, offset = folded(spec, bits, variables, producer, consumer)
        tolerance = 0.5 + 1e-6 * np.abs(np.ldexp(gain, node.shift))
        assert (np.abs(node.mul - np.ldexp(gain, node.shift)) <= tolerance).all()
        assert (np.abs(node.bias - np.ldexp(offset, node.shift)) <= 0.5001).all()
        assert (np.sign(node.mul) == np.sign(gain)).all()


def test_codes_equal_the_exact_fold_up_to_constant_rounding(exported):
    """Away from boundaries, further than the rounding of mul and bias reaches, codes agree."""
    graph = exported[3]
    types = verify(graph)
    for spec, bits, variables, producer, consumer, node in requants(exported):
        gain, offset = folded(spec, bits, variables, producer, consumer)
        source = types[node.source]
        acc = np.linspace(source.lo, source.hi, 2001).astype(np.int64)[:, None]
        real = acc * gain + offset
        error = (0.5 * np.abs(acc) + 1) / 2.0**node.shift + 2e-6 * np.abs(acc * gain)
        half = (1 << node.shift) >> 1
        codes = np.clip((acc * node.mul + node.bias + half) >> node.shift, 0, 2**node.bits - 1)
        expected = np.clip(np.floor(real + 0.5), 0, 2**node.bits - 1)
        clear = np.abs(real + 0.5 - np.round(real + 0.5)) > error
        assert clear.mean() > 0.5
        assert (codes == expected)[clear].all()


def test_shift_is_the_largest_that_keeps_the_dsp_rule(exported):
    graph = exported[3]
    types = verify(graph)
    for spec, bits, variables, producer, consumer, node in requants(exported):
        source = types[node.source]
        assert requant_fits_dsp(node, source)
        gain, offset = folded(spec, bits, variables, producer, consumer)
        mul, bias = (np.rint(np.ldexp(v, node.shift + 1)).astype(np.int64) for v in (gain, offset))
        finer = replace(node, shift=node.shift + 1, mul=mul, bias=bias)
        assert node.shift == MAX_SHIFT or not requant_fits_dsp(finer, source)


def test_weights_are_the_quantised_kernels_in_their_range(exported):
    spec, bits, variables, graph = exported
    for index, layer in enumerate(spec.convs):
        node, kernel = graph[layer.name], variables["params"][f"{layer.name}_kernel"]
        assert node.w_format.bits == bits.w[index]
        assert node.w_format.narrow == spec.quant.narrow
        table = quant.WEIGHT_STEPS[spec.quant.weight_steps, spec.quant.narrow]
        step = table[WIDTHS.index(bits.w[index])] * kernel.astype(np.float64).std(ddof=1)
        half = 1 << (bits.w[index] - 1)
        real = np.clip(kernel / step, -half + spec.quant.narrow, half - 1)
        assert np.abs(node.weights - real).max() <= 0.5 + 1e-4
        assert graph_width(graph, node) == bits.a[index]


def test_output_scale_is_exact(exported):
    spec, bits, variables, graph = exported
    head = len(spec.convs) - 1
    kernel = variables["params"][f"{spec.output.name}_kernel"].astype(np.float64)
    w_step = quant.WEIGHT_STEPS[spec.quant.weight_steps, spec.quant.narrow][
        WIDTHS.index(bits.w[head])
    ]
    a_step = quant.ACT_STEPS[spec.quant.act_steps][WIDTHS.index(bits.a[head])]
    scale = a_step * w_step * kernel.std(ddof=1)
    np.testing.assert_allclose(graph.output.scale, scale, rtol=1e-6)
    bias = variables["params"][f"{spec.output.name}_bias"] / scale
    assert (np.abs(graph[spec.output.name].bias - bias) <= 0.5 + 1e-5 * np.abs(bias)).all()


def test_shape_only_graph_has_the_shape_of_the_real_one(exported):
    spec, bits, _, graph = exported
    shape_only = to_graph(spec, bits)
    assert not shape_only.has_parameters
    assert shape_only.output.scale is None
    assert [(n.name, type(n)) for n in shape_only.nodes] == [(n.name, type(n)) for n in graph.nodes]
    real, bare = verify(graph), verify(shape_only)
    for name, found in bare.items():
        assert (found.height, found.width, found.channels) == (
            real[name].height,
            real[name].width,
            real[name].channels,
        )


def test_graph_of_a_bypass(bypass_spec):
    """`conv1` is read by `conv2` and, three times over, by `conv3`; each has its own width."""
    bits = FixedBits((4,) * 6, (8, 4, 5, 6, 7, 3))
    graph = to_graph(bypass_spec, bits)
    codes = {node.name: node.bits for node in graph.of_type(Requant) if node.source == "conv1"}
    assert sorted(codes.values()) == [5, 6]
    assert [type(n) for n in graph.nodes if isinstance(n, Reorg | Concat)] == [
        Reorg,
        Concat,
        Concat,
    ]
    assert len(graph.of_type(MaxPool)) == 2
    assert graph["conv1"].groups == 4
    assert (graph["conv2"].groups, graph["conv2"].stride) == (2, 2)


def test_one_producer_twice_in_one_concatenation(small_spec, random_variables, random_images):
    layers = (
        ConvSpec("conv0", "image", 4),
        ConcatSpec("twice", ("conv0", "conv0")),
        ConvSpec("conv1", "twice", 6, kernel=1, norm=False, bias=True),
    )
    spec = NetSpec("twice", 4, 4, 3, layers, small_spec.head)
    graph = to_graph(spec, FixedBits((4, 4), (4, 4)), random_variables(spec, 0))
    (requant,) = graph.of_type(Requant)
    assert graph.of_type(Concat)[0].sources == (requant.name,) * 2
    run(graph, random_images(spec, 0))


def changed(variables: dict, collection: str, name: str, value) -> dict:
    """Return a copy of `variables` in which the first value of one leaf is `value`."""
    copy = jax.tree.map(np.array, variables)
    if collection == "params":
        copy["params"][name].flat[0] = value
    else:
        getattr(copy["batch_stats"]["conv0"], name).flat[0] = value
    return copy


@pytest.mark.parametrize(
    ("collection", "name", "value", "message"),
    [
        ("params", "conv1_kernel", np.nan, "layer 'conv1': weights are not finite; train it again"),
        ("params", "conv1_kernel", np.inf, "layer 'conv1': weights are not finite; train it again"),
        (
            "params",
            "conv0_gamma",
            np.nan,
            "layer 'conv0': batch norm is not finite; train it again",
        ),
        ("params", "conv0_beta", np.inf, "layer 'conv0': batch norm is not finite; train it again"),
        ("batch_stats", "mean", np.nan, "layer 'conv0': batch norm is not finite; train it again"),
        (
            "params",
            "conv2_bias",
            np.nan,
            "layer 'conv2': parameters are not finite; train it again",
        ),
        (
            "params",
            "conv0_gamma",
            1e9,
            r"layer 'conv0': requantiser gain \S+ or bias \S+ is too large for the DSP; "
            "train longer or lower the rate",
        ),
        (
            "params",
            "conv0_beta",
            1e15,
            r"layer 'conv0': requantiser gain \S+ or bias \S+ is too large for the DSP; "
            "train longer or lower the rate",
        ),
    ],
)
def test_parameters_that_cannot_be_folded_are_refused(
    small_spec, random_variables, collection, name, value, message
):
    variables = changed(random_variables(small_spec, 0), collection, name, value)
    with pytest.raises(ExportError, match=f"^{message}$"):
        to_graph(small_spec, FixedBits((4,) * 3, (4,) * 3), variables)


def test_dead_layers_are_refused(small_spec, random_variables):
    variables = random_variables(small_spec, 0)
    variables["params"]["conv1_kernel"][:] = 0.25
    message = "layer 'conv1': all weights are equal; train it again"
    with pytest.raises(ExportError, match=f"^{message}$"):
        to_graph(small_spec, FixedBits((4,) * 3, (4,) * 3), variables)


def wide_spec(small_spec, channels: int) -> NetSpec:
    layers = (
        ConvSpec("conv0", "image", channels, kernel=1),
        ConvSpec("conv1", "conv0", 2),
        ConvSpec("conv2", "conv1", 6, kernel=1, norm=False, bias=True),
    )
    return NetSpec("wide", 4, 4, 3, layers, small_spec.head)


def with_outliers(variables: dict) -> dict:
    """Make one channel of conv1 reach the top code of 8 bits everywhere, by many small others."""
    kernel = variables["params"]["conv1_kernel"]
    kernel[...] = 1e-3 * np.sign(kernel)
    kernel[..., 0] = 1.0
    return variables


def test_sums_beyond_the_accumulator_port_are_refused(small_spec, random_variables):
    spec = wide_spec(small_spec, 3500)
    variables = with_outliers(random_variables(spec, 0))
    with pytest.raises(ExportError, match=r"^layer 'conv1': sums up to \d+ exceed 27 bits$"):
        to_graph(spec, FixedBits((8,) * 3, (8,) * 3), variables)


def test_sums_beyond_float32_are_taken_in_two_halves(small_spec, random_variables):
    spec, bits = wide_spec(small_spec, 200), FixedBits((8,) * 3, (8,) * 3)
    variables = with_outliers(random_variables(spec, 0))
    variables["params"]["conv0_beta"][...] = 100.0  # every code is the largest
    graph, integer = to_graph(spec, bits, variables), integer_bits(spec, bits, variables)
    assert "conv1" in integer.wide
    pixels = np.random.default_rng(0).integers(200, 256, (2, 4, 4, 3))
    expected = run(graph, pixels)
    assert np.abs(expected["conv1"]).max() > 1 << 24
    network, images = model.Network(spec), jnp.asarray(pixels, jnp.float32)
    _, sown = network.apply(variables, images, integer, False, mutable=["intermediates"])
    for layer in spec.convs[:-1]:
        acc = np.asarray(sown["intermediates"][f"{layer.name}_acc"][0])
        assert np.array_equal(acc.astype(np.int64), expected[layer.name]), layer.name


def test_sums_beyond_two_halves_are_refused(small_spec, random_variables):
    """Only a head's can be: those of other layers must fit a port of 27 bits."""
    head = small_spec.output
    layers = (ConvSpec("conv0", "image", 20_000, kernel=1), replace(head, source="conv0"))
    spec = NetSpec("wide", 4, 4, 3, layers, small_spec.head)
    variables = random_variables(spec, 0)
    kernel = variables["params"][f"{head.name}_kernel"]
    kernel[...] = 1.0
    kernel[..., 1] = -1.0
    bits = FixedBits((8,) * 2, (8,) * 2)
    kernel[..., 2:] *= 1e-3  # a small deviation, so that ones are top codes
    with pytest.raises(ExportError, match=rf"^layer '{head.name}': sums reach \d+, beyond 2\^28"):
        integer_bits(spec, bits, variables)


def test_two_widths_of_the_image_are_refused(small_spec):
    layers = (
        ConvSpec("left", "image", 4),
        ConvSpec("right", "image", 4),
        ConcatSpec("join", ("left", "right")),
        ConvSpec("head", "join", 6, kernel=1, norm=False, bias=True),
    )
    spec = NetSpec("two", 4, 4, 3, layers, small_spec.head)
    to_graph(spec, FixedBits((4, 4, 4), (5, 5, 4)))
    message = (
        "layer 'right' reads the image with 4 bits, another one with 5; choose one width for both"
    )
    with pytest.raises(ExportError, match=f"^{message}$"):
        to_graph(spec, FixedBits((4,) * 3, (5, 4, 4)))


def test_another_number_of_layers_is_refused(small_spec):
    with pytest.raises(BitsError, match=r"^bits of 2 layers for 'small', which has 3$"):
        to_graph(small_spec, FixedBits((4, 4), (4, 4)))


def test_requantisation_by_fractions():
    """The documented formula, worked out by hand for one channel in exact fractions."""
    gain, offset, shift = Fraction(3, 7), Fraction(-5, 3), 12
    mul, bias = (round(v * 2**shift) for v in (gain, offset))
    for acc in range(-40, 60):
        exact = gain * acc + offset
        code = (acc * mul + bias + 2 ** (shift - 1)) >> shift
        assert abs(code - exact) <= Fraction(1, 2) + Fraction(abs(acc) + 1, 2**shift)
