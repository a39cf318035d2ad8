"""Objects found in images: exactly in rendered images, and nearly always in images blurred as by a decoder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from eclipse_pl.world.drawing import pixels
from eclipse_pl.world.reading import read
from eclipse_pl.world.scenes import CATEGORIES, COLOURS, DIAMETER, SHAPES, TEXTURES, Scene, SceneObject, draw_scene

pytestmark = pytest.mark.long


def objects(image: np.ndarray) -> Counter[SceneObject]:
    return Counter(reading.thing for reading in read(image))


def share_read(damage: Callable[[np.ndarray], np.ndarray], count: int) -> float:
    """Return the images of which every object is found correctly, except for its exact place."""
    scenes = [draw_scene(CATEGORIES[i % 6], (21, i)) for i in range(count)]

    def kinds(things: Counter[SceneObject]) -> Counter[SceneObject]:
        return Counter({replace(thing, x=0, y=0): n for thing, n in things.items()})

    right = [kinds(objects(damage(pixels(scene)))) == kinds(Counter(scene.objects)) for scene in scenes]
    return sum(right) / len(right)


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    steps = np.arange(64)
    weights = np.exp(-((steps[:, None] - steps) ** 2) / (2 * sigma**2))
    weights /= weights.sum(1, keepdims=True)
    return (weights @ image.transpose(2, 0, 1) @ weights.T).transpose(1, 2, 0).round().astype(np.uint8)


def noisy(image: np.ndarray, sigma: float) -> np.ndarray:
    noise = np.random.Generator(np.random.PCG64(0)).normal(0, sigma, image.shape)
    return (image + noise).clip(0, 255).round().astype(np.uint8)


def test_thousands_of_rendered_scenes_are_read_to_the_pixel() -> None:
    wrong = []
    for i in range(1500):
        scene = draw_scene(CATEGORIES[i % 6], (20, i))
        if objects(pixels(scene)) != Counter(scene.objects):
            wrong.append((i, scene))
    assert not wrong  # the promise is 98 %, but not one fails, so that the test shows a single miss


def test_every_kind_of_object_differs_from_every_other() -> None:
    for kind in product(COLOURS, SHAPES, TEXTURES, DIAMETER):
        thing = SceneObject(*kind, x=30, y=35)
        (reading,) = read(pixels(Scene("colour", (thing,))))
        assert reading.thing == thing and reading.explained == pytest.approx(1)


@pytest.mark.parametrize(
    ("damage", "at_least"),
    [
        (lambda image: blurred(image, 0.7), 0.98),
        (lambda image: blurred(image, 1.0), 0.9),
        (lambda image: noisy(image, 20), 0.97),
        (lambda image: noisy(blurred(image, 0.7), 10), 0.97),
        (lambda image: np.roll(image, (1, -1), (0, 1)), 1.0),
    ],
    ids=["blur 0.7", "blur 1", "noise 20", "blur 0.7, noise 10", "shift"],
)
def test_blur_and_noise_are_read_through(damage: Callable[[np.ndarray], np.ndarray], at_least: float) -> None:
    assert share_read(damage, 120) >= at_least


def test_objects_that_touch_are_read_apart() -> None:
    one = SceneObject("red", "square", "plain", "small", 20, 30)
    other = SceneObject("blue", "circle", "striped", "large", 41, 30)
    image = pixels(Scene("colour", (one, other)))
    image[30, 26:30] = (225, 25, 35)  # a bridge between them
    assert objects(image) == Counter([one, other])


def test_what_is_no_object_is_left_out() -> None:
    empty = np.full((64, 64, 3), 150, np.uint8)
    assert read(empty) == []
    empty[10:15, 10:15] = (225, 25, 35)  # a speck
    empty[40:44] = (35, 60, 225)  # a line
    assert read(empty) == []
    for colour in ((0, 0, 0), (255, 255, 255), (225, 25, 35)):
        assert read(np.full((64, 64, 3), colour, np.uint8)) == []
    assert read(np.random.Generator(np.random.PCG64(0)).integers(0, 256, (64, 64, 3), np.uint8)) == []
