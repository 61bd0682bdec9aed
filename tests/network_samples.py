# SPDX-License-Identifier: Apache-2.0
"""Networks as after training, at random widths: bits, parameters and images by a seed."""

from collections.abc import Mapping

import jax
import numpy as np

from mixq_jax import model
from mixq_jax.bits import WIDTHS, FixedBits
from mixq_jax.spec import NetSpec


def random_bits(spec: NetSpec, seed: int) -> FixedBits:
    """Return uniform widths, those that `spec` fixes kept."""
    rng = np.random.default_rng(seed)
    drawn = rng.choice(WIDTHS, (len(spec.convs), 2)).tolist()
    pairs = [fixed or tuple(pair) for fixed, pair in zip(spec.fixed_bits, drawn, strict=True)]
    return FixedBits(*zip(*pairs, strict=True))


def random_variables(spec: NetSpec, seed: int) -> Mapping:
    """Return variables as after training, with negative gammas too."""
    rng = np.random.default_rng(seed)

    def fill(path, leaf) -> np.ndarray:
        kind = str(path[-1]).strip("'[].").split("_")[-1]
        values = rng.standard_normal(leaf.shape)
        match kind:
            case "kernel":
                values *= np.sqrt(2 / np.prod(leaf.shape[:-1]))
            case "gamma":
                values = rng.uniform(0.5, 1.5, leaf.shape) * rng.choice((-1, 1), leaf.shape)
            case "beta" | "mean" | "bias":
                values *= 0.3
            case "var":
                values = rng.uniform(0.3, 2.0, leaf.shape)
            case _:
                raise AssertionError(kind)
        return values.astype(np.float32)

    shapes = jax.eval_shape(lambda: model.init(spec, jax.random.key(0)))
    return jax.tree.map_with_path(fill, shapes)


def random_images(spec: NetSpec, seed: int) -> np.ndarray:
    """Return two images, uint8 `[2, H, W, C]`."""
    shape = (2, spec.height, spec.width, spec.channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
