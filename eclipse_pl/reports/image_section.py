"""Images side by side: a prompt a row, a variant a column."""

from __future__ import annotations

import math
from html import escape

from eclipse_pl.prompts.prompt import Prompt, PromptSet
from eclipse_pl.prompts.subsets import stratified
from eclipse_pl.reports.html_parts import breakable, note, section, tabs
from eclipse_pl.reports.image_file import MOST_BYTES, SIDE, data_uri
from eclipse_pl.reports.report import Report
from eclipse_pl.reports.run_record import RunRecord
from eclipse_pl.reports.score_comparison import ScoreComparison
from eclipse_pl.reports.score_record import ImageRow
from eclipse_pl.reports.seed_caveats import enumerate_seeds
from eclipse_pl.reports.tables import name_of
from eclipse_pl.reports.variants import Variant

MOST_IMAGES = 400
"""Of a page."""
PIXELATED = 96
"""Images smaller than this are enlarged with their pixels as they are."""


def images(report: Report) -> str:
    """The same prompts for everybody, so many of each category, spread over its subsets; of the first seed."""
    scores = report.scores
    if scores is None or not report.images:
        return ""
    prompts = prompts_of(scores)
    if not prompts:
        return ""
    categories = list(dict.fromkeys(prompt.category for prompt in prompts))
    variants = scores.variants[: max(1, MOST_IMAGES // len(categories))]
    count = max(1, min(report.images, MOST_IMAGES // (len(categories) * len(variants))))
    chosen = stratified(PromptSet("shown", tuple(prompts), ""), count)
    panels = {name: table(scores, variants, [one for one in chosen if one.category == name]) for name in categories}
    return section("Images", tabs("images", panels) + note(told(report, scores, count, len(variants))))


def prompts_of(scores: ScoreComparison) -> list[Prompt]:
    """Of the reference, or of the first who has rows."""
    records = [scores.reference.first.scored, *scores.records]
    rows = next((record.rows for record in records if record.rows), [])
    return list({row.id: Prompt(row.id, row.category, row.prompt, row.subset) for row in rows}.values())


def told(report: Report, scores: ScoreComparison, count: int, variants: int) -> str:
    said = f"{count} prompts of each category, always the same ones, spread over its subsets; the first image of each"
    limits = []
    if count < report.images:
        limits.append(f"{count} instead of {report.images} prompts a category")
    if variants < len(scores.variants):
        limits.append(f"the first {variants} of {len(scores.variants)} variants")
    if limits:
        said += f". Shown are {' and '.join(limits)}, because a page holds at most {MOST_IMAGES} images"
    return (
        f"{said}. Each at most {SIDE} pixels wide and {MOST_BYTES // 1000} kB. Below them is what the scorers give. So few "
        "images show what there is to see; they decide nothing."
    )


def seed_of(scores: ScoreComparison) -> int:
    return int(scores.records[0].card["seed"])


def table(scores: ScoreComparison, variants: list[Variant], prompts: list[Prompt]) -> str:
    runs = [shown_run(scores, variant) for variant in variants]
    head = "".join(column_head(scores, variant, run) for variant, run in zip(variants, runs, strict=True))
    body = []
    for prompt in prompts:
        cells = [
            image_cell(run, prompt, seed_of(scores), f"{variant.name}: {prompt.text}")
            for variant, run in zip(variants, runs, strict=True)
        ]
        where = " · ".join(part for part in (prompt.id, prompt.subset, f"seed {seed_of(scores)}") if part)
        body.append(f"<tr><th>{escape(prompt.text)}<small>{breakable(where)}</small></th>{''.join(cells)}</tr>")
    content = f'<table class="images"><thead><tr><th>prompt</th>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
    return f'<div class="scroll" tabindex="0">{content}</div>'


def shown_run(scores: ScoreComparison, variant: Variant) -> RunRecord:
    """The training with the reference's first seed, if there is one."""
    return variant.runs.get(next(iter(scores.reference.runs)), variant.first)


def column_head(scores: ScoreComparison, variant: Variant, run: RunRecord) -> str:
    marks = ["reference"] if variant is scores.reference and scores.others else []
    marks += [f"training seed {enumerate_seeds([run.seeds])}"] if len(variant.runs) > 1 else []
    small = f"<small>{escape(', '.join(marks))}</small>" if marks else ""
    return f"<th>{breakable(name_of(scores, variant))}{small}</th>"


def image_cell(run: RunRecord, prompt: Prompt, seed: int, alt: str) -> str:
    record = run.scored
    rows = [row for row in record.rows or [] if (row.id, row.prompt, row.seed) == (prompt.id, prompt.text, seed)]
    if not rows:
        return '<td><div class="missing">not generated</div></td>'
    try:
        source, (width, height) = data_uri(record.folder, rows[0].file)
    except ValueError as error:
        shown = f'<div class="missing">{escape(str(error))}</div>'
    else:
        kind = ' class="pixelated"' if max(width, height) < PIXELATED else ""
        shown = f'<img{kind} src="{source}" alt="{escape(alt)}" width="{width}" height="{height}" loading="lazy">'
    return f'<td class="{"failed" if rows[0].failed else ""}">{shown}{scored(rows[0])}</td>'


def scored(row: ImageRow) -> str:
    values = [f"<span>{breakable(scorer)}&nbsp;<b>{value_text(value)}</b></span>" for scorer, value in row.values.items()]
    failed = f'<span class="why" title="{escape(row.failed)}">could not be scored</span>' if row.failed else ""
    return f'<div class="scored">{failed}{"".join(values)}</div>'


def value_text(value: float) -> str:
    """Three digits."""
    return "–" if math.isnan(value) else f"{value:.3g}".replace("-", "−")
