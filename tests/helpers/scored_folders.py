"""Small benchmarks to compare, written by the benchmark's own code: a text-to-image model of greys, a scorer of light."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

from PIL import Image

from eclipse_pl.compbench.compbench import CompBench
from eclipse_pl.compbench.scorecard import Card, write_card
from eclipse_pl.compbench.scoring import Scoring
from eclipse_pl.prompts.prompt import Prompt
from eclipse_pl.prompts.source import PromptFiles
from eclipse_pl.text_to_image.text_to_image import TextToImage
from tests.helpers.compbench_folder import write_compbench
from tests.helpers.rule_parser import RuleParser
from tests.helpers.scorers_for_images import MeanColour

CATEGORIES = ("color", "shape")


class Tinted(TextToImage):
    """An image of one grey, which is a function of prompt and seed, lighter by ``light``."""

    def __init__(self, light: int, identity: dict[str, Any]) -> None:
        self.light, self._identity = light, identity

    @property
    def identity(self) -> dict[str, Any]:
        return self._identity

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image.Image]:
        greys = [60 + crc32(f"{prompt.id} {seed}".encode()) % 120 for prompt, seed in zip(prompts, seeds, strict=True)]
        # the prompts do not all gain alike, or there would be nothing to draw intervals from
        gains = [self.light * (1 + crc32(prompt.text.encode()) % 3) for prompt in prompts]
        return [Image.new("RGB", (20, 16), (grey + gain,) * 3) for grey, gain in zip(greys, gains, strict=True)]

    def require_ready(self) -> None:
        pass


class Light(MeanColour):
    """Stands where the paper's scorer of colours and shapes stands."""

    name = "blip_vqa@8"


def protocol(prompts: Path, per_category: int = 4, version: str = "1", **options: Any) -> CompBench:
    """Of T2I-CompBench's prompts, two images each."""
    if not prompts.exists():
        write_compbench(prompts, lines=40, parts=(4, 4, 4), seen=20)
    source = PromptFiles(str(prompts), categories=list(CATEGORIES), per_category=per_category, parser=RuleParser())
    scorers = [Scoring(Light(version)), Scoring(MeanColour(), ["color"])]
    return CompBench(source, scorers, **{"images_per_prompt": 2, **options})


def prior(name: object, steps: int = 50, encoder: str = "tiny-8") -> dict[str, Any]:
    """Identity of a prior with its decoder, as `PriorAndDecoder` has it."""
    told = Path(str(name), "training_data.json")
    return {
        "prior": str(name),
        "training_data": json.loads(told.read_text()) if told.is_file() else [],
        "class": "eclipse_pl.priors.eclipse.EclipsePrior",
        "space": {"name": "tiny", "encoder": encoder, "dim": 8},
        "decoder": {"class": "TinyDecoder", "steps": steps},
    }


def pipeline(name: str, **options: Any) -> dict[str, Any]:
    return {"pipeline": name, "precision": "float32", **options}


def scored(folder: Path, light: int = 0, identity: dict[str, Any] | None = None, **options: Any) -> Path:
    """A benchmark's folder."""
    bench = protocol(folder.parent / "prompts", **options)
    bench.run(Tinted(light, identity or pipeline(folder.name)), folder, progress=False)
    return folder


def score_run(run: Path, light: int, **options: Any) -> None:
    """A scorecard in a run's folder, as the callback leaves it."""
    step = json.loads((run / "latent.json").read_text())["step"]
    bench = protocol(run.parent.parent / "prompts", **options)
    text_to_image = Tinted(light, prior(f"{run.name} after {step} steps"))
    card = bench.run(text_to_image, run / "benchmark" / f"step_{step:07d}", progress=False)
    write_card(run / "scorecard.json", {"step": step, **card})


def card_of(folder: Path) -> Card:
    card: Card = json.loads((folder / "scorecard.json").read_text())
    return card


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]


def edit_card(folder: Path, edit: Callable[[Card], Any]) -> None:
    card = card_of(folder)
    edit(card)
    write_card(folder / "scorecard.json", card)
