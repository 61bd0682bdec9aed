# SPDX-License-Identifier: Apache-2.0
"""Small networks with random parameters, shared by the tests of mixq_jax.

Dtype promotion is strict where a test runs the product's own code (`strict`): implicit promotion
would be a wider or slower program on an accelerator. Rank promotion stays on: a `[c]` vector of
channels against a `[n, h, w, c]` map is how the sources read.
"""

from collections.abc import Callable, Mapping

import jax
import numpy as np
import pytest

from mixq_jax.nets import ultranet
from mixq_jax.spec import AddSpec, ConcatSpec, ConvSpec, DetectHead, NetSpec, PoolSpec, ReorgSpec
from tests import network_samples

HEAD = DetectHead(anchors=1, anchor_pixels=4.0)


@pytest.fixture
def strict():
    """Refuse implicit dtype promotion during a test."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="session")
def small_spec() -> NetSpec:
    """Three convolutions and a pool that drops a row and a column: the least to compile."""
    layers = (
        ConvSpec("conv0", "image", 4),
        PoolSpec("pool0", "conv0"),
        ConvSpec("conv1", "pool0", 6),
        ConvSpec("conv2", "conv1", HEAD.channels, kernel=1, norm=False, bias=True),
    )
    return NetSpec("small", 9, 13, 3, layers, HEAD)


@pytest.fixture(scope="session")
def chain_spec() -> NetSpec:
    """UltraNet with few channels."""
    return ultranet(32, 64, channels=(4, 4, 8, 8, 8, 8, 8, 8))


@pytest.fixture(scope="session")
def bypass_spec() -> NetSpec:
    """Every kind of layer: strides, groups, depthwise, 5x5 kernels, a bypass with reorg, concat.

    `conv2` is read by two convolutions, once in a concatenation that holds `conv1` twice.
    """
    layers = (
        ConvSpec("conv0", "image", 4, kernel=5),
        PoolSpec("pool0", "conv0"),
        ConvSpec("conv1", "pool0", 4, groups=0),
        ConvSpec("conv2", "conv1", 8, stride=2, groups=2),
        ReorgSpec("reorg1", "conv1"),
        PoolSpec("pool1", "conv1"),
        ConcatSpec("join", ("reorg1", "conv2", "pool1")),
        ConvSpec("conv3", "join", 6, kernel=1),
        ConvSpec("conv4", "conv2", 6, kernel=1, stride=1),
        ConcatSpec("ends", ("conv4", "conv3")),
        ConvSpec("conv5", "ends", HEAD.channels, kernel=3, norm=False, bias=True),
    )
    return NetSpec("bypass", 16, 24, 3, layers, HEAD)


@pytest.fixture(scope="session")
def residual_spec() -> NetSpec:
    """Sums of both kinds, around one layer, with a strided shortcut and of pooled maps."""
    layers = (
        ConvSpec("stem", "image", 4),
        ConvSpec("conv0", "stem", 4),
        AddSpec("sum0", ("conv0", "stem")),
        ConvSpec("conv1", "sum0", 4, kernel=1),
        AddSpec("sum1", ("sum0", "conv1"), (True, False)),
        ConvSpec("conv2", "sum1", 6, stride=2),
        ConvSpec("short", "sum1", 6, kernel=1, stride=2),
        AddSpec("sum2", ("conv2", "short"), (False, False), bits=6, step=2.0**-3),
        PoolSpec("pool", "sum2"),
        ConvSpec("conv3", "pool", 6, kernel=1),
        AddSpec("sum3", ("pool", "conv3"), (False, True)),
        ConvSpec("head", "sum3", HEAD.channels, kernel=1, norm=False, bias=True),
    )
    return NetSpec("residual", 8, 12, 3, layers, HEAD)


@pytest.fixture(scope="session")
def random_variables() -> Callable[[NetSpec, int], Mapping]:
    """Return the function (spec, seed) -> variables as after training."""
    return network_samples.random_variables


@pytest.fixture(scope="session")
def random_images() -> Callable[[NetSpec, int], np.ndarray]:
    """Return the function (spec, seed) -> two images, uint8 `[2, H, W, C]`."""
    return network_samples.random_images
