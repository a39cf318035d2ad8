"""Draws scenes as images of 64 x 64 pixels, without anti-aliasing.

Every pixel has exactly one of ten colours (background, ink, eight object colours), so that a scorer can find the objects by
the nearest colour. The colours are at least 90 apart (RGB distance), so that it still can after a decoder has blurred them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from eclipse_pl.world.scenes import COLOURS, DIAMETER, SIDE, Scene

BACKGROUND, INK = (150, 150, 150), (20, 20, 20)
RGB = {
    "red": (225, 25, 35),
    "orange": (255, 130, 0),
    "yellow": (250, 235, 40),
    "green": (20, 140, 50),
    "cyan": (60, 220, 235),
    "blue": (35, 60, 225),
    "purple": (150, 35, 165),
    "white": (252, 252, 252),
}
PALETTE = np.array([BACKGROUND, INK, *(RGB[colour] for colour in COLOURS)], dtype=np.uint8)
"""Row 0 background, 1 ink, 2 ... 9 the colours in the order of ``COLOURS``."""

Grid = np.ndarray


def _star(u: Grid, v: Grid) -> Grid:
    # five points: fold the angle into half a point; a pixel inside is below the line from the tip to the inner corner
    radius, turn, inner = np.hypot(u, v), 2 * np.pi / 5, 0.45
    angle = np.abs((np.arctan2(u, -v) + turn / 2) % turn - turn / 2)
    along, across = radius * np.cos(angle), radius * np.sin(angle)
    slope = inner * np.sin(turn / 2) / (1 - inner * np.cos(turn / 2))
    return across <= (1.05 - along) * slope


def _heart(u: Grid, v: Grid) -> Grid:
    x, y = 1.18 * u, 0.12 - 1.12 * v
    return (x**2 + y**2 - 1) ** 3 - x**2 * y**3 <= 0


INSIDE: dict[str, Callable[[Grid, Grid], Grid]] = {
    "circle": lambda u, v: np.hypot(u, v) <= 1.0,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) <= 0.86,
    "triangle": lambda u, v: (np.abs(u) <= (v + 1.05) / 1.9) & (v <= 0.9),
    "star": _star,
    "heart": _heart,
    "cross": lambda u, v: np.minimum(np.abs(u), np.abs(v)) <= 0.34,
}
# patterns in pixels from the centre: where the ink is; the rest has the object's colour
INKED: dict[str, Callable[[Grid, Grid], Grid]] = {
    "plain": lambda x, y: np.zeros_like(x, dtype=bool),
    "striped": lambda x, y: (y + 1) % 5 < 2,
    "dotted": lambda x, y: ((x + 1) % 5 < 2) & ((y + 1) % 5 < 2),
    "checkered": lambda x, y: (x // 4 + y // 4) % 2 == 0,
}


@cache
def stamp(shape: str, texture: str, size: str) -> UInt8[np.ndarray, "diameter diameter"]:
    """Return the pixels of one object: 0 outside, 1 ink, 2 the object's colour."""
    radius = DIAMETER[size] // 2
    x, y = np.meshgrid(np.arange(-radius, radius + 1), np.arange(-radius, radius + 1))
    inside = INSIDE[shape](x / (radius + 0.4), y / (radius + 0.4))
    return (inside * np.where(INKED[texture](x, y), 1, 2)).astype(np.uint8)


def colour_indices(scene: Scene) -> UInt8[np.ndarray, "64 64"]:
    """Return the image as indices into ``PALETTE``."""
    canvas = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for thing in scene.objects:
        marks, r = stamp(thing.shape, thing.texture, thing.size), thing.radius
        patch = canvas[thing.y - r : thing.y + r + 1, thing.x - r : thing.x + r + 1]
        patch[marks == 1] = 1
        patch[marks == 2] = 2 + COLOURS.index(thing.colour)
    return canvas


def pixels(scene: Scene) -> UInt8[np.ndarray, "64 64 3"]:
    rgb: UInt8[np.ndarray, "64 64 3"] = PALETTE[colour_indices(scene)]
    return rgb


def render(scene: Scene) -> Image.Image:
    return Image.fromarray(pixels(scene))
