"""Tables of the priors: a row for each."""

from __future__ import annotations

from collections.abc import Sequence

from eclipse_pl.intervals import NOTHING
from eclipse_pl.reports.tables import decimals_of, estimate_text
from experiments.measured.markdown import estimates_table, markdown
from experiments.measured.runs import BUDGET_DATA, BUDGETS, DETAILS, LABELS, MANY_PASSES, ONLY, REFERENCE, Runs, budget_runs

TRUTH = "true distribution (upper bound)"
PAIRS = [
    ("energy_world", "projection_world"),
    ("energy_world", "flow_x0_world"),
    ("energy_world", "flow_world"),
    ("eclipse_energy_world", "energy_world"),
    ("flow_x0_world", "flow_world"),
]
EFFECTS = {
    "val/energy_score": "energy score (lower is better)",
    "val/frechet": "Fréchet distance (lower is better)",
    "val/mean_cosine": "cosine of a sample",
    "val/R@1": "R@1",
    "val/hard_negative": "binding",
}
GUIDANCE = (1.0, 1.5, 2.0, 4.0)


def count(runs: Runs, prior: str) -> str:
    """The number of seeds, at each detail if it differs."""
    return numbers([len(runs.of(prior, data)) for data in DETAILS])


def numbers(counts: Sequence[int]) -> str:
    """One number where all are equal."""
    return ", ".join(map(str, counts)) if len(set(counts)) > 1 else str(counts[0])


def by_detail(metric: str) -> str:
    """A row for each prior, a column for each detail. The last row has samples of the true distribution for each caption."""
    runs = Runs("detail_world", "detail_sampled_world", "detail_baselines_world")
    table = {prior: [runs.estimate(prior, data, metric) for data in DETAILS] for prior in LABELS}
    counts = {prior: count(runs, prior) for prior in LABELS}
    truth = Runs("detail_truth_world")
    table[TRUTH] = [truth.estimate(ONLY, data, metric.replace("val/", "val/upper_bound/")) for data in DETAILS]
    counts[TRUTH] = count(truth, ONLY)
    decimals = [min(4, decimals_of([row[column] for row in table.values()])) for column in range(len(DETAILS))]
    rows = [
        [LABELS.get(prior, prior), counts[prior], *(estimate_text(*one) for one in zip(row, decimals, strict=True))]
        for prior, row in table.items()
        if any(one.n for one in row)
    ]
    return markdown(["", "n", *(f"detail {detail:g}" for detail in DETAILS.values())], rows)


def differences(metric: str) -> str:
    """A row for each pair of priors, a column for each detail: the first minus the second, by paired seeds."""
    runs = Runs("detail_world", "detail_sampled_world")
    rows = [difference_row(f"{LABELS[one]} minus {LABELS[other]}", runs, one, other, metric) for one, other in PAIRS]
    return markdown(["", *(f"detail {detail:g}" for detail in DETAILS.values())], rows)


def effects(prior: str, reference: str) -> str:
    """A row for each metric, a column for each detail: one prior minus another, by paired seeds."""
    runs = Runs("detail_world", "detail_sampled_world")
    rows = [difference_row(label, runs, prior, reference, metric) for metric, label in EFFECTS.items()]
    return markdown([f"{LABELS[prior]} minus {LABELS[reference]}", *(f"detail {one:g}" for one in DETAILS.values())], rows)


def difference_row(label: str, runs: Runs, prior: str, reference: str, metric: str) -> list[str]:
    found = [runs.difference(prior, data, metric, reference) for data in DETAILS]
    return [label, *(estimate_text(one, decimals_of([one]), sign=True) for one in found)]


def by_budget(metric: str) -> str:
    """A row for each prior that was trained for several numbers of steps, a column for each number."""
    table = {
        prior: [budget_runs(steps).estimate(prior, BUDGET_DATA, metric) for steps in BUDGETS]
        for prior in LABELS
        if budget_runs(BUDGETS[0]).of(prior, BUDGET_DATA)
    }
    decimals = decimals_of([one for row in table.values() for one in row])
    rows = [
        [LABELS[prior], ", ".join(str(one.n) for one in row), *(estimate_text(one, decimals) for one in row)]
        for prior, row in table.items()
    ]
    return markdown(["", "n", *(f"{steps:,} steps" for steps in BUDGETS)], rows)


def by_guidance(metric: str) -> str:
    """A row for each sampled prior and detail, a column for each guidance."""
    runs = [Runs("detail_guidance_world", where={"model.prior.init_args.guidance_scale": str(one)}) for one in GUIDANCE]
    rows = [
        [f"{label}, detail {detail:g}", *(estimate_text(one.estimate(prior, data, metric), 1) for one in runs)]
        for data, detail in DETAILS.items()
        for prior, label in MANY_PASSES.items()
    ]
    return markdown(["", *(f"guidance {one:g}" for one in GUIDANCE)], rows)


STEPS = (1, 2, 4, 8, 25)


def by_steps(metric: str) -> str:
    """A row for each prior and guidance, a column for each number of steps. A prior of one pass has one number."""
    one_pass = Runs("budget_one_pass_world")
    rows = [
        (LABELS[prior], [one_pass.estimate(prior, BUDGET_DATA, metric), *[NOTHING] * (len(STEPS) - 1)]) for prior in LABELS
    ]
    for prior in LABELS:
        for guidance in ("1.0", "2.0"):
            where = {"model.prior.init_args.guidance_scale": guidance}
            runs = [Runs("budget_steps_world", where=where | {"model.prior.init_args.steps": str(steps)}) for steps in STEPS]
            found = [one.estimate(prior, BUDGET_DATA, metric) for one in runs]
            rows.append((f"{LABELS[prior]}, guidance {float(guidance):g}", found))
    return estimates_table("steps", rows, map(str, STEPS))


IMAGES_DATA = ("world", "world_detail_50")
READERS = {"world": "learned decoder", "world_nearest": "nearest scene", "world_nearest_5": "five nearest scenes"}


def of_images(data: str, sweep: str = "detail_images_world") -> str:
    """A row for each prior, a column for each decoder: the oracle's score, mean over categories."""
    read = [read_by(reader, sweep) for reader in READERS]
    table = {prior: [runs.estimate(prior, data, "benchmark/oracle") for runs in read] for prior in LABELS}
    rows = [
        [LABELS[prior], numbers([one.n for one in found]), *(estimate_text(one, 3) for one in found)]
        for prior, found in table.items()
        if any(one.n for one in found)
    ]
    return markdown(["", "n", *READERS.values()], rows)


def differences_of_images(of: Sequence[str] = IMAGES_DATA, sweep: str = "detail_images_world") -> str:
    """A row for each prior, a column for each detail and decoder: the oracle's score minus projection's, seed by seed."""
    columns = [(data, reader) for data in of for reader in READERS]
    found = {
        prior: [read_by(reader, sweep).difference(prior, data, "benchmark/oracle") for data, reader in columns]
        for prior in LABELS
        if prior != REFERENCE
    }
    rows = [
        [f"{LABELS[prior]} minus {LABELS[REFERENCE]}", numbers([one.n for one in cells])]
        + [estimate_text(one, 3, sign=True) for one in cells]
        for prior, cells in found.items()
        if any(one.n for one in cells)
    ]
    return markdown(["", "n", *(f"detail {DETAILS[data]:g}, {READERS[reader]}" for data, reader in columns)], rows)


def read_by(reader: str, sweep: str = "detail_images_world", **where: str) -> Runs:
    """Images of a sweep that were made by one of `READERS`."""
    return Runs(sweep, where={"decoder": f"experiments/parts/decoder/{reader}.yaml"} | where)
