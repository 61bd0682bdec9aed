# SPDX-License-Identifier: Apache-2.0
"""All networks have the published work, weights and layers; baselines fit them."""

import pytest

from hw.ir import Concat, Reorg
from mixq_jax.bits import parse_bits
from mixq_jax.export import to_graph
from mixq_jax.model import uniform_bits
from mixq_jax.nets import BASELINES, NETS, detector, skynet, ultranet_bypass, vgg_tiny
from mixq_jax.pretrained import kernel_shape
from mixq_jax.spec import ClassifyHead, infer_shapes

# MMAC and weights of all convolutions: DeepBurning-MixQ's tables, re-derived from the shapes.
PUBLISHED = {
    "ultranet": (199.53, 210_096, 9),
    "ultranet_bypass": (229.02, 357_552, 9),
    "skynet": (401.20, 357_243, 13),
    "skynet_k5": (432.33, 377_003, 13),
}


def work_and_weights(spec) -> tuple[float, int]:
    shapes = infer_shapes(spec)
    work = weights = 0
    for layer in spec.convs:
        height, width, _ = shapes[layer.source]
        k, _, fan_in, out = kernel_shape(spec, layer)
        work += height * width * k * k * fan_in * out
        weights += k * k * fan_in * out
    return work / 1e6, weights


@pytest.mark.parametrize("name", NETS)
def test_detectors_have_the_published_work(name):
    spec = detector(name, 160, 320)
    mmac, weights = work_and_weights(spec)
    assert (round(mmac, 2), weights, len(spec.convs)) == PUBLISHED[name]
    assert spec.name == name


def test_vgg_tiny_has_the_published_work():
    spec = vgg_tiny()
    _, weights = work_and_weights(spec)
    convs = [1.769, 37.749, 18.874, 37.749, 18.874, 37.749]
    shapes = infer_shapes(spec)
    for layer, mmac in zip(spec.convs, convs, strict=False):
        height, width, channels = shapes[layer.source]
        assert height * width * 9 * channels * layer.out_channels / 1e6 == pytest.approx(
            mmac, abs=5e-4
        )
    assert weights == 1_185_472
    assert spec.head == ClassifyHead(10)
    assert spec.fixed_bits == (None,) * 6 + ((8, 8),)


def test_skynet_alternates_depthwise_and_pointwise():
    spec = skynet(kernel=5)
    kernels = [(layer.kernel, layer.groups) for layer in spec.convs]
    assert kernels == [(5, 0), (1, 1)] * 6 + [(1, 1)]
    shapes = infer_shapes(spec)
    assert shapes["head"] == (20, 40, 36)
    assert spec.relu_max == 6.0
    assert not spec.output.bias


def test_the_bypass_joins_convolution_3_and_6():
    graph = to_graph(ultranet_bypass(), uniform_bits(ultranet_bypass(), 4, 4))
    (reorg,), (concat,) = graph.of_type(Reorg), graph.of_type(Concat)
    assert (reorg.source, reorg.block) == ("conv3_quant", 2)
    assert concat.sources == ("reorg", "conv6_quant")
    shapes = infer_shapes(ultranet_bypass())
    assert shapes["concat"] == (10, 20, 320)


def test_a_result_read_at_two_widths_has_two_requantisers_and_at_one_width_one():
    spec = ultranet_bypass()
    same = to_graph(spec, uniform_bits(spec, 4, 4))
    assert [node.name for node in same.consumers("conv3")] == ["conv3_quant"]
    bits = parse_bits("4" * 9, "844454464", spec.fixed_bits)  # pool 3 -> conv4: 5, concat: 6
    other = to_graph(spec, bits)
    assert [node.bits for node in other.consumers("conv3")] == [5, 6]


@pytest.mark.parametrize("slim", [1, 2, 4])
@pytest.mark.parametrize("name", NETS)
def test_slim_networks_can_be_exported(name, slim):
    spec = detector(name, 32, 64, slim=slim)
    assert not to_graph(spec, uniform_bits(spec, 4, 4)).has_parameters


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_fit_their_networks(name):
    baseline = BASELINES[name]
    spec = NETS[baseline.net][0](quant=baseline.quant)
    bits = parse_bits(baseline.w, baseline.a, spec.fixed_bits)
    assert to_graph(spec, bits).input.bits == bits.a[0]
