"""Scores of the world's decoder by the oracle: the curve during training, and the tables of its README."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch

from data_prep.world_models.clip import normalised
from data_prep.writing import write_text
from eclipse_pl.decoders.kandinsky import KandinskyDecoder
from eclipse_pl.device import threads_in_words
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.prompts.prompt import Prompt
from eclipse_pl.scorers.scorer import Score
from eclipse_pl.world.oracle import OracleScorer
from eclipse_pl.world.scenes import CATEGORIES
from eclipse_pl.world.splits import held_out_scenes

GUIDANCE = 3.0
STEPS = 20
FACTS = ("colour", "shape", "texture", "count", "relation", "correct")


def scored(folder: Path, encoder: Encoder, count: int) -> list[tuple[Prompt, Score]]:
    """Generate images from true image embeddings of the test split, and score them by the scenes' captions."""
    pairs = list(held_out_scenes("test", count))
    prompts = [Prompt(f"test/{i:04d}", p.scene.category, p.caption, p.subset) for i, p in enumerate(pairs)]
    batches = [[p.scene for p in pairs[i : i + 100]] for i in range(0, count, 100)]
    embeds = torch.cat([encoder.encode_images(normalised(scenes)) for scenes in batches])
    zero_image = encoder.encode_images(torch.zeros(1, 3, encoder.image_size, encoder.image_size))
    with KandinskyDecoder(str(folder), encoder.tag, steps=STEPS, guidance=GUIDANCE, scheduler="own", batch_size=60) as decoder:
        images = decoder.decode(embeds, [p.text for p in prompts], range(count), zero_image.expand_as(embeds))
    return list(zip(prompts, OracleScorer().score(images, prompts), strict=True))


def means(results: list[tuple[Prompt, Score]]) -> dict[str, float]:
    """Return the mean of every fact over the captions that state it, and of the value, the category's fact."""
    facts = {fact: [s.evidence[fact] for _, s in results if s.evidence[fact] is not None] for fact in FACTS}
    facts["value"] = [score.value for _, score in results]
    return {fact: round(sum(values) / len(values), 3) for fact, values in facts.items() if values}


def add_point(path: Path, step: int, seconds: float, results: list[tuple[Prompt, Score]]) -> None:
    points = [point for point in read_curve(path) if point["step"] < step]
    points.append({"step": step, "seconds": round(seconds), **means(results)})
    write_text(path, json.dumps(points, indent=1))
    print(f"step {step}: " + ", ".join(f"{fact} {value}" for fact, value in means(results).items()), flush=True)


def read_curve(path: Path) -> list[dict[str, Any]]:
    points: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []
    return points


def write_readme(
    folder: Path, command: str, minutes: dict[str, float], results: list[tuple[Prompt, Score]], curve: list[dict[str, Any]]
) -> None:
    """Describe the training, with scores by category and composition, and the curve."""
    facts = [*FACTS, "value"]
    rows = []
    for category in (*CATEGORIES, "all"):
        for subset in ("seen", "unseen"):
            chosen = [r for r in results if category in (r[0].category, "all") and r[0].subset == subset]
            rows.append([category, subset, str(len(chosen)), *_cells(means(chosen), facts)] if chosen else [])
    table = _table(["category", "composition", "images", *facts], [row for row in rows if row])
    growth = _table(
        ["step", "UNet's CPU time", *facts],
        [[f"{point['step']:,}", f"{point['seconds'] / 60:,.0f} min", *_cells(point, facts)] for point in curve],
    )
    parameters = ", ".join(f"{name} {_parameters(folder / name):,}" for name in ("unet", "movq"))
    times = ", ".join(f"{name} {spent:,.0f} min" for name, spent in minutes.items())
    write_text(
        folder / "README.md",
        f"""# The world's decoder

A KandinskyV22Pipeline for embeddings of the world's CLIP, trained from scratch by

    {command}

on {threads_in_words()} (torch {torch.__version__.split("+")[0]}), in CPU time {times}. Parameters: {parameters}.

What the oracle reads of images generated from the true image embeddings of the test split, in 20 steps at guidance
{GUIDANCE}. `value` is the category's own fact, as `eclipse_pl/world/oracle.py` defines it.

{table}

How it grew, on {len(results) // 5} of these images:

{growth}
""",
    )


def _cells(values: dict[str, Any], facts: list[str]) -> list[str]:
    return [f"{values[fact]:.3f}" if fact in values else "" for fact in facts]


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def _parameters(folder: Path) -> int:
    from safetensors import safe_open

    with safe_open(str(folder / "diffusion_pytorch_model.safetensors"), "pt") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
