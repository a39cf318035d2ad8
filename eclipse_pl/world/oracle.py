"""OracleScorer: the world's scorer, which finds the objects of an image. It is here because it needs the world."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from eclipse_pl.prompts.prompt import Prompt
from eclipse_pl.scorers.scorer import Score, Scorer
from eclipse_pl.world.captions import Description, fits, has_relation, parse
from eclipse_pl.world.prompts import detail_of, world_prompt
from eclipse_pl.world.reading import Reading, read
from eclipse_pl.world.scenes import CATEGORIES, SIDE, SceneObject


class OracleScorer(Scorer):
    """Scores images of the world's captions from their pixels (``reading.read``), without a learned part.

    The value of an image depends on the prompt's category. Objects are identified by their shape, the noun of captions:

    colour    share of the caption's objects whose shape and colour the image has
    shape     share of the caption's objects whose shape the image has
    texture   share of the caption's objects whose shape and texture the image has
    spatial   1 if the image has both objects in the caption's relation, else 0
    numeracy  share of the caption's shapes whose number in the image is exactly the caption's
    complex   mean of colour, texture and relation

    A vague prompt is scored by what it says: shares count the objects whose colour or texture it names. Where it names none,
    the value is that of ``shape``, and for ``complex`` the mean of the others.

    The evidence of every image has the objects found and their boxes, all of these values (None for what the caption does not
    name), and ``correct``: whether the image has exactly the objects of the caption, with the sizes that it names. For a vague
    prompt: whether the prompt is true of the image.
    """

    name = "oracle"
    version = "1"

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt | str]) -> list[Score]:
        return [
            self._score(image, world_prompt(f"prompt/{number:04d}", "complex", prompt) if isinstance(prompt, str) else prompt)
            for number, (image, prompt) in enumerate(zip(images, prompts, strict=True))
        ]

    def _score(self, image: Image.Image, prompt: Prompt) -> Score:
        if prompt.category not in CATEGORIES:
            raise ValueError(
                f"Prompt {prompt.id} is of category {prompt.category!r}; the oracle scores {', '.join(CATEGORIES)}. "
                "`eclipse_pl.world.prompts.prompt_set` makes such prompts."
            )
        if image.size != (SIDE, SIDE):
            raise ValueError(
                f"The image of prompt {prompt.id} has {image.width} x {image.height} pixels; "
                f"images of the world have {SIDE} x {SIDE}."
            )
        readings = read(np.asarray(image.convert("RGB")))
        things = [reading.thing for reading in readings]
        facts = compare(parse(prompt.text, vague=detail_of(prompt) < 1), things)
        rules = {"spatial": ("relation",), "numeracy": ("count",), "complex": ("colour", "texture", "relation")}
        said = [facts[part] for part in rules.get(prompt.category, (prompt.category,)) if facts[part] is not None]
        value = sum(said) / len(said) if said else facts["shape"]
        objects = [{**vars(reading.thing), "explained": round(reading.explained, 3)} for reading in readings]
        return Score(float(value), {**facts, "objects": objects, "boxes": [box_of(reading) for reading in readings]})


def box_of(reading: Reading) -> dict[str, Any]:
    """An object as detectors report theirs (`eclipse_pl.scorers.detections`); the confidence is what it explains."""
    thing = reading.thing
    x, y, radius = thing.x, thing.y, thing.radius
    label = f"{thing.size} {thing.colour} {thing.texture} {thing.shape}"
    corners = [x - radius, y - radius, x + radius + 1, y + radius + 1]  # the outer edges of its pixels
    return {"label": label, "confidence": round(reading.explained, 4), "box": corners}


def compare(described: Description, things: Sequence[SceneObject]) -> dict[str, Any]:
    """Return how far the objects of an image agree with a caption: shares from 0 to 1, and ``correct``."""
    objects = [phrase for phrase in described.phrases for _ in range(phrase.count)]
    facts: dict[str, Any] = {}
    for part in ("colour", "shape", "texture"):
        named = [o for o in objects if getattr(o, part)]
        shown = ((t.shape, getattr(t, part)) for t in things)
        facts[part] = _share(((o.shape, getattr(o, part)) for o in named), shown) if named else None
    wanted, seen = Counter(o.shape for o in objects), Counter(t.shape for t in things)
    facts["count"] = sum(seen[shape] == count for shape, count in wanted.items()) / len(wanted)
    facts["relation"] = None if described.relation is None else float(has_relation(described, things))
    if described.vague:
        facts["correct"] = fits(described, things)
        return facts
    kinds = [Counter((o.colour, o.shape, o.texture) for o in group) for group in (objects, things)]
    sizes = {(p.colour, p.shape, p.texture): p.size for p in described.phrases if p.size}
    right_size = all(sizes.get((t.colour, t.shape, t.texture), t.size) == t.size for t in things)
    facts["correct"] = kinds[0] == kinds[1] and right_size and facts["relation"] in (None, 1.0)
    return facts


def _share(described: Iterable[tuple[str, ...]], seen: Iterable[tuple[str, ...]]) -> float:
    """Return the share of the described objects that the image shows. Each object of the image counts once."""
    wanted = Counter(described)
    return (wanted & Counter(seen)).total() / wanted.total()
