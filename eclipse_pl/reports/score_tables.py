"""The tables of scores."""

from __future__ import annotations

from collections.abc import Sequence

from eclipse_pl.compbench.scorecard import ALL
from eclipse_pl.intervals import DIFFERENCES, RATES, SCORES
from eclipse_pl.reports.score_comparison import Column, ScoreColumn, ScoreComparison
from eclipse_pl.reports.tables import Table, TableRow, difference_texts, estimate_texts, heading, paired, percent, rows_of
from eclipse_pl.reports.variants import Variant

INTERVALS = (
    "mean ± half-width of the 95 % t-interval over trainings; of one training, or none, [95 % interval over prompts]: "
    f"{SCORES}."
)


def summary_table(scores: ScoreComparison) -> Table | None:
    """Means over categories of every scorer, and distances; None where that is one column, which the scorer's table has."""
    means = [of_scorer[0] for scorer in scores.scorers if (of_scorer := scores.columns(scorer))]
    columns: list[Column] = [*means, *scores.distances]
    if len(columns) < 2:
        return None
    titles = [f"{one.scorer}, {one.title}" if isinstance(one, ScoreColumn) else one.title for one in columns]
    return Table(
        "Scores, mean over categories",
        ["trainings", *(heading(name, one.better) for name, one in zip(titles, columns, strict=True))],
        rows_of(scores, scores.variants, [trainings(scores.variants), *(estimate_texts(scores, one) for one in columns)]),
        f"Categories weigh equally; {INTERVALS} Distances are of all images together.",
        ["", *("" if isinstance(column, ScoreColumn) else column.hint for column in columns)],
    )


def score_table(scores: ScoreComparison, scorer: str, subset: str = ALL) -> Table:
    """A scorer's scores: the mean, then the categories."""
    columns = scores.columns(scorer, subset)
    sizes = TableRow("prompts × images of each", ["", *(size(scores, column) for column in columns)], "context")
    texts = [estimate_texts(scores, column) for column in columns]
    return Table(
        title(scorer, subset),
        ["trainings", *(heading(column.title, column.better) for column in columns)],
        [sizes, *rows_of(scores, scores.variants, [trainings(scores.variants), *texts])],
        f"mean: of the categories, with equal weights. By category: {INTERVALS}",
    )


def score_difference_table(scores: ScoreComparison, scorer: str, subset: str = ALL) -> Table:
    """Every variant minus the reference."""
    columns = scores.columns(scorer, subset)
    texts = [difference_texts(scores, column) for column in columns]
    return Table(
        f"{title(scorer, subset)}: difference from {scores.reference.name}",
        ["paired trainings", *(heading(column.title, column.better) for column in columns)],
        rows_of(scores, scores.others, [paired(scores), *texts]),
        "± half-width of the 95 % t-interval over paired trainings; of one pair [95 % interval over prompts], by images of "
        f"the same prompt and seed: {DIFFERENCES}. ▲ better, ▼ worse: intervals that leave out 0.",
    )


def preference_table(scores: ScoreComparison, scorer: str, subset: str = ALL) -> Table:
    """Win rates against the reference, over all images and by category."""
    columns = scores.columns(scorer, subset)
    found = [[scores.preference(variant, column) for variant in scores.others] for column in columns]
    rates = [["–" if one is None else percent(one.win_rate) for one in of_column] for of_column in found]
    ties = ["–" if one is None else f"{100 * one.ties / one.pairs:.1f} %" for one in found[0]]
    titles = ["all images" if column.is_mean else column.title for column in columns]
    return Table(
        f"{title(scorer, subset)}: win rate against {scores.reference.name}",
        ["paired trainings", *titles, "ties"],
        rows_of(scores, scores.others, [paired(scores), *rates, ties]),
        "Share of images to which the scorer gives a higher value than to the reference's of the same prompt and seed, ties "
        f"half; [95 % interval over prompts], trainings being repetitions: {RATES}.",
    )


def score_tables(scores: ScoreComparison) -> list[Table]:
    """Those that are printed: without subsets."""
    summary = summary_table(scores)
    found = [summary] if summary else []
    for scorer in scores.scorers:
        found += scorer_tables(scores, scorer)
    return found


def scorer_tables(scores: ScoreComparison, scorer: str, subset: str = ALL) -> list[Table]:
    """Scores, and differences and win rates where there is something to compare."""
    makers = [score_table, score_difference_table, preference_table] if scores.others else [score_table]
    if any(column.better == "none" for column in scores.columns(scorer, subset)):
        makers = [maker for maker in makers if maker is not preference_table]
    return [make(scores, scorer, subset) for make in makers]


def title(scorer: str, subset: str) -> str:
    return scorer if subset == ALL else f"{scorer}, {subset}"


def trainings(variants: Sequence[Variant]) -> list[str]:
    return [str(len(variant.runs)) if variant.first.has_seeds else "none" for variant in variants]


def size(scores: ScoreComparison, column: ScoreColumn) -> str:
    """``80 × 1``: of the first scorecard that has it, as all of a fair comparison agree."""
    for record in scores.records:
        found = [record.score(column.scorer, category, column.subset) for category in column.categories]
        if all(found):
            return f"{sum(score['prompts'] for score in found if score)} × {record.card['images_per_prompt']}"
    return "–"
