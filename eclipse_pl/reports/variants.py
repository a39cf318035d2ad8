"""Runs that differ in nothing but their seeds are one variant, and so is whatever else generates images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from eclipse_pl.dotted_keys import ending_in, flat, shortest, within
from eclipse_pl.reports.run_record import SEEDS, RunRecord, Seeds

NOT_COUNTED = (
    "run", "checkpoint", "latent", "samples", "benchmark", "decoder", "model.log_gradient_norms_every",
    "trainer.logger", "trainer.default_root_dir", "trainer.enable_checkpointing", "trainer.enable_progress_bar",
    "trainer.enable_model_summary", "trainer.enable_autolog_hparams", "trainer.model_registry", "trainer.profiler",
    "trainer.log_every_n_steps", "trainer.num_sanity_val_steps", "trainer.val_check_interval",
    "trainer.check_val_every_n_epoch", "trainer.limit_val_batches", "trainer.limit_test_batches",
    "data.init_args.folder", "data.init_args.workers", "data.init_args.check", "data.init_args.multiprocessing_context",
    "data.init_args.val_batch_size", "data.init_args.cache", "data.init_args.cache_gb", "data.init_args.ahead",
    "data.init_args.connections",
)  # fmt: skip
"""Keys, or groups of keys, of where, how and how often a run is stored, logged and measured. They do not change its result.

The shards of the training, and the shards and pairs of the measurement, are compared by hash instead; the decoder where the
scorecard names it.
"""
TRAINING_DATA = "training_data"
CHECKPOINT = "checkpoint"
"""Stand among the settings of a variant, although they are no keys of a config."""

Named = list[tuple[int, RunRecord]]
"""Each run with the numbers of the arguments that name it."""
Group = tuple[str, Named, dict[str, Any]]
"""Name, runs and settings of a variant."""

ABSENT = object()


@dataclass(frozen=True, eq=False)
class Variant:
    """All runs of one config, by their seeds."""

    name: str
    settings: dict[str, Any]
    """What differs between this variant and others: dotted key and value; a key that it does not have is left out.

    `TRAINING_DATA` and `CHECKPOINT` are no keys of a config. Their values are the names of the shards of the training, and of
    the checkpoint that was measured.
    """
    runs: dict[Seeds, RunRecord]

    @property
    def first(self) -> RunRecord:
        return next(iter(self.runs.values()))

    @property
    def is_upper_bound(self) -> bool:
        """Whether its images are those of the true image embeddings."""
        return self.first.scores is not None and self.first.scores.is_upper_bound


def group(runs: Named, studied: Sequence[str] = ()) -> tuple[list[Variant], list[tuple[RunRecord, RunRecord]]]:
    """Return the variants in the order of the arguments that name them, within one by settings, and pairs of equal runs.

    Of runs with equal config and seeds the one that was measured last is kept: the second of each two. The folder of a
    benchmark gives its scorecard to the run whose prior it tested, if that was named too. The upper bound comes last.

    Args:
        runs: Everything that is compared.
        studied: Keys (`studied_keys`) that every variant has in its name and its settings.
    """
    groups = [
        *by_config([one for one in runs if one[1].config], studied),
        *by_text_to_image([one for one in runs if not one[1].config]),
    ]
    groups.sort(key=lambda one: one[1][0][0])
    words = shortest(dict.fromkeys([*studied, *(key for _, _, settings in groups for key in settings)]))
    variants, twice = [], []
    for name, members, settings in groups:
        own = members[0][1].decoder_settings | members[0][1].config
        added = {key: own[key] for key in studied if key in own}
        parts = [word_of(words[key], value) for key, value in added.items()]
        by_seeds, repeated = one_a_seed([run for _, run in members])
        name = ", ".join([name, *(part for part in parts if part not in name)])
        variants.append(Variant(name, settings | added, by_seeds))
        twice += repeated
    names = numbered([variant.name for variant in variants])
    variants = [replace(variant, name=name) for variant, name in zip(variants, names, strict=True)]
    return sorted(variants, key=lambda variant: variant.is_upper_bound), twice


def studied_keys(runs: Iterable[RunRecord], names: Iterable[str]) -> list[str]:
    """The dotted keys that ``--vary`` names: keys in which the runs differ, their last words, or groups of them.

    Raises:
        ValueError: Decoders and configs do not differ in what is named.
    """
    runs = list(runs)
    decoders = differing([run.decoder_settings for run in runs if run.decoder_settings])
    configs = [
        {key: value for key, value in run.config.items() if not within(key, (*SEEDS, "run", "decoder"))} for run in runs
    ]
    keys = [*decoders, *differing([config for config in configs if config])]
    found = []
    for name in names:
        meant = [key for key in keys if within(key, [name])] or ending_in(name, keys)
        if not meant and name != "decoder":
            choices = f"but in {', '.join(keys)}" if keys else "nor in anything else"
            raise ValueError(
                f"--vary {name}: decoders and configs of the compared runs do not differ in it, {choices}. What runs are "
                "measured on cannot be varied."
            )
        found += meant
    return list(dict.fromkeys(found))


def by_config(runs: Named, studied: Sequence[str]) -> list[Group]:
    """Trained priors, a variant each config; those of one place by their settings."""
    decoders = {canonical(run.decoder_settings) for _, run in runs if run.decoder_settings}
    sets = names_of_sets(run for _, run in runs)
    checkpoints = names_of_checkpoints([run for _, run in runs])
    configs = [
        counted(run.config, studied)
        | {TRAINING_DATA: trained_on(run, sets), CHECKPOINT: checkpoints[run]}
        | (run.decoder_settings if len(decoders) > 1 else {})
        for _, run in runs
    ]
    keys = differing(configs)
    found: dict[tuple[str, ...], Named] = {}
    settings: dict[tuple[str, ...], dict[str, Any]] = {}
    for one, config in zip(runs, configs, strict=True):
        identity = tuple(canonical(config.get(key, ABSENT)) for key in keys)
        found.setdefault(identity, []).append(one)
        settings.setdefault(identity, {key: config[key] for key in keys if key in config})
    order = sorted(found, key=lambda identity: (found[identity][0][0], [rank(settings[identity].get(key)) for key in keys]))
    names = names_of([settings[identity] for identity in order])
    if len(order) == 1:
        names = [" + ".join(dict.fromkeys(str(run.config.get("run.experiment")) for _, run in runs))]
    return [(name, found[identity], settings[identity]) for identity, name in zip(order, names, strict=True)]


def by_text_to_image(runs: Named) -> list[Group]:
    """Pipelines, released priors, the upper bound: by name, and with their options if two have the same name."""
    found: dict[str, Named] = {}
    for number, run in runs:
        found.setdefault(canonical(run.scores.text_to_image) if run.scores else str(run), []).append((number, run))
    records = [members[0][1] for members in found.values()]
    names = [run.scores.name if run.scores else str(run) for run in records]
    options = [
        {key: value for key, value in flat(run.scores.text_to_image).items() if key != TRAINING_DATA} if run.scores else {}
        for run in records
    ]
    for name in {name for name in names if names.count(name) > 1}:
        same = [at for at, other in enumerate(names) if other == name]
        for at, what in zip(same, names_of([options[at] for at in same]), strict=True):
            names[at] = f"{name} ({what})"
    return [(name, members, {}) for name, members in zip(names, found.values(), strict=True)]


def one_a_seed(runs: list[RunRecord]) -> tuple[dict[Seeds, RunRecord], list[tuple[RunRecord, RunRecord]]]:
    """The run of each seed, with the scorecard that the folder of a benchmark has of it; and runs that are one run twice."""
    kept: dict[tuple[bool, Seeds], RunRecord] = {}
    repeated: list[tuple[RunRecord, Seeds]] = []
    for run in sorted(runs, key=lambda one: (rank(list(one.seeds)), measured_at(one))):
        if earlier := kept.get((run.is_benchmark, run.seeds)):
            repeated.append((earlier, run.seeds))
        kept[run.is_benchmark, run.seeds] = run
    by_seeds: dict[Seeds, RunRecord] = {}
    for is_benchmark, seeds in sorted(kept, key=lambda key: (rank(list(key[1])), key[0])):
        run = kept[is_benchmark, seeds]
        by_seeds[seeds] = replace(by_seeds[seeds], scores=run.scores) if seeds in by_seeds else run
    return by_seeds, [(earlier, by_seeds[seeds]) for earlier, seeds in repeated]


def counted(config: dict[str, Any], studied: Sequence[str] = ()) -> dict[str, Any]:
    """The settings that affect the result, without seeds, and the settings that are studied."""
    return {key: value for key, value in config.items() if key in studied or not within(key, (*SEEDS, *NOT_COUNTED))}


def differing(configs: list[dict[str, Any]]) -> list[str]:
    """Keys that do not have one value in all configs, in the order of the configs."""
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if len({canonical(config.get(key, ABSENT)) for config in configs}) > 1]


def names_of(settings: list[dict[str, Any]]) -> list[str]:
    """A name for each variant: the settings with several values, by the shortest keys that are unambiguous.

    ``contrastive_weight=0.2`` for ``model.prior.init_args.contrastive_weight``; a class has its own name. Settings that
    some lack are left out where the rest is enough to distinguish the variants.
    """
    keys = list(dict.fromkeys(key for one in settings for key in one))
    varied = [key for key in keys if len({canonical(one[key]) for one in settings if key in one}) > 1]
    for chosen in (varied, keys):
        words = shortest(chosen)
        names = [", ".join(word_of(words[key], one[key]) for key in chosen if key in one) or "defaults" for one in settings]
        if len(set(names)) == len(names):
            return names
    return numbered(names)


def numbered(names: list[str]) -> list[str]:
    """The names, each with a number if two are equal."""
    return names if len(set(names)) == len(names) else [f"{name} ({number + 1})" for number, name in enumerate(names)]


def word_of(key: str, value: Any) -> str:
    if key.split(".")[-1] == "class_path" and isinstance(value, str):
        return value.split(".")[-1]
    return f"{key}={plain(value)}"


def plain(value: Any) -> str:
    """As YAML writes it, in one line."""
    return value if isinstance(value, str) else json.dumps(value)


def canonical(value: Any) -> str:
    """Equal for equal values: 1 and 1.0 are one."""
    if value is ABSENT:
        return "absent"
    return repr(float(value)) if isinstance(value, (int, float)) and not isinstance(value, bool) else json.dumps(value)


def rank(value: Any) -> list[tuple[int, float, str]]:
    """Sorts numbers by size before words, item by item in lists; what is not there comes first."""
    if isinstance(value, list):
        return [item for one in value for item in rank(one)]
    if value is None:
        return [(0, 0.0, "")]
    if isinstance(value, (int, float)):
        return [(1, float(value), "")]
    return [(2, 0.0, plain(value))]


def measured_at(run: RunRecord) -> float:
    path = run.folder / ("scorecard.json" if run.is_benchmark else "latent.json")
    return path.stat().st_mtime if path.is_file() else 0.0


def names_of_sets(runs: Iterable[RunRecord]) -> dict[str, str]:
    """{sha256 of the manifest: name} of every set that one of the runs was trained on.

    A set is named by its folder, in the last words that no other folder ends in. The same content in two folders is one set,
    and has the name of the folder that comes first; digits of the hash distinguish two sets of one folder.
    """
    folders: dict[str, tuple[str, ...]] = {}
    for run in runs:
        for one in run.training_data:
            folders.setdefault(one["sha256"], PurePath(one["folder"]).parts)
    held = list(folders.values())
    return {
        sha256: ending(words, held) + (f" (sha256 {sha256[:8]}…)" if held.count(words) > 1 else "")
        for sha256, words in folders.items()
    }


def names_of_checkpoints(runs: Sequence[RunRecord]) -> dict[RunRecord, str]:
    """{run: name of the checkpoint that was measured}, ``last`` or ``best``.

    Seeds of one variant may have their best after different steps, so a name has its step only where several checkpoints of
    this name were measured of one training.
    """
    steps: dict[tuple[str, Path, bool], set[int]] = {}
    for run in runs:
        training = run.tested.folder if run.tested else run.training
        found = steps.setdefault((run.checkpoint, training.resolve(), run.is_benchmark), set())
        if run.measured_step is not None:
            found.add(run.measured_step)
    several = {name for (name, _, _), found in steps.items() if len(found) > 1}
    return {
        run: f"{run.checkpoint}-step={run.measured_step}"
        if run.checkpoint in several and run.measured_step is not None
        else run.checkpoint
        for run in runs
    }


def ending(words: tuple[str, ...], all_words: list[tuple[str, ...]]) -> str:
    others = [other for other in all_words if other != words]
    fitting = (n for n in range(1, len(words)) if all(other[-n:] != words[-n:] for other in others))
    return str(PurePath(*words[-next(fitting, len(words)) :]))


def trained_on(run: RunRecord, names: dict[str, str]) -> str:
    """``coco/shards``; several if it was resumed on others."""
    return ", then ".join(names[one["sha256"]] for one in run.training_data) or "unknown"
