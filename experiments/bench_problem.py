# SPDX-License-Identifier: Apache-2.0
"""The search step that both sides of the speed benchmark run, as plain numpy arrays."""

from dataclasses import dataclass, field

import numpy as np

BITS = tuple(range(2, 9))
ANCHORS = 6
ANCHOR_PIXELS = 20
STRIDE = 16


@dataclass(frozen=True)
class ConvShape:
    """One stride-1 convolution with `same` padding; `pool`: a 2x2 max pool follows its BN."""

    in_channels: int
    out_channels: int
    kernel: int
    pool: bool = False


ULTRANET = (
    ConvShape(3, 16, 3, pool=True),
    ConvShape(16, 32, 3, pool=True),
    ConvShape(32, 64, 3, pool=True),
    ConvShape(64, 64, 3, pool=True),
    *(ConvShape(64, 64, 3),) * 4,
    ConvShape(64, ANCHORS * 6, 1),  # head: bias instead of BN; x, y, w, h, confidence, class
)


@dataclass(frozen=True)
class Recipe:
    """Constants of the optimisers and the loss (the reference's DAC-SDC search)."""

    lr: float = 0.01
    bias_lr: float = 0.02  # BN betas and the head bias
    momentum: float = 0.937  # Nesterov for weights, plain for alphas
    alpha_lr: float = 0.01
    alpha_decay: float = 4.84e-4  # the only parameters that are decayed
    box_gain: float = 3.54
    objectness_gain: float = 64.3
    nominal_batch: int = 64  # the detection loss is scaled by batch / nominal_batch
    cost_gain: float = 1e-3  # 25x the reference's 4 * 1e-5, so that the compared losses show it


@dataclass(frozen=True)
class Problem:
    """One batch and the initial supernet, float32 throughout; L layers, 7 bit-widths 2..8.

    images: [N, 3, H, W], multiples of 1/256 in [0, 1).
    boxes: [N, 4], centre x, centre y, width, height as fractions of the image.
    image_weights: [N], weight of each image in the objectness loss.
    kernels: per layer [out, in, K, K]. BN starts at gamma 1, beta 0.
    head_bias: [36].
    alpha_w, alpha_a: [L, 7] logits. Not uniform, so that a permuted branch changes the loss.
    cost_table: [L, 7, 7], cost of layer l at (weight bits, activation bits).
    """

    images: np.ndarray
    boxes: np.ndarray
    image_weights: np.ndarray
    kernels: tuple[np.ndarray, ...]
    head_bias: np.ndarray
    alpha_w: np.ndarray
    alpha_a: np.ndarray
    cost_table: np.ndarray
    layers: tuple[ConvShape, ...] = ULTRANET
    recipe: Recipe = field(default_factory=Recipe)


def problem(seed: int = 0, batch: int = 8, height: int = 160, width: int = 320) -> Problem:
    """Draw the batch and the initial supernet that both sides start from.

    `height` and `width` are multiples of 16 (the head's stride), else ValueError.
    """
    if height % STRIDE or width % STRIDE:
        raise ValueError(f"image {height}x{width}: both sides must be multiples of {STRIDE}")
    rng = np.random.default_rng(seed)

    def uniform(low: float, high: float, *shape: int) -> np.ndarray:
        return rng.uniform(low, high, shape).astype(np.float32)

    def fan_in_uniform(conv: ConvShape, *shape: int) -> np.ndarray:
        bound = (conv.in_channels * conv.kernel**2) ** -0.5
        return uniform(-bound, bound, *shape)

    logits = (len(ULTRANET), len(BITS))
    return Problem(
        images=(rng.integers(0, 256, (batch, 3, height, width)) / 256).astype(np.float32),
        boxes=np.concatenate([uniform(0.2, 0.8, batch, 2), uniform(0.05, 0.3, batch, 2)], axis=1),
        image_weights=uniform(0.5, 1.5, batch),
        kernels=tuple(
            fan_in_uniform(c, c.out_channels, c.in_channels, c.kernel, c.kernel) for c in ULTRANET
        ),
        head_bias=fan_in_uniform(ULTRANET[-1], ULTRANET[-1].out_channels),
        alpha_w=uniform(-1, 1, *logits),
        alpha_a=uniform(-1, 1, *logits),
        cost_table=bit_product_table(height, width),
    )


def bit_product_table(height: int, width: int) -> np.ndarray:
    """Tabulate MACs * weight bits * activation bits, in units of layer 0's MACs: [L, 7, 7]."""
    macs = []
    for conv in ULTRANET:
        macs.append(conv.in_channels * conv.out_channels * conv.kernel**2 * height * width)
        if conv.pool:
            height, width = height // 2, width // 2
    relative = np.array(macs) / macs[0]
    return (relative[:, None, None] * np.multiply.outer(BITS, BITS)).astype(np.float32)
