# SPDX-License-Identifier: Apache-2.0
"""Detectors by the name that users type."""

from functools import partial

from mixq_jax.nets import skynet as sky
from mixq_jax.nets import ultranet as ultra
from mixq_jax.spec import OURS, NetSpec, QuantSpec

NETS = {
    "ultranet": (ultra.ultranet, ultra.CHANNELS),
    "ultranet_bypass": (ultra.ultranet_bypass, ultra.CHANNELS),
    "skynet": (sky.skynet, sky.CHANNELS),
    "skynet_k5": (partial(sky.skynet, kernel=5), sky.CHANNELS),
}


def detector(name: str, height: int, width: int, quant: QuantSpec = OURS, slim: int = 1) -> NetSpec:
    """Return the network `name` of `NETS`, its hidden channels divided by `slim` (1, 2, 4)."""
    build, channels = NETS[name]
    return build(height, width, quant, tuple(count // slim for count in channels))
