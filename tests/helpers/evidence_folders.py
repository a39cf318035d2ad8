"""Benchmarks whose scores have evidence, written by the benchmark's own code: rectangles, and scorers that find them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from PIL import Image

from eclipse_pl.compbench.compbench import CompBench
from eclipse_pl.compbench.scoring import Scoring
from eclipse_pl.prompts.prompt import Prompt, PromptSet
from eclipse_pl.prompts.source import PromptSource
from eclipse_pl.scorers.detections import Box, Detection
from eclipse_pl.scorers.scorer import Score, Scorer
from eclipse_pl.text_to_image.text_to_image import TextToImage
from tests.helpers.html_page import HOSTILE

COLOURS = {"red": (200, 40, 40), "blue": (40, 60, 200)}
SIZE = (512, 384)
THINGS = ("bench", "bowl", "kite", "clock", "umbrella", "traffic light")


def draw_of(*words: object) -> int:
    """A number that is a function of words, the same on every machine."""
    return crc32(" ".join(map(str, words)).encode())


class Prompts(PromptSource):
    """Two categories in turn. The first prompt would harm a careless page."""

    def __init__(self, count: int) -> None:
        self.count = count

    def load(self) -> PromptSet:
        prompts = []
        for n in range(self.count):
            category = ("colour", "spatial")[n % 2]
            text = f"a red {THINGS[n % 6]} and a blue {THINGS[n // 6 % 6]}" + (f", view {n}" if n > 35 else "")
            subset = ("seen", "unseen")[n // 2 % 2]
            prompts.append(Prompt(f"{category}/{n:04d}", category, text if n else f"{text} {HOSTILE}", subset))
        return PromptSet("rectangles", tuple(prompts), "none")


class Rectangles(TextToImage):
    """A red and a blue rectangle on grey; ``growth`` makes one of them larger, for most prompts."""

    def __init__(self, name: str, growth: int, size: tuple[int, int]) -> None:
        self.name, self.growth, self.size = name, growth, size

    @property
    def identity(self) -> dict[str, Any]:
        return {"pipeline": self.name}

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image.Image]:
        return [self.draw(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]

    def draw(self, prompt: Prompt, seed: int) -> Image.Image:
        width, height = self.size
        image = Image.new("RGB", self.size, (170, 175, 180))
        for number, (colour, rgb) in enumerate(COLOURS.items()):
            drawn = draw_of(prompt.id, seed, colour)
            left, top = number * width // 2 + drawn % (width // 8), drawn // 97 % (height // 2)
            grown = self.growth * (1 - 2 * (draw_of(prompt.id) % 3 == 0)) if colour == "red" else 0
            right, bottom = left + width // 4 + grown, top + height // 4
            image.paste(rgb, (left, top, right, bottom))
        return image

    def require_ready(self) -> None:
        pass


class FindsRectangles(Scorer):
    """The share of the image that is red; its evidence are the boxes of both colours."""

    name, version = "finder", "1"

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt | str]) -> list[Score]:
        return [self.of_image(image) for image in images]

    def of_image(self, image: Image.Image) -> Score:
        found = {colour: box_of(image, colour) for colour in COLOURS}
        boxes = [Detection(f"{colour} thing", 0.9 - 0.2 * n, box).evidence() for n, (colour, box) in enumerate(found.items())]
        value = found["red"].area() / (image.width * image.height)
        return Score(value, {"rule": "area", "position": 0.25, "size": list(image.size), "boxes": boxes})


class Asks(Scorer):
    """How bright the image is, as a scorer writes it that asks questions."""

    name, version = "asks[tiny]", "1"

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt | str]) -> list[Score]:
        scores = []
        for image in images:
            value = float(np.asarray(image).mean() / 255)
            atoms = [
                {"kind": "object", "question": f"Is there a {HOSTILE}?", "answer": "yes", "probability": round(value, 6)},
                {"kind": "count", "question": "How many things are there?", "answer": "2", "probability": 0.5},
            ]
            scores.append(Score(value, {"atoms": atoms, "arithmetic": value}))
        return scores


def box_of(image: Image.Image, colour: str) -> Box:
    rows, columns = np.nonzero((np.asarray(image) == COLOURS[colour]).all(-1))
    return Box(float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))


def evidence_folder(
    folder: Path, growth: int = 0, count: int = 30, images_per_prompt: int = 1, size: tuple[int, int] = SIZE
) -> Path:
    """A benchmark's folder."""
    bench = CompBench(Prompts(count), [Scoring(FindsRectangles()), Scoring(Asks())], images_per_prompt, block=64)
    bench.run(Rectangles(folder.name, growth, size), folder, progress=False)
    return folder
