"""Tables in words, for the terminal, for Markdown and for the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from eclipse_pl.intervals import WITHOUT, Estimate
from eclipse_pl.reports.comparison import Comparison
from eclipse_pl.reports.variants import Variant, plain

if TYPE_CHECKING:
    from rich.console import Console

MARK = "†"

Kind = Literal["variant", "reference", "context", "published"]


@dataclass(frozen=True)
class TableRow:
    """A name and its cells. ``kind``: a variant, the reference, a baseline or bound (context), or a published row."""

    name: str
    cells: list[str]
    kind: Kind = "variant"

    @property
    def full_name(self) -> str:
        """The name with its kind, where a row cannot be marked in another way."""
        return f"{self.name} ({self.kind})" if self.kind in ("published", "reference") else self.name


@dataclass(frozen=True)
class Table:
    """Rows under a header. ``note`` explains how to read them."""

    title: str
    header: list[str]
    rows: list[TableRow]
    note: str = ""
    hints: list[str] = field(default_factory=list)
    """What each column must not be used for; may be empty."""
    is_text: bool = False
    """Whether cells hold words, which are aligned left and may be long."""


def rows_of(comparison: Comparison, variants: Sequence[Variant], columns: Sequence[Sequence[str]]) -> list[TableRow]:
    """A row for each variant. Each column holds a text for each variant."""
    cells = zip(*columns, strict=True)
    return [
        TableRow(name_of(comparison, v), list(own), kind_of(comparison, v)) for v, own in zip(variants, cells, strict=True)
    ]


def estimate_texts(comparison: Comparison, column: Any) -> list[str]:
    """An estimate in words for each variant."""
    estimates = [comparison.estimate(variant, column) for variant in comparison.variants]
    decimals = decimals_of(estimates)
    return [
        estimate_text(one, decimals, len(variant.runs) == 1)
        for one, variant in zip(estimates, comparison.variants, strict=True)
    ]


def difference_texts(comparison: Comparison, column: Any) -> list[str]:
    """A difference in words for each variant but the reference."""
    estimates = [comparison.difference(variant, column) for variant in comparison.others]
    decimals = decimals_of(estimates)
    return [
        estimate_text(one, decimals, len(comparison.pairs(variant)) == 1, sign=True) + verdict(one, column.better)
        for one, variant in zip(estimates, comparison.others, strict=True)
    ]


def paired(comparison: Comparison) -> list[str]:
    """The number of paired trainings of each variant but the reference."""
    return [str(len(comparison.pairs(variant))) for variant in comparison.others]


def name_of(comparison: Comparison, variant: Variant) -> str:
    return f"{variant.name} {MARK}" if comparison.is_marked(variant) else variant.name


def kind_of(comparison: Comparison, variant: Variant) -> Kind:
    if variant is comparison.reference:
        return "reference"
    return "context" if variant.is_upper_bound else "variant"


def settings_table(comparison: Comparison) -> Table | None:
    """All keys in which configs differ, and each variant's value; None where there are no such keys."""
    keys = comparison.keys
    if not keys:
        return None
    columns = [
        [plain(variant.settings[key]) if key in variant.settings else "–" for variant in comparison.variants] for key in keys
    ]
    return Table(
        "What differs",
        keys,
        rows_of(comparison, comparison.variants, columns),
        "Keys of config.yaml, as on the command line. Seeds do not count, nor does where and how often a run is logged and "
        "measured. training_data: the shards of the training; the hash of their manifest counts, and not their folder.",
        is_text=True,
    )


def heading(name: str, better: str) -> str:
    """A name and which way is better, which stay together."""
    return name + {"higher": "\u00a0↑", "lower": "\u00a0↓", "none": ""}[better]


def decimals_of(estimates: Sequence[Estimate]) -> int:
    """Decimals that show two digits of a typical interval's half-width, or three of a typical value where there is none."""
    halves = sorted(one.high - one.mean for one in estimates if one.high - one.mean > 1e-9 * abs(one.mean))
    sizes = sorted(abs(one.mean) for one in estimates if math.isfinite(one.mean) and one.mean)
    if halves:
        digits = 1 - math.floor(math.log10(halves[len(halves) // 2]))
    elif sizes:
        digits = 2 - math.floor(math.log10(sizes[len(sizes) // 2]))
    else:
        digits = 3
    return min(max(digits, 0), 6)


def number(value: float, decimals: int, sign: bool = False) -> str:
    """Grouped by thousands, with a true minus sign; a dash for what cannot be measured."""
    if math.isnan(value):
        return "–"
    value = round(value, decimals) + 0.0  # without the sign of a zero
    return f"{value:{'+' if sign and value else ''},.{decimals}f}".replace("-", "−")


def estimate_text(estimate: Estimate, decimals: int, single: bool = False, sign: bool = False) -> str:
    """``±`` is an interval over trainings; of a ``single`` one ``[low, high]`` is over prompts, ``(too few)`` means none."""
    if not estimate.n:
        return "–"
    text = number(estimate.mean, decimals, sign)
    if not estimate.has_interval:
        return text + why_none(estimate) if single else text
    if not single:
        return f"{text} ± {number(estimate.high - estimate.mean, decimals)}"
    return f"{text} [{number(estimate.low, decimals, sign)}, {number(estimate.high, decimals, sign)}]"


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


def show_tables(console: Console, tables: Sequence[Table]) -> None:
    from rich.padding import Padding
    from rich.table import Table as RichTable
    from rich.text import Text

    for table in tables:
        shown = RichTable(title=Text(table.title), title_justify="left", box=None, caption=Text(table.note))
        shown.caption_justify = "left"
        shown.add_column("", overflow="fold")
        for name in table.header:
            shown.add_column(Text(name), justify="right")
        for row in table.rows:
            style = {"context": "dim", "published": "dim", "reference": "bold"}.get(row.kind)
            shown.add_row(Text(row.full_name), *(Text(text) for text in row.cells), style=style)
        console.print(Padding(shown, (0, 0, 1, 0)))


def show_sentences(console: Console, lists: dict[str, list[str]]) -> None:
    from rich.padding import Padding
    from rich.text import Text

    for title, sentences in lists.items():
        if sentences:
            console.print(Text(title, style="bold"))
        for sentence in sentences:
            console.print(Padding(Text(f"- {sentence}"), (0, 0, 0, 1)))
