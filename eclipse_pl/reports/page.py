"""One HTML page of a comparison: a single file without scripts, fonts or images from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from importlib.resources import files
from string import Template

from eclipse_pl.latent_metrics import ALL
from eclipse_pl.reports.caveats import caveats
from eclipse_pl.reports.html_parts import box, html_table, note, section, tabs
from eclipse_pl.reports.image_section import images
from eclipse_pl.reports.latent_comparison import LatentComparison
from eclipse_pl.reports.page_figures import final_charts, learning_curves
from eclipse_pl.reports.report import Report
from eclipse_pl.reports.run_record import RunRecord
from eclipse_pl.reports.score_comparison import ScoreComparison
from eclipse_pl.reports.score_section import published_section, score_section
from eclipse_pl.reports.seed_caveats import enumerate_seeds
from eclipse_pl.reports.tables import Row, Table, cost_table, difference_table, main_table, settings_table, win_table

Section = Callable[[Report], str]


def write_page(report: Report, command: str) -> str:
    """The page. Everything that comes from configs and folders is escaped."""
    template = Template(files("eclipse_pl.reports").joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=title(report),
        facts=" · ".join(part for part in facts(report) if part),
        body="\n".join(text for section in SECTIONS if (text := section(report))),
        footer=f"Written by <code>{escape(command)}</code>.",
    )


def title(report: Report) -> str:
    variants = len(report.comparison.variants)
    if variants > 1:
        return f"Comparison of {variants} variants"
    return "One variant beside baselines and upper bound" if report.latent else "The scores of one variant"


def facts(report: Report) -> list[str]:
    """What was compared, in a line."""
    comparison = report.comparison
    seeds = sorted({len(variant.runs) for variant in comparison.variants})
    counted = " or ".join(map(str, seeds)) + (" seed" if seeds == [1] else " seeds")
    return [
        f"<b>{plural(len(comparison.runs), 'run')}</b>: {plural(len(comparison.variants), 'variant')} of {counted}",
        *(latent_facts(report.latent) if report.latent else []),
        *(score_facts(report.scores) if report.scores else []),
        f"reference <b>{escape(comparison.reference.name)}</b>" if comparison.others else "",
    ]


def latent_facts(latent: LatentComparison) -> list[str]:
    first = latent.reference.first
    steps = sorted({run.step for run in latent.runs})
    pairs = first.fact("pairs")
    return [
        f"<b>{pairs:,} pairs</b> of the {escape(str(first.fact('stage')))} split" if pairs else "",
        f"shards <b>{escape(str(first.fact('shards', 'folder') or first.config.get('data.init_args.folder')))}</b>",
        f"space <b>{escape(str((first.fact('shards', 'space') or {}).get('name', 'unknown')))}</b>",
        f"after {' to '.join(f'{step:,}' for step in dict.fromkeys((steps[0], steps[-1])))} steps",
    ]


def score_facts(scores: ScoreComparison) -> list[str]:
    card = scores.records[0].card
    prompts, name = card["prompts"].get("count"), card["prompts"].get("name")
    return [
        f"<b>{escape(str(prompts))} prompts</b> of {escape(str(name))} × {plural(card['images_per_prompt'], 'image')}",
        f"scored by <b>{escape(', '.join(scores.scorers))}</b>",
    ]


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def unfairness(report: Report) -> str:
    problems = report.comparison.problems
    if not problems:
        return ""
    return box("Not a fair comparison: rows marked † are here by --anyway", [p.sentence for p in problems], "warn")


def limits(report: Report) -> str:
    return "".join(box(title, sentences) for title, sentences in caveats(report).items())


def final_metrics(report: Report) -> str:
    if report.latent is None:
        return ""
    table = html_table(main_table(report.latent, report.metrics))
    return section("Latent metrics", table) if report.scores else table


def differences(report: Report) -> str:
    latent = report.latent
    if latent is None or not latent.others:
        return ""
    parts = [html_table(difference_table(latent, report.metrics)), html_table(win_table(latent))]
    return section(f"Against the reference, {latent.reference.name}", "".join(parts))


def subsets(report: Report) -> str:
    latent = report.latent
    if latent is None:
        return ""
    panels = {
        subset: html_table(main_table(latent, report.metrics, subset))
        + (html_table(difference_table(latent, report.metrics, subset)) if latent.others else "")
        for subset in latent.subsets
        if subset != ALL
    }
    if not panels:
        return ""
    return section(
        "Subsets of the split", tabs("subsets", panels) + note("Retrieval of every subset searches the whole split.")
    )


def costs(report: Report) -> str:
    return section("Cost", html_table(cost_table(report.latent))) if report.latent else ""


def configs(report: Report) -> str:
    comparison = report.comparison
    rows = [
        Row(
            str(run),
            [variant.name, enumerate_seeds([seeds]) or "–", f"{run.step:,}" if run.has_table else "–", shards_told(run)],
        )
        for variant in comparison.variants
        for seeds, run in variant.runs.items()
    ]
    runs = html_table(Table("run", ["variant", "seed", "step", "trained on"], rows))
    listed = f"<details><summary>The {len(rows)} runs</summary>{runs}</details>"
    settings = settings_table(comparison)
    if not settings.header:
        return section("Runs", listed)
    return section("What differs", html_table(settings, "text") + listed)


def shards_told(run: RunRecord) -> str:
    """Folder and hash of what a run was trained on."""
    return ", then ".join(f"{one['folder']} (sha256 {one['sha256'][:8]}…)" for one in run.training_data) or "–"


SECTIONS: tuple[Section, ...] = (
    unfairness,
    limits,
    score_section,
    images,
    published_section,
    final_metrics,
    final_charts,
    differences,
    learning_curves,
    subsets,
    costs,
    configs,
)
"""In order. One with nothing to show returns "" and leaves no trace."""
