"""Tables of the contrastive term: a row for each metric that it may change."""

from __future__ import annotations

from collections.abc import Sequence

from eclipse_pl.intervals import Estimate
from experiments.measured.markdown import estimates_table
from experiments.measured.runs import BUDGET_DATA, DETAILS, ONLY, Runs

OPTIONS = "model.prior.init_args"
WEIGHTS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
HARD, HARD_WEIGHTS = f"{OPTIONS}.hard_negatives", (0.0, 0.03, 0.3, 3.0)
MASKED, GROUPED = f"{OPTIONS}.mask_duplicates", "data.init_args.group_by_length"
BATCHES = {
    "batches of one length": {MASKED: "False", GROUPED: "True"},
    "batches of one length, equal captions are no negatives": {MASKED: "True", GROUPED: "True"},
    "batches of all lengths": {MASKED: "False", GROUPED: "False"},
    "batches of all lengths, equal captions are no negatives": {MASKED: "True", GROUPED: "False"},
}
TEMPERATURES = (0.01, 0.03, 0.07, 0.1)
CONTRASTED = ("text", "image", "symmetric")
PAIRS, PAIRS_WEIGHTS = (200, 600, 2000, 20000), {"without": "0.0", "with": "0.3"}
WEIGHED = {
    "val/cosine": "cosine",
    "val/centred_cosine": "centred cosine",
    "val/R@1": "R@1",
    "val/hard_negative": "binding",
}
"""Metrics that a contrastive term may change."""


def by_relative_weight() -> str:
    """A row for each detail and metric, a column for each relative weight of the contrastive term."""
    rows = [
        (f"{label}, detail {detail:g}", weighed("relative_weight_world", data, metric, WEIGHTS))
        for data, detail in DETAILS.items()
        for metric, label in WEIGHED.items()
    ]
    return weight_table(rows, WEIGHTS)


def by_hard_negatives() -> str:
    """A row for each metric without and with hard negatives, a column for each relative weight."""
    rows = [
        (
            f"{label}, {how} hard negatives",
            weighed("contrastive_hard_world", BUDGET_DATA, metric, HARD_WEIGHTS, **{HARD: value}),
        )
        for metric, label in (WEIGHED | {"val/energy_score": "energy score"}).items()
        for how, value in {"without": "False", "with": "True"}.items()
    ]
    return weight_table(rows, HARD_WEIGHTS)


def weighed(sweep: str, data: str, metric: str, weights: Sequence[float], **where: str) -> list[Estimate]:
    """Mean over seeds for each relative weight."""
    runs = [Runs(sweep, where={"model.prior.init_args.relative_weight": str(weight)} | where) for weight in weights]
    return [one.estimate(ONLY, data, metric) for one in runs]


def weight_table(rows: Sequence[tuple[str, Sequence[Estimate]]], weights: Sequence[float]) -> str:
    return estimates_table("relative weight", rows, [f"{weight:g}" for weight in weights])


def by_batch() -> str:
    """A row for each kind of batch and of negatives, a column for each metric."""
    rows = [
        (how, [Runs("contrastive_batch_world", where=where).estimate(ONLY, BUDGET_DATA, metric) for metric in WEIGHED])
        for how, where in BATCHES.items()
    ]
    return estimates_table("", rows, WEIGHED.values())


def by_target_and_temperature() -> str:
    """A row for each metric and target, a column for each temperature; last, two that are learned from the ends."""
    learned = [
        Runs("contrastive_learned_world", where={f"{OPTIONS}.temperature": str(one)})
        for one in (TEMPERATURES[0], TEMPERATURES[-1])
    ]
    rows = []
    for metric, label in WEIGHED.items():
        for target in CONTRASTED:
            fixed = [
                Runs("contrastive_target_world", where={f"{OPTIONS}.target": target, f"{OPTIONS}.temperature": str(one)})
                for one in TEMPERATURES
            ]
            runs = [*fixed, *(learned if target == "text" else [Runs()] * len(learned))]
            rows.append((f"{label}, {target}", [one.estimate(ONLY, BUDGET_DATA, metric) for one in runs]))
    return estimates_table(
        "temperature", rows, [*map(str, TEMPERATURES), f"learned from {TEMPERATURES[0]}", f"learned from {TEMPERATURES[-1]}"]
    )


def by_pairs() -> str:
    """A row for each metric without and with the contrastive term, a column for each number of training pairs."""
    rows = [
        (
            f"{label}, {how}",
            [
                Runs(
                    "contrastive_pairs_world",
                    where={f"{OPTIONS}.relative_weight": weight, "data.init_args.pairs": str(pairs)},
                ).estimate(ONLY, BUDGET_DATA, metric)
                for pairs in PAIRS
            ],
        )
        for metric, label in (WEIGHED | {"val/energy_score": "energy score"}).items()
        for how, weight in PAIRS_WEIGHTS.items()
    ]
    return estimates_table("training pairs", rows, [f"{pairs:,}" for pairs in PAIRS])
