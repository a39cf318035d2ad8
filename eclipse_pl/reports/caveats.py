"""What may not be concluded from a comparison."""

from __future__ import annotations

from eclipse_pl.reports.latent_caveats import latent_caveats
from eclipse_pl.reports.report import Report
from eclipse_pl.reports.score_caveats import score_caveats
from eclipse_pl.reports.seed_caveats import on_schedules

TITLE = "What may not be concluded"


def caveats(report: Report) -> dict[str, list[str]]:
    """{title: sentences}: of scores and of latent metrics apart, where there are both."""
    found = {}
    if report.scores is not None:
        found["from the scores of images"] = score_caveats(report.scores)
    if report.latent is not None:
        found["from the latent metrics"] = latent_caveats(report.latent, report.metrics)
    first = next(iter(found))
    found[first] = [*on_schedules(report.comparison), *found[first], *report.comparison.remarks]
    return {f"{TITLE} {what}" if len(found) > 1 else TITLE: sentences for what, sentences in found.items()}
