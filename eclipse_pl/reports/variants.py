"""Runs that differ in nothing but their seeds are one variant."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from eclipse_pl.reports.run_record import SEEDS, RunRecord, Seeds

NOT_COUNTED = (
    "run", "checkpoint", "latent", "samples", "benchmark", "model.log_gradient_norms_every",
    "trainer.logger", "trainer.default_root_dir", "trainer.enable_checkpointing", "trainer.enable_progress_bar",
    "trainer.enable_model_summary", "trainer.enable_autolog_hparams", "trainer.model_registry", "trainer.profiler",
    "trainer.log_every_n_steps", "trainer.num_sanity_val_steps", "trainer.val_check_interval",
    "trainer.check_val_every_n_epoch", "trainer.limit_val_batches", "trainer.limit_test_batches",
    "data.init_args.folder", "data.init_args.workers", "data.init_args.check", "data.init_args.multiprocessing_context",
    "data.init_args.val_batch_size",
)  # fmt: skip
"""Keys, or groups of keys, that say where, how and how often a run is stored, logged and measured, and not what it computes.

Which shards and which pairs were measured is looked at by hash instead.
"""

ABSENT = object()


@dataclass(frozen=True, eq=False)
class Variant:
    """All runs of one config, by their seeds."""

    name: str
    settings: dict[str, Any]
    """What differs between this variant and others: dotted key and value; a key that it does not have is left out."""
    runs: dict[Seeds, RunRecord]

    @property
    def first(self) -> RunRecord:
        return next(iter(self.runs.values()))


def group(runs: list[tuple[int, RunRecord]]) -> tuple[list[Variant], list[tuple[RunRecord, RunRecord]]]:
    """Variants in the order they were named in, those of one place by their settings; and runs that are one run twice.

    Of runs with equal config and seeds the one that was measured last is kept: the second of each two.
    """
    configs = [counted(run.config) for _, run in runs]
    keys = differing(configs)
    found: dict[tuple[str, ...], list[tuple[int, RunRecord]]] = {}
    for (number, run), config in zip(runs, configs, strict=True):
        found.setdefault(tuple(canonical(config.get(key, ABSENT)) for key in keys), []).append((number, run))
    settings = {
        identity: {key: members[0][1].config[key] for key in keys if key in members[0][1].config}
        for identity, members in found.items()
    }
    order = sorted(found, key=lambda identity: (found[identity][0][0], [rank(settings[identity].get(key)) for key in keys]))
    names = names_of([settings[identity] for identity in order])
    if len(order) == 1:
        names = [" + ".join(dict.fromkeys(str(run.config.get("run.experiment")) for _, run in runs))]
    variants, twice = [], []
    for identity, name in zip(order, names, strict=True):
        by_seeds: dict[Seeds, RunRecord] = {}
        for _, run in sorted(found[identity], key=lambda member: (rank(list(member[1].seeds)), measured_at(member[1]))):
            if run.seeds in by_seeds:
                twice.append((by_seeds[run.seeds], run))
            by_seeds[run.seeds] = run
        variants.append(Variant(name, settings[identity], by_seeds))
    return variants, twice


def counted(config: dict[str, Any]) -> dict[str, Any]:
    """What a run computes, but for its seeds."""
    left_out = (*SEEDS, *NOT_COUNTED)
    return {
        key: value for key, value in config.items() if not any(key == name or key.startswith(f"{name}.") for name in left_out)
    }


def differing(configs: list[dict[str, Any]]) -> list[str]:
    """Keys that do not have one value in all configs, in the order of the configs."""
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if len({canonical(config.get(key, ABSENT)) for config in configs}) > 1]


def names_of(settings: list[dict[str, Any]]) -> list[str]:
    """A name for each variant: the settings in which those differ that have them, in the shortest words that are clear.

    ``contrastive_weight=0.2`` for ``model.prior.init_args.contrastive_weight``; a class goes by its own name. Settings that
    some lack are left out where the rest tells the variants apart.
    """
    keys = list(dict.fromkeys(key for one in settings for key in one))
    varied = [key for key in keys if len({canonical(one[key]) for one in settings if key in one}) > 1]
    for chosen in (varied, keys):
        words = shortest(chosen)
        names = [", ".join(word_of(words[key], one[key]) for key in chosen if key in one) or "defaults" for one in settings]
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({number + 1})" for number, name in enumerate(names)]


def shortest(keys: Iterable[str]) -> dict[str, str]:
    """The fewest last words of each dotted key that no other key ends in; ``init_args`` is no word of its own."""
    words = {key: [word for word in key.split(".") if word != "init_args"] for key in keys}

    def short(key: str) -> str:
        for count in range(1, len(words[key]) + 1):
            ending = words[key][-count:]
            if sum(other[-count:] == ending for other in words.values()) == 1:
                return ".".join(ending)
        return key

    return {key: short(key) for key in words}


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
    path = run.folder / "latent.json"
    return path.stat().st_mtime if path.is_file() else 0.0
