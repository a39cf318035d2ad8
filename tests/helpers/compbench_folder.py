"""A folder with T2I-CompBench's file names and our own sentences in its patterns; CRLF and no last newline, as upstream."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from eclipse_pl.prompts.templates import RELATIONS_2D, RELATIONS_3D

COLOURS = ("red", "green", "blue", "white", "black", "yellow")
THINGS = ("kettle", "canoe", "violin", "pelican", "lantern", "barrel", "tractor")
NOUNS = {"kettle": "kettles", "canoe": "canoes", "wolf": "wolves", "pelican": "pelicans", "fire truck": "fire trucks"}
NUMBERS = ("a", "one", "two", "three", "eight")
SHAPES = ("round", "oval", "cubic", "conical", "square", "oblong")
TEXTURES = ("wooden", "metallic", "fluffy", "rubber", "glass", "leather")


def attributes(words: tuple[str, ...]) -> list[str]:
    pairs = product(words, THINGS, words, THINGS)
    return [f"a {one} {first} and a {two} {second}" for one, first, two, second in pairs if one != two and first != second]


def related(relations: tuple[str, ...]) -> list[str]:
    return [f"a {first} {name} a {second}" for first, name, second in product(THINGS, relations, THINGS)]


COMPLEX = {
    "spatial": [f"The {c} {t} was on top of the {s} table." for c, t, s in product(COLOURS, THINGS, SHAPES)],
    "action": [f"The {c} {t} leaned against the {s} wall." for c, t, s in product(COLOURS, THINGS, SHAPES)],
    "spatialaction": [f"The {c} {t} rolled next to the {s} bench." for c, t, s in product(COLOURS, THINGS, SHAPES)],
}
LINES = {
    "color_val": attributes(COLOURS),
    "shape_val": attributes(SHAPES),
    "texture_val": attributes(TEXTURES),
    "spatial_val": related(RELATIONS_2D),
    "3d_spatial_val": related(RELATIONS_3D) * 3,
    "numeracy_val": [f"{n} kettle and {m} {noun}" for n, m, noun in product(NUMBERS, NUMBERS, NOUNS)] * 3,
    "non_spatial_val": [f"A {one} is watching a {two} in the garden." for one, two in product(THINGS, THINGS)] * 7,
}


def write_compbench(folder: Path, lines: int = 300, parts: tuple[int, int, int] = (58, 212, 30), seen: int = 0) -> Path:
    """``lines`` prompts a category, ``parts`` of complex; with ``seen``, so many are listed as seen, the rest as unseen."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, texts in LINES.items():
        write(folder / f"{name}.txt", texts[:lines])
    listed = {part: texts[:n] for (part, texts), n in zip(COMPLEX.items(), parts, strict=True)}
    for part, texts in listed.items():
        write(folder / f"complex_val_{part}.txt", texts)
    write(folder / "complex_val.txt", [text for texts in listed.values() for text in texts])
    table = [f"{singular} - {plural}" for singular, plural in NOUNS.items()]
    write(folder / "new_objects.txt", (table * 21)[:101])
    for category in ("color", "shape", "texture") if seen else ():
        write(folder / f"{category}_val_seen.txt", LINES[f"{category}_val"][:seen])
        write(folder / f"{category}_val_unseen.txt", LINES[f"{category}_val"][seen:lines])
    return folder


def write(path: Path, lines: list[str]) -> None:
    path.write_bytes("\r\n".join(lines).encode())
