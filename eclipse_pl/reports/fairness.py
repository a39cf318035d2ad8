"""Which runs may stand in one table.

Latent tables must be of the same pairs, in the same space, by the same metrics, and tables of distributions of the same number
of samples; scorecards of the same prompts and seeds, by
the same decoder and the same scorers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

from eclipse_pl.dotted_keys import flat
from eclipse_pl.reports.remedies import finish, measure_again, measure_on_one_set
from eclipse_pl.reports.run_record import RunRecord

Kind = Literal["all", "latent", "distribution", "scores"]
DISTANCES = {"fid": "FID", "cmmd": "CMMD", "fd_dinov2": "FD-DINOv2"}
"""Title of each measure that has a protocol of its own."""
NAMED = 3
"""Other runs that a sentence names."""


@dataclass(frozen=True)
class Problem:
    """Why runs cannot be compared fairly. ``runs`` are marked where the comparison is made anyway."""

    runs: list[RunRecord]
    reason: str
    """A sentence, on the first run."""
    kind: Kind = "all"
    """Which of its numbers are concerned."""
    remedy: str = ""
    """For whoever compares; may be empty."""

    @property
    def sentence(self) -> str:
        return joined(self.reason, self.remedy, self.others)

    @property
    def for_readers(self) -> str:
        """The sentence for a reader of tables, who cannot repair them."""
        return joined(self.reason, self.others)

    @property
    def others(self) -> str:
        """A sentence on the other runs that have the problem; empty where there are none."""
        if not (others := [str(run) for run in self.runs[1:]]):
            return ""
        named = ", ".join(others[:NAMED]) + (", ..." if len(others) > NAMED else "")
        return f"The same holds for {len(others)} more run{'s' * (len(others) > 1)}: {named}."


@dataclass(frozen=True)
class Check:
    """A value that must be equal, and the words for it where it is not."""

    what: str
    value: Callable[[RunRecord], Any]
    words: Callable[[RunRecord, RunRecord], str]
    """The first run's value, in words that tell it from the second's."""
    remedy: Callable[[RunRecord, RunRecord], str] = lambda one, other: ""
    concerns: Callable[[RunRecord, RunRecord], bool] = lambda one, other: True
    """Whether the two must agree in this at all."""


def space_of(run: RunRecord) -> str:
    space = run.fact("shards", "space")
    if not space:
        return "unknown"
    conditions = f", conditions {space['condition_dim']} wide" if "condition_dim" in space else ""
    return f"{space['name']} ({space['encoder']}, {space['dim']} wide{conditions})"


def pairs_of(run: RunRecord) -> str:
    return f"{run.fact('pairs')} pairs of {run.fact('stage')}, {short(run.fact('pairs_sha256'))}"


def shards_of(run: RunRecord) -> str:
    return f"{run.fact('shards', 'folder')}, {short(run.fact('shards', 'sha256'))}"


LATENT = (
    Check(
        "other metrics",
        lambda run: run.fact("metrics_version"),
        lambda run, _: f"version {run.fact('metrics_version')}",
        remedy=lambda _, run: measure_again(run.measurement),
    ),
    Check("another CLIP space", lambda run: run.fact("shards", "space"), lambda run, _: space_of(run)),
    Check(
        "other shards",
        lambda run: run.fact("shards", "sha256"),
        lambda run, _: shards_of(run),
        remedy=lambda _, run: measure_on_one_set(run.measurement),
    ),
    Check("other pairs", lambda run: (run.fact("stage"), run.fact("pairs_sha256")), lambda run, _: pairs_of(run)),
)

DISTRIBUTIONS = (
    Check(
        "another number of samples a caption",
        lambda run: run.samples,
        lambda run, _: str(run.samples),
        remedy=lambda one, run: measure_again(run.measurement, f"--latent.samples={one.samples}"),
    ),
)


def card(run: RunRecord, name: str) -> Any:
    return run.scored.card.get(name)


def prompts_of(run: RunRecord) -> str:
    prompts = card(run, "prompts")
    return f"{prompts.get('name')}, {prompts.get('count')} prompts, {short(prompts['sha256'])}"


def differing_words(value: Callable[[RunRecord], Any]) -> Callable[[RunRecord, RunRecord], str]:
    """The settings that the other run does not have: ``steps 20, guidance 7.5``."""
    return lambda run, other: (
        ", ".join(f"{key} {one}" for key, one in unlike(value(run), value(other)).items()) or "nothing more"
    )


def unlike(ours: Any, theirs: Any) -> dict[str, Any]:
    """Settings that are missing in the other group, or have another value there."""
    ours, theirs = flat(ours), flat(theirs)
    return {key: value for key, value in ours.items() if theirs.get(key, ()) != value}


def same_space(one: RunRecord, other: RunRecord) -> bool:
    """Decoders of one space could have been the same. Those of two spaces could not, and a whole pipeline has its own."""
    ours, theirs = one.scored, other.scored
    return ours.decoder is not None and theirs.decoder is not None and ours.space == theirs.space


def distance_check(name: str, title: str) -> Check:
    """Distances of the same extractor, to the same reference, of the same number of images."""

    def protocol(run: RunRecord) -> Any:
        return (card(run, "distribution") or {}).get("protocol", {}).get(name, {})

    def both_have_it(one: RunRecord, other: RunRecord) -> bool:
        return all(name in (card(run, "distribution") or {}) for run in (one, other))

    return Check(f"another protocol of {title}", protocol, differing_words(protocol), concerns=both_have_it)


def score_checks(studied: Collection[str]) -> tuple[Check, ...]:
    """``studied`` settings of decoders may differ."""

    def decoder_of(run: RunRecord) -> dict[str, Any]:
        return {key.removeprefix("decoder."): one for key, one in run.decoder_settings.items() if key not in studied}

    def vary(one: RunRecord, other: RunRecord) -> str:
        keys = dict.fromkeys([*unlike(decoder_of(one), decoder_of(other)), *unlike(decoder_of(other), decoder_of(one))])
        return f"If you study this difference, name it: --vary {','.join(f'decoder.{key}' for key in keys)}."

    return (
        Check("other prompts", lambda run: card(run, "prompts")["sha256"], lambda run, _: prompts_of(run)),
        Check(
            "another number of images a prompt",
            lambda run: card(run, "images_per_prompt"),
            lambda run, _: str(card(run, "images_per_prompt")),
        ),
        Check("other seeds of the images", lambda run: card(run, "seed"), lambda run, _: f"{card(run, 'seed')} and on"),
        Check("other scorers", lambda run: card(run, "scorers"), differing_words(lambda run: card(run, "scorers"))),
        Check("another decoder", decoder_of, differing_words(decoder_of), vary, same_space),
        *(distance_check(name, title) for name, title in DISTANCES.items()),
    )


def problems_of(runs: list[RunRecord], studied: Collection[str] = ()) -> list[Problem]:
    """One for each run that is unfinished or has no record of what it was measured on, and for each difference from the sound
    runs, which several seeds of a variant may share.

    Latent tables and scorecards are checked apart: a run may have the one, the other, or both.
    """
    found, measured = [], []
    for run in runs:
        if reason := run.unfinished:
            found.append(Problem([run], f"{run} {reason}.", remedy=continue_with(run)))
        elif run.has_table and not run.fact("shards", "sha256"):
            reason = f"{run} does not record on which shards, split and version of metrics it was measured."
            found.append(Problem([run], reason, "latent", measure_again(run.measurement)))
        elif run.has_table:
            measured.append(run)
    return [
        *found,
        *unequal(measured, LATENT, "latent"),
        *unequal([run for run in measured if run.samples is not None], DISTRIBUTIONS, "distribution"),
        *unequal([run for run in runs if run.scores], score_checks(studied), "scores"),
    ]


def unequal(runs: list[RunRecord], checks: tuple[Check, ...], kind: Kind) -> list[Problem]:
    """A problem of the first check in which a run differs from the sound runs before it. Equal differences share one."""
    found: dict[tuple[str, ...], Problem] = {}
    sound: list[RunRecord] = []
    for run in runs:
        for check in checks:
            first = next((other for other in sound if check.concerns(other, run)), None)
            if first is not None and check.value(first) != check.value(run):
                ours, theirs = check.words(first, run), check.words(run, first)
                reason = (
                    f"{first} and {run} cannot be compared fairly, because they were measured with {check.what}: "
                    f"{ours} against {theirs}."
                )
                problem = Problem([], reason, kind, check.remedy(first, run))
                found.setdefault((str(first), check.what, ours, theirs), problem).runs.append(run)
                break
        else:
            sound.append(run)
    return list(found.values())


def joined(*sentences: str) -> str:
    return " ".join(filter(None, sentences))


def twice(first: RunRecord, second: RunRecord) -> Problem:
    what = "the same config with the same seeds, which is one run and not two seeds"
    if not second.has_seeds:
        what = "of the same text-to-image model"
    return Problem([second], f"{first} and {second} are {what}.", remedy="Name one of them.")


def continue_with(run: RunRecord) -> str:
    if run.is_benchmark:
        return "Start its command again: it continues where it stopped."
    return finish(run.folder)


def short(digest: str | None) -> str:
    return "unknown" if digest is None else f"sha256 {digest[:8]}…"
