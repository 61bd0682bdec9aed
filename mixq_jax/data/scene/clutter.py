# SPDX-License-Identifier: Apache-2.0
"""The things that are not labelled."""

from mixq_jax.data.scene.drawing import Shape, block, disc, limb, polygon

_CROWN = [(-0.3, -0.2), (0.32, -0.16), (0.02, -0.5), (-0.1, -0.1), (0.2, -0.4)]
_STREAKS = [(-0.6, 0.0, 0.6), (0.1, 0.16, 0.8), (0.4, -0.14, 0.5)]

# Natural and built things in muted colours.
CLUTTER = (
    Shape(
        "tree",
        (
            limb("wood", 0, 0, 0.02, 0.8, 0.16),
            *(disc("leaf-dark", x, y + 0.06, 0.36) for x, y in _CROWN),
            *(disc("leaf", x, y - 0.05, 0.28) for x, y in _CROWN),
        ),
        tilt_deg=5,
        share=3,
    ),
    Shape(
        "conifer",
        (
            limb("wood", 0, 0.5, 0, 0.9, 0.14),
            polygon("leaf-dark", (-0.42, 0.6), (0, -0.2), (0.42, 0.6)),
            polygon("leaf", (-0.34, 0.3), (0, -0.6), (0.3, 0.24)),
        ),
        tilt_deg=5,
    ),
    Shape(
        "rock",
        (
            polygon("stone", (-0.8, 0.4), (-0.6, -0.2), (-0.1, -0.5), (0.5, -0.35), (0.8, 0.4)),
            polygon("pale", (-0.6, -0.2), (-0.1, -0.5), (0.5, -0.35), (0.1, -0.05)),
        ),
        tilt_deg=15,
    ),
    Shape(
        "lamp",
        (
            limb("stone", 0, 2, 0, -0.2, 0.08),
            limb("stone", -0.04, -0.2, 0.5, -0.26, 0.08),
            disc("pale", 0.5, -0.2, 0.14, 0.07),
        ),
        tilt_deg=4,
    ),
    Shape(
        "house",
        (
            block("pale", -0.8, -0.1, 0.8, 0.6),
            polygon("brick", (-1, -0.1), (-0.6, -0.6), (0.6, -0.6), (1, -0.1)),
            block("asphalt", -0.6, 0.1, -0.3, 0.35),
            block("asphalt", 0.3, 0.1, 0.6, 0.35),
            block("wood", -0.12, 0.15, 0.12, 0.6),
        ),
        tilt_deg=4,
    ),
    Shape("marking", (block("pale", -1, -0.16, 1, 0.16),), tilt_deg=180, share=2),
    Shape(
        "shadow",
        (
            disc("asphalt", 0, 0, 1, 0.4),
            disc("asphalt", 0.5, 0.1, 0.8, 0.3),
        ),
        tilt_deg=20,
    ),
    Shape(
        "log",
        (limb("wood", -1, 0, 1, 0, 0.22), limb("wood", 0.2, 0, 0.5, -0.3, 0.12)),
        tilt_deg=180,
        habitat="water",
    ),
    Shape(
        "reef",
        (
            disc("pale", 0, 0.1, 1, 0.22),
            polygon("stone", (-0.8, 0.1), (-0.4, -0.3), (0.1, -0.1), (0.4, -0.4), (0.8, 0.1)),
        ),
        tilt_deg=5,
        habitat="water",
    ),
    Shape(
        "foam",
        (*(disc("pale", x, y, r, 0.07) for x, y, r in _STREAKS),),
        tilt_deg=20,
        habitat="water",
    ),
)

# As vivid as an object, but of one flat colour: hue alone does not find the object.
SIGNS = (
    Shape("sign-disc", (disc("body", 0, 0, 1),), tilt_deg=180, habitat="air"),
    Shape(
        "sign-triangle",
        (polygon("body", (-1, 0.8), (0, -0.9), (1, 0.8)),),
        tilt_deg=180,
        habitat="air",
    ),
    Shape("sign-board", (block("body", -1, -0.5, 1, 0.5),), tilt_deg=20, habitat="air"),
)
