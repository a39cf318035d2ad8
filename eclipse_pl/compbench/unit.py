from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from eclipse_pl.prompts.image_files import image_file_name
from eclipse_pl.prompts.prompt import Prompt, PromptSet


@dataclass(frozen=True)
class Unit:
    """One image to be generated and scored."""

    prompt: Prompt
    sample: int
    """Number of the image among those of its prompt."""
    seed: int
    file: str
    """Its place below the benchmark's folder, in T2I-CompBench's layout: ``images/color/samples/a green bench_000070.png``."""

    @property
    def key(self) -> tuple[str, int]:
        """By which rows are joined."""
        return self.prompt.id, self.seed


def units_of(prompts: PromptSet, images_per_prompt: int, seed: int) -> list[Unit]:
    """All images of a benchmark, in order. The k-th of every prompt has the seed ``seed + k``, as in T2I-CompBench.

    Raises:
        ValueError: a category is no name of a folder; a file from elsewhere may not choose where images are written.
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
    """Upstream's scripts read one category at a time."""
    return prompt.id.rpartition("/")[0] or prompt.category or "prompts"


def name_of(prompt: Prompt, sample: int, images_per_prompt: int) -> str:
    """T2I-CompBench's name of the file; one by the number alone where its scripts could not read the prompt back from it."""
    try:
        return image_file_name(prompt, sample, images_per_prompt)
    except ValueError:
        number = prompt.id.rpartition("/")[2]
        return f"{number}-{sample:02d}.png"


Item = TypeVar("Item")


def blocks(items: Sequence[Item], size: int) -> Iterator[tuple[int, Sequence[Item]]]:
    """Numbered parts of ``size`` items. They are what ranks share and what is done anew after a kill, always as a whole.

    What is computed together can agree with what is computed apart to the last digit but one; with fixed blocks it need not.
    """
    for number, first in enumerate(range(0, len(items), size)):
        yield number, items[first : first + size]
