# SPDX-License-Identifier: Apache-2.0
"""The things that are labelled: people, riders, vehicles, boats and drones.

Each is a composite of a vivid "body" (with a darker "shade") and parts in "dark", "light" or
"skin": hue and composition together tell it from everything else in a scene.
"""

from mixq_jax.data.scene.drawing import Shape, block, disc, limb, polygon, ring

_BONNET = [(0.86, -0.4), (1, -0.26), (1, 0.26), (0.86, 0.4)]
_BOOT = [(-0.9, 0.4), (-1, 0.3), (-1, -0.3), (-0.9, -0.4)]
_ROTORS = [(-0.7, -0.6), (0.7, -0.6), (-0.7, 0.6), (0.7, 0.6)]

# People lead, as in the contest, where the median box is half as wide as high.
OBJECTS = (
    Shape(
        "walker",
        (
            limb("shade", -0.05, 0.35, -0.24, 0.75, 0.13),
            limb("shade", 0.02, 0.85, -0.22, 1.4, 0.22),
            limb("shade", -0.22, 1.4, -0.34, 1.9, 0.19),
            limb("shade", 0.03, 0.85, 0.22, 1.4, 0.22),
            limb("shade", 0.22, 1.4, 0.18, 1.92, 0.19),
            block("dark", 0.1, 1.86, 0.38, 2.0),
            polygon("body", (-0.2, 0.28), (0.2, 0.28), (0.24, 0.95), (-0.2, 0.95)),
            limb("body", 0.1, 0.36, 0.28, 0.85, 0.14),
            disc("skin", 0.02, 0.13, 0.14, 0.16),
            polygon("dark", (-0.13, 0.12), (-0.12, -0.03), (0.1, -0.06), (0.16, 0.04)),
        ),
        tilt_deg=6,
        share=3,
    ),
    Shape(
        "stander",
        (
            limb("dark", -0.13, 0.9, -0.15, 1.95, 0.22),
            limb("dark", 0.13, 0.9, 0.15, 1.95, 0.22),
            polygon("body", (-0.3, 0.3), (0.3, 0.3), (0.24, 1.0), (-0.24, 1.0)),
            limb("body", -0.3, 0.34, -0.42, 0.95, 0.16),
            limb("body", 0.3, 0.34, 0.42, 0.95, 0.16),
            block("light", -0.1, 0.4, 0.1, 0.8),
            disc("skin", 0, 0.13, 0.14, 0.16),
            polygon("body", (-0.16, 0.1), (-0.1, -0.06), (0.1, -0.06), (0.16, 0.1)),
        ),
        tilt_deg=6,
        share=2,
    ),
    Shape(
        "skater",
        (
            limb("body", -0.1, 0.4, -0.56, 0.55, 0.17),
            limb("shade", -0.05, 0.95, -0.3, 1.3, 0.22),
            limb("shade", -0.3, 1.3, -0.26, 1.75, 0.2),
            limb("shade", 0.05, 0.95, 0.38, 1.25, 0.22),
            limb("shade", 0.38, 1.25, 0.3, 1.75, 0.2),
            polygon("body", (-0.15, 0.3), (0.2, 0.26), (0.16, 1.0), (-0.18, 1.0)),
            limb("body", 0.12, 0.36, 0.58, 0.3, 0.17),
            disc("skin", 0.05, 0.12, 0.14, 0.16),
            polygon("light", (-0.6, 1.76), (0.62, 1.76), (0.5, 1.88), (-0.5, 1.88)),
            disc("dark", -0.34, 1.9, 0.09),
            disc("dark", 0.34, 1.9, 0.09),
        ),
        tilt_deg=12,
        share=2,
    ),
    Shape(
        "rider-side",
        (
            ring("dark", -0.58, 0.6, 0.4, 0.13),
            ring("dark", 0.58, 0.6, 0.4, 0.13),
            limb("light", -0.58, 0.6, -0.05, 0.6, 0.08),
            limb("light", -0.2, 0.1, 0.0, 0.62, 0.08),
            limb("light", 0.0, 0.62, 0.46, 0.08, 0.08),
            limb("dark", 0.58, 0.6, 0.42, -0.02, 0.09),
            limb("shade", -0.22, 0.02, 0.16, 0.25, 0.22),
            limb("shade", 0.16, 0.25, 0.02, 0.68, 0.18),
            polygon("body", (-0.36, 0.02), (-0.14, 0.1), (0.3, -0.5), (0.04, -0.66)),
            limb("body", 0.18, -0.5, 0.46, 0.0, 0.16),
            disc("skin", 0.3, -0.72, 0.14, 0.16),
            polygon("light", (0.1, -0.74), (0.18, -0.94), (0.42, -0.9), (0.48, -0.76)),
        ),
        tilt_deg=8,
    ),
    Shape(
        "rider-front",
        (
            disc("dark", 0, 0.75, 0.1, 0.42),
            limb("light", -0.36, 0.22, 0.36, 0.22, 0.09),
            limb("shade", -0.14, 0.2, -0.2, 0.75, 0.19),
            limb("shade", 0.14, 0.2, 0.2, 0.7, 0.19),
            polygon("body", (-0.3, -0.42), (0.3, -0.42), (0.2, 0.3), (-0.2, 0.3)),
            limb("body", -0.3, -0.36, -0.36, 0.2, 0.15),
            limb("body", 0.3, -0.36, 0.36, 0.2, 0.15),
            disc("skin", 0, -0.6, 0.14, 0.17),
            polygon("light", (-0.16, -0.62), (-0.1, -0.82), (0.1, -0.82), (0.16, -0.62)),
        ),
        tilt_deg=8,
        share=2,
    ),
    Shape(
        "car-side",
        (
            polygon("body", (-0.62, -0.05), (-0.36, -0.42), (0.28, -0.42), (0.6, -0.05)),
            polygon("dark", (-0.48, -0.06), (-0.3, -0.34), (-0.06, -0.34), (-0.06, -0.06)),
            polygon("dark", (0.02, -0.06), (0.02, -0.34), (0.24, -0.34), (0.46, -0.06)),
            polygon("body", (-1, -0.05), (0.7, -0.08), (1, 0.04), (1, 0.32), (-1, 0.32)),
            block("shade", -1, 0.2, 1, 0.32),
            block("light", 0.86, 0.04, 1, 0.14),
            disc("dark", -0.58, 0.32, 0.2),
            disc("dark", 0.58, 0.32, 0.2),
            disc("light", -0.58, 0.32, 0.09),
            disc("light", 0.58, 0.32, 0.09),
        ),
        tilt_deg=6,
    ),
    Shape(
        "car-top",
        (
            polygon("body", *_BONNET, *_BOOT),
            polygon("dark", (0.3, -0.33), (0.5, -0.36), (0.5, 0.36), (0.3, 0.33)),
            polygon("shade", (-0.5, -0.34), (0.3, -0.33), (0.3, 0.33), (-0.5, 0.34)),
            polygon("dark", (-0.5, -0.34), (-0.68, -0.36), (-0.68, 0.36), (-0.5, 0.34)),
            block("light", 0.9, -0.34, 1, -0.18),
            block("light", 0.9, 0.18, 1, 0.34),
        ),
        tilt_deg=180,
    ),
    Shape(
        "truck",
        (
            block("body", -1, -0.6, 0.42, 0.34),
            block("light", -0.8, -0.3, 0.2, -0.08),
            polygon("shade", (0.48, -0.36), (0.84, -0.36), (1, 0.0), (1, 0.34), (0.48, 0.34)),
            polygon("dark", (0.58, -0.26), (0.8, -0.26), (0.9, 0.0), (0.58, 0.0)),
            block("dark", -1, 0.3, 1, 0.4),
            disc("dark", -0.62, 0.42, 0.2),
            disc("dark", 0.66, 0.42, 0.2),
            disc("light", -0.62, 0.42, 0.08),
            disc("light", 0.66, 0.42, 0.08),
        ),
        tilt_deg=6,
    ),
    Shape(
        "motorboat",
        (
            block("light", -0.5, -0.42, 0.1, -0.02),
            block("dark", -0.4, -0.32, 0.04, -0.14),
            limb("dark", -0.22, -0.42, -0.22, -0.76, 0.09),
            block("body", -0.22, -0.78, 0.1, -0.56),
            polygon("body", (-0.95, -0.06), (1, -0.16), (0.72, 0.26), (-0.85, 0.26)),
            polygon("shade", (-0.87, 0.2), (0.76, 0.2), (0.66, 0.36), (-0.8, 0.36)),
        ),
        tilt_deg=8,
        habitat="water",
    ),
    Shape(
        "boat-top",
        (
            polygon(
                "body",
                (-1, -0.32),
                (0.3, -0.36),
                (0.75, -0.22),
                (1, 0),
                (0.75, 0.22),
                (0.3, 0.36),
                (-1, 0.32),
            ),
            polygon("light", (-0.86, -0.2), (0.2, -0.24), (0.56, 0), (0.2, 0.24), (-0.86, 0.2)),
            block("dark", -0.5, -0.18, -0.22, 0.18),
            block("dark", 0.0, -0.16, 0.12, 0.16),
            block("dark", -1.1, -0.1, -0.95, 0.1),
        ),
        tilt_deg=180,
        habitat="water",
    ),
    Shape(
        "sailboat",
        (
            limb("dark", 0, -1.3, 0, 0.1, 0.06),
            polygon("body", (0.05, -1.25), (0.05, 0.0), (0.75, 0.0)),
            polygon("light", (-0.06, -1.1), (-0.06, 0.0), (-0.6, 0.0)),
            polygon("shade", (-0.8, 0.06), (0.85, 0.06), (0.6, 0.36), (-0.6, 0.36)),
            block("body", -0.74, 0.12, 0.78, 0.18),
        ),
        tilt_deg=8,
        habitat="water",
    ),
    Shape(
        "quadcopter",
        (
            *(limb("dark", 0, 0, x, y, 0.16) for x, y in _ROTORS),
            *(disc("body", x, y, 0.36) for x, y in _ROTORS),
            *(disc("light", x, y, 0.22) for x, y in _ROTORS),
            *(disc("dark", x, y, 0.1) for x, y in _ROTORS),
            polygon("body", (-0.36, -0.24), (0.3, -0.26), (0.46, 0), (0.3, 0.26), (-0.36, 0.24)),
            disc("light", 0.22, 0, 0.1),
        ),
        tilt_deg=180,
        habitat="air",
    ),
    Shape(
        "drone-front",
        (
            limb("dark", -0.2, 0.1, -0.4, 0.46, 0.1),
            limb("dark", 0.2, 0.1, 0.4, 0.46, 0.1),
            limb("body", -0.85, -0.12, 0, 0.06, 0.14),
            limb("body", 0.85, -0.12, 0, 0.06, 0.14),
            disc("shade", -0.8, -0.26, 0.34, 0.1),
            disc("shade", 0.8, -0.26, 0.34, 0.1),
            block("light", -0.88, -0.24, -0.72, -0.02),
            block("light", 0.72, -0.24, 0.88, -0.02),
            polygon("body", (-0.34, -0.14), (0.34, -0.14), (0.24, 0.22), (-0.24, 0.22)),
            disc("dark", 0, 0.24, 0.13),
        ),
        tilt_deg=12,
        habitat="air",
    ),
)
