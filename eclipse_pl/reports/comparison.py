"""Variants beside a reference, whatever is known of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

from eclipse_pl.reports.fairness import Kind, Problem, problems_of, twice
from eclipse_pl.reports.run_record import RunRecord
from eclipse_pl.reports.run_search import find_runs
from eclipse_pl.reports.variants import Variant, group

Part = TypeVar("Part", bound="Comparison")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything else is computed from the variants when it is asked for."""

    variants: list[Variant]
    reference: Variant
    problems: list[Problem]
    remarks: list[str]

    kind: ClassVar[Kind] = "all"

    @classmethod
    def of(cls, places: list[str], reference: str | None = None, anyway: bool = False) -> Comparison:
        """Read runs and folders of ``benchmark``, group them, and refuse what cannot be compared fairly.

        Raises:
            ValueError: no runs; an unfair comparison without ``anyway``; no variant of the reference's name.
        """
        found, remarks = find_runs(places)
        if anyway and (empty := [run for _, run in found if not (run.has_table or run.scores)]):
            remarks += [
                f"{run} is left out: it has {'no scorecard' if run.is_benchmark else 'not been validated once'}."
                for run in empty
            ]
            found = [(number, run) for number, run in found if run not in empty]
            if not found:
                raise ValueError(f"There is nothing to compare: {remarks[-1]}")
        variants, repeated = group(found)
        runs = [run for variant in variants for run in variant.runs.values()]
        problems = [*problems_of(runs), *(twice(*two) for two in repeated)]
        if problems and not anyway:
            others = f" ({len(problems) - 1} more like this.)" if len(problems) > 1 else ""
            raise ValueError(f"{problems[0].sentence}{others} With --anyway it is compared and marked.")
        return cls(variants, named(variants, reference), problems, remarks)

    @classmethod
    def part_of(cls: type[Part], whole: Comparison) -> Part | None:
        """Those runs that have numbers of this kind; None where none has. Their reference is the whole's if that has them."""
        kept = [{seeds: run for seeds, run in variant.runs.items() if cls.holds(run)} for variant in whole.variants]
        variants = [replace(variant, runs=runs) for variant, runs in zip(whole.variants, kept, strict=True) if runs]
        if not variants:
            return None
        reference = next((variant for variant in variants if variant.name == whole.reference.name), variants[0])
        problems = [problem for problem in whole.problems if problem.kind in ("all", cls.kind)]
        return cls(variants, reference, problems, whole.remarks)

    @classmethod
    def holds(cls, run: RunRecord) -> bool:
        """Whether a run has numbers of this kind."""
        return True

    @property
    def runs(self) -> list[RunRecord]:
        return [run for variant in self.variants for run in variant.runs.values()]

    @property
    def others(self) -> list[Variant]:
        """All variants but the reference."""
        return [variant for variant in self.variants if variant is not self.reference]

    def is_marked(self, variant: Variant) -> bool:
        """True where a run of it could not be compared fairly."""
        return any(problem.run in variant.runs.values() for problem in self.problems)

    def pairs(self, variant: Variant) -> list[tuple[RunRecord, RunRecord]]:
        """Runs of the variant and of the reference with the same seeds of training.

        What has no such seed (a pipeline, a released prior, the upper bound) stands beside every run of the other.
        """
        if variant is self.reference:
            return []
        ours, theirs = variant.runs, self.reference.runs
        return [
            (run, other)
            for seeds, run in ours.items()
            for others, other in theirs.items()
            if seeds == others or not (run.has_seeds and other.has_seeds)
        ]


def named(variants: list[Variant], name: str | None) -> Variant:
    """The reference: the first variant, the one of that name, or the only one whose name contains it."""
    if name is None:
        return variants[0]
    for fits in (lambda variant: variant.name == name, lambda variant: name in variant.name):
        chosen = [variant for variant in variants if fits(variant)]
        if len(chosen) == 1:
            return chosen[0]
    raise ValueError(
        f"--reference {name!r} names {'no variant' if not chosen else 'several variants'}; "
        f"they are: {'; '.join(variant.name for variant in variants)}."
    )
