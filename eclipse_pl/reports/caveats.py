"""What may not be concluded from a comparison, in sentences for the reader of its tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from eclipse_pl.intervals import LEAST, TOO_FEW, Estimate, t_quantile
from eclipse_pl.latent.metrics import ALL
from eclipse_pl.reports.comparison import Comparison
from eclipse_pl.reports.latent_comparison import LatentComparison, machine_of
from eclipse_pl.reports.metrics import METRICS, Metric
from eclipse_pl.reports.published import COMPBENCH, WHY_THEY_DIFFER, published_tables
from eclipse_pl.reports.report import Report
from eclipse_pl.reports.run_record import RunRecord, Seeds
from eclipse_pl.reports.score_comparison import ScoreComparison
from eclipse_pl.reports.variants import Variant, names_of_sets, trained_on

TITLE = "What may not be concluded"
TEXT_AS_IMAGE = "TextAsImagePrior"
NAMED = 6
"""Variants that one sentence names; the tables have all."""


def caveats(report: Report) -> dict[str, list[str]]:
    """{title: sentences}, the most important first: of scores and of latent metrics apart, where there are both."""
    found = {}
    if report.scores is not None:
        found["from the scores of images"] = score_caveats(report.scores)
    if report.latent is not None:
        found["from the latent metrics"] = [*latent_caveats(report.latent, report.metrics), *on_distributions(report)]
    first = next(iter(found))
    found[first] = [
        *on_schedules(report.comparison),
        *on_checkpoints(report.comparison),
        *on_training_data(report.comparison),
        *on_teachers(report.comparison),
        *on_lengths(report.comparison),
        *found[first],
        *report.comparison.remarks,
    ]
    return {f"{TITLE} {what}" if len(found) > 1 else TITLE: sentences for what, sentences in found.items()}


def latent_caveats(latent: LatentComparison, metrics: Sequence[Metric]) -> list[str]:
    return [
        *on_seeds(latent),
        *on_pairing(latent),
        *on_latent_differences(latent, metrics),
        *on_missing_numbers(latent),
        *on_costs(latent),
        *on_latent_scope(latent),
        *on_sampling(latent),
    ]


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


# Of both


def on_schedules(comparison: Comparison) -> list[str]:
    """A prior is ranked by its last steps more than by its first."""
    early = []
    for run in comparison.runs:
        measured = run.measured_step
        step, length = (run.tested or run).step if measured is None else measured, run.schedule_steps
        if length is not None and step < length:
            early.append(f"{run} (step {step:,} of {length:,})")
    if not early:
        return []
    return [
        f"The schedule of the learning rate was not finished in {len(early)} of {len(comparison.runs)} runs: "
        f"{enumerate_names(early)}. The order of the variants may differ at its end."
    ]


def on_checkpoints(comparison: Comparison) -> list[str]:
    """Seeds of a variant that were measured after different numbers of steps, such as each at its best."""
    steps = {
        variant.name: {step for run in variant.runs.values() if (step := run.measured_step) is not None}
        for variant in comparison.variants
    }
    return [
        f"The seeds of {name} were measured after different numbers of training steps, {min(those):,} to {max(those):,}."
        for name, those in steps.items()
        if len(those) > 1
    ]


def on_training_data(comparison: Comparison) -> list[str]:
    """Runs that learned from different pairs, or from pairs that are not known."""
    trained = [run for run in comparison.runs if run.has_seeds]
    names = names_of_sets(trained)
    sets: dict[str, list[str]] = {}
    for run in trained:
        sets.setdefault(trained_on(run, names), []).append(str(run))
    if len(sets) < 2:
        return []
    which = [f"{name} ({len(runs)} of {len(trained)} runs, such as {runs[0]})" for name, runs in sets.items()]
    return [f"Training data were not equal: {enumerate_names(which)}. A difference may be that of the data."]


def on_lengths(comparison: Comparison) -> list[str]:
    """Variants that saw different numbers of pairs, as far as these were logged."""
    seen = [[run.total("samples_seen") for run in variant.runs.values()] for variant in comparison.variants]
    means = sorted(mean for samples in seen if not math.isnan(mean := math.fsum(samples) / len(samples)))
    if not means or means[0] == means[-1]:
        return []
    return [f"Training was not equally long: the variants saw {means[0]:,.0f} to {means[-1]:,.0f} pairs."]


def on_teachers(comparison: Comparison) -> list[str]:
    """Runs that learned from the samples of another prior, and not from embeddings of images."""
    taught: dict[str, list[str]] = {}
    for run in comparison.runs:
        for teacher in dict.fromkeys(one["teacher"] for one in run.training_data if "teacher" in one):
            taught.setdefault(teacher, []).append(str(run))
    return [
        f"{len(names)} of {len(comparison.runs)} runs were trained on the samples of {teacher}, and not on embeddings of "
        f"images: {enumerate_names(names)}. They learn the errors of that prior too."
        for teacher, names in taught.items()
    ]


def on_pairing(comparison: Comparison) -> list[str]:
    """Seeds of training that a variant and the reference do not share."""
    found = []
    reference = comparison.reference
    for variant in comparison.others:
        if not (variant.first.has_seeds and reference.first.has_seeds):
            continue
        common = len(comparison.pairs(variant))
        if not common:
            found.append(f"{variant.name} and {reference.name} share no seed: there is no paired difference between them.")
        elif set(variant.runs) != set(reference.runs):
            found.append(
                f"{variant.name} has seeds {enumerate_seeds(list(variant.runs))}, {reference.name} has "
                f"{enumerate_seeds(list(reference.runs))}: their difference is over the {common} in common."
            )
    return found


def on_differences(
    comparison: Comparison, differences: Callable[[Variant], dict[str, Estimate]], everything: str, by: str, read: int
) -> list[str]:
    """Differences whose intervals hold 0, and the number of intervals that are read at once."""
    found, unclear = [], []
    for variant in comparison.others:
        known = differences(variant)
        names = [name for name, one in known.items() if one.has_interval and not one.excludes_zero]
        if names:
            unclear.append(f"{variant.name} ({everything if len(names) == len(known) else ', '.join(names)})")
    if unclear:
        found.append(f"Not separated from {comparison.reference.name} by {by}: {enumerate_names(unclear)}.")
    if read > 10:
        found.append(
            f"The tables of differences hold {read} intervals, each at 95 %: expect about {max(1, round(read / 20))} "
            "to miss the true value by chance."
        )
    return found


def on_sampling(comparison: Comparison) -> list[str]:
    """A sentence for each setting with which runs were measured and not trained, unless it is what is studied."""
    runs = comparison.runs
    changed = {key: [run for run in runs if key in run.resampled] for run in runs for key in run.resampled}
    return [
        f"{key} is that of the measurement, not of training, in {len(those)} of {len(runs)} runs, such as {those[0]} "
        f"(measured with {those[0].resampled[key][0]}, trained with {those[0].resampled[key][1]})."
        for key, those in changed.items()
        if key not in comparison.studied
    ]


def few_seeds(n: int) -> str:
    return (
        f"n = {n} seeds: the 95 % interval is {t_quantile(n - 1):.1f} standard errors to each side, and right only if results "
        f"vary normally over seeds, which {n} of them cannot show."
    )


def enumerate_names(names: list[str]) -> str:
    rest = len(names) - NAMED
    return "; ".join(names[:NAMED]) + (f"; and {rest} more" if rest > 0 else "")


def enumerate_seeds(seeds: list[Seeds]) -> str:
    """``0, 1, 2``; both where the run's and the data's differ."""
    return ", ".join("/".join(str(part) for part in dict.fromkeys(part for part in one if part is not None)) for one in seeds)


# Of latent numbers


def on_seeds(latent: LatentComparison) -> list[str]:
    counts = {variant.name: len(variant.runs) for variant in latent.variants}
    single = [name for name, count in counts.items() if count == 1]
    several = [count for count in counts.values() if count > 1]
    found = []
    if single:
        which = "every row" if len(single) == len(counts) else enumerate_names(single)
        found.append(f"n = 1 seed ({which}): no interval. A difference from such a row may be the luck of one seed.")
    if several and min(several) < 5:
        found.append(few_seeds(min(several)))
    return found


def on_latent_differences(latent: LatentComparison, metrics: Sequence[Metric], everything: str = "all metrics") -> list[str]:
    def differences(variant: Variant) -> dict[str, Estimate]:
        return {metric.name: latent.difference(variant, metric) for metric in metrics if metric.better != "none"}

    read = sum(one.has_interval for variant in latent.others for one in differences(variant).values())
    return on_differences(latent, differences, everything, "these seeds", read)


def on_missing_numbers(latent: LatentComparison) -> list[str]:
    """Metrics that are no numbers although they can be measured here."""
    bound = latent.context.get("upper bound", {}).get(ALL, {})

    def missing(run: RunRecord, metric: Metric) -> bool:
        return math.isnan(latent.value(run, metric)) and not math.isnan(bound.get(metric.name, 0.0))

    found = {run: [metric.name for metric in METRICS if missing(run, metric)] for run in latent.runs}
    return [
        f"{run} has no number for {', '.join(names)}: its variant has none either." for run, names in found.items() if names
    ]


def on_costs(latent: LatentComparison) -> list[str]:
    found = []
    machines = dict.fromkeys(machine_of(run) for run in latent.runs)
    if len(machines) > 1:
        found.append(
            f"Times were measured on {len(machines)} machines or settings ({'; '.join(machines)}): do not compare them."
        )
    for run in latent.runs:
        trained = run.fact("trained_steps")
        if trained is not None and trained > run.step:
            found.append(
                f"{run} was measured after step {run.step} and trained to step {trained}: its last steps are not measured."
            )
    return found


def on_latent_scope(latent: LatentComparison) -> list[str]:
    pairs = latent.reference.first.fact("pairs")
    found = [f"All of it holds for {f'these {pairs:,} pairs' if pairs else 'this split'}, and not for other data."]
    if latent.others and max(len(variant.runs) for variant in latent.variants) > 1:
        found.append(
            "Intervals of means and differences are over training seeds, those of win rates over images with fixed seeds."
        )
    return [*found, "These metrics are of embeddings. Only a decoder and scorers can show whether images get better."]


def on_distributions(report: Report) -> list[str]:
    """Runs that the tables of distributions lack, and what their metrics do not say."""
    if (distribution := report.distribution) is None or report.latent is None:
        return []
    runs = report.latent.runs
    without = [str(run) for run in runs if run.samples is None]
    found = on_latent_differences(distribution, report.sampled, "all metrics of samples")
    if without:
        found.append(
            f"{len(without)} of {len(runs)} runs were measured without latent.samples, and are not in the tables of "
            f"distributions: {enumerate_names(without)}."
        )
    if math.isclose(distribution.context.get("upper bound", {}).get(ALL, {}).get("spread", 0.0), 0.0, abs_tol=1e-6):
        found.append(
            "The upper bound of distributions is the true image itself: no prior reaches its energy score of 0, because a "
            "caption does not determine its image, and a spread of 0 is not a goal."
        )
    return found


# Of scores


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
    if untrained := [variant.name for variant in single if not variant.first.has_seeds]:
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
