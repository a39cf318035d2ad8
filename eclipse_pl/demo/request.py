"""Request: what one image of the demo is asked for, and the limits of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from eclipse_pl.prompts.prompt_lines import prompt_problem

MOST_CHARACTERS = 1000
"""Of a prompt. CLIP reads 77 tokens at most, about 300 characters."""
MOST_STEPS = 200
MOST_GUIDANCE = 30.0
MOST_SEED = 2**31 - 1


@dataclass(frozen=True)
class Request:
    """One image. It depends on these fields alone, whatever other requests are answered with it."""

    prompt: str
    prior: str
    """Name of one of the demo's priors."""
    seed: int = 0
    second_prompt: str = ""
    """The image lies between both prompts, at ``mix``."""
    mix: float = 0.0
    """0 is the first prompt, 1 the second."""
    negative_prompt: str = ""
    steps: int | None = None
    """Steps of a prior of many steps; None takes its own."""
    guidance: float | None = None
    """Guidance scale of such a prior; None takes its own."""

    def require_valid(self) -> None:
        """Check everything that needs no model.

        Raises:
            ValueError: A prompt is missing or too long, or a number is out of its range.
        """
        if not self.prompt.strip():
            raise ValueError("The prompt is empty: type what the image should show.")
        for name, text in self.texts.items():
            if len(text) > MOST_CHARACTERS:
                raise ValueError(f"The {name} has {len(text)} characters; at most {MOST_CHARACTERS} are read. Shorten it.")
            if problem := prompt_problem(text):
                raise ValueError(f"The {name} {problem}.")
        if not 0 <= self.mix <= 1:
            raise ValueError(f"The mix is {self.mix:g}; it must be from 0 (the first prompt) to 1 (the second).")
        if self.mix and not self.second_prompt.strip():
            raise ValueError("The slider mixes two prompts, and the second one is empty: type it, or move the slider to 0.")
        if not 0 <= self.seed <= MOST_SEED:
            raise ValueError(f"The seed is {self.seed}; it must be from 0 to {MOST_SEED}.")
        if self.steps is not None and not 1 <= self.steps <= MOST_STEPS:
            raise ValueError(f"The number of steps is {self.steps}; it must be from 1 to {MOST_STEPS}.")
        if self.guidance is not None and not (math.isfinite(self.guidance) and 0 <= self.guidance <= MOST_GUIDANCE):
            raise ValueError(f"The guidance is {self.guidance:g}; it must be from 0 to {MOST_GUIDANCE:g} (1 for none).")

    @property
    def texts(self) -> dict[str, str]:
        """All texts of the request by their names in messages."""
        return {"prompt": self.prompt, "second prompt": self.second_prompt, "negative prompt": self.negative_prompt}

    @property
    def nearer_prompt(self) -> str:
        """The prompt that a mixed image is scored by."""
        return self.second_prompt if self.mix > 0.5 else self.prompt


def whole(value: int | float | None, name: str) -> int:
    """A whole number that was typed or sent, such as 3 or 3.0.

    Raises:
        ValueError: The field is empty, or the number is not whole.
    """
    if value is None or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(f"The {name} is {'empty' if value is None else value}; give a whole number.")
    return int(value)
