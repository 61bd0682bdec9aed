# SPDX-License-Identifier: Apache-2.0
"""Vector drawings and their stamping onto an image, fitted exactly to a box."""

from dataclasses import dataclass
from math import cos, pi, sin
from typing import Literal

import numpy as np
from jaxtyping import Float64
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]  # RGB bytes
Habitat = Literal["land", "water", "air"]


@dataclass(frozen=True, eq=False)
class Part:
    """A filled polygon: `points` (x right, y down, any unit) and the role of its colour."""

    points: Float64[np.ndarray, "p 2"]
    role: str


@dataclass(frozen=True)
class Shape:
    """A drawing, its parts back to front, and the poses it may take.

    `tilt_deg` is the largest rotation either way (180: seen from above, any heading), `share` the
    shape's frequency relative to the others of its table, `habitat` where it is met ("air": over
    land and water, and above the horizon).
    """

    name: str
    parts: tuple[Part, ...]
    tilt_deg: float
    share: float = 1.0
    habitat: Habitat = "land"


def polygon(role: str, *points: tuple[float, float]) -> Part:
    """Return the polygon through `points`."""
    return Part(np.array(points, np.float64), role)


def block(role: str, x0: float, y0: float, x1: float, y1: float) -> Part:
    """Return the rectangle between two corners."""
    return polygon(role, (x0, y0), (x1, y0), (x1, y1), (x0, y1))


def disc(role: str, x: float, y: float, rx: float, ry: float | None = None) -> Part:
    """Return the ellipse around (`x`, `y`), a circle without `ry`."""
    ry = rx if ry is None else ry
    turns = [2 * pi * k / 20 for k in range(20)]
    return polygon(role, *((x + rx * cos(t), y + ry * sin(t)) for t in turns))


def ring(role: str, x: float, y: float, radius: float, width: float) -> Part:
    """Return a circular line of `width` inside `radius`, what is behind it showing through."""
    outer, inner = disc(role, x, y, radius).points, disc(role, x, y, radius - width).points
    return Part(np.concatenate([outer, outer[:1], inner[:1], inner[::-1]]), role)


def limb(role: str, x0: float, y0: float, x1: float, y1: float, width: float) -> Part:
    """Return a straight bar of `width` between two points."""
    along = np.array([x1 - x0, y1 - y0])
    side = width / 2 * np.array([-along[1], along[0]]) / np.hypot(*along)
    ends = np.array([[x0, y0], [x1, y1]])
    return Part(np.concatenate([ends + side, (ends - side)[::-1]]), role)


def posed(
    parts: tuple[Part, ...], angle_deg: float, mirror: bool
) -> tuple[tuple[Part, ...], float]:
    """Return `parts` turned (and mirrored) with their hull moved to the unit square, and w / h."""
    c, s = cos(angle_deg * pi / 180), sin(angle_deg * pi / 180)
    turn = np.array([[c, s], [-s, c]]) * ((-1, 1) if mirror else (1, 1))
    turned = [part.points @ turn for part in parts]
    low = np.min([points.min(0) for points in turned], axis=0)
    size = np.max([points.max(0) for points in turned], axis=0) - low
    fitted = (
        Part((points - low) / size, part.role) for part, points in zip(parts, turned, strict=True)
    )
    return tuple(fitted), size[0] / size[1]


def stamp(
    image: Image.Image,
    parts: tuple[Part, ...],
    box: tuple[int, int, int, int],
    colours: dict[str, Colour],
) -> None:
    """Draw `parts` (in the unit square) into `image` so that their hull is `box` exactly.

    `box` is (xmin, ymin, xmax, ymax), edges between pixels; it may reach outside the image.
    Antialiased by drawing on an enlarged crop: what is not covered keeps its exact pixels.
    """
    size = np.array([box[2] - box[0], box[3] - box[1]])
    zoom = max(2, min(8, 192 // int(size.max())))
    crop = image.crop(box).resize(tuple(map(int, size * zoom)), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(crop)
    for part in parts:
        # The pen addresses pixel centres, the unit square has its edges between pixels.
        corners = part.points * (size * zoom) - 0.5
        pen.polygon(corners.ravel().tolist(), fill=colours[part.role])
    image.paste(crop.reduce(zoom), box[:2])
