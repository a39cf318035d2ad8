"""Images of the page: a prompt a row, a variant a column."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from eclipse_pl.prompts.prompt import Prompt, PromptSet
from eclipse_pl.prompts.subsets import stratified
from eclipse_pl.reports.caveats.common import enumerate_seeds
from eclipse_pl.reports.report import Report
from eclipse_pl.reports.run_record import RunRecord
from eclipse_pl.reports.score_comparison import ScoreComparison
from eclipse_pl.reports.score_record import ScoredImage
from eclipse_pl.reports.tables import name_of
from eclipse_pl.reports.variants import Variant
from eclipse_pl.scorers.network_scorer import UNREADABLE

MOST_IMAGES = 400
"""Of a page that holds them itself."""
IMAGES = 3
"""Prompts of each category, unless another number is asked for."""
PIXELATED = 96
"""Images smaller than this are enlarged with their pixels as they are."""
SIDE = 192
"""Pixels of the longer side; smaller images stay as they are."""
MOST_BYTES = 16_000
"""Of one image."""
QUALITIES = (90, 75, 60, 40)


@dataclass(frozen=True)
class ShownImage:
    """An image of the page, or ``missing``: why there is none; and what scorers give it."""

    alt: str
    missing: str = ""
    source: str = ""
    width: int = 0
    height: int = 0
    scored: ScoredImage | None = None

    @property
    def is_pixelated(self) -> bool:
        return max(self.width, self.height) < PIXELATED

    @property
    def values(self) -> dict[str, str]:
        """{scorer: value}, in three digits."""
        values = self.scored.values if self.scored else {}
        return {name: "–" if math.isnan(value) else f"{value:.3g}".replace("-", "−") for name, value in values.items()}


@dataclass(frozen=True)
class ImageTable:
    """The images of one category. Names and prompts have a second, smaller line."""

    header: list[tuple[str, str]]
    prompts: list[tuple[str, str, list[ShownImage]]]


@dataclass(frozen=True)
class Images:
    """What the page shows: {category: table}, and how they were chosen."""

    tables: dict[str, ImageTable]
    note: str


def images_of(report: Report) -> Images | None:
    """The same prompts for every variant, n of each category, spread over its subsets; of the first seed."""
    scores = report.scores
    wanted = IMAGES if report.images is None else report.images
    prompts = prompts_of(scores) if scores and wanted else []
    if scores is None or not prompts:
        return None
    categories = list(dict.fromkeys(prompt.category for prompt in prompts))
    variants = scores.variants[: max(1, MOST_IMAGES // len(categories))]
    count = max(1, min(wanted, MOST_IMAGES // (len(categories) * len(variants))))
    chosen = stratified(PromptSet("shown", tuple(prompts), ""), count)
    tables = {name: table_of(scores, variants, [one for one in chosen if one.category == name]) for name in categories}
    return Images(tables, note_on(wanted, count, len(scores.variants), len(variants)))


def prompts_of(scores: ScoreComparison) -> list[Prompt]:
    """Of the reference, or of the first who has scores of images."""
    records = [scores.reference.first.scored, *scores.records]
    images = next((record.images for record in records if record.images), [])
    return list({one.id: Prompt(one.id, one.category, one.prompt, one.subset) for one in images}.values())


def note_on(wanted: int, count: int, all_variants: int, variants: int) -> str:
    note = f"{count} prompts of each category, always the same ones, spread over its subsets; the first image of each"
    limits = [f"{count} instead of {wanted} prompts a category"] if count < wanted else []
    limits += [f"the first {variants} of {all_variants} variants"] if variants < all_variants else []
    if limits:
        note += f". Shown are {' and '.join(limits)}, because a page holds at most {MOST_IMAGES} images"
    return (
        f"{note}. Each has at most {SIDE} pixels a side and {MOST_BYTES // 1000} kB. Below it are the scorers' values. "
        "These few images are examples and decide nothing."
    )


def table_of(scores: ScoreComparison, variants: list[Variant], prompts: list[Prompt]) -> ImageTable:
    shown = [(variant, shown_run(scores, variant)) for variant in variants]
    seed = int(scores.records[0].card["seed"])
    return ImageTable(
        [(name_of(scores, variant), column_note(scores, variant, run)) for variant, run in shown],
        [
            (
                prompt.text,
                " · ".join(part for part in (prompt.id, prompt.subset, f"seed {seed}") if part),
                [shown_image(run, prompt, seed, f"{variant.name}: {prompt.text}") for variant, run in shown],
            )
            for prompt in prompts
        ],
    )


def shown_run(scores: ScoreComparison, variant: Variant) -> RunRecord:
    """The training with the reference's first seed, if there is one."""
    return variant.runs.get(next(iter(scores.reference.runs)), variant.first)


def column_note(scores: ScoreComparison, variant: Variant, run: RunRecord) -> str:
    marks = ["reference"] if variant is scores.reference and scores.others else []
    return ", ".join(marks + ([f"training seed {enumerate_seeds([run.seeds])}"] if len(variant.runs) > 1 else []))


def shown_image(run: RunRecord, prompt: Prompt, seed: int, alt: str) -> ShownImage:
    record, key = run.scored, (prompt.id, prompt.text, seed)
    scored = next((one for one in record.images or [] if (one.id, one.prompt, one.seed) == key), None)
    if scored is None:
        return ShownImage(alt, "not generated")
    try:
        source, (width, height) = data_uri(record.folder, scored.file)
    except ValueError as error:
        return ShownImage(alt, str(error), scored=scored)
    return ShownImage(alt, "", source, width, height, scored)


def data_uri(folder: Path, file: str) -> tuple[str, tuple[int, int]]:
    """PNG where it is small enough, else JPEG; and its width and height.

    Raises:
        ValueError: There is no such image inside the folder, or it cannot be read.
    """
    path = inside(folder, file)
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except UNREADABLE as error:
        raise ValueError("cannot be read") from error
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    kind, content = smallest(image)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}", image.size


def inside(folder: Path, file: str) -> Path:
    """The path of an image. Raises ValueError where there is none, or where it lies outside of the folder."""
    path = folder / file
    if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        raise ValueError("no image")
    return path


def smallest(image: Image.Image) -> tuple[str, bytes]:
    """The first encoding that is small enough; noise, which no encoding makes small, loses pixels."""
    if len(content := encoded(image, format="PNG", optimize=True)) <= MOST_BYTES:
        return "png", content
    while True:
        for quality in QUALITIES:
            if len(content := encoded(image, format="JPEG", quality=quality, optimize=True)) <= MOST_BYTES:
                return "jpeg", content
        image = image.reduce(2)


def encoded(image: Image.Image, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, **options)  # type: ignore[arg-type]
    return content.getvalue()
