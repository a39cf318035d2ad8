"""What may not be concluded from any comparison by seeds, and names in sentences."""

from __future__ import annotations

from eclipse_pl.intervals import t_quantile
from eclipse_pl.reports.comparison import Comparison
from eclipse_pl.reports.run_record import Seeds

NAMED = 6
"""So many variants are named in one sentence; the tables have all."""


def few_seeds(n: int) -> str:
    factor = t_quantile(n - 1)
    return (
        f"n = {n} seeds: the 95 % interval is {factor:.1f} standard errors to each side, and right only if results vary "
        f"normally over seeds, which {n} of them cannot show."
    )


def on_pairing(comparison: Comparison) -> list[str]:
    """Seeds of training that a variant and the reference do not share."""
    said = []
    reference = comparison.reference
    for variant in comparison.others:
        if not (variant.first.has_seeds and reference.first.has_seeds):
            continue
        common = len(comparison.pairs(variant))
        if not common:
            said.append(f"{variant.name} and {reference.name} share no seed: there is no paired difference between them.")
        elif set(variant.runs) != set(reference.runs):
            said.append(
                f"{variant.name} has seeds {enumerate_seeds(list(variant.runs))}, {reference.name} has "
                f"{enumerate_seeds(list(reference.runs))}: their difference is over the {common} in common."
            )
    return said


def on_schedules(comparison: Comparison) -> list[str]:
    """Runs whose learning rate has not come to its end: a prior is ranked by its last steps more than by its first."""
    early = []
    for run in comparison.runs:
        step, length = (run.tested or run).step, run.schedule_steps
        if length is not None and step < length:
            early.append(f"{run} (step {step:,} of {length:,})")
    if not early:
        return []
    return [
        f"The schedule of the learning rate was not finished in {len(early)} of {len(comparison.runs)} runs: "
        f"{enumerate_names(early)}. At its end the order may be another."
    ]


def on_intervals(comparison: Comparison, unclear: list[str], read: int, by: str) -> list[str]:
    """Differences that intervals do not tell from nothing, and how many intervals are read at once."""
    said = []
    if unclear:
        said.append(f"Not told apart from {comparison.reference.name} by {by}: {enumerate_names(unclear)}.")
    if read > 10:
        said.append(
            f"The tables of differences hold {read} intervals, each wrong once in 20: expect about {max(1, round(read / 20))} "
            "to miss by chance."
        )
    return said


def on_sampling(comparison: Comparison) -> list[str]:
    """One sentence for each setting that runs were measured with and not trained with: a sweep of it is many runs."""
    runs = comparison.runs
    changed = {key: [run for run in runs if key in run.resampled] for run in runs for key in run.resampled}
    return [
        f"{key} is that of the measurement, not of training, in {len(those)} of {len(runs)} runs, such as {those[0]} "
        f"(measured with {those[0].resampled[key][0]}, trained with {those[0].resampled[key][1]})."
        for key, those in changed.items()
    ]


def enumerate_names(names: list[str]) -> str:
    rest = len(names) - NAMED
    return "; ".join(names[:NAMED]) + (f"; and {rest} more" if rest > 0 else "")


def enumerate_seeds(seeds: list[Seeds]) -> str:
    """``0, 1, 2``; both where the run's and the data's differ."""
    return ", ".join("/".join(str(part) for part in dict.fromkeys(part for part in one if part is not None)) for one in seeds)
