# SPDX-License-Identifier: Apache-2.0
"""Ground textures: functions of (generator, height, width) to a field in about 0..1."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32
from PIL import Image, ImageDraw

Field = Float32[np.ndarray, "h w"]
Texture = Callable[[np.random.Generator, int, int], Field]


def noise(
    rng: np.random.Generator,
    height: int,
    width: int,
    *,
    cells: int = 3,
    octaves: int = 5,
    decay: float = 0.6,
    stretch: float = 1.0,
) -> Field:
    """Return multi-octave value noise of mean 0 and standard deviation about 0.15.

    The coarsest octave has `cells` cells over the height, each next one twice as many at `decay`
    times the amplitude; `stretch` > 1 draws the cells out horizontally.
    """
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        rows = cells << octave
        columns = max(2, round(rows * width / height / stretch))
        if rows > height or columns > width:
            break
        grid = Image.fromarray(0.7 * rng.random((rows, columns), np.float32) - 0.35)
        total += decay**octave * np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC))
    return total


def _phase(rng: np.random.Generator, height: int, width: int) -> tuple[Field, Field]:
    """Return coordinates in units of the height along and across a random direction."""
    y, x = np.mgrid[:height, :width].astype(np.float32) / np.float32(height)
    angle = rng.uniform(0, np.pi)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return c * x + s * y, c * y - s * x


def meadow(rng: np.random.Generator, height: int, width: int) -> Field:
    return 0.5 + 0.6 * noise(rng, height, width, octaves=6, decay=0.75)


def water(rng: np.random.Generator, height: int, width: int) -> Field:
    swell = noise(rng, height, width, cells=5, octaves=4, decay=0.8, stretch=4)
    glints = rng.random((height, width), np.float32) > 0.995
    return 0.4 + 0.5 * swell + np.float32(0.4) * glints


def ripples(rng: np.random.Generator, height: int, width: int) -> Field:
    along, _ = _phase(rng, height, width)
    warp = noise(rng, height, width, octaves=3)
    crests = np.sin(2 * np.pi * rng.uniform(6, 12) * along + 5 * warp)
    return 0.5 + 0.2 * crests + 0.4 * warp


def furrows(rng: np.random.Generator, height: int, width: int) -> Field:
    along, _ = _phase(rng, height, width)
    rows = (along * rng.uniform(5, 10)) % 1 < 0.5
    return 0.3 + np.float32(0.25) * rows + 0.5 * noise(rng, height, width, octaves=6, decay=0.8)


def paving(rng: np.random.Generator, height: int, width: int) -> Field:
    u, v = (axis * rng.uniform(5, 9) + 40 for axis in _phase(rng, height, width))
    joints = (u % 1 < 0.1) | (v % 1 < 0.1)
    shades = rng.random((128, 128), np.float32)[u.astype(int) % 128, v.astype(int) % 128]
    fine = noise(rng, height, width, octaves=5, decay=0.8)
    return np.where(joints, np.float32(0.25), 0.45 + 0.25 * shades) + 0.3 * fine


def canopy(rng: np.random.Generator, height: int, width: int) -> Field:
    crowns = noise(rng, height, width, cells=9, octaves=3, decay=0.7)
    return 0.25 + 1.6 * np.abs(crowns) + 0.3 * noise(rng, height, width, octaves=6, decay=0.9)


def town(rng: np.random.Generator, height: int, width: int) -> Field:
    """Return flat roofs on a street plan, each with a shadow."""
    canvas = Image.new("F", (2 * width, 2 * height), 0.35)
    pen = ImageDraw.Draw(canvas)
    cell = rng.uniform(0.12, 0.2) * 2 * height
    for y in np.arange(-0.3, 2 * height / cell):
        for x in np.arange(-0.3, 2 * width / cell):
            if rng.random() < 0.2:
                continue
            x0, y0 = (x + rng.uniform(0, 0.3)) * cell, (y + rng.uniform(0, 0.3)) * cell
            x1, y1 = x0 + rng.uniform(0.4, 0.75) * cell, y0 + rng.uniform(0.4, 0.75) * cell
            drop = 0.08 * cell
            pen.rectangle((x0 + drop, y0 + drop, x1 + drop, y1 + drop), fill=0.15)
            pen.rectangle((x0, y0, x1, y1), fill=rng.uniform(0.4, 0.85))
    return np.asarray(canvas.reduce(2)) + 0.3 * noise(rng, height, width, octaves=6, decay=0.8)


def court(rng: np.random.Generator, height: int, width: int) -> Field:
    """Return a sports ground: zones, lines and a circle."""
    canvas = Image.new("F", (2 * width, 2 * height), 0.3)
    pen = ImageDraw.Draw(canvas)
    x, y = rng.uniform(0.3, 0.7, 2) * (2 * width, 2 * height)
    w, h, line = rng.uniform(0.5, 1.2) * height, rng.uniform(0.3, 0.8) * height, height // 24
    pen.rectangle((x - w, y - h, x + w, y + h), fill=0.55, outline=1.0, width=line)
    pen.line((x, y - h, x, y + h), fill=1.0, width=line)
    pen.ellipse((x - h / 2, y - h / 2, x + h / 2, y + h / 2), outline=1.0, width=line)
    return np.asarray(canvas.reduce(2)) + 0.25 * noise(rng, height, width, octaves=6, decay=0.8)


def road(rng: np.random.Generator, height: int, width: int) -> Field:
    """Return a carriageway with edge lines and a dashed middle, verges on both sides."""
    along, across = _phase(rng, height, width)
    across = across - across[height // 2, width // 2] + rng.uniform(-0.3, 0.3)
    half = rng.uniform(0.2, 0.4)
    verge = np.abs(across) > half
    edge = np.abs(np.abs(across) - 0.9 * half) < 0.015
    dash = (np.abs(across) < 0.012) & ((along * 4) % 1 < 0.5)
    lanes = np.where(edge | dash, np.float32(1), np.float32(0.3))
    rough = noise(rng, height, width, octaves=6, decay=0.8)
    return np.where(verge, 0.68 + 0.25 * rough, lanes + 0.15 * rough)
