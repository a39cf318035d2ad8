"""What may not be concluded from a comparison, in sentences for the reader of its tables."""

from __future__ import annotations

from eclipse_pl.reports.caveats.common import on_checkpoints, on_lengths, on_schedules, on_teachers, on_training_data
from eclipse_pl.reports.caveats.latent import latent_caveats, on_distributions
from eclipse_pl.reports.caveats.scores import score_caveats
from eclipse_pl.reports.report import Report

TITLE = "What may not be concluded"


def caveats(report: Report) -> dict[str, list[str]]:
    """{title: sentences}, the most important first: of scores and of latent metrics apart, where there are both."""
    found = {}
    if report.scores is not None:
        found["from the scores of images"] = score_caveats(report.scores)
    if report.latent is not None:
        found["from the latent metrics"] = [*latent_caveats(report.latent, report.metrics), *on_distributions(report)]
    first = next(iter(found))
    found[first] = [
        *on_schedules(report.comparison),
        *on_checkpoints(report.comparison),
        *on_training_data(report.comparison),
        *on_teachers(report.comparison),
        *on_lengths(report.comparison),
        *found[first],
        *report.comparison.remarks,
    ]
    return {f"{TITLE} {what}" if len(found) > 1 else TITLE: sentences for what, sentences in found.items()}
