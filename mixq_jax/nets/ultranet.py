# SPDX-License-Identifier: Apache-2.0
"""UltraNet: the nine-convolution detector of the DAC-SDC 2020 winner (BJTU)."""

from mixq_jax.spec import INPUT, ConvSpec, DetectHead, NetSpec, PoolSpec, QuantSpec

CHANNELS = (16, 32, 64, 64, 64, 64, 64, 64)
POOLED = 4  # the first four convolutions are followed by a 2x2 pool


def ultranet(
    height: int = 160,
    width: int = 320,
    quant: QuantSpec | None = None,
    channels: tuple[int, ...] = CHANNELS,
) -> NetSpec:
    """Return UltraNet for `height` x `width` images (multiples of 16); 199.53 MMAC at 160 x 320.

    `channels` of the eight 3x3 convolutions can be reduced for tests and smoke runs.
    """
    layers, source = [], INPUT
    for index, out_channels in enumerate(channels):
        layers.append(ConvSpec(f"conv{index}", source, out_channels))
        source = f"conv{index}"
        if index < POOLED:
            layers.append(PoolSpec(f"pool{index}", source))
            source = f"pool{index}"
    head = DetectHead(anchor_pixels=20.0 * width / 320)  # the published 20 px belong to 320 columns
    last = ConvSpec(f"conv{len(channels)}", source, head.channels, kernel=1, norm=False, bias=True)
    return NetSpec(
        "ultranet", height, width, 3, (*layers, last), head, quant if quant else QuantSpec()
    )
