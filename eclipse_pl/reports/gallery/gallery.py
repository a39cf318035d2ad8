"""The gallery of a page: every prompt and seed with its images, scores, evidence and win rates, for the page's script."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from eclipse_pl.prompts.prompt import Prompt, PromptSet
from eclipse_pl.prompts.subsets import stratified
from eclipse_pl.reports.gallery.copies import FOLDER, copy_name
from eclipse_pl.reports.gallery.evidence import shown_evidence
from eclipse_pl.reports.gallery.prompt_wins import wins_of
from eclipse_pl.reports.images import column_note, prompts_of, shown_run
from eclipse_pl.reports.report import Report
from eclipse_pl.reports.score_comparison import ScoreComparison
from eclipse_pl.reports.score_record import ScoredImage
from eclipse_pl.reports.tables import name_of
from eclipse_pl.reports.variants import Variant

MOST_IMAGES = 2000
"""Of a page that is not asked for more."""


@dataclass(frozen=True)
class Gallery:
    """The images of a comparison: ``data`` is what the script reads, ``files`` are the images to copy."""

    data: dict[str, Any]
    files: dict[str, Path]
    """{name of the copy: the image}"""
    note: str

    @classmethod
    def of(cls, report: Report) -> Gallery | None:
        """Of all prompts and seeds, if the page is not asked for fewer; None where there are no images.

        Every variant has a column, with the images of one training.
        """
        scores = report.scores
        prompts = prompts_of(scores) if scores and report.images != 0 else []
        if scores is None or not prompts:
            return None
        record = next(record for record in scores.records if record.images)
        seeds = sorted({image.seed for image in record.images or []})
        per_category, kept = extent(report.images, prompts, len(seeds), len(scores.variants))
        chosen = list(stratified(PromptSet("shown", tuple(prompts), ""), per_category))
        files: dict[str, Path] = {}
        columns = [ImageColumn.of(scores, variant, files) for variant in scores.variants]
        wins = {
            (scorer, at): wins_of(scores, variant, scorer)
            for scorer in scores.scorers
            for at, variant in enumerate(scores.variants)
            if variant is not scores.reference
        }
        data = {
            "folder": FOLDER,
            "variants": [[name_of(scores, v), column_note(scores, v, shown_run(scores, v))] for v in scores.variants],
            "reference": scores.variants.index(scores.reference),
            "scorers": scores.scorers,
            "prompts": [
                {
                    "id": prompt.id,
                    "category": prompt.category,
                    "subset": prompt.subset,
                    "text": prompt.text,
                    "wins": [
                        [wins.get((scorer, at), {}).get(prompt.id) for at in range(len(columns))] for scorer in scores.scorers
                    ],
                    "rows": [[seed, [column.image(prompt, seed) for column in columns]] for seed in seeds[:kept]],
                }
                for prompt in chosen
            ],
        }
        return cls(data, files, note_on(len(chosen), len(prompts), kept, len(seeds)))

    @property
    def count(self) -> int:
        """Images; equal ones have one file."""
        return sum("file" in image for prompt in self.data["prompts"] for _, images in prompt["rows"] for image in images)

    @property
    def json(self) -> Markup:
        """The data inside of a ``script`` element, which no text can end: prompts are other people's."""
        text = json.dumps(self.data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return Markup(text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e"))

    @property
    def markup(self) -> Markup:
        return own_file("gallery.html")

    @property
    def style(self) -> Markup:
        return own_file("gallery.css")

    @property
    def scripts(self) -> list[Markup]:
        """The list of images, and the dialog that shows one."""
        return [own_file("viewer.js"), own_file("gallery.js")]


@dataclass(frozen=True)
class ImageColumn:
    """The images of one variant. Those that the page shows are noted in ``files``."""

    folder: Path
    images: dict[tuple[str, str, int], ScoredImage]
    scorers: list[str]
    files: dict[str, Path]

    @classmethod
    def of(cls, scores: ScoreComparison, variant: Variant, files: dict[str, Path]) -> ImageColumn:
        record = shown_run(scores, variant).scored
        images = {(one.id, one.prompt, one.seed): one for one in record.images or []}
        return cls(record.folder, images, scores.scorers, files)

    def image(self, prompt: Prompt, seed: int) -> dict[str, Any]:
        """What the page shows of an image, or ``missing``: why there is none."""
        scored = self.images.get((prompt.id, prompt.text, seed))
        if scored is None:
            return {"missing": "not generated"}
        shown: dict[str, Any] = {
            "scores": [
                [at, value if math.isfinite(value) else None, shown_evidence(scored.evidence.get(scorer, {}))]
                for at, scorer in enumerate(self.scorers)
                if (value := scored.values.get(scorer)) is not None
            ]
        }
        if scored.failed:
            shown["failed"] = str(scored.failed)
        try:
            name, (shown["width"], shown["height"]) = copy_name(self.folder, scored.file)
        except ValueError as error:
            return {**shown, "missing": str(error)}
        self.files[name] = self.folder / scored.file
        return {**shown, "file": name}


def extent(wanted: int | None, prompts: list[Prompt], seeds: int, variants: int) -> tuple[int, int]:
    """Prompts of each category, and images of each prompt. Fewer images of a prompt are chosen before fewer prompts."""
    if wanted is not None:
        return wanted, seeds
    categories = [prompt.category for prompt in prompts]
    all_of_them = max(map(categories.count, dict.fromkeys(categories)))
    if len(prompts) * variants <= MOST_IMAGES:
        return all_of_them, max(1, min(seeds, MOST_IMAGES // (len(prompts) * variants)))
    return max(1, MOST_IMAGES // (len(set(categories)) * variants)), 1


def note_on(shown: int, prompts: int, kept: int, seeds: int) -> str:
    limits = [f"{shown} of {prompts} prompts, spread over categories and their parts"] if shown < prompts else []
    limits += [f"the first {kept} of {seeds} images of each prompt"] if kept < seeds else []
    if not limits:
        return ""
    return f"Shown are {' and '.join(limits)}. Win rates are of all images. --images N shows N prompts of each category whole."


def own_file(name: str) -> Markup:
    return Markup(package_files("eclipse_pl.reports.gallery").joinpath(name).read_text(encoding="utf-8"))
