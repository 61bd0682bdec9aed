# SPDX-License-Identifier: Apache-2.0
"""UltraNet has the published layers, weights and multiplications."""

import pytest

from mixq_jax.bits import FixedBits
from mixq_jax.export import to_graph
from mixq_jax.nets import ultranet
from mixq_jax.spec import ConvSpec, PoolSpec, infer_shapes

# Published: MMAC of each convolution at 160 x 320, from size of input, kernel and channels.
MMAC = (22.1184, 58.9824, 58.9824, 29.4912, 7.3728, 7.3728, 7.3728, 7.3728, 0.4608)


def macs(spec, layer: ConvSpec) -> int:
    shapes = infer_shapes(spec)
    height, width, channels = shapes[layer.source]
    return height * width * channels * layer.out_channels * layer.kernel**2


def test_work_and_weights_equal_the_published_ones():
    spec = ultranet()
    assert tuple(macs(spec, layer) / 1e6 for layer in spec.convs) == MMAC
    shapes = infer_shapes(spec)
    weights = sum(c.kernel**2 * shapes[c.source][2] * c.out_channels for c in spec.convs)
    assert weights == 210_096
    assert (spec.height, spec.width, spec.channels) == (160, 320, 3)
    assert shapes["conv8"] == (10, 20, 36)


def test_pools_follow_the_first_four_convolutions():
    kinds = [type(layer) for layer in ultranet().layers]
    assert kinds == [ConvSpec, PoolSpec] * 4 + [ConvSpec] * 5


def test_head_has_bias_and_no_norm_and_the_rest_the_opposite():
    *hidden, head = ultranet().convs
    assert (head.kernel, head.bias, head.norm, head.out_channels) == (1, True, False, 36)
    assert {(c.kernel, c.bias, c.norm, c.stride, c.groups) for c in hidden} == {
        (3, False, True, 1, 1)
    }


@pytest.mark.parametrize(("width", "pixels"), [(320, 20.0), (160, 10.0), (64, 4.0)])
def test_anchors_scale_with_the_frame(width, pixels):
    assert ultranet(width // 2, width).head.anchor_pixels == pixels


def test_graph_of_the_full_network():
    bits = FixedBits((4,) * 9, (8, *(4,) * 8))
    graph = to_graph(ultranet(), bits)
    assert not graph.has_parameters
    assert [node.name for node in graph.nodes][:5] == [
        "image",
        "conv0",
        "conv0_quant",
        "pool0",
        "conv1",
    ]
    assert len(graph.nodes) == 1 + 9 + 8 + 4 + 1
