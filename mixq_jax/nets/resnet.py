# SPDX-License-Identifier: Apache-2.0
"""Residual classifiers for CIFAR-10 (He et al., CVPR 2016, section 4.2), ready for a search."""

from mixq_jax.nets.dense import dense_classifier
from mixq_jax.spec import (
    INPUT,
    OURS,
    AddSpec,
    ClassifyHead,
    ConvSpec,
    Layer,
    NetSpec,
    QuantSpec,
    SpecError,
)

CHANNELS = (16, 32, 64)


def resnet(
    depth: int = 20,
    side: int = 32,
    quant: QuantSpec = OURS,
    channels: tuple[int, ...] = CHANNELS,
    classes: int = 10,
    image_channels: int = 3,
) -> NetSpec:
    """Return ResNet-`depth` (6 n + 2 layers) for square images, `side` a multiple of 4.

    Every group but the first begins with stride 2, and with a 1x1 convolution on the shortcut. The
    classifier reads the last map flattened, without an average pool; it is fixed at 8 bits.
    """
    blocks, rest = divmod(depth - 2, 2 * len(channels))
    if rest or blocks < 1:
        raise SpecError(f"ResNet-{depth}: depth must be {2 * len(channels)} n + 2, n >= 1")
    layers: list[Layer] = [ConvSpec("stem", INPUT, channels[0])]
    source = "stem"
    for group, out_channels in enumerate(channels):
        for block in range(blocks):
            stride = 2 if group and not block else 1
            layers += _block(f"block{group}_{block}", source, out_channels, stride)
            source = layers[-1].name
    layers += dense_classifier(source, side >> (len(channels) - 1), classes)
    head = ClassifyHead(classes)
    return NetSpec(f"resnet{depth}", side, side, image_channels, tuple(layers), head, quant)


def _block(name: str, source: str, out_channels: int, stride: int) -> list[Layer]:
    """Return two convolutions and their sum with the shortcut, a ReLU behind every sum."""
    layers: list[Layer] = [
        ConvSpec(f"{name}_conv0", source, out_channels, stride=stride),
        ConvSpec(f"{name}_conv1", f"{name}_conv0", out_channels),
    ]
    if stride == 1:
        return [*layers, AddSpec(f"{name}_sum", (f"{name}_conv1", source), (False, True))]
    shortcut = ConvSpec(f"{name}_shortcut", source, out_channels, kernel=1, stride=stride)
    both = f"{name}_conv1", shortcut.name
    return [*layers, shortcut, AddSpec(f"{name}_sum", both, (False, False))]
