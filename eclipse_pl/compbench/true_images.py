"""Real images with true captions, for the calibration of scorers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from PIL import Image

from eclipse_pl.prompts.compbench import read_nouns
from eclipse_pl.prompts.parser import Parse, Parser
from eclipse_pl.prompts.parsing import parse_all
from eclipse_pl.prompts.prompt import Prompt, PromptSet
from eclipse_pl.prompts.prompt_lines import prompt_problem
from eclipse_pl.prompts.templates import RELATIONS_2D, adjectives, counts, relation
from eclipse_pl.raw.coco import is_karpathy, read_coco
from eclipse_pl.text_to_image.text_to_image import TextToImage
from eclipse_pl.world.drawing import render
from eclipse_pl.world.prompt_source import WorldPrompts
from eclipse_pl.world.prompts import scene_of

SWAPPED = "-swapped"
"""End of the id of a prompt whose text is the caption of another image."""
RELATIONS = tuple(name for name in RELATIONS_2D if name != "on top of")
"""Relations that T2I-CompBench's rules give points for."""


class TrueImages(TextToImage):
    """Gives for each caption the image that it was written for, and for a swapped caption the image that it was given to."""

    seed: int = 0
    """Seed of the swaps."""

    @abstractmethod
    def captions(self) -> PromptSet:
        """Return one caption of each image, with what scorers read in it."""

    @abstractmethod
    def image(self, prompt_id: str) -> Image.Image:
        """Return the image of a caption. `captions` was called before."""

    def require_ready(self) -> None:
        """Nothing is loaded."""

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image.Image]:
        return [self.image(prompt.id.removesuffix(SWAPPED)) for prompt in prompts]


class CocoImages(TrueImages):
    """Images of MSCOCO, each with its first caption.

    Scorers read in a caption its noun phrases, one relation, between the two nouns nearest to it, and the objects that it
    counts. Of several relations, T2I-CompBench's rules read the one that comes first in their own list (`RELATIONS`). Each
    scorer scores the captions that its rules apply to.

    Args:
        captions: MSCOCO's ``captions_val2017.json``, or that of another year.
        images: Folder of its images.
        count: Number of images, a fixed choice; null takes all.
        seed: Seed of that choice, and of the swaps.
        parser: What parses the captions. Null takes spaCy.
        nouns: T2I-CompBench's ``new_objects.txt``, the table of nouns of its counting rule. Null counts nothing.
    """

    def __init__(
        self,
        captions: str,
        images: str,
        count: int | None = 500,
        seed: int = 0,
        parser: Parser | None = None,
        nouns: str | None = None,
    ) -> None:
        if count is not None and count < 2:
            raise ValueError(f"count is {count}; captions can be swapped from 2 images on.")
        self.file, self.folder, self.count, self.seed, self.parser = captions, Path(images), count, seed, parser
        self.nouns = nouns
        self._paths: dict[str, Path] = {}

    @property
    def identity(self) -> dict[str, Any]:
        return {"images": "MSCOCO", "count": self.count, "seed": self.seed}

    def captions(self) -> PromptSet:
        content = read_coco(self.file)
        if is_karpathy(content):
            raise ValueError(f"{self.file} is Karpathy's JSON; calibration reads MSCOCO's own captions_val2017.json.")
        texts: dict[Any, str] = {}
        try:
            for entry in content["annotations"]:
                texts.setdefault(entry["image_id"], " ".join(entry["caption"].split()))
            files = {entry["id"]: str(entry["file_name"]) for entry in content["images"] if entry["id"] in texts}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{self.file} is not MSCOCO's JSON of captions: an entry lacks {error}.") from error
        good = [number for number in files if texts[number] and not prompt_problem(texts[number])]
        chosen = sorted(good, key=lambda number: sha256(f"{self.seed} {number}".encode()).hexdigest())[: self.count]
        self._paths = {f"coco/{int(number):012d}": self.folder / files[number] for number in sorted(chosen)}
        if missing := [path for path in self._paths.values() if not path.is_file()]:
            raise ValueError(f"{len(missing)} of {len(self._paths)} images of {self.file} are missing, first {missing[0]}.")
        kept = [texts[number] for number in sorted(chosen)]
        parsed = parse_all(Path(self.file), kept, self.parser)
        table = {} if self.nouns is None else read_nouns(Path(self.nouns))
        prompts = [
            read_caption(Prompt(name, "coco", text), parse, table)
            for name, text, parse in zip(self._paths, kept, parsed.parses, strict=True)
        ]
        return PromptSet("MSCOCO", tuple(prompts), parsed.parser)

    def image(self, prompt_id: str) -> Image.Image:
        path = self._paths[prompt_id]
        try:
            with Image.open(path) as opened:
                return opened.convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"{path} cannot be read ({error}). Fetch it again.") from error


class WorldImages(TrueImages):
    """True images of the world's prompts.

    Args:
        count: Number of prompts of each category and composition.
        categories: The categories; null for all.
        seed: Seed of the scenes, and of the swaps.
    """

    def __init__(self, count: int = 40, categories: list[str] | None = None, seed: int = 0) -> None:
        self.count, self.categories, self.seed = count, categories, seed
        self._prompts: dict[str, Prompt] = {}

    @property
    def identity(self) -> dict[str, Any]:
        return {"images": "world", "count": self.count, "seed": self.seed}

    def captions(self) -> PromptSet:
        found = WorldPrompts(self.count, self.categories, seed=self.seed).load()
        self._prompts = {prompt.id: prompt for prompt in found}
        return found

    def image(self, prompt_id: str) -> Image.Image:
        return render(scene_of(self._prompts[prompt_id], self.seed))


def read_caption(prompt: Prompt, parse: Parse, nouns: dict[str, str]) -> Prompt:
    """Return a caption with its noun phrases and adjectives, and its relation and counted objects where it names any."""
    prompt = replace(prompt, phrases=parse.phrases, adjectives=adjectives(parse))
    with suppress(ValueError):  # there is no noun before or after the relation
        prompt = replace(prompt, relation=relation(parse, RELATIONS, nearest=True))
    with suppress(ValueError):  # it counts nothing, or no noun of the table
        prompt = replace(prompt, required=counts(prompt.text, nouns))
    return prompt
