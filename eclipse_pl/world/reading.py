"""Finds the objects of an image, as the inverse of drawing.py: connected components and least squares, nothing learned.

The object of a component is the stamp (shape, texture, size), colour and place with the least squared error in RGB to its
pixels, sharp or blurred. On drawn images that error is zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from jaxtyping import Bool, Float, UInt8

from eclipse_pl.world.drawing import BACKGROUND, PALETTE, stamp
from eclipse_pl.world.scenes import COLOURS, DIAMETER, SHAPES, TEXTURES, SceneObject

SMALLEST = 60  # the least number of pixels of an object's component; the smallest stamp has 143
EXPLAINED = 0.6  # the least share of the pixels in and around its box that an object must explain
RIM = 4  # pixels around the box; a large blot that fills them too is not an object
SHIFT = 3  # pixels between a stamp's centre and the middle of its component, at most
LIKELY = 3  # number of colours that are tried for an object, the most likely by its pixels
BLUR = (0.0, 1.0)  # standard deviations in pixels: sharp, and as a decoder with a coarse latent space blurs
RADIUS = max(DIAMETER.values()) // 2 + 2  # of the window in which stamps are compared with pixels
MARGIN = RADIUS + SHIFT  # background pixels around the image
STAMPS = tuple(product(SHAPES, TEXTURES, DIAMETER, BLUR))
HUES = (PALETTE[1:] - np.array(BACKGROUND)).astype(np.float32)  # ink and the colours, as differences from the background


@dataclass(frozen=True)
class Reading:
    """An object that was found in an image.

    ``explained`` is the share of the pixels' squared distance from the background that the object accounts for. It is 1 if
    they are exactly the object's.
    """

    thing: SceneObject
    explained: float


def read(pixels: UInt8[np.ndarray, "64 64 3"]) -> list[Reading]:
    """Return the objects of an image from left to right, without components that are not like an object of the world."""
    framed = np.pad(pixels.astype(np.float32) - BACKGROUND, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)))
    # by how much each pixel is nearer to ink, and to each colour, than to the background
    nearer = 2 * framed @ HUES.T - (HUES**2).sum(1)
    marked = (nearer > 0).any(-1)
    found, unread = [], _components(marked)
    while unread:
        component = unread.pop()
        if component.sum() < SMALLEST:
            continue
        alone = np.where((marked & ~component)[..., None], 0, framed)
        likely = np.argsort(-np.maximum(nearer[component, 1:], 0).sum(0))[:LIKELY]
        reading, box = _fit(alone, component, likely.tolist())
        if reading.explained >= EXPLAINED:
            found.append(reading)
            unread += _components(component & ~box)  # objects that touch are one component: read the rest of it next
    return sorted(found, key=lambda reading: (reading.thing.x, reading.thing.y))


def _components(mask: Bool[np.ndarray, "high wide"]) -> list[Bool[np.ndarray, "high wide"]]:
    """Return the mask's components, connected across gaps of at most two pixels: blur makes holes in white and ink."""
    within = _spread(mask)
    labels = np.where(within, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        spread = np.where(within, _spread(labels), 0)
        if np.array_equal(spread, labels):
            return [mask & (labels == label) for label in np.unique(labels[mask])]
        labels = spread


def _spread(values: np.ndarray) -> np.ndarray:
    """Return the largest value of every pixel and its eight neighbours."""
    rows = values.copy()
    rows[1:] = np.maximum(rows[1:], values[:-1])
    rows[:-1] = np.maximum(rows[:-1], values[1:])
    result = rows.copy()
    result[:, 1:] = np.maximum(result[:, 1:], rows[:, :-1])
    result[:, :-1] = np.maximum(result[:, :-1], rows[:, 1:])
    return result


def _fit(
    pixels: Float[np.ndarray, "high wide 3"], component: Bool[np.ndarray, "high wide"], likely: list[int]
) -> tuple[Reading, Bool[np.ndarray, "high wide"]]:
    """Return the object that explains a component best, and its box. Pixels are differences from the background."""
    (top, high), (left, wide) = (_centres(np.flatnonzero(component.any(axis)).tolist()) for axis in (1, 0))
    window = pixels[top - RADIUS : top + high + RADIUS, left - RADIUS : left + wide + RADIUS]
    window = window @ HUES[[0, *(1 + i for i in likely)]].T
    side = 2 * RADIUS + 1
    patches = np.lib.stride_tricks.sliding_window_view(window, (side, side), (0, 1)).transpose(2, 0, 1, 3, 4)
    patches = patches.reshape(len(patches), high * wide, -1)
    inked, coloured, energies = _templates()
    # a stamp explains |pixels|^2 - |pixels - stamp|^2
    gain = 2 * (patches[0] @ inked.T + patches[1:] @ coloured.T) - energies[likely, None]
    colour, place, kind = (int(i) for i in np.unravel_index(gain.argmax(), gain.shape))
    shape, texture, size, _ = STAMPS[kind]
    x, y = left + place % wide, top + place // wide
    box, around = (_square(component.shape, x, y, DIAMETER[size] // 2 + rim) for rim in (0, RIM))
    energy = (pixels[component & around] ** 2).sum()
    thing = SceneObject(COLOURS[likely[colour]], shape, texture, size, x - MARGIN, y - MARGIN)
    return Reading(thing, float(gain.max() / energy) if energy else 0.0), box


def _square(shape: tuple[int, ...], x: int, y: int, radius: int) -> Bool[np.ndarray, "high wide"]:
    square = np.zeros(shape, dtype=bool)
    square[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1] = True
    return square


def _centres(marked: list[int]) -> tuple[int, int]:
    """Return the first place of the centre along one axis with these marks, and the number of places."""
    first, last = marked[0], marked[-1]
    reach = SHIFT + max(0, (last - first + 1) // 2 - RADIUS)  # farther from the middle if objects touch
    return (first + last) // 2 - reach, 2 * reach + 1


@cache
def _templates() -> tuple[
    Float[np.ndarray, "stamps window"], Float[np.ndarray, "stamps window"], Float[np.ndarray, "colours stamps"]
]:
    """Return the ink and the colour of each of ``STAMPS`` at every place of the window, and its energy in each colour."""
    inked, coloured = [], []
    for *kind, blur in STAMPS:
        marks = np.pad(stamp(*kind), RADIUS - DIAMETER[kind[-1]] // 2)
        inked.append(_blurred(marks == 1, blur).ravel())
        coloured.append(_blurred(marks == 2, blur).ravel())
    ink, colour = np.stack(inked).astype(np.float32), np.stack(coloured).astype(np.float32)
    square, both, other = ((one * two).sum(1) for one, two in ((ink, ink), (ink, colour), (colour, colour)))
    energies = [(h @ h) * other + 2 * (h @ HUES[0]) * both + (HUES[0] @ HUES[0]) * square for h in HUES[1:]]
    return ink, colour, np.stack(energies)


def _blurred(mask: Bool[np.ndarray, "side side"], sigma: float) -> Float[np.ndarray, "side side"]:
    if not sigma:
        return mask.astype(float)
    steps = np.arange(len(mask))
    weights = np.exp(-((steps[:, None] - steps) ** 2) / (2 * sigma**2))
    weights /= weights.sum(1, keepdims=True)
    blurred: Float[np.ndarray, "side side"] = weights @ mask @ weights.T
    return blurred
