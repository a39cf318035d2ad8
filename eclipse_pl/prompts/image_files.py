"""T2I-CompBench's names of image files, so that its own scripts can score ours (evaluation rules, section 1.1).

``a green bench and a blue bowl_000070.png``: the prompt, then a number that runs over the category: images of the prompt in
line i (from 0) are ``n i`` to ``n i + n - 1`` where there are n images a prompt. Upstream takes n = 10.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from eclipse_pl.prompts.prompt import Prompt

LONGEST = 255
"""Bytes of a file name on usual file systems."""


class ImagePlace(NamedTuple):
    """Whose image a file is."""

    text: str
    line: int
    """Line of the prompt in its category, from 0."""
    sample: int
    """Number of the image among those of its prompt, from 0."""


def image_file_name(prompt: Prompt, sample: int, images_per_prompt: int = 10) -> str:
    """Name of image ``sample`` of a prompt. ValueError for a text that upstream's scripts would not read back."""
    if not 0 <= sample < images_per_prompt:
        raise ValueError(f"There is no image {sample} of {images_per_prompt} images a prompt.")
    if wrong := re.search(r"[_/\\\0\n]", prompt.text):
        raise ValueError(
            f"Prompt {prompt.id} ({prompt.text!r}) holds {wrong.group()!r}, which a file name of T2I-CompBench cannot: its "
            "scripts take the text before the first '_' for the prompt. Change the prompt, or score its images here."
        )
    name = f"{prompt.text}_{int(prompt.id.rpartition('/')[2]) * images_per_prompt + sample:06d}.png"
    if len(name.encode()) > LONGEST:
        raise ValueError(f"Prompt {prompt.id} is too long for a file name: {len(name.encode())} bytes of {LONGEST}.")
    return name


def image_place(name: str, images_per_prompt: int = 10) -> ImagePlace:
    """Whose image a file is, by its name alone. ValueError for a name of another form."""
    found = re.fullmatch(r"([^_/]+)_(\d{6,})\.png", name)
    if found is None:
        raise ValueError(f"{name!r} is no file name of T2I-CompBench, which are 'PROMPT_000000.png'.")
    line, sample = divmod(int(found.group(2)), images_per_prompt)
    return ImagePlace(found.group(1), line, sample)
