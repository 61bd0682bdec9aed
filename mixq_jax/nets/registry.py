# SPDX-License-Identifier: Apache-2.0
"""Networks by the name that users type, with the quantisers of whoever trained them."""

from dataclasses import replace
from functools import partial

from mixq_jax.nets import resnet as res
from mixq_jax.nets import skynet as sky
from mixq_jax.nets import ultranet as ultra
from mixq_jax.nets import vgg
from mixq_jax.nets.baselines import QUANTISERS
from mixq_jax.spec import NetSpec

NETS = {
    "ultranet": (ultra.ultranet, ultra.CHANNELS),
    "ultranet_bypass": (ultra.ultranet_bypass, ultra.CHANNELS),
    "skynet": (sky.skynet, sky.CHANNELS),
    "skynet_k5": (partial(sky.skynet, kernel=5), sky.CHANNELS),
}
CLASSIFIERS = {
    "vgg_tiny": (vgg.vgg_tiny, vgg.CHANNELS),
    "resnet8": (partial(res.resnet, 8), res.CHANNELS),
    "resnet20": (partial(res.resnet, 20), res.CHANNELS),
}
# Published float networks that differ from what their quantised versions compute.
FLOAT_CLASSIFIERS = {"vgg_tiny": partial(vgg.vgg_tiny, pool_first=True)}


def detector(name: str, height: int, width: int, quantiser: str = "ours", slim: int = 1) -> NetSpec:
    """Return the network `name` of `NETS`, its hidden channels divided by `slim` (1 to 16).

    `quantiser`: one of `QUANTISERS`; the contest's teams also add up confidences as they come.
    """
    build, channels = NETS[name]
    channels = tuple(count // slim for count in channels)
    spec = build(height, width, QUANTISERS[quantiser], channels)
    if quantiser == "contest":
        return replace(spec, head=replace(spec.head, score="logit"))
    return spec


def classifier(
    name: str,
    side: int,
    quantiser: str = "ours",
    slim: int = 1,
    image_channels: int = 3,
    unquantised: bool = False,
) -> NetSpec:
    """Return the network `name` of `CLASSIFIERS` for square images, channels divided by `slim`.

    `unquantised`: the float network as published, which has no integers for "vgg_tiny".
    """
    build, channels = CLASSIFIERS[name]
    build = FLOAT_CLASSIFIERS.get(name, build) if unquantised else build
    channels = tuple(count // slim for count in channels)
    return build(side, QUANTISERS[quantiser], channels, image_channels=image_channels)
