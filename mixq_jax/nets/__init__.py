# SPDX-License-Identifier: Apache-2.0
"""Networks as specs."""

from mixq_jax.nets.baselines import BASELINES, Baseline
from mixq_jax.nets.registry import CLASSIFIERS, NETS, classifier, detector
from mixq_jax.nets.resnet import resnet
from mixq_jax.nets.skynet import skynet
from mixq_jax.nets.ultranet import ultranet, ultranet_bypass
from mixq_jax.nets.vgg import vgg_tiny

__all__ = [
    "BASELINES",
    "CLASSIFIERS",
    "NETS",
    "Baseline",
    "classifier",
    "detector",
    "resnet",
    "skynet",
    "ultranet",
    "ultranet_bypass",
    "vgg_tiny",
]
