"""Tables and plots of what was measured on the world, from the files in results/; the tables stand in README.md.

    python -m experiments.measured
    python -m experiments.measured --check

The first form draws the plots and puts the tables into README.md; the second writes nothing, and fails where README.md has
another table. Run it in the folder of the project.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable

from eclipse_pl.files import write_atomically
from experiments.measured import runs
from experiments.measured.contrastive_tables import (
    by_batch,
    by_hard_negatives,
    by_pairs,
    by_relative_weight,
    by_target_and_temperature,
)
from experiments.measured.plots import PLOTS
from experiments.measured.prior_tables import (
    by_budget,
    by_detail,
    by_guidance,
    by_steps,
    differences,
    differences_of_images,
    effects,
    of_images,
)
from experiments.measured.real_pairs_tables import by_split, differences_by_split
from experiments.measured.target_tables import by_target

TABLES: dict[str, Callable[[], str]] = {
    "differences, energy score": lambda: differences("val/energy_score"),
    "the contrastive term": lambda: effects("eclipse_world", "projection_world"),
    "the contrastive term beside an energy score": lambda: effects("eclipse_energy_world", "energy_world"),
    "detail, energy score": lambda: by_detail("val/energy_score"),
    "detail, cosine": lambda: by_detail("val/mean_cosine"),
    "detail, spread": lambda: by_detail("val/spread"),
    "detail, variance ratio": lambda: by_detail("val/variance_ratio"),
    "detail, Fréchet distance": lambda: by_detail("val/frechet"),
    "guidance, energy score": lambda: by_guidance("val/energy_score"),
    "budget, energy score": lambda: by_budget("val/energy_score"),
    "budget, cosine": lambda: by_budget("val/mean_cosine"),
    "budget, Fréchet distance": lambda: by_budget("val/frechet"),
    "relative weight": by_relative_weight,
    "hard negatives": by_hard_negatives,
    "batches": by_batch,
    "target and temperature": by_target_and_temperature,
    "few pairs": by_pairs,
    "images, detail 1": lambda: of_images("world"),
    "images, detail 0.5": lambda: of_images("world_detail_50"),
    "images, differences": differences_of_images,
    "images, vague prompts": lambda: of_images("world_detail_50", "detail_vague_world"),
    "images, vague prompts, differences": lambda: differences_of_images(["world_detail_50"], "detail_vague_world"),
    "images, 8,000 steps": lambda: of_images("world_detail_50", "budget_images_world"),
    "steps, energy score": lambda: by_steps("val/energy_score"),
    "steps, Fréchet distance": lambda: by_steps("val/frechet"),
    "targets": by_target,
    "real pairs": by_split,
    "real pairs, differences": differences_by_split,
}
"""{name in README.md: its table}"""


def with_tables(text: str) -> str:
    """The text of README.md with every table between its two marks.

    Raises:
        ValueError: A table has no place in the text, or the text has a place for a table that is none.
    """
    found = re.findall(r"<!-- table: (.+?) -->", text)
    if sorted(found) != sorted(TABLES):
        raise ValueError(f"README.md has places for the tables {', '.join(found) or 'none'}; there are {', '.join(TABLES)}.")
    for name, table in TABLES.items():
        pattern = rf"<!-- table: {re.escape(name)} -->\n.*?\n<!-- end -->"
        before, after = re.split(pattern, text, maxsplit=1, flags=re.DOTALL)
        text = f"{before}<!-- table: {name} -->\n{table()}\n<!-- end -->{after}"
    return text


def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.measured", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where README.md has another table")
    options = parser.parse_args(args)
    readme = runs.HERE / "README.md"
    text = readme.read_text()
    tables = with_tables(text)
    if options.check:
        if tables != text:
            raise ValueError("README.md has other tables than results/. Run python -m experiments.measured.")
        return
    write_atomically(readme, tables.encode())
    for name, plot in PLOTS.items():
        plot(runs.HERE / "results" / name)
        print(runs.HERE / "results" / name, file=sys.stderr)


if __name__ == "__main__":
    main()
