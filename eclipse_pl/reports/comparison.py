"""Variants against a reference, whatever is known of them; and the search for their runs."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from glob import glob, has_magic
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from eclipse_pl.intervals import Estimate
from eclipse_pl.reports.fairness import Kind, Problem, problems_of, twice
from eclipse_pl.reports.run_record import RunRecord
from eclipse_pl.reports.variants import Variant, group, studied_keys

Part = TypeVar("Part", bound="Comparison")


@dataclass(frozen=True, eq=False)
class Comparison:
    """The variants of a comparison. Numbers are computed from them when they are asked for."""

    variants: list[Variant]
    reference: Variant
    problems: list[Problem]
    remarks: list[str]
    studied: Sequence[str] = ()
    """Dotted keys that were named as what is studied."""

    kinds: ClassVar[tuple[Kind, ...]] = ()
    """The numbers that it holds; problems of other numbers do not concern it."""

    @classmethod
    def of(cls, places: list[str], reference: str | None = None, anyway: bool = False, vary: Sequence[str] = ()) -> Comparison:
        """Read runs and folders of ``benchmark``, group them, and refuse what cannot be compared fairly.

        Args:
            places: Folders of runs, folders above them, or globs.
            reference: A variant's name, or a part of it; the first variant if not given.
            anyway: Compare, and mark, what cannot be compared fairly.
            vary: Keys that are studied, such as ``decoder.guidance``: see `studied_keys`.

        Raises:
            ValueError: There are no runs; the comparison is unfair, without ``anyway``; no variant has the reference's name.
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
        studied = studied_keys((run for _, run in found), vary)
        variants, repeated = group(found, studied)
        runs = [run for variant in variants for run in variant.runs.values()]
        problems = [*problems_of(runs, studied), *(twice(*two) for two in repeated)]
        if problems and not anyway:
            others = f" ({len(problems) - 1} more like this.)" if len(problems) > 1 else ""
            raise ValueError(f"{problems[0].sentence}{others} With --anyway it is compared and marked.")
        return cls(variants, named(variants, reference), problems, remarks, studied)

    @classmethod
    def part_of(cls: type[Part], whole: Comparison) -> Part | None:
        """The runs that have numbers of this kind; None where none has. The reference stays, if it has such numbers."""
        kept = [{seeds: run for seeds, run in variant.runs.items() if cls.holds(run)} for variant in whole.variants]
        variants = [replace(variant, runs=runs) for variant, runs in zip(whole.variants, kept, strict=True) if runs]
        if not variants:
            return None
        reference = next((variant for variant in variants if variant.name == whole.reference.name), variants[0])
        problems = [problem for problem in whole.problems if problem.kind in ("all", *cls.kinds)]
        return cls(variants, reference, problems, whole.remarks, whole.studied)

    @classmethod
    def holds(cls, run: RunRecord) -> bool:
        """Whether a run has numbers of this kind."""
        return True

    @property
    def runs(self) -> list[RunRecord]:
        return [run for variant in self.variants for run in variant.runs.values()]

    @property
    def keys(self) -> list[str]:
        """All dotted keys in which variants differ."""
        return list(dict.fromkeys(key for variant in self.variants for key in variant.settings))

    @property
    def others(self) -> list[Variant]:
        """All variants but the reference."""
        return [variant for variant in self.variants if variant is not self.reference]

    def is_marked(self, variant: Variant) -> bool:
        """Whether a run of it could not be compared fairly."""
        return any(run in variant.runs.values() for problem in self.problems for run in problem.runs)

    def values(self, variant: Variant, column: Any) -> list[float]:
        """Those of the single trainings."""
        raise NotImplementedError

    def estimate(self, variant: Variant, column: Any) -> Estimate:
        """Mean over seeds of training."""
        raise NotImplementedError

    def difference(self, variant: Variant, column: Any) -> Estimate:
        """The variant minus the reference, by paired seeds of training; `NOTHING` where they share no seed."""
        raise NotImplementedError

    def over(self, variant: Variant, column: Any) -> str:
        """What `estimate` counts: ``seeds`` of training, or what the interval of a single training is over."""
        return "seeds"

    def difference_over(self, variant: Variant, column: Any) -> str:
        """What `difference` counts: ``seeds`` of paired trainings, or what the interval of a single pair is over."""
        return "seeds"

    def win_rate(self, variant: Variant, column: Any) -> Estimate:
        """How often a pair or image is better than under the reference with the same seed; `NOTHING` where not known."""
        raise NotImplementedError

    def pairs(self, variant: Variant) -> list[tuple[RunRecord, RunRecord]]:
        """Runs of the variant and of the reference with the same seeds of training.

        What has no such seed (a pipeline, a released prior, the upper bound) pairs with every run of the other side.
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


def find_runs(places: list[str]) -> tuple[list[tuple[int, RunRecord]], list[str]]:
    """Every run once, with the number of the place that names it; and remarks on what is left out, or not known.

    Where a place holds training runs, its runs of ``validate`` and ``test`` are left out. Folders of ``benchmark`` are not.

    Raises:
        ValueError: A place does not exist, cannot be read or holds no run.
    """
    found: dict[Path, tuple[int, RunRecord]] = {}
    remarks = []
    for number, place in enumerate(places):
        try:
            runs = [RunRecord.read(one) if is_run(one) else RunRecord.of_benchmark(one) for one in folders_of(place)]
        except OSError as error:
            raise ValueError(f"Cannot read {error.filename or place} ({error.strerror}).") from error
        measures = [run for run in runs if run.measures_only]
        if measures and any(not (run.measures_only or run.is_benchmark) for run in runs):
            remarks.append(
                f"{len(measures)} runs of validate or test in {place} are left out, because it holds training runs too; name "
                "them to compare them."
            )
            runs = [run for run in runs if run not in measures]
        for run in runs:
            found.setdefault(run.folder.resolve(), (number, run))
    remarks += [
        f"{run.stranger} So the config, seeds and costs of its training are not known."
        for _, run in found.values()
        if run.stranger
    ]
    return list(found.values()), remarks


def folders_of(place: str) -> list[Path]:
    """Folders of runs at, below, or matched by a place."""
    path = Path(place)
    if path.exists():
        if not path.is_dir():
            raise ValueError(
                f"{place} is no folder. Name folders of runs, a folder above them such as runs/quickstart, or a glob in "
                "quotes."
            )
        folders = list(walk(path))
        if not folders:
            raise ValueError(
                f"{place} holds no run: neither it nor any folder below it has a config.yaml or a scorecard.json."
            )
        return folders
    if has_magic(place):
        matches = sorted((Path(match) for match in glob(place, recursive=True)), key=natural)
        folders = [folder for match in matches if match.is_dir() for folder in walk(match)]
        if not folders:
            raise ValueError(
                f"{place} matches no run ({len(matches)} files or folders match, none with a config.yaml or a scorecard.json)."
            )
        return folders
    near = path.parent.iterdir() if path.parent.is_dir() else []
    names = difflib.get_close_matches(place, [str(child) for child in near if child.is_dir()], n=3, cutoff=0.3)
    raise ValueError(f"There is no {place}." + (f" Near it: {', '.join(names)}." if names else ""))


def walk(folder: Path) -> Iterator[Path]:
    """Folders of runs and benchmarks at and below a folder, in natural order; none of them is searched for others."""
    if is_run(folder) or any((folder / name).is_file() for name in ("benchmark.json", "scorecard.json")):
        yield folder
        return
    for child in sorted((child for child in folder.iterdir() if child.is_dir()), key=natural):
        yield from walk(child)


def is_run(folder: Path) -> bool:
    return (folder / "config.yaml").is_file()


def natural(path: Path) -> list[Any]:
    """``version_10`` after ``version_9``."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", str(path)) if part]
