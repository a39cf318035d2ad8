from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from eclipse_pl.prompts.image_files import image_file_name
from eclipse_pl.prompts.prompt import Prompt, PromptSet


@dataclass(frozen=True)
class Unit:
    """One image of a benchmark."""

    prompt: Prompt
    sample: int
    """Number of the image among the images of its prompt."""
    seed: int
    file: str
    """Path below the benchmark's folder, in T2I-CompBench's layout: ``images/color/samples/a green bench_000070.png``."""

    @property
    def key(self) -> tuple[str, int]:
        """Key that joins the scores of one image."""
        return self.prompt.id, self.seed


def units_of(prompts: PromptSet, images_per_prompt: int, seed: int) -> list[Unit]:
    """Return all images of a benchmark, in order. The k-th image of every prompt has ``seed + k``, as in T2I-CompBench.

    Raises:
        ValueError: A category would place images outside of the benchmark's folder.
    """
    for prompt in prompts:
        place = folder_of(prompt)
        if place.startswith("/") or ".." in place.split("/"):
            raise ValueError(f"Images of the category {place!r} would lie outside of the benchmark's folder: rename it.")
    return [
        Unit(prompt, sample, seed + sample, f"images/{folder_of(prompt)}/samples/{name_of(prompt, sample, images_per_prompt)}")
        for prompt in prompts
        for sample in range(images_per_prompt)
    ]


def folder_of(prompt: Prompt) -> str:
    """Return a folder per category, as T2I-CompBench's scripts expect."""
    return prompt.id.rpartition("/")[0] or prompt.category or "prompts"


def name_of(prompt: Prompt, sample: int, images_per_prompt: int) -> str:
    """Return T2I-CompBench's file name, or the number alone where its scripts could not recover the prompt from the name."""
    try:
        return image_file_name(prompt, sample, images_per_prompt)
    except ValueError:
        number = prompt.id.rpartition("/")[2]
        return f"{number}-{sample:02d}.png"


Item = TypeVar("Item")


def blocks(items: Sequence[Item], size: int) -> Iterator[tuple[int, Sequence[Item]]]:
    """Divide items into numbered blocks of ``size``. Ranks share blocks, and a killed run repeats its unfinished ones.

    A result can depend in its last digit on the other items of its batch. Fixed blocks make it reproducible.
    """
    for number, first in enumerate(range(0, len(items), size)):
        yield number, items[first : first + size]
