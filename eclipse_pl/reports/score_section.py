"""The sections of the page that tell of scores."""

from __future__ import annotations

from eclipse_pl.compbench.scorecard import ALL
from eclipse_pl.reports.html_parts import html_table, note, section, tabs
from eclipse_pl.reports.published import published_tables
from eclipse_pl.reports.report import Report
from eclipse_pl.reports.score_caveats import words
from eclipse_pl.reports.score_comparison import ScoreComparison
from eclipse_pl.reports.score_tables import preference_table, score_difference_table, score_table, summary_table
from eclipse_pl.reports.tables import Row, Table


def score_section(report: Report) -> str:
    scores = report.scores
    if scores is None:
        return ""
    summary = summary_table(scores)
    panels = {scorer: scorer_panel(scores, scorer, f"scorer-{at}") for at, scorer in enumerate(scores.scorers)}
    scorers = tabs("scorers", panels) if len(panels) > 1 else "".join(panels.values())
    content = (html_table(summary) if summary else "") + scorers + protocol(scores)
    return section("Scores of images", content)


def scorer_panel(scores: ScoreComparison, scorer: str, group: str) -> str:
    """All, then the subsets."""
    panels = {
        subset: "".join(
            [
                html_table(score_table(scores, scorer, subset)),
                html_table(score_difference_table(scores, scorer, subset)) if scores.others else "",
                html_table(preference_table(scores, scorer, subset)) if scores.others else "",
            ]
        )
        for subset in scores.subsets(scorer)
    }
    return panels[ALL] if len(panels) == 1 else tabs(group, panels)


def protocol(scores: ScoreComparison) -> str:
    """Scorers with their versions, and what generated."""
    versions: dict[str, str] = {}
    for record in scores.records:
        versions |= record.card["scorers"]
    scorers = Table("scorer", ["version"], [Row(name, [str(version)]) for name, version in versions.items()])
    rows = []
    for variant in scores.variants:
        for run in variant.runs.values():
            decoder = "its own: a whole pipeline" if run.scored.decoder is None else words(run.scored.decoder)
            rows.append(Row(variant.name, [decoder, str(run.scored)]))
    text_to_images = Table("variant", ["decoder", "images and rows"], rows)
    card = scores.records[0].card
    prompts = card["prompts"]
    told = (
        f"{prompts.get('name')}: {prompts.get('count')} prompts (sha256 {prompts['sha256']}, read by "
        f"{prompts.get('parser')}), {card['images_per_prompt']} image(s) of each, seeds from {card['seed']}."
    )
    tables = html_table(scorers, "text") + html_table(text_to_images, "text")
    return f"<details><summary>Prompts, scorers and text-to-image models</summary>{note(told)}{tables}</details>"


def published_section(report: Report) -> str:
    found = published_tables(report.scores) if report.scores else []
    if not found:
        return ""
    panels = {table.title.partition(" of ")[0]: html_table(table) for table in found}
    return section("Beside published figures", tabs("published", panels))
