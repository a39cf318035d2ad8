"""T2I-CompBench's protocol for any prompts, text-to-image model and scorers. It shards over ranks and resumes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from eclipse_pl.compbench.claim import claim, make_room
from eclipse_pl.compbench.distribution import Distribution, Measured
from eclipse_pl.compbench.generation import bar, generate_units
from eclipse_pl.compbench.ranks import Ranks
from eclipse_pl.compbench.scorecard import VERSION, Card, read_card, rows_of, table_of, write_card, write_rows
from eclipse_pl.compbench.scoring import (
    Scoring,
    joined,
    read_scores,
    require_known,
    require_one_of_each_part,
    require_parts,
    score_units,
    shared_categories,
)
from eclipse_pl.compbench.unit import Unit, units_of
from eclipse_pl.prompts.prompt import PromptSet
from eclipse_pl.prompts.source import PromptSource
from eclipse_pl.scorers.scorer import Scores
from eclipse_pl.text_to_image.text_to_image import TextToImage

Phase = Literal["images", "scores"]


class CompBench:
    """Generates images of prompts and scores them.

    A benchmark's folder holds ``images/`` in T2I-CompBench's layout, which the original scripts can rescore, ``rows.jsonl``
    (one row per image, with every scorer's evidence) and ``scorecard.json``. All ranks must share the folder.

    Args:
        prompts: The prompts.
        scorers: Scorers with their categories.
        images_per_prompt: Images of each prompt. T2I-CompBench defines its metric for 10.
        seed: Seed of the first image of every prompt. The next images have the next seeds. T2I-CompBench's is 42.
        block: Images generated, and scored, together. Another block changes the last digits of scores.
        distribution: Measures of many images together: distances to reference images, diversity by prompt. Null computes none.
    """

    def __init__(
        self,
        prompts: PromptSource,
        scorers: list[Scoring],
        images_per_prompt: int = 1,
        seed: int = 42,
        block: int = 16,
        distribution: list[Distribution] | None = None,
    ) -> None:
        for name, value in {"images_per_prompt": images_per_prompt, "block": block}.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be 1 or more.")
        if not scorers:
            raise ValueError("scorers is empty, so nothing would score the images. Name at least one scorer.")
        if images_per_prompt > 1 and (single := [one.scorer.name for one in scorers if one.scorer.one_image_a_prompt]):
            raise ValueError(
                f"{single[0]} compares one image a prompt, and images_per_prompt is {images_per_prompt}. Set it to 1."
            )
        for one, other in combinations(scorers, 2):
            alike = one.scorer.name == other.scorer.name
            if alike and (shared := shared_categories(one.categories, other.categories)):
                raise ValueError(
                    f"Two scorers of the benchmark are called {one.scorer.name}, and both score {', '.join(shared)}, so their "
                    "scores would mix. Give them categories that do not overlap."
                )
        require_one_of_each_part(scorers)
        self.distribution = distribution or []
        measures = [name for measure in self.distribution for name in measure.names]
        if twice := [name for name in measures if measures.count(name) > 1]:
            raise ValueError(
                f"Two measures of the distribution are called {twice[0]}, so one would replace the other: remove one."
            )
        self.source, self.scorers = prompts, scorers
        self.images_per_prompt, self.seed, self.block = images_per_prompt, seed, block

    def units(self) -> tuple[PromptSet, list[Unit]]:
        """Load the prompts, and list all their images.

        Raises:
            ValueError: A file of prompts is missing or damaged, or a scorer has no prompt or an unknown category.
        """
        prompts = self.source.load()
        require_known(self.scorers, prompts)
        units = units_of(prompts, self.images_per_prompt, self.seed)
        if idle := [scoring.scorer.name for scoring in self.scorers if not any(map(scoring.covers, units))]:
            raise ValueError(
                f"{idle[0]} would score nothing: the prompts have the categories {', '.join(prompts.categories)}. Change its "
                "categories, or remove it."
            )
        return prompts, units

    def require_ready(self) -> tuple[PromptSet, list[Unit]]:
        """Check scorers and distribution, load the prompts, and list all their images.

        Raises:
            ValueError: An error shows before any image is generated.
        """
        prompts, units = self.units()
        require_parts(self.scorers, units)
        for scoring in self.scorers:  # before any network is fetched
            scoring.require_scorable(units)
        for scoring in self.scorers:
            scoring.scorer.require_ready()
            scoring.scorer.require_prompts(scoring.prompts(units), self.seed)
        for measure in self.distribution:
            measure.require_enough(prompts, self.images_per_prompt)
        return prompts, units

    def run(
        self,
        text_to_image: TextToImage,
        folder: Path,
        ranks: Ranks | None = None,
        progress: bool = True,
        replace: bool = False,
    ) -> Card:
        """Generate, score, and write the scorecard, which every rank returns. Finished blocks are not repeated.

        ``replace`` removes another benchmark's images and scores from the folder.

        Raises:
            ValueError: The folder holds another benchmark's images or scores, or parts do not fit.
        """
        ranks = ranks or Ranks()
        prompts, units, protocol = self._begin(text_to_image)
        if replace and ranks.is_first:
            make_room(folder, protocol, self.scorers)
        if refusal := ranks.broadcast(claim(folder, protocol) if ranks.is_first else None):
            raise ValueError(refusal)  # on every rank, because the others would wait
        self._generate(units, text_to_image, folder, ranks, progress)
        ranks.barrier()
        self._score(units, folder, ranks, progress)
        ranks.barrier()
        measured = [measure.measure(units, prompts, folder, ranks, self.block) for measure in self.distribution]
        if ranks.is_first:
            protocol["cut_prompts"] = cut_prompts(text_to_image, prompts, folder)
            if text_to_image.trained_steps is not None:
                protocol["trained_steps"] = text_to_image.trained_steps
        card: Card = ranks.broadcast(self._finish(folder, units, protocol, measured) if ranks.is_first else None)
        return card

    def run_phase(self, phase: Phase, text_to_image: TextToImage, folder: Path, ranks: Ranks, progress: bool = True) -> None:
        """Generate the images of this rank, or score images that are all there. Ranks do not wait for each other.

        `run` then finds finished blocks, and writes the scorecard.

        Raises:
            ValueError: An image is missing, or one of the errors of `run`.
        """
        _, units, protocol = self._begin(text_to_image)
        if refusal := claim(folder, protocol):  # each for itself: another may be of another command, or not have begun
            raise ValueError(refusal)
        if phase == "images":
            return self._generate(units, text_to_image, folder, ranks, progress)
        if missing := sum(not (folder / unit.file).is_file() for unit in units):
            raise ValueError(f"{missing} of {len(units)} images are missing in {folder}. Run --only images first.")
        text_to_image.close()
        self._score(units, folder, ranks, progress)

    def _begin(self, text_to_image: TextToImage) -> tuple[PromptSet, list[Unit], dict[str, Any]]:
        """Check all parts, list the images, and state what they depend on."""
        text_to_image.require_ready()
        prompts, units = self.require_ready()
        protocol = {
            "version": VERSION,
            "text_to_image": text_to_image.identity,
            "prompts": {"name": prompts.name, "sha256": prompts.sha256, "parser": prompts.parser, "count": len(prompts)},
            "images_per_prompt": self.images_per_prompt,
            "seed": self.seed,
            "block": self.block,
        }
        return prompts, units, protocol

    def _generate(self, units: Sequence[Unit], text_to_image: TextToImage, folder: Path, ranks: Ranks, progress: bool) -> None:
        with bar(f"generating {len(units)} images", len(units), ranks, progress) as step:
            generate_units(units, text_to_image, folder, ranks, self.block, step)
        text_to_image.close()

    def _score(self, units: Sequence[Unit], folder: Path, ranks: Ranks, progress: bool) -> None:
        for scoring in self.scorers:
            scored = sum(map(scoring.covers, units))
            with bar(f"{scoring.scorer.name} scores {scored}", scored, ranks, progress) as step:
                score_units(units, scoring, folder, ranks, self.block, step)
            scoring.scorer.close()

    def _finish(self, folder: Path, units: Sequence[Unit], protocol: dict[str, Any], measured: Sequence[Measured]) -> Card:
        scores: dict[str, Scores] = {}
        for scoring in self.scorers:
            scores.setdefault(scoring.scorer.name, {}).update(read_scores(units, scoring, folder, self.block))
        scores |= joined(self.scorers, units, scores)
        for one in measured:
            scores |= one.scores
        rows = rows_of(units, scores)
        write_rows(folder / "rows.jsonl", rows)
        versions: dict[str, list[str]] = {}
        for scoring in self.scorers:  # scorers of one name may differ in an option, such as depth
            versions.setdefault(scoring.scorer.name, []).append(scoring.scorer.version)
        versions |= {name: [one.version] for one in measured for name in one.scores}
        card = {
            **protocol,
            **distribution_of(self.distribution, measured),
            "scorers": {name: "; ".join(dict.fromkeys(several)) for name, several in versions.items()},
            "images": len(rows),
            "failed": sum(row["failed"] is not None for row in rows),
            "scores": table_of(rows),
            "answers": self._answers(scores),
        }
        write_card(folder / "scorecard.json", card)
        return card

    def _answers(self, scores: dict[str, Scores]) -> dict[str, dict[str, Any]]:
        """Return what each scorer reports of all its answers together."""
        named = {scoring.scorer.name: scoring.scorer for scoring in self.scorers}
        reports = {name: scorer.report(list(scores[name].values())) for name, scorer in named.items()}
        return {name: report for name, report in reports.items() if report}


def distribution_of(measures: Sequence[Distribution], measured: Sequence[Measured]) -> dict[str, Any]:
    """Return ``distribution`` of the scorecard: numbers of all images together, and their protocols by the first name."""
    numbers = {name: number for one in measured for name, number in one.numbers.items()}
    protocols = {measure.names[0]: one.protocol for measure, one in zip(measures, measured, strict=True) if one.numbers}
    return {"distribution": {**numbers, "protocol": protocols}} if numbers else {}


def cut_prompts(text_to_image: TextToImage, prompts: PromptSet, folder: Path) -> int | None:
    """Return how many prompts the text encoder cuts. An earlier scorecard of this benchmark knows it without an encoder."""
    earlier = folder / "scorecard.json"
    if earlier.is_file():
        with suppress(ValueError):  # it is damaged, and is written again
            return read_card(earlier).get("cut_prompts")
    return text_to_image.count_cut(prompts.prompts)
