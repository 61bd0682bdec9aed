# SPDX-License-Identifier: Apache-2.0
"""Residual sums: their codes from the definition, saturation, gradients, and the ResNets."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hw.execute import run
from hw.ir import Add, Requant
from mixq_jax import model
from mixq_jax.bits import FixedBits, FloatBits
from mixq_jax.export import to_graph
from mixq_jax.nets import classifier, resnet
from mixq_jax.nets.baselines import QUANTISERS
from mixq_jax.norm import EPS
from mixq_jax.quant import grid_code
from mixq_jax.spec import AddSpec, ConvSpec, Grid, SpecError, infer_shapes

BITS = FixedBits((4, 5, 3, 6, 8, 4, 8), (8, 4, 5, 3, 6, 5, 7))


@pytest.mark.parametrize(
    ("grid", "lo", "hi"),
    [(Grid(8, 0.5, True), 0, 255), (Grid(8, 0.5, False), -128, 127), (Grid(2, 1.0, False), -2, 1)],
)
def test_range_of_a_grid(grid, lo, hi):
    assert (grid.lo, grid.hi) == (lo, hi)


def test_codes_of_a_grid_are_nearest_and_pass_the_gradient_inside():
    x = jnp.array([-9.0, -1.0, -0.3, 0.25, 0.75, 3.4, 9.0])
    codes, back = jax.vjp(lambda x: grid_code(x, 0.5, -4, 7), x)
    assert codes.tolist() == [-4, -2, -1, 1, 2, 7, 7]  # half up
    assert back(jnp.ones(7))[0].tolist() == [0, 2, 2, 2, 2, 2, 0]


def test_the_float_network_adds(residual_spec, random_variables, random_images):
    """Both operands of the first sum, from its definition, give what the next layer reads."""
    variables = random_variables(residual_spec, 0)
    images = random_images(residual_spec, 0).astype(np.float32)
    network = model.Network(residual_spec)
    _, seen = network.apply(variables, images, FloatBits(), False, mutable=["intermediates"])
    seen = seen["intermediates"]
    stem = normed(variables, "stem", np.asarray(seen["stem_acc"][0], float) / 256)
    branch = normed(variables, "conv0", np.asarray(seen["conv0_acc"][0], float))
    expected = np.maximum(branch + np.maximum(stem, 0), 0)
    np.testing.assert_allclose(seen["conv1_input"][0], expected, atol=1e-4)  # float32 sums


def normed(variables: dict, name: str, sums: np.ndarray) -> np.ndarray:
    """Return the batch norm of a layer's real sums, in float64."""
    stats, params = variables["batch_stats"][name], variables["params"]
    slope = params[f"{name}_gamma"] / np.sqrt(stats.var.astype(float) + EPS)
    return (sums - stats.mean) * slope + params[f"{name}_beta"]


def test_sums_of_the_graph_are_those_of_the_definition(
    residual_spec, random_variables, random_images
):
    """Sum nodes hold code + zero point of both; sums of sums are clipped, never rounded."""
    graph = to_graph(residual_spec, BITS, random_variables(residual_spec, 1))
    values = run(graph, random_images(residual_spec, 1))
    shift = {"sum0": 128, "sum1": 128, "sum2": 64, "sum3": 128}
    for node in graph.of_type(Add):
        first, second = (values[name] for name in node.sources)
        assert np.array_equal(values[node.name], first + second)
    kept = next(node for node in graph.of_type(Requant) if node.source == "sum0" and node.bits == 8)
    assert (kept.shift, set(kept.mul), set(kept.bias)) == (0, {1}, {-shift["sum0"]})
    stream = np.clip(values["sum0"] - shift["sum0"], 0, 255)
    assert np.array_equal(values[kept.name], stream)
    assert graph["sum1"].sources[0] == kept.name


@pytest.mark.parametrize("step", [2.0**-9, 2.0**-4, 2.0**3, 2.0**17])
def test_no_value_of_a_sum_stays_no_value(residual_spec, random_variables, step):
    """Whatever the rounding of the gain: the sum of both zero points is read as the zero point."""
    layers = [
        replace(layer, step=step) if isinstance(layer, AddSpec) else layer
        for layer in residual_spec.layers
    ]
    spec = replace(residual_spec, layers=tuple(layers))
    graph = to_graph(spec, BITS, random_variables(spec, 3))
    zeros = {
        layer.name: -sum(grid.lo for grid in layer.grids)
        for layer in layers
        if isinstance(layer, AddSpec)
    }
    found = set()
    for node in graph.of_type(Requant):
        if node.source in zeros:
            read = zeros[node.source] * node.mul + node.bias + ((1 << node.shift) >> 1)
            found.update((read >> node.shift).tolist())
    assert found == {0, 128}


def test_a_coarser_stream_is_rounded_to_its_own_grid(
    residual_spec, random_variables, random_images
):
    """sum3 reads the pooled sum2, whose step is twice its own: codes are doubled."""
    graph = to_graph(residual_spec, BITS, random_variables(residual_spec, 1))
    values = run(graph, random_images(residual_spec, 1))
    pooled = values[graph["sum3"].sources[0]]
    doubled = 2 * (values["sum2"] - 64) + 128
    blocks = np.clip(doubled, 0, 255)
    n, height, width, channels = blocks.shape
    blocks = blocks.reshape(n, height // 2, 2, width // 2, 2, channels)
    assert np.array_equal(pooled, blocks.max((2, 4)))


def test_trained_codes_of_a_sum_equal_the_integer_ones(
    residual_spec, random_variables, random_images
):
    """Fake-quantised sums times 1 / step are integers within the range of both operands."""
    variables = random_variables(residual_spec, 2)
    images = random_images(residual_spec, 2).astype(np.float32)
    head = ConvSpec("head", "sum0", 6, kernel=1, norm=False, bias=True)
    one = replace(residual_spec, layers=(*residual_spec.layers[:3], head))
    bits = FixedBits((4, 5, 8), (8, 4, 8))
    variables = {
        "params": {k: v for k, v in variables["params"].items() if k.startswith(("stem", "conv0"))},
        "batch_stats": {k: variables["batch_stats"][k] for k in ("stem", "conv0")},
    }
    variables["params"] |= {
        "head_kernel": np.eye(4, 6, dtype=np.float32)[None, None],
        "head_bias": np.zeros(6, np.float32),
    }
    graph = to_graph(one, bits, variables)
    integers = run(graph, images.astype(np.int64))
    seen = model.Network(one).apply(variables, images, bits, False, mutable=["intermediates"])[1]
    codes = np.asarray(seen["intermediates"]["head_input"][0])
    read = integers[graph["head"].source]
    # Norms are rounded to 24 bits in training: a code on an edge may be one apart, seldom.
    assert np.abs(codes - read).max() <= 1
    assert (codes != read).mean() < 1e-3


@pytest.mark.parametrize("quantiser", QUANTISERS)
def test_sums_are_read_alike_by_training_and_hardware(quantiser, random_variables, random_images):
    """Multiples of 1/16 tie all the time in the steps of some quantisers, as 1/15."""
    spec = classifier("resnet8", 8, quantiser, 8)
    variables, images = random_variables(spec, 1), random_images(spec, 1)
    bits = model.uniform_bits(spec, 4, 4)
    graph = to_graph(spec, bits, variables)
    integers = run(graph, images.astype(np.int64))
    seen = model.Network(spec).apply(
        variables, images.astype(np.float32), bits, False, mutable=["intermediates"]
    )[1]["intermediates"]
    pairs = [
        (np.asarray(seen[f"{layer.name}_input"][0]), integers[graph[layer.name].source])
        for layer in spec.convs
    ]
    # As above: an edge of float32 norms, and what lies behind it.
    assert sum((codes != read).sum() for codes, read in pairs) <= 2


@pytest.mark.parametrize(("depth", "convs"), [(8, 10), (20, 22), (32, 34)])
def test_depth_counts_the_layers_beside_the_shortcuts(depth, convs):
    spec = resnet(depth)
    assert len(spec.convs) == convs == depth + 2
    assert infer_shapes(spec)["flatten"] == (1, 1, 8 * 8 * 64)
    assert sum(layer.kernel == 1 for layer in spec.convs) == 3  # two shortcuts, the classifier


def test_resnet20_has_the_published_work():
    """He et al.: 40.55 MMAC and 267 696 weights in its 3x3 convolutions."""
    spec = classifier("resnet20", 32)
    assert spec == resnet(20)
    shapes = infer_shapes(spec)
    own = [
        (9 * shapes[layer.source][2] * layer.out_channels, shapes[layer.name])
        for layer in spec.convs
        if layer.kernel == 3
    ]
    assert sum(weights for weights, _ in own) == 267_696
    work = sum(weights * height * width for weights, (height, width, _) in own)
    assert round(work / 1e6, 2) == 40.55


@pytest.mark.parametrize("depth", [2, 7, 21])
def test_depths_that_are_no_resnet_are_refused(depth):
    with pytest.raises(SpecError, match=f"ResNet-{depth}: depth must be 6 n \\+ 2, n >= 1"):
        resnet(depth)
