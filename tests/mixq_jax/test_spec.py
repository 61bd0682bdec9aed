# SPDX-License-Identifier: Apache-2.0
"""Shapes of networks, and one refused network for every rule."""

import re
from dataclasses import replace

import pytest

from mixq_jax.spec import (
    AddSpec,
    ClassifyHead,
    ConcatSpec,
    ConvSpec,
    DetectHead,
    NetSpec,
    PoolSpec,
    QuantSpec,
    ReorgSpec,
    SpecError,
    conv_groups,
    infer_shapes,
    layer_sources,
)

HEAD = DetectHead(anchors=1)
FIRST = ConvSpec("first", "image", 4)
LAST = ConvSpec("last", "first", 6, kernel=1, norm=False, bias=True)
SECOND = ConvSpec("second", "first", 4)
BEHIND_SUM = replace(LAST, source="sum")


def net(*layers, height=8, width=12) -> NetSpec:
    return NetSpec("net", height, width, 3, layers, HEAD)


def test_shapes_of_every_layer(bypass_spec):
    assert infer_shapes(bypass_spec) == {
        "image": (16, 24, 3),
        "conv0": (16, 24, 4),
        "pool0": (8, 12, 4),
        "conv1": (8, 12, 4),
        "conv2": (4, 6, 8),
        "reorg1": (4, 6, 16),
        "pool1": (4, 6, 4),
        "join": (4, 6, 28),
        "conv3": (4, 6, 6),
        "conv4": (4, 6, 6),
        "ends": (4, 6, 12),
        "conv5": (4, 6, 6),
    }


@pytest.mark.parametrize(("side", "stride", "out"), [(7, 2, 4), (8, 2, 4), (9, 2, 5), (7, 3, 3)])
def test_strided_shapes_round_up(side, stride, out):
    spec = net(replace(FIRST, stride=stride), LAST, height=side)
    assert infer_shapes(spec)["first"][0] == out


def test_networks_are_values(small_spec):
    assert hash(small_spec) == hash(replace(small_spec))
    assert replace(small_spec, quant=QuantSpec(narrow=False)) != small_spec
    assert [layer.name for layer in small_spec.convs] == ["conv0", "conv1", "conv2"]
    assert small_spec.output is small_spec["conv2"]
    assert small_spec.reads_image(small_spec["conv0"])
    assert not small_spec.reads_image(small_spec["conv1"])
    assert layer_sources(ConcatSpec("c", ("a", "b"))) == ("a", "b")
    assert (conv_groups(FIRST, 8), conv_groups(replace(FIRST, groups=0), 8)) == (1, 8)
    assert DetectHead(anchors=6).channels == 36
    with pytest.raises(SpecError, match=r"^network 'small' has no layer 'conv9'$"):
        small_spec["conv9"]


REFUSED = [
    (
        (LAST, FIRST),
        "layer 'last' of 'net' reads 'first', which is not an earlier layer",
    ),
    (
        (FIRST, replace(LAST, name="first")),
        "layer name 'first' of 'net' is used twice",
    ),
    (
        (replace(FIRST, name="image"), LAST),
        "layer name 'image' of 'net' is used twice",
    ),
    (
        (PoolSpec("pool", "image"), replace(FIRST, source="pool"), LAST),
        "layer 'pool' reads the image; only convolutions quantise it",
    ),
    (
        (FIRST, ConcatSpec("join", ("first", "image")), replace(LAST, source="join")),
        "layer 'join' reads the image; only convolutions quantise it",
    ),
    (
        (FIRST, PoolSpec("pool", "first"), LAST),
        "layer 'pool' is read by no layer; remove it or connect it",
    ),
    ((), "network 'net' must end with a convolution, its head"),
    (
        (FIRST, PoolSpec("pool", "first")),
        "network 'net' must end with a convolution, its head",
    ),
    (
        (FIRST, replace(LAST, out_channels=12)),
        "layer 'last' has 12 channels, the head of 'net' needs 6",
    ),
    (
        (replace(FIRST, kernel=4), LAST),
        "layer 'first': kernel 4, stride 1; the kernel must be odd, the stride at least 1",
    ),
    (
        (replace(FIRST, stride=0), LAST),
        "layer 'first': kernel 3, stride 0; the kernel must be odd, the stride at least 1",
    ),
    (
        (replace(FIRST, norm=False), LAST),
        "layer 'first': norm=False, bias=False; hidden convolutions have norm and no bias "
        "(requantisation is folded from the norm), the last one has no norm",
    ),
    (
        (replace(FIRST, bias=True), LAST),
        "layer 'first': norm=True, bias=True; hidden convolutions have norm and no bias "
        "(requantisation is folded from the norm), the last one has no norm",
    ),
    (
        (FIRST, replace(LAST, norm=True)),
        "layer 'last': norm=True, bias=True; hidden convolutions have norm and no bias "
        "(requantisation is folded from the norm), the last one has no norm",
    ),
    (
        (FIRST, replace(LAST, groups=4)),
        "layer 'last': groups 4 must divide 4 input and 6 output channels",
    ),
    (
        (replace(FIRST, groups=2), LAST),
        "layer 'first': groups 2 must divide 3 input and 4 output channels",
    ),
    (
        (replace(FIRST, stride=8), PoolSpec("pool", "first"), replace(LAST, source="pool")),
        "layer 'pool': cannot pool 1x2 by 2",
    ),
    (
        (replace(FIRST, stride=3), ReorgSpec("reorg", "first"), replace(LAST, source="reorg")),
        "layer 'reorg': block 2 does not divide 3x4",
    ),
    (
        (
            FIRST,
            PoolSpec("pool", "first"),
            ConcatSpec("join", ("first", "pool")),
            replace(LAST, source="join"),
        ),
        "layer 'join': sources differ in size: [(8, 12, 4), (4, 6, 4)]",
    ),
    (
        (FIRST, PoolSpec("pool", "first"), AddSpec("sum", ("first", "pool")), BEHIND_SUM),
        "layer 'sum': sources differ in shape: [(8, 12, 4), (4, 6, 4)]",
    ),
    (
        (FIRST, AddSpec("sum", ("first", "image")), BEHIND_SUM),
        "layer 'sum' reads the image; only convolutions quantise it",
    ),
    (
        (FIRST, AddSpec("sum", ("first", "first")), BEHIND_SUM),
        "layer 'sum': sources ('first', 'first'), rectify (False, True); a sum has two different "
        "sources",
    ),
    *(
        (
            (FIRST, SECOND, AddSpec("sum", ("first", "second"), **given), BEHIND_SUM),
            f"layer 'sum': {message}",
        )
        for given, message in (
            ({"bits": 1}, "bits 1 must be in 2..16"),
            ({"bits": 17}, "bits 17 must be in 2..16"),
            ({"step": 0.3}, "step 0.3 must be a power of two"),
            ({"step": 0.0}, "step 0.0 must be a power of two"),
            ({"step": -0.5}, "step -0.5 must be a power of two"),
        )
    ),
]


@pytest.mark.parametrize(("layers", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_networks_that_make_no_sense_are_refused(layers, message):
    with pytest.raises(SpecError, match=f"^{re.escape(message)}$"):
        net(*layers)


def test_a_classifier_ends_on_one_pixel():
    layers = (ConvSpec("only", "image", 10, kernel=1, norm=False),)
    with pytest.raises(SpecError, match=r"network 'net' ends on a 4x6 map; a classifier needs 1x1"):
        NetSpec("net", 4, 6, 3, layers, ClassifyHead(10))
