"""What may not be concluded from the scores of images."""

from __future__ import annotations

from collections.abc import Sequence

from eclipse_pl.intervals import LEAST, TOO_FEW, Estimate
from eclipse_pl.reports.caveats.common import enumerate_names, few_seeds, on_differences, on_pairing, on_sampling
from eclipse_pl.reports.published import COMPBENCH, WHY_THEY_DIFFER, published_tables
from eclipse_pl.reports.run_record import RunRecord
from eclipse_pl.reports.score_comparison import ScoreComparison
from eclipse_pl.reports.variants import Variant

TEXT_AS_IMAGE = "TextAsImagePrior"


def score_caveats(scores: ScoreComparison) -> list[str]:
    return [
        *on_trainings(scores),
        *on_systems(scores),
        *on_captions(scores),
        *on_pairing(scores),
        *on_few_prompts(scores),
        *on_score_differences(scores),
        *on_images(scores),
        *on_steps(scores),
        *on_score_scope(scores),
        *on_sampling(scores),
    ]


def on_trainings(scores: ScoreComparison) -> list[str]:
    """What the intervals are over."""
    single = [variant for variant in scores.variants if len(variant.runs) == 1]
    several = [len(variant.runs) for variant in scores.variants if len(variant.runs) > 1]
    found = []
    if trained := [variant.name for variant in single if variant.first.has_seeds]:
        found.append(
            f"n = 1 training ({enumerate_names(trained)}): [brackets] are 95 % intervals over prompts, with the weights as "
            "they are. Another seed of training may give another score."
        )
    if untrained := [one.name for one in single if not (one.first.has_seeds or one.first.stranger)]:
        found.append(f"{enumerate_names(untrained)}: nothing was trained here, and [brackets] are intervals over prompts.")
    if several and min(several) < 5:
        found.append(f"Scores over trainings (±), {few_seeds(min(several))}")
    return found


def on_systems(scores: ScoreComparison) -> list[str]:
    """More than one decoder, apart from the settings that are studied: spaces differ, or a pipeline has its own."""
    systems: dict[str, list[str]] = {}
    for variant in scores.variants:
        systems.setdefault(decoder_words(variant.first, scores.studied), []).append(variant.name)
    if len(systems) == 1:
        return []
    which = "; ".join(f"{enumerate_names(names)} {words}" for words, names in systems.items())
    return [
        "Whole systems are compared here, not priors alone: a difference may be that of decoders, of their steps or of their "
        f"CLIPs. They generate: {which}."
    ]


def on_captions(scores: ScoreComparison) -> list[str]:
    """Decoders that read the caption draw it even where the prior's embedding does not hold it."""
    readers = [one.name for one in scores.variants if one.first.decoder_settings.get("decoder.reads_caption")]
    if not readers:
        return []
    return [
        f"The decoder of {enumerate_names(readers)} reads the captions too, so these scores are not those of the prior alone."
    ]


def decoder_words(run: RunRecord, studied: Sequence[str] = ()) -> str:
    """``with KandinskyDecoder (model kandinsky-2-2-decoder, steps 50, guidance 7.5)``."""
    if run.scored.decoder is None:
        return "as a whole pipeline"
    settings = {key.removeprefix("decoder."): value for key, value in run.decoder_settings.items() if key not in studied}
    options = ", ".join(f"{key} {value}" for key, value in settings.items() if key != "class" and value is not None)
    return f"with {settings.get('class', 'a decoder')} ({options})"


def on_few_prompts(scores: ScoreComparison) -> list[str]:
    """Scores of a single training that have no interval over prompts."""
    few = [
        variant.name
        for variant in scores.variants
        if any(scores.estimate(variant, column).method == TOO_FEW for column in scores.all_columns)
    ]
    if not few:
        return []
    return [
        f"Too few prompts for an interval in some scores of {enumerate_names(few)}: scores other than 0 and 1 need {LEAST}. "
        "Other prompts may give other scores."
    ]


def on_score_differences(scores: ScoreComparison) -> list[str]:
    """Of the means over categories, or of the only category."""
    columns = {scorer: columns for scorer in scores.scorers if (columns := scores.columns(scorer))}

    def differences(variant: Variant) -> dict[str, Estimate]:
        return {scorer: scores.difference(variant, first) for scorer, (first, *_) in columns.items()}

    each = [column for of_scorer in columns.values() for column in of_scorer]
    read = sum(scores.difference(variant, column).has_interval for variant in scores.others for column in each)
    return on_differences(scores, differences, "all scorers", "the mean over categories", read)


def on_images(scores: ScoreComparison) -> list[str]:
    """Scorecards other than that of the run, images that could not be scored, and scores of images that are missing."""
    found = []
    for run in scores.runs:
        record = run.scored
        if not record.folder.is_relative_to(run.folder) and (run.folder / "scorecard.json").is_file():
            found.append(f"The scores of {run} are those of {record}, which was named too, and not of its own scorecard.json.")
        if record.card.get("failed"):
            found.append(
                f"{record.card['failed']} of {record.card['images']} images in {record} could not be scored: they are left "
                "out of means, and their pairs out of win rates."
            )
        if record.images is None:
            found.append(f"{record} has no rows.jsonl of its scorecard: there are no win rates with it, and no images of it.")
    return found


def on_steps(scores: ScoreComparison) -> list[str]:
    """Scorecards of another step than that of the run's end."""
    found = []
    for run in scores.runs:
        generated, training = run.scored.step, run.tested or run
        trained = training.fact("trained_steps") or training.fact("step")
        if generated is not None and trained is not None and generated != trained:
            found.append(f"The scorecard of {run} is that of step {generated}; it was trained to step {trained}.")
    return found


def on_score_scope(scores: ScoreComparison) -> list[str]:
    card = scores.records[0].card
    found = []
    if card["prompts"].get("name") == COMPBENCH:
        if card["images_per_prompt"] != 10:
            found.append(
                f"{card['images_per_prompt']} image(s) of each prompt: T2I-CompBench's own scores are means over 10, of 300 "
                "prompts a category."
            )
        if not any(str(record.text_to_image.get("class", "")).endswith(TEXT_AS_IMAGE) for record in scores.records):
            found.append(
                "No variant decodes the text embedding itself. It scores high on T2I-CompBench although its images are poor "
                "(arXiv 2511.20821): without that baseline a gain may be a drift towards the text."
            )
    if published_tables(scores):
        found.append(WHY_THEY_DIFFER)
    if len(scores.scorers) > 1:
        found.append("Scorers measure different things on different scales: compare numbers of one scorer only.")
    return [*found, f"All of it holds for these {card['prompts'].get('count')} prompts as these scorers see them."]
