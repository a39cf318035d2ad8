"""What may not be concluded from scores of images, in sentences for whoever reads their table."""

from __future__ import annotations

from typing import Any

from eclipse_pl.reports.published import COMPBENCH, WHY_THEY_DIFFER, published_tables
from eclipse_pl.reports.score_comparison import ScoreComparison
from eclipse_pl.reports.seed_caveats import enumerate_names, few_seeds, on_intervals, on_pairing, on_sampling
from eclipse_pl.reports.variants import Variant

TEXT_AS_IMAGE = "TextAsImagePrior"


def score_caveats(scores: ScoreComparison) -> list[str]:
    """The most important first; each holds for this comparison."""
    return [
        *on_trainings(scores),
        *on_systems(scores),
        *on_pairing(scores),
        *on_differences(scores),
        *on_images(scores),
        *on_steps(scores),
        *on_scope(scores),
        *on_sampling(scores),
    ]


def on_trainings(scores: ScoreComparison) -> list[str]:
    """What the intervals are over."""
    single = [variant for variant in scores.variants if scores.over_prompts(variant)]
    trained = [variant.name for variant in single if variant.first.has_seeds]
    several = [len(variant.runs) for variant in scores.variants if not scores.over_prompts(variant)]
    said = []
    if trained:
        said.append(
            f"n = 1 training ({enumerate_names(trained)}): [brackets] are 95 % intervals over prompts, with the weights as "
            "they are. Another seed of training may give another score."
        )
    if untrained := [variant.name for variant in single if not variant.first.has_seeds]:
        said.append(f"{enumerate_names(untrained)}: nothing was trained here, and [brackets] are intervals over prompts.")
    if several and min(several) < 5:
        said.append(f"Scores over trainings (±), {few_seeds(min(several))}")
    return said


def on_systems(scores: ScoreComparison) -> list[str]:
    """More than one decoder: spaces differ, or a pipeline has its own."""
    systems: dict[str, list[str]] = {}
    for variant in scores.variants:
        decoder = variant.first.scored.decoder
        told = "as a whole pipeline" if decoder is None else f"with {words(decoder)}"
        systems.setdefault(told, []).append(variant.name)
    if len(systems) == 1:
        return []
    which = "; ".join(f"{enumerate_names(names)} {told}" for told, names in systems.items())
    return [
        "Whole systems stand beside each other here, not priors alone: a difference may be that of decoders, of their steps "
        f"or of their CLIPs. They generate: {which}."
    ]


def on_differences(scores: ScoreComparison) -> list[str]:
    """Of the means over categories, or of the only category."""
    unclear, read = [], 0
    for variant in scores.others:
        of_scorers = {}
        for scorer in scores.scorers:
            columns = scores.columns(scorer)
            known = [scores.difference(variant, column) for column in columns]
            read += sum(one.has_interval for one in known)
            if known and known[-1].has_interval:
                of_scorers[scorer] = known[-1]
        names = [scorer for scorer, difference in of_scorers.items() if not difference.excludes_zero]
        if names:
            unclear.append(f"{variant.name} ({'all scorers' if len(names) == len(scores.scorers) else ', '.join(names)})")
    return on_intervals(scores, unclear, read, "the mean over categories")


def on_images(scores: ScoreComparison) -> list[str]:
    """Scorecards beside that of the run, images that could not be scored, and rows that are not there."""
    said = []
    for run in scores.runs:
        record = run.scored
        if not record.folder.is_relative_to(run.folder) and (run.folder / "scorecard.json").is_file():
            said.append(f"The scores of {run} are those of {record}, which was named too, and not of its own scorecard.json.")
        if record.card.get("failed"):
            said.append(
                f"{record.card['failed']} of {record.card['images']} images in {record} could not be scored: they are left "
                "out of means, and their pairs out of win rates."
            )
        if record.rows is None:
            said.append(f"{record} has no rows.jsonl of its scorecard: there are no win rates with it, and no images of it.")
    return said


def on_steps(scores: ScoreComparison) -> list[str]:
    """Scorecards of another step than that of the run's end."""
    said = []
    for run in scores.runs:
        generated = run.scored.card.get("step")
        trained = run.fact("trained_steps") or run.fact("step")
        if generated is not None and trained is not None and generated != trained:
            said.append(f"The scorecard of {run} is that of step {generated}; it was trained to step {trained}.")
    return said


def on_scope(scores: ScoreComparison) -> list[str]:
    card = scores.records[0].card
    said = []
    if card["prompts"].get("name") == COMPBENCH:
        if card["images_per_prompt"] != 10:
            said.append(
                f"{card['images_per_prompt']} image(s) of each prompt: T2I-CompBench's own scores are means over 10, of 300 "
                "prompts a category."
            )
        if not any(generates_text(variant) for variant in scores.variants):
            said.append(
                "Nothing here decodes the text embedding itself. It scores high on T2I-CompBench although its images are "
                "poor (arXiv 2511.20821): without that baseline a gain may be a drift towards the text."
            )
    if published_tables(scores):
        said.append(WHY_THEY_DIFFER)
    if len(scores.scorers) > 1:
        said.append("Scorers measure different things on different scales: hold numbers of one scorer beside each other only.")
    return [*said, f"All of it holds for these {card['prompts'].get('count')} prompts as these scorers see them."]


def generates_text(variant: Variant) -> bool:
    return str(variant.first.scored.text_to_image.get("class", "")).endswith(TEXT_AS_IMAGE)


def words(decoder: dict[str, Any]) -> str:
    """``KandinskyDecoder (model kandinsky-2-2-decoder, steps 50, guidance 7.5)``."""
    options = ", ".join(f"{key} {value}" for key, value in decoder.items() if key != "class" and value is not None)
    return f"{decoder.get('class', 'a decoder')} ({options})"
