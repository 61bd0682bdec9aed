# SPDX-License-Identifier: Apache-2.0
"""VGG_tiny: the six-convolution classifier that DeepBurning-MixQ searches on CIFAR-10."""

from mixq_jax.nets.dense import dense_classifier
from mixq_jax.spec import (
    INPUT,
    OURS,
    ClassifyHead,
    ConvSpec,
    Layer,
    NetSpec,
    PoolSpec,
    QuantSpec,
)

CHANNELS = (64, 64, 128, 128, 256, 256)


def vgg_tiny(
    side: int = 32,
    quant: QuantSpec = OURS,
    channels: tuple[int, ...] = CHANNELS,
    classes: int = 10,
    image_channels: int = 3,
    pool_first: bool = False,
) -> NetSpec:
    """Return VGG_tiny for square images (`side` a multiple of 8); 152.8 MMAC at 32 x 32.

    Every second convolution is pooled; the dense classifier is a 1x1 convolution of the flattened
    map, fixed at 8 bits. `pool_first`: before the norms, as in the published float network, whose
    quantised versions pool behind them; the two differ where a gamma is negative.
    """
    layers: list[Layer] = []
    source = INPUT
    for index, out_channels in enumerate(channels):
        pooled = index % 2 == 1
        conv = ConvSpec(f"conv{index}", source, out_channels, pooled=pooled and pool_first)
        layers.append(conv)
        source = f"conv{index}"
        if pooled and not pool_first:
            layers.append(PoolSpec(f"pool{index}", source))
            source = f"pool{index}"
    layers += dense_classifier(source, side >> (len(channels) // 2), classes)
    head = ClassifyHead(classes)
    return NetSpec("vgg_tiny", side, side, image_channels, tuple(layers), head, quant)
