# SPDX-License-Identifier: Apache-2.0
"""Differentiable hardware cost: the expectation of the integer model's table."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from hw.resources import CostTable
from mixq_jax.bits import SoftBits

# The published penalty counts work per 8x8-bit product and per MAC of the first layer.
REFERENCE_PRODUCT = 64


def expected_cost(
    table: Float[Array, "layers wbits abits resources"], bits: SoftBits
) -> Float[Array, " resources"]:
    """Return sum_l sum_ij pw[l, i] pa[l, j] table[l, i, j, :]."""
    return jnp.einsum("li,lj,lijr->r", bits.w, bits.a, table, precision="highest")


def normalised(table: CostTable, first_layer_macs: int) -> Float[Array, "l w a r"]:
    """Return the table as float32 in units of the published penalty, 64 cost / MACs of layer 0.

    With it, cost weight `lam` compares with the reference's 4 cd (decisions.md).
    """
    return jnp.asarray(table.values * (REFERENCE_PRODUCT / first_layer_macs), jnp.float32)
