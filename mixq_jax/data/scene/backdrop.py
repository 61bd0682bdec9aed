# SPDX-License-Identifier: Apache-2.0
"""Backgrounds: textured ground, seen from above or under a sky, in one of several palettes."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from mixq_jax.data.scene import textures
from mixq_jax.data.scene.drawing import Colour

Palette = tuple[Colour, ...]
Split = Literal["train", "test"]


@dataclass(frozen=True)
class Ground:
    """A texture and the palettes it comes in; `open_air` ground may reach to a horizon.

    `habitat` is what it carries: a a shape is met on ground of its own habitat.
    """

    texture: textures.Texture
    palettes: tuple[Palette, ...]
    open_air: bool = True
    habitat: Literal["land", "water"] = "land"


@dataclass(frozen=True)
class Backdrop:
    """One ground in one of its palettes (darkest to brightest)."""

    ground: Ground
    palette: Palette


GRASS = ((44, 66, 24), (92, 116, 44), (142, 158, 82))
STRAW = ((96, 80, 44), (150, 130, 74), (196, 178, 118))
EARTH = ((70, 52, 38), (120, 94, 70), (166, 140, 110))
SAND = ((146, 122, 90), (190, 166, 128), (226, 208, 172))
SNOW = ((150, 160, 170), (198, 204, 210), (232, 234, 236))
CONCRETE = ((84, 84, 82), (138, 136, 130), (186, 184, 176))
TAR = ((40, 42, 46), (74, 76, 80), (116, 116, 118))
CLAY = ((96, 58, 46), (146, 96, 78), (188, 140, 118))
SLATE = ((44, 52, 62), (84, 94, 106), (134, 144, 152))
SEA = ((16, 60, 66), (30, 98, 100), (96, 152, 150))
DEEP = ((14, 28, 48), (30, 50, 78), (80, 104, 132))
RIVER = ((56, 58, 40), (96, 98, 72), (146, 146, 122))
LEAD = ((58, 70, 76), (96, 110, 116), (156, 166, 170))
PINE = ((12, 28, 18), (34, 58, 34), (74, 98, 62))
MAPLE = ((60, 34, 18), (122, 78, 36), (170, 128, 66))
OLIVE = ((36, 40, 18), (84, 86, 40), (132, 134, 78))
MOSS = ((26, 50, 26), (62, 92, 48), (112, 138, 86))

WHITE = ((224, 224, 220),)

GROUNDS = (
    Ground(textures.meadow, (GRASS, STRAW, EARTH, SNOW)),
    Ground(textures.water, (SEA, DEEP, RIVER, LEAD), habitat="water"),
    Ground(textures.furrows, (GRASS, EARTH, STRAW, OLIVE)),
    Ground(textures.paving, (CONCRETE, CLAY, SLATE, SAND)),
    Ground(textures.canopy, (PINE, MAPLE, OLIVE, MOSS), open_air=False),
    Ground(textures.town, (CONCRETE, CLAY, SAND, SLATE), open_air=False),
    Ground(textures.road, tuple(TAR + verge + WHITE for verge in (GRASS, SAND, MOSS, STRAW))),
)
# Textures that only the test split shows.
HELD_OUT_GROUNDS = (
    Ground(textures.ripples, (SAND, SNOW, STRAW, EARTH)),
    Ground(textures.ripples, (SEA, LEAD), habitat="water"),
    Ground(textures.court, tuple(SLATE + zone + WHITE for zone in (MOSS, CLAY, SEA, EARTH))),
)
SKIES = (
    ((96, 142, 196), (196, 214, 228)),
    ((150, 160, 170), (214, 218, 220)),
    ((120, 132, 160), (236, 206, 170)),
)
SKYLINES = (PINE, MOSS, MAPLE, SLATE, CONCRETE)


@cache
def backdrops(split: Split) -> tuple[Backdrop, ...]:
    """Return the backdrops of one split; the two splits share none.

    Of every ground in GROUNDS the test split has one palette and the training split the others.
    """
    seen = [
        Backdrop(ground, palette)
        for i, ground in enumerate(GROUNDS)
        for j, palette in enumerate(ground.palettes)
        if (j == i % len(ground.palettes)) == (split == "test")
    ]
    if split == "train":
        return tuple(seen)
    return tuple(seen + [Backdrop(g, palette) for g in HELD_OUT_GROUNDS for palette in g.palettes])


def coloured(field: textures.Field, palette: Palette) -> UInt8[np.ndarray, "h w 3"]:
    """Return RGB bytes, 0..1 of `field` running through `palette` from first to last colour."""
    stops = np.linspace(0, 255, len(palette))
    channels = [np.interp(np.arange(256), stops, levels) for levels in zip(*palette, strict=True)]
    return np.stack(channels, axis=1).astype(np.uint8)[
        np.clip(field * 256, 0, 255).astype(np.uint8)
    ]


def draw_backdrop(
    rng: np.random.Generator, backdrop: Backdrop, height: int, width: int
) -> tuple[Image.Image, int]:
    """Return an RGB picture of `backdrop` and the row of its horizon (0: seen from above)."""
    field = backdrop.ground.texture(rng, height, width)
    ground = Image.fromarray(coloured(field, backdrop.palette))
    if not backdrop.ground.open_air or rng.random() < 0.5:
        return ground, 0
    horizon = round(rng.uniform(0.08, 0.4) * height)
    image = _sky(rng, horizon, height, width)
    _draw_skyline(rng, image, horizon)
    image.paste(_receding(ground, height - horizon, rng.uniform(0.5, 1.5)), (0, horizon))
    return image, horizon


def _sky(rng: np.random.Generator, horizon: int, height: int, width: int) -> Image.Image:
    fall = np.arange(height, dtype=np.float32)[:, None] / np.float32(horizon)
    clouds = textures.noise(rng, height, width, octaves=4, stretch=3)
    return Image.fromarray(coloured(fall + 0.8 * clouds, SKIES[rng.integers(len(SKIES))]))


def _draw_skyline(rng: np.random.Generator, image: Image.Image, horizon: int) -> None:
    """Draw hills or a row of trees that end at the row `horizon`."""
    steps = int(rng.integers(8, 40))
    rises = rng.uniform(0.1, 0.5) * horizon * rng.random(steps + 1)
    ridge = [(k * image.width / steps, horizon - rise) for k, rise in enumerate(rises)]
    colour = SKYLINES[rng.integers(len(SKYLINES))][1]
    ImageDraw.Draw(image).polygon([(0, horizon), *ridge, (image.width, horizon)], fill=colour)


def _receding(ground: Image.Image, height: int, depth: float) -> Image.Image:
    """Return `ground` in perspective on `height` rows, its near edge 1 + `depth` times enlarged."""
    width, slope = ground.width, depth / height
    coefficients = (1, slope * width / 2, 0, 0, (1 + depth) * ground.height / height, 0, 0, slope)
    size = (width, height)
    return ground.transform(
        size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR
    )
