"""ClipScorer: T2I-CompBench's scorer of non-spatial relations (CLIPScore_eval)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from PIL import Image

from eclipse_pl.prompts.prompt import Prompt
from eclipse_pl.scorers.clip_towers import ClipTowers
from eclipse_pl.scorers.network_scorer import NetworkScorer
from eclipse_pl.scorers.scorer import Score


class ClipScorer(NetworkScorer):
    """The raw cosine of image and text. Other numbers called CLIPScore are multiplied by 2.5 or 100, or clamped.

    Values lie close together (0.29 to 0.33 in T2I-CompBench's tables), so read them with their intervals.

    Args:
        clip: The CLIP. T2I-CompBench uses OpenAI's ViT-B/32.
        drop_adjectives: Remove the prompt's adjectives from the text, as T2I-CompBench does for complex prompts.
        batch_size: Images encoded at a time.
    """

    def __init__(self, clip: ClipTowers, drop_adjectives: bool = False, batch_size: int = 32) -> None:
        super().__init__([clip], batch_size)
        self.clip, self.drop_adjectives = clip, drop_adjectives

    @property
    def name(self) -> str:
        return f"clip_score[{self.clip.name}]"

    @property
    def version(self) -> str:
        return f"{super().version}, drop_adjectives {self.drop_adjectives}"

    def score_batch(self, images: list[Image.Image], prompts: list[Prompt]) -> list[Score]:
        texts = [without(prompt.text, prompt.adjectives if self.drop_adjectives else ()) for prompt in prompts]
        cosines = self.clip.cosines(images, texts).tolist()
        return [Score(cosine, {"text": text}) for cosine, text in zip(cosines, texts, strict=True)]


def without(text: str, words: Sequence[str]) -> str:
    """Remove words from a text: "The red hat was new." without "red" is "The hat was new.".

    The parts of a hyphenated word are words too, as they are spaCy's tokens, by which T2I-CompBench finds its adjectives.
    """
    if not words:
        return text
    pattern = "|".join(re.escape(word) for word in words)
    return re.sub(rf"(?<!\w)(?:{pattern})(?!\w)\s*", "", text, flags=re.IGNORECASE)
