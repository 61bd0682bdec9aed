# SPDX-License-Identifier: Apache-2.0
"""Generated scenes: one labelled object among clutter on textured ground."""

from mixq_jax.data.scene.backdrop import Backdrop, Split, backdrops
from mixq_jax.data.scene.frame import Box, SceneConfig, Subject, cast, render, subjects

__all__ = [
    "Backdrop",
    "Box",
    "SceneConfig",
    "Split",
    "Subject",
    "backdrops",
    "cast",
    "render",
    "subjects",
]
