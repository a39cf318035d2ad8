"""The HTML page of a comparison. It loads nothing but the images beside it, or nothing at all."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

from eclipse_pl.data.subset_names import ALL
from eclipse_pl.reports.caveats.caveats import caveats
from eclipse_pl.reports.caveats.common import enumerate_seeds
from eclipse_pl.reports.caveats.scores import decoder_words
from eclipse_pl.reports.charts import colour, dash, final_charts, learning_curves
from eclipse_pl.reports.gallery.gallery import Gallery
from eclipse_pl.reports.images import images_of
from eclipse_pl.reports.latent_comparison import LatentComparison
from eclipse_pl.reports.latent_tables import cost_table, difference_table, distribution_tables, main_table, win_table
from eclipse_pl.reports.published import published_tables
from eclipse_pl.reports.report import Report
from eclipse_pl.reports.run_record import RunRecord
from eclipse_pl.reports.score_comparison import ScoreComparison
from eclipse_pl.reports.score_tables import scorer_tables, summary_table
from eclipse_pl.reports.tables import Table, TableRow, name_of, settings_table

Fact = tuple[str, str, str]
"""Words, of which the middle ones are bold."""


def write_page(report: Report, command: str, gallery: Gallery | None = None) -> str:
    """The page. The template escapes whatever comes from configs and folders.

    Args:
        report: What it shows.
        command: The command line that writes it.
        gallery: All images, whose files lie beside the page; without it the page is a single file that holds a few small ones.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    # long names of options may break after an underscore or a dot
    environment.filters["pieces"] = lambda words: re.split(r"(?<=[_.])(?=[^\W\d])", words)
    template = environment.from_string(files("eclipse_pl.reports").joinpath("page.html").read_text(encoding="utf-8"))
    scores = report.scores
    return template.render(
        title=title(report),
        facts=facts(report),
        problems=[problem.sentence for problem in report.comparison.problems],
        caveats=caveats(report),
        reference=report.comparison.reference.name,
        scores=None if scores is None else score_content(scores),
        gallery=gallery,
        images=images_of(report) if gallery is None else None,
        published={table.title.partition(" of ")[0]: table for table in published_tables(scores)} if scores else {},
        latent=None if report.latent is None else latent_content(report, report.latent),
        settings=settings_table(report.comparison),
        runs=run_table(report),
        command=command,
    )


def title(report: Report) -> str:
    variants = len(report.comparison.variants)
    if variants > 1:
        return f"Comparison of {variants} variants"
    return "One variant with baselines and upper bound" if report.latent else "The scores of one variant"


def facts(report: Report) -> list[Fact]:
    """What was compared, in a line."""
    comparison = report.comparison
    seeds = sorted({len(variant.runs) for variant in comparison.variants})
    counts = " or ".join(map(str, seeds)) + (" seed" if seeds == [1] else " seeds")
    found = [("", plural(len(comparison.runs), "run"), f": {plural(len(comparison.variants), 'variant')} of {counts}")]
    if comparison.others:
        found.append(("differences from ", comparison.reference.name, " (--reference)"))
    if report.latent is not None:
        first = report.latent.reference.first
        steps = sorted({run.step for run in report.latent.runs})
        pairs = first.fact("pairs")
        found += [("", f"{pairs:,} pairs", f" of the {first.fact('stage')} split")] if pairs else []
        found += [
            ("shards ", str(first.fact("shards", "folder") or first.config.get("data.init_args.folder")), ""),
            ("space ", str((first.fact("shards", "space") or {}).get("name", "unknown")), ""),
            ("after ", " to ".join(f"{step:,}" for step in dict.fromkeys((steps[0], steps[-1]))), " steps"),
        ]
    if report.scores is not None:
        card = report.scores.records[0].card
        prompts, images = card["prompts"], plural(card["images_per_prompt"], "image")
        found += [
            ("", f"{prompts.get('count')} prompts", f" of {prompts.get('name')} × {images}"),
            ("scored by ", ", ".join(report.scores.scorers), ""),
        ]
    return found


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def score_content(scores: ScoreComparison) -> dict[str, Any]:
    """Tables of every scorer and subset, and how the images were made and scored."""
    versions = {name: version for record in scores.records for name, version in record.card["scorers"].items()}
    runs = [(variant, run) for variant in scores.variants for run in variant.runs.values()]
    card = scores.records[0].card
    prompts = card["prompts"]
    return {
        "summary": summary_table(scores),
        "scorers": {
            scorer: {
                "group": f"scorer-{at}",
                "subsets": {subset: scorer_tables(scores, scorer, subset) for subset in scores.subsets(scorer)},
            }
            for at, scorer in enumerate(scores.scorers)
        },
        "prompts": f"{prompts.get('name')}: {prompts.get('count')} prompts (sha256 {prompts['sha256']}, parsed by "
        f"{prompts.get('parser')}), {plural(card['images_per_prompt'], 'image')} of each, seeds from {card['seed']}.",
        "protocol": [
            text_table("scorer", ["version"], [TableRow(name, [str(version)]) for name, version in versions.items()]),
            text_table(
                "variant",
                ["images made", "folder"],
                [TableRow(variant.name, [decoder_words(run), str(run.scored)]) for variant, run in runs],
            ),
        ],
    }


def latent_content(report: Report, latent: LatentComparison) -> dict[str, Any]:
    """Tables and charts of latent metrics."""
    makers = [main_table, difference_table] if latent.others else [main_table]
    return {
        "main": main_table(latent, report.metrics),
        "final": final_charts(latent, report.metrics)
        | (final_charts(report.distribution, report.sampled) if report.distribution else {}),
        "against": [difference_table(latent, report.metrics), win_table(latent)] if latent.others else [],
        "distribution": distribution_content(report),
        "curves": learning_curves(latent),
        "legend": [(name_of(latent, variant), colour(at), dash(at)) for at, variant in enumerate(latent.variants)],
        "subsets": {
            subset: [make(latent, report.metrics, subset) for make in makers] for subset in latent.subsets if subset != ALL
        },
        "cost": cost_table(latent),
    }


def distribution_content(report: Report) -> dict[str, list[Table]]:
    """{subset: tables} of the metrics of samples; empty where no run has them."""
    if (distribution := report.distribution) is None:
        return {}
    subsets = [
        subset for subset in distribution.subsets if any(one.of(subset) in distribution.columns for one in report.sampled)
    ]
    return {subset: distribution_tables(distribution, report.sampled, subset) for subset in subsets}


def run_table(report: Report) -> Table:
    rows = [
        TableRow(
            str(run),
            [variant.name, enumerate_seeds([seeds]) or "–", f"{run.step:,}" if run.has_table else "–", shards_of(run)],
        )
        for variant in report.comparison.variants
        for seeds, run in variant.runs.items()
    ]
    return text_table("run", ["variant", "seed", "step", "trained on"], rows)


def text_table(title: str, header: list[str], rows: list[TableRow]) -> Table:
    return Table(title, header, rows, is_text=True)


def shards_of(run: RunRecord) -> str:
    """Folder and hash of what a run was trained on."""
    return ", then ".join(f"{one['folder']} (sha256 {one['sha256'][:8]}…)" for one in run.training_data) or "–"
