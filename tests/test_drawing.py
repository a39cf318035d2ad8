"""Images: palette colours only, at the right place, and every shape with every texture looks different."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np

from eclipse_pl.world.drawing import PALETTE, colour_indices, pixels, render, stamp
from eclipse_pl.world.scenes import CATEGORIES, COLOURS, DIAMETER, SHAPES, TEXTURES, draw_scene


def test_images_are_deterministic_and_of_palette_colours() -> None:
    for i in range(60):
        scene = draw_scene(CATEGORIES[i % 6], (0, i))
        image = pixels(scene)
        assert np.array_equal(image, pixels(scene)) and np.array_equal(image, np.asarray(render(scene)))
        assert (image[:, :, None] == PALETTE).all(-1).any(-1).all()


def test_the_palette_is_well_separated() -> None:
    colours = PALETTE.astype(float)
    assert min(np.linalg.norm(one - other) for one, other in combinations(colours, 2)) >= 90


def test_every_object_is_at_its_place() -> None:
    for i in range(120):
        scene = draw_scene(CATEGORIES[i % 6], (1, i))
        indices = colour_indices(scene)
        for thing in scene.objects:
            r = thing.radius
            box = indices[thing.y - r : thing.y + r + 1, thing.x - r : thing.x + r + 1]
            assert np.array_equal(
                box, np.choose(stamp(thing.shape, thing.texture, thing.size), [0, 1, 2 + COLOURS.index(thing.colour)])
            )
            assert set(np.unique(box[box > 1])) == {2 + COLOURS.index(thing.colour)}
            indices[thing.y - r : thing.y + r + 1, thing.x - r : thing.x + r + 1] = 0
        assert not indices.any()


def test_shapes_and_textures_differ_at_both_sizes() -> None:
    for size in DIAMETER:
        outlines = {shape: stamp(shape, "plain", size) > 0 for shape in SHAPES}
        for one, other in combinations(SHAPES, 2):
            union = (outlines[one] | outlines[other]).sum()
            assert (outlines[one] ^ outlines[other]).sum() > 0.15 * union, (one, other, size)
        for shape, (one, other) in product(SHAPES, combinations(TEXTURES, 2)):
            differ = (stamp(shape, one, size) != stamp(shape, other, size)).sum()
            assert differ > 0.1 * outlines[shape].sum(), (shape, one, other, size)
        for shape, texture in product(SHAPES, TEXTURES):
            inked = (stamp(shape, texture, size) == 1).sum() / outlines[shape].sum()
            assert inked == 0 if texture == "plain" else 0.08 < inked < 0.6, (shape, texture, size, inked)
