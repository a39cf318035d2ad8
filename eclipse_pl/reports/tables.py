"""Tables in words, for the terminal, for Markdown, for the page: what they are, and those of latent numbers and costs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from eclipse_pl.intervals import RATES, WITHOUT, Estimate
from eclipse_pl.latent_metrics import ALL
from eclipse_pl.reports.comparison import Comparison
from eclipse_pl.reports.costs import Cost
from eclipse_pl.reports.latent_comparison import LatentComparison
from eclipse_pl.reports.metric import WINS, Metric, decimals_of, number
from eclipse_pl.reports.variants import Variant, plain

MARK = "†"


@dataclass(frozen=True)
class Row:
    """``kind`` says how a row is shown: a variant, the reference, a row beside them, or a published one."""

    name: str
    cells: list[str]
    kind: str = "variant"

    @property
    def full_name(self) -> str:
        """Where a row cannot be marked in another way."""
        return f"{self.name} (published)" if self.kind == "published" else self.name


@dataclass(frozen=True)
class Table:
    """Name and cells of each row under a header; ``note`` says how to read it."""

    title: str
    header: list[str]
    rows: list[Row]
    note: str = ""
    hints: list[str] = field(default_factory=list)
    """What a column must not be used for, as far as there is something to say."""


def main_table(comparison: LatentComparison, metrics: tuple[Metric, ...], subset: str = ALL) -> Table:
    """Means over seeds with their intervals, baselines and ridge regression above, the upper bound below."""
    columns = []
    for metric in metrics:
        estimates = [comparison.estimate(variant, metric, subset) for variant in comparison.variants]
        decimals = decimals_of(estimates)
        beside = [
            number(rows[subset][metric.name], decimals) if subset in rows else "–" for rows in comparison.beside.values()
        ]
        columns.append((beside, [plus_minus(one, decimals) for one in estimates]))
    names = list(comparison.beside)
    above = [Row(name, ["", *(beside[at] for beside, _ in columns)], "beside") for at, name in enumerate(names)]
    rows = [
        Row(
            name_of(comparison, variant),
            [str(len(variant.runs)), *(cells[at] for _, cells in columns)],
            kind_of(comparison, variant),
        )
        for at, variant in enumerate(comparison.variants)
    ]
    upper_bound = [row for row in above if row.name.startswith("upper bound")]
    return Table(
        f"Metrics, {subset} pairs" if subset != ALL else "Metrics",
        ["seeds", *(heading(metric.name, metric.better) for metric in metrics)],
        [*(row for row in above if row not in upper_bound), *rows, *upper_bound],
        "Mean over seeds ± half-width of its 95 % t-interval; no ± where there is one seed, or all seeds give the same.",
        ["", *(metric.warning for metric in metrics)],
    )


def heading(name: str, better: str) -> str:
    """A name and which way is better, which stay together."""
    return name + {"higher": "\u00a0↑", "lower": "\u00a0↓", "none": ""}[better]


def difference_table(comparison: LatentComparison, metrics: tuple[Metric, ...], subset: str = ALL) -> Table:
    """Every variant less the reference, by paired seeds."""
    columns = []
    for metric in metrics:
        estimates = [comparison.difference(variant, metric, subset) for variant in comparison.others]
        decimals = decimals_of(estimates)
        columns.append([plus_minus(one, decimals, sign=True) + verdict(one, metric.better) for one in estimates])
    return Table(
        f"Difference from {comparison.reference.name}",
        ["paired seeds", *(heading(metric.name, metric.better) for metric in metrics)],
        [
            Row(
                name_of(comparison, variant),
                [str(len(comparison.pairs(variant))), *(column[at] for column in columns)],
            )
            for at, variant in enumerate(comparison.others)
        ],
        "Mean over paired seeds ± half-width of its 95 % t-interval. ▲ better, ▼ worse, ◆ other: intervals that leave out 0. "
        "No sign: the seeds do not tell the two apart.",
    )


def win_table(comparison: LatentComparison, subset: str = ALL) -> Table:
    """Win rates over pairs and paired seeds."""
    return Table(
        f"Win rate against {comparison.reference.name}",
        ["paired seeds", *WINS],
        [
            Row(
                name_of(comparison, variant),
                [
                    str(len(comparison.pairs(variant))),
                    *(percent(comparison.win_rate(variant, column, subset)) for column in WINS),
                ],
            )
            for variant in comparison.others
        ],
        "Share of pairs that are better than under the reference with the same seed, ties half; brackets: 95 % interval over "
        f"images, with the seeds as they are ({RATES}). Captions of one image are won or lost together.",
    )


def cost_table(comparison: LatentComparison) -> Table:
    rows = []
    for variant in comparison.variants:
        cost = Cost.of(variant)
        passes = "–" if cost.forward_passes is None else str(cost.forward_passes)
        cells = [count(cost.trained_parameters), count(cost.parameters), count(cost.trained_steps), count(cost.samples_seen)]
        cells += [count(cost.train_pairs), span(cost.train_seconds, 0), passes, span(cost.seconds_per_1000, 2)]
        rows.append(Row(name_of(comparison, variant), cells, kind_of(comparison, variant)))
    header = ["trained parameters", "all parameters", "steps", "pairs seen", "distinct pairs", "training, s"]
    machines = "; ".join(dict.fromkeys(Cost.of(variant).machine for variant in comparison.variants))
    return Table(
        "Cost",
        [*header, "forward passes an embedding", "s per 1,000 embeddings"],
        rows,
        f"Times: mean over seeds, and the range; without validation, over all resumes. Measured on: {machines}.",
    )


def settings_table(comparison: Comparison) -> Table:
    """All keys in which configs differ, and each variant's value."""
    keys = list(dict.fromkeys(key for variant in comparison.variants for key in variant.settings))
    return Table(
        "What differs",
        keys,
        [
            Row(
                name_of(comparison, variant),
                [plain(variant.settings[key]) if key in variant.settings else "–" for key in keys],
                kind_of(comparison, variant),
            )
            for variant in comparison.variants
        ],
        "Keys of config.yaml, as on the command line; seeds, and where and how often a run is logged and measured, do not "
        "count. training_data: the shards that were trained on; the hash of their manifest counts, and not their folder.",
    )


def name_of(comparison: Comparison, variant: Variant) -> str:
    return f"{variant.name} {MARK}" if comparison.is_marked(variant) else variant.name


def kind_of(comparison: Comparison, variant: Variant) -> str:
    return "reference" if variant is comparison.reference else "variant"


def plus_minus(estimate: Estimate, decimals: int, sign: bool = False) -> str:
    if not estimate.n:
        return "–"
    text = number(estimate.mean, decimals, sign)
    return f"{text} ± {number(estimate.high - estimate.mean, decimals)}" if estimate.has_interval else text


def estimate_text(estimate: Estimate, decimals: int, over_prompts: bool, sign: bool = False) -> str:
    """``±`` is an interval over seeds of training, ``[low, high]`` one over prompts, ``(too few)`` none of them."""
    if not over_prompts or not estimate.n:
        return plus_minus(estimate, decimals, sign)
    text = number(estimate.mean, decimals, sign)
    if not estimate.has_interval:
        return text + why_none(estimate)
    low, high = (number(bound, decimals, sign) for bound in (estimate.low, estimate.high))
    return f"{text} [{low}, {high}]"


def why_none(estimate: Estimate) -> str:
    """`` (too few)``, where there could be an interval and is none."""
    return f" ({estimate.method})" if estimate.method in WITHOUT else ""


def verdict(difference: Estimate, better: str) -> str:
    if not difference.excludes_zero:
        return ""
    if better == "none":
        return " ◆"
    return " ▲" if (difference.mean > 0) == (better == "higher") else " ▼"


def percent(rate: Estimate) -> str:
    if not rate.n:
        return "–"
    text = f"{100 * rate.mean:.1f} %"
    return f"{text} [{100 * rate.low:.1f}, {100 * rate.high:.1f}]" if rate.has_interval else text + why_none(rate)


def count(value: float | int | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:,.0f}"


def span(values: list[float], decimals: int) -> str:
    """Mean and range."""
    mean = math.fsum(values) / len(values)
    text = number(mean, decimals)
    if len(values) == 1 or math.isnan(mean):
        return text
    return f"{text} ({number(min(values), decimals)} to {number(max(values), decimals)})"


def markdown(table: Table) -> str:
    """As a README has it; the reference's name in italics, a published row marked in words."""
    lines = [["", *table.header], ["---"] * (1 + len(table.header))]
    lines += [
        [f"*{escaped(row.name)}*" if row.kind == "reference" else escaped(row.full_name), *map(escaped, row.cells)]
        for row in table.rows
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("\n", " ")
