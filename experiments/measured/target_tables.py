"""A table of the targets: raw, standardised and whitened embeddings."""

from __future__ import annotations

from eclipse_pl.intervals import Estimate
from eclipse_pl.reports.tables import decimals_of, estimate_text
from experiments.measured.markdown import markdown
from experiments.measured.prior_tables import IMAGES_DATA, READERS, read_by
from experiments.measured.runs import DETAILS, LABELS, Runs

TARGETS = {"none": "raw", "diagonal": "standardised", "full": "whitened"}
USUAL = {"projection_world": "none", "energy_world": "none", "diffusion_world": "diagonal", "flow_x0_world": "diagonal"}
"""{prior: its target in detail_world and detail_sampled_world, which the sweeps of whitening do not train again}"""
METRICS = {
    "val/energy_score": "energy score",
    "val/frechet": "Fréchet distance",
    "val/mean_cosine": "cosine of a sample",
    "val/R@1": "R@1",
}
SEED = "0"


def by_target() -> str:
    """A row for each detail, prior and target; columns of embeddings, then the oracle's score by each reading of images."""
    found = {
        (data, prior, target): [
            *(trained(prior, target).estimate(prior, data, metric) for metric in METRICS),
            *(drawn(prior, target, reader).estimate(prior, data, "benchmark/oracle") for reader in READERS),
        ]
        for data in IMAGES_DATA
        for prior in USUAL
        for target in TARGETS
    }
    known: dict[tuple[str, str, str], list[Estimate]] = {
        row: cells for row, cells in found.items() if any(one.n for one in cells)
    }
    decimals = [decimals_of(column) for column in zip(*known.values(), strict=True)]
    rows = [
        [f"{LABELS[prior]}, {TARGETS[target]}, detail {DETAILS[data]:g}", *map(estimate_text, cells, decimals)]
        for (data, prior, target), cells in known.items()
    ]
    return markdown(["", *METRICS.values(), *(READERS[reader] for reader in READERS)], rows)


def trained(prior: str, target: str) -> Runs:
    if target == USUAL[prior]:
        return Runs("detail_world", "detail_sampled_world", where={"seed_everything": SEED})
    where = {"seed_everything": SEED, "model.prior.init_args.standardise": target}
    return Runs("whitening_world", "whitening_sampled_world", where=where)


def drawn(prior: str, target: str, reader: str) -> Runs:
    if target == USUAL[prior]:
        return read_by(reader, seed_everything=SEED)
    return read_by(reader, "whitening_images_world", seed_everything=SEED, standardise=target)
