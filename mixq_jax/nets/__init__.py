# SPDX-License-Identifier: Apache-2.0
"""Networks as specs."""

from mixq_jax.nets.ultranet import ultranet

__all__ = ["ultranet"]
