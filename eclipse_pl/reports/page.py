"""One HTML page of a comparison: a single file without scripts, fonts or pictures from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from importlib.resources import files
from string import Template

from eclipse_pl.latent_metrics import ALL
from eclipse_pl.reports.caveats import caveats, enumerate_seeds
from eclipse_pl.reports.comparison import Comparison
from eclipse_pl.reports.html_parts import box, html_table, note, section, tabs
from eclipse_pl.reports.metric import Metric
from eclipse_pl.reports.page_figures import final_charts, learning_curves
from eclipse_pl.reports.tables import Row, Table, cost_table, difference_table, main_table, settings_table, win_table

Section = Callable[[Comparison, tuple[Metric, ...]], str]


def write_page(comparison: Comparison, metrics: tuple[Metric, ...], command: str) -> str:
    """The page. Everything that comes from configs and folders is escaped."""
    template = Template(files("eclipse_pl.reports").joinpath("page.html").read_text(encoding="utf-8"))
    variants = len(comparison.variants)
    return template.substitute(
        title=f"Comparison of {variants} variants" if variants > 1 else "One variant beside floors and ceiling",
        facts=facts(comparison),
        body="\n".join(text for section in SECTIONS if (text := section(comparison, metrics))),
        footer=f"Written by <code>{escape(command)}</code>.",
    )


def facts(comparison: Comparison) -> str:
    """What was compared, in a line."""
    first = comparison.reference.first
    seeds = sorted({len(variant.runs) for variant in comparison.variants})
    steps = sorted({run.step for run in comparison.runs})
    counted = " or ".join(map(str, seeds)) + (" seed" if seeds == [1] else " seeds")
    pairs = first.fact("pairs")
    parts = [
        f"<b>{plural(len(comparison.runs), 'run')}</b>: {plural(len(comparison.variants), 'variant')} of {counted}",
        f"<b>{pairs:,} pairs</b> of the {escape(str(first.fact('stage')))} split" if pairs else "",
        f"shards <b>{escape(str(first.fact('shards', 'folder') or first.config.get('data.init_args.folder')))}</b>",
        f"space <b>{escape(str((first.fact('shards', 'space') or {}).get('name', 'unknown')))}</b>",
        f"after {' to '.join(f'{step:,}' for step in dict.fromkeys((steps[0], steps[-1])))} steps",
        f"reference <b>{escape(comparison.reference.name)}</b>" if comparison.others else "",
    ]
    return " · ".join(part for part in parts if part)


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def unfairness(comparison: Comparison, metrics: tuple[Metric, ...]) -> str:
    if not comparison.problems:
        return ""
    return box("Not a fair comparison: rows marked † are here by --anyway", [p.sentence for p in comparison.problems], "warn")


def limits(comparison: Comparison, metrics: tuple[Metric, ...]) -> str:
    return box("What may not be concluded", caveats(comparison, metrics))


def final_metrics(comparison: Comparison, metrics: tuple[Metric, ...]) -> str:
    return html_table(main_table(comparison, metrics))


def differences(comparison: Comparison, metrics: tuple[Metric, ...]) -> str:
    if not comparison.others:
        return ""
    parts = [html_table(difference_table(comparison, metrics)), html_table(win_table(comparison))]
    return section(f"Against the reference, {comparison.reference.name}", "".join(parts))


def subsets(comparison: Comparison, metrics: tuple[Metric, ...]) -> str:
    panels = {
        subset: html_table(main_table(comparison, metrics, subset))
        + (html_table(difference_table(comparison, metrics, subset)) if comparison.others else "")
        for subset in comparison.subsets
        if subset != ALL
    }
    if not panels:
        return ""
    return section(
        "Subsets of the split", tabs("subsets", panels) + note("Retrieval of every subset searches the whole split.")
    )


def costs(comparison: Comparison, metrics: tuple[Metric, ...]) -> str:
    return section("Cost", html_table(cost_table(comparison)))


def configs(comparison: Comparison, metrics: tuple[Metric, ...]) -> str:
    rows = [
        Row(str(run), [variant.name, enumerate_seeds([seeds]), f"{run.step:,}"])
        for variant in comparison.variants
        for seeds, run in variant.runs.items()
    ]
    runs = html_table(Table("run", ["variant", "seed", "step"], rows))
    listed = f"<details><summary>The {len(rows)} runs</summary>{runs}</details>"
    if not comparison.others:
        return section("Runs", listed)
    return section("What differs", html_table(settings_table(comparison), "text") + listed)


SECTIONS: tuple[Section, ...] = (
    unfairness,
    limits,
    final_metrics,
    final_charts,
    differences,
    learning_curves,
    subsets,
    costs,
    configs,
)
"""In order. One with nothing to show returns "" and leaves no trace; pictures side by side will be one more."""
