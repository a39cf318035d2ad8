"""The tables of scores, in words: for the terminal, for Markdown, for the page."""

from __future__ import annotations

from collections.abc import Sequence

from eclipse_pl.compbench.scorecard import ALL
from eclipse_pl.intervals import DIFFERENCES, RATES, SCORES
from eclipse_pl.reports.metric import decimals_of
from eclipse_pl.reports.score_column import Column, ScoreColumn
from eclipse_pl.reports.score_comparison import ScoreComparison
from eclipse_pl.reports.tables import Row, Table, estimate_text, heading, kind_of, name_of, percent, verdict
from eclipse_pl.reports.variants import Variant

INTERVALS = (
    "mean ± half-width of the 95 % t-interval over trainings; of one training, or none, [95 % interval over prompts]: "
    f"{SCORES}."
)


def summary_table(scores: ScoreComparison) -> Table | None:
    """Means over categories of every scorer, and distances; None where that is one column, which the scorer's table has."""
    means = [of_scorer[-1] for scorer in scores.scorers if (of_scorer := scores.columns(scorer))]
    columns: list[Column] = [*means, *scores.distances]
    if len(columns) < 2:
        return None
    titles = [f"{one.scorer}, {one.title}" if isinstance(one, ScoreColumn) else one.title for one in columns]
    return table(
        scores,
        "Scores, mean over categories",
        columns,
        titles,
        f"Categories weigh equally; {INTERVALS} Distances are of all images together.",
        ["" if isinstance(column, ScoreColumn) else column.hint for column in columns],
    )


def score_table(scores: ScoreComparison, scorer: str, subset: str = ALL) -> Table:
    """A scorer's scores by category."""
    columns = scores.columns(scorer, subset)
    note = f"By category: {INTERVALS} mean: of the categories, with equal weights."
    made = table(scores, title(scorer, subset), columns, [column.title for column in columns], note)
    sizes = Row("prompts × images of each", ["", *(size(scores, column) for column in columns)], "beside")
    return Table(made.title, made.header, [sizes, *made.rows], made.note, made.hints)


def table(
    scores: ScoreComparison,
    title: str,
    columns: Sequence[Column],
    titles: list[str],
    note: str,
    hints: Sequence[str] = (),
) -> Table:
    """A row each variant, a column each score."""
    cells = []
    for column in columns:
        estimates = [scores.estimate(variant, column) for variant in scores.variants]
        decimals = decimals_of(estimates)
        cells.append(
            [
                estimate_text(one, decimals, scores.over_prompts(variant))
                for one, variant in zip(estimates, scores.variants, strict=True)
            ]
        )
    rows = [
        Row(
            name_of(scores, variant),
            [trainings(variant), *(column[at] for column in cells)],
            "beside" if variant.is_upper_bound and variant is not scores.reference else kind_of(scores, variant),
        )
        for at, variant in enumerate(scores.variants)
    ]
    header = [heading(name, column.better) for name, column in zip(titles, columns, strict=True)]
    return Table(title, ["trainings", *header], rows, note, ["", *hints] if hints else [])


def score_difference_table(scores: ScoreComparison, scorer: str, subset: str = ALL) -> Table:
    """Every variant less the reference."""
    columns = scores.columns(scorer, subset)
    cells = []
    for column in columns:
        estimates = [scores.difference(variant, column) for variant in scores.others]
        decimals = decimals_of(estimates)
        cells.append(
            [
                estimate_text(one, decimals, len(scores.pairs(variant)) == 1, sign=True) + verdict(one, column.better)
                for one, variant in zip(estimates, scores.others, strict=True)
            ]
        )
    return Table(
        f"{title(scorer, subset)}: difference from {scores.reference.name}",
        ["paired trainings", *(heading(column.title, column.better) for column in columns)],
        [
            Row(name_of(scores, variant), [str(len(scores.pairs(variant))), *(column[at] for column in cells)])
            for at, variant in enumerate(scores.others)
        ],
        "± half-width of the 95 % t-interval over paired trainings; of one pair [95 % interval over prompts], by images of "
        f"the same prompt and seed: {DIFFERENCES}. ▲ better, ▼ worse: intervals that leave out 0.",
    )


def preference_table(scores: ScoreComparison, scorer: str, subset: str = ALL) -> Table:
    """Win rates against the reference, by category and over all."""
    columns = scores.columns(scorer, subset)
    rows = []
    for variant in scores.others:
        found = [scores.preference(variant, column) for column in columns]
        cells = ["–" if one is None else percent(one.win_rate) for one in found]
        last = found[-1] if found else None
        ties = "–" if last is None else f"{100 * last.ties / last.pairs:.1f} %"
        rows.append(Row(name_of(scores, variant), [str(len(scores.pairs(variant))), *cells, ties]))
    titles = ["all images" if column.is_mean else column.title for column in columns]
    return Table(
        f"{title(scorer, subset)}: win rate against {scores.reference.name}",
        ["paired trainings", *titles, "ties"],
        rows,
        "Share of images to which the scorer gives a higher value than to the reference's of the same prompt and seed, ties "
        f"half; [95 % interval over prompts], trainings being repetitions: {RATES}.",
    )


def score_tables(scores: ScoreComparison) -> list[Table]:
    """Those that are printed: without subsets."""
    summary = summary_table(scores)
    found = [summary] if summary else []
    for scorer in scores.scorers:
        found.append(score_table(scores, scorer))
        if scores.others:
            found += [score_difference_table(scores, scorer), preference_table(scores, scorer)]
    return found


def title(scorer: str, subset: str) -> str:
    return scorer if subset == ALL else f"{scorer}, {subset}"


def trainings(variant: Variant) -> str:
    return str(len(variant.runs)) if variant.first.has_seeds else "none"


def size(scores: ScoreComparison, column: ScoreColumn) -> str:
    """``80 × 1``: of the first scorecard that has it, as all of a fair comparison agree."""
    for record in scores.records:
        cells = [record.cell(column.scorer, category, column.subset) for category in column.categories]
        if all(cells):
            prompts = sum(cell["prompts"] for cell in cells if cell)
            return f"{prompts} × {record.card['images_per_prompt']}"
    return "–"
