# SPDX-License-Identifier: Apache-2.0
"""UltraNet: the nine-convolution detector of the DAC-SDC 2020 winner (BJTU), plain and bypassed."""

from mixq_jax.spec import (
    INPUT,
    OURS,
    ConcatSpec,
    ConvSpec,
    DetectHead,
    Layer,
    NetSpec,
    PoolSpec,
    QuantSpec,
    ReorgSpec,
)

CHANNELS = (16, 32, 64, 64, 64, 64, 64, 64)
POOLED = 4  # the first four convolutions are followed by a 2x2 pool


def ultranet(
    height: int = 160,
    width: int = 320,
    quant: QuantSpec = OURS,
    channels: tuple[int, ...] = CHANNELS,
) -> NetSpec:
    """Return UltraNet for `height` x `width` images (multiples of 16); 199.53 MMAC at 160 x 320.

    `channels` of the eight 3x3 convolutions can be reduced for tests and smoke runs.
    """
    layers = _trunk(channels)
    return _detector("ultranet", height, width, quant, layers, layers[-1].name)


def ultranet_bypass(
    height: int = 160,
    width: int = 320,
    quant: QuantSpec = OURS,
    channels: tuple[int, ...] = CHANNELS,
) -> NetSpec:
    """Return UltraNet with a bypass around convolutions 4 to 6; 229.02 MMAC at 160 x 320.

    What enters pool 3 also goes, by space to depth, in front of convolution 7's other channels.
    """
    *layers, last = _trunk(channels)
    bypass = (
        ReorgSpec("reorg", "conv3"),
        ConcatSpec("concat", ("reorg", last.source)),
        ConvSpec(last.name, "concat", last.out_channels),
    )
    return _detector("ultranet_bypass", height, width, quant, (*layers, *bypass), last.name)


def _trunk(channels: tuple[int, ...]) -> tuple[Layer, ...]:
    layers, source = [], INPUT
    for index, out_channels in enumerate(channels):
        layers.append(ConvSpec(f"conv{index}", source, out_channels))
        source = f"conv{index}"
        if index < POOLED:
            layers.append(PoolSpec(f"pool{index}", source))
            source = f"pool{index}"
    return tuple(layers)


def _detector(
    name: str, height: int, width: int, quant: QuantSpec, layers: tuple[Layer, ...], source: str
) -> NetSpec:
    head = detect_head(width)
    number = sum(isinstance(layer, ConvSpec) for layer in layers)
    last = ConvSpec(f"conv{number}", source, head.channels, kernel=1, norm=False, bias=True)
    return NetSpec(name, height, width, 3, (*layers, last), head, quant)


def detect_head(width: int) -> DetectHead:
    """Return the head for images of `width` columns; the published 20 pixels belong to 320."""
    return DetectHead(anchor_pixels=20.0 * width / 320)
