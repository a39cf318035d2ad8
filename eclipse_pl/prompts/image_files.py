"""T2I-CompBench's names of image files, so that its scripts can score our images.

``a green bench and a blue bowl_000070.png``: the prompt, then a number that counts through the category. With n images
per prompt, the images of the prompt in line i (from 0) are ``n i`` to ``n i + n - 1``. Upstream has n = 10.
"""

from __future__ import annotations

import re

from eclipse_pl.files import LONGEST_NAME
from eclipse_pl.prompts.prompt import Prompt


def image_file_name(prompt: Prompt, sample: int, images_per_prompt: int = 10) -> str:
    """Return the file name of image ``sample`` of a prompt.

    Raises:
        ValueError: There is no such sample, or upstream's scripts could not read the prompt from the name.
    """
    if not 0 <= sample < images_per_prompt:
        raise ValueError(f"There is no image {sample}: each prompt has {images_per_prompt} images, counted from 0.")
    if wrong := re.search(r"[_/\\\0\n]", prompt.text):
        raise ValueError(
            f"Prompt {prompt.id} ({prompt.text!r}) has the character {wrong.group()!r}, which a file name of T2I-CompBench "
            "cannot have: its scripts take the text before the first '_' as the prompt. Change the prompt, or score its "
            "images with eclipse_pl."
        )
    name = f"{prompt.text}_{int(prompt.id.rpartition('/')[2]) * images_per_prompt + sample:06d}.png"
    if len(name.encode()) > LONGEST_NAME:
        raise ValueError(
            f"Prompt {prompt.id} is too long for a file name: {len(name.encode())} bytes, at most {LONGEST_NAME}."
        )
    return name
