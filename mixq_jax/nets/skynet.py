# SPDX-License-Identifier: Apache-2.0
"""SkyNet: depthwise and pointwise convolutions in turn (DAC-SDC 2019; Zhang et al., 2020)."""

from mixq_jax.nets.ultranet import detect_head
from mixq_jax.spec import INPUT, OURS, ConvSpec, Layer, NetSpec, PoolSpec, QuantSpec

CHANNELS = (48, 96, 192, 384, 512, 96)
POOLED = 3  # the first three pairs are followed by a 2x2 pool


def skynet(
    height: int = 160,
    width: int = 320,
    quant: QuantSpec = OURS,
    channels: tuple[int, ...] = CHANNELS,
    kernel: int = 3,
) -> NetSpec:
    """Return SkyNet for `height` x `width` images (multiples of 8), of thirteen convolutions.

    401.2 MMAC at 160 x 320, 432.3 with `kernel` 5. `channels` are those of the pointwise ones.
    """
    layers: list[Layer] = []
    source, fan_in = INPUT, 3
    for index, out_channels in enumerate(channels):
        layers.append(ConvSpec(f"depth{index}", source, fan_in, kernel, groups=0))
        layers.append(ConvSpec(f"point{index}", f"depth{index}", out_channels, kernel=1))
        source, fan_in = f"point{index}", out_channels
        if index < POOLED:
            layers.append(PoolSpec(f"pool{index}", source))
            source = f"pool{index}"
    head = detect_head(width)
    layers.append(ConvSpec("head", source, head.channels, kernel=1, norm=False))
    name = "skynet" if kernel == 3 else f"skynet_k{kernel}"
    return NetSpec(name, height, width, 3, tuple(layers), head, quant, relu_max=6.0)
