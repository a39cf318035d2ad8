"""UnifiedReward: a vision-language model trained on people's judgements. It writes a score, or names the better image."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from eclipse_pl.prompts.prompt import Prompt
from eclipse_pl.scorers.features import images_hash
from eclipse_pl.scorers.network_scorer import UNREADABLE
from eclipse_pl.scorers.scorer import Score
from eclipse_pl.scorers.vlm import VlmScorer

POINTS = (
    "Judge how well this image was generated for the caption below. First list what the caption asks for (objects, "
    "attributes, relations), each with 1 if the image shows it and 0 if not. Then consider how clear, detailed and pleasing "
    "the image is. "
    "End with one number from 1 to 5 after 'Final Score:'.\nText Caption: [{}]"
)
PAIRS = (
    "Compare these two images, which were generated for the caption below: which follows it better, in objects, attributes "
    'and relations, and is the clearer, more detailed and more pleasing image? End with one of "Image 1 is better.", "Image 2 '
    'is better." and "Both images are equally good."\nText Caption: [{}]'
)
"""Our words. `question` takes those that a model was trained on, which its card states."""

FINAL_SCORE = re.compile(r"final score\W{0,6}(\d+(?:\.\d+)?)", re.IGNORECASE)
WINNER = re.compile(r"\bimage\s*([12])\s*is\s*(?:the\s*)?better|\b(equally good)", re.IGNORECASE)


def final_score(answer: str) -> float | None:
    """Return the last score after "Final Score:", from 1 to 5. None where there is none."""
    found = [float(number) for number in FINAL_SCORE.findall(answer)]
    return found[-1] if found and 1 <= found[-1] <= 5 else None


def winner(answer: str) -> float | None:
    """Return 1 where the conclusion names image 1, 0 for image 2, a half for equally good. None where there is none."""
    found = WINNER.findall(answer)
    if not found:
        return None
    number, _ = found[-1]
    return {"1": 1.0, "2": 0.0}.get(number, 0.5)


class WritingScorer(VlmScorer):
    """Asks a question about images and reads the answer that the model writes, without sampling.

    Args:
        path: Folder or hub id of the model.
        question: What it is asked, with {} for the prompt.
        max_tokens: Longest answer.
        **options: Those of VlmScorer.
    """

    def __init__(self, path: str, question: str, max_tokens: int, **options: Any) -> None:
        if max_tokens < 1:
            raise ValueError(f"max_tokens is {max_tokens}; an answer has 1 token or more.")
        if "{}" not in question:
            raise ValueError(f"The question {question!r} has no place for the prompt: write {{}} there.")
        super().__init__(path, **options)
        self.question, self.max_tokens = question, max_tokens

    @property
    def version(self) -> str:
        return f"{super().version}, {self.question}, at most {self.max_tokens} tokens"

    def write(self, asked: Sequence[tuple[Sequence[Image.Image], str]]) -> list[str]:
        """Return the answer about each set of images and its prompt."""
        answers: list[str] = []
        for first in range(0, len(asked), self.batch_size):
            images, texts = zip(*asked[first : first + self.batch_size], strict=True)
            answers += self.vlm.write(images, [self.question.replace("{}", text) for text in texts], self.max_tokens)
        return answers


class RewardScorer(WritingScorer):
    """UnifiedReward's score of one image, from 1 to 5 (Wang et al., 2025).

    An answer without a score makes the image's score failed. `compare` gives the win rate of two models' scores, as for
    PickScore. Not run with the published weights, nor on a GPU yet.

    Args:
        path: Folder or hub id of the model: ``CodeGoat24/UnifiedReward-qwen-7b``, or any newer one that answers alike.
        question: What the model is asked, with {} for the prompt: best the words of the model's card.
        max_tokens: Longest answer.
        **options: Those of VlmScorer.
    """

    def __init__(self, path: str, question: str = POINTS, max_tokens: int = 512, **options: Any) -> None:
        super().__init__(path, question=question, max_tokens=max_tokens, **options)

    @property
    def name(self) -> str:
        return f"reward[{self.vlm.name}]"

    def score_batch(self, images: list[Image.Image], prompts: list[Prompt]) -> list[Score]:
        asked = [([image], prompt.text) for image, prompt in zip(images, prompts, strict=True)]
        scores = []
        for answer in self.write(asked):
            value = final_score(answer)
            failed = {} if value is not None else {"failed": "the model's answer has no 'Final Score:' from 1 to 5"}
            scores.append(Score(float("nan") if value is None else value, {"answer": answer, **failed}))
        return scores


class PairScorer(WritingScorer):
    """UnifiedReward's choice between an image and another benchmark's image of the same prompt: its mean is a win rate.

    The model is asked twice, with the images in either order, because such models prefer one place: 1 where both answers
    choose the image, 0 where both choose the other one, otherwise the mean of both. Not run with the published weights, nor on
    a GPU yet.

    Args:
        path: Folder or hub id of the model.
        reference: Folder of a finished benchmark of the same prompts, with the same seed and one image each.
        question: What the model is asked about both images, with {} for the prompt: best the words of the model's card.
        max_tokens: Longest answer.
        **options: Those of VlmScorer.
    """

    one_image_a_prompt = True
    needs_reference = True

    def __init__(self, path: str, reference: str, question: str = PAIRS, max_tokens: int = 512, **options: Any) -> None:
        super().__init__(path, question=question, max_tokens=max_tokens, **options)
        self.reference = Path(reference).expanduser()

    @property
    def name(self) -> str:
        return f"wins_over_{self.reference.name}[{self.vlm.name}]"

    @property
    def version(self) -> str:
        return f"{super().version}, over {self.reference.name} sha256-{self._identity}"

    @cached_property
    def _identity(self) -> str:
        """Hash of what is compared: prompts, seeds and images. Further scores of the reference change no choice."""
        return images_hash({json.dumps([id, text, seed]): path for id, (text, seed, path) in self.files.items()})

    def require_ready(self) -> None:
        super().require_ready()
        _ = self._identity

    def require_prompts(self, prompts: Sequence[Prompt], seed: int) -> None:
        for prompt in prompts:
            text, found, _ = self.files.get(prompt.id, (None, None, None))
            if text != prompt.text:
                raise ValueError(
                    f"{self._lacks(prompt)} Take the folder of a benchmark of the same prompts as `reference`, or give the "
                    "scorer other categories."
                )
            if found != seed:
                raise ValueError(
                    f"The image of prompt {prompt.id} in {self.reference} has seed {found}, and this benchmark's has seed "
                    f"{seed}. Pairs need equal seeds: set the benchmark's seed to {found}, or take another `reference`."
                )

    def _lacks(self, prompt: Prompt) -> str:
        return f"{self.reference} has no image of prompt {prompt.id} ({prompt.text!r})."

    @cached_property
    def files(self) -> dict[str, tuple[str, int, Path]]:
        """The reference's prompts, seeds and images by the prompt's id.

        Raises:
            ValueError: It is no finished benchmark, or has several images of a prompt.
        """
        path = self.reference / "rows.jsonl"
        if not path.is_file():
            raise ValueError(f"There is no {path}: `reference` is the folder of a finished benchmark.")
        found: dict[str, tuple[str, int, Path]] = {}
        with path.open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        for row in rows:
            if row["id"] in found:
                raise ValueError(f"{self.reference} has several images of prompt {row['id']}; pairs need one image a prompt.")
            found[row["id"]] = row["prompt"], row["seed"], self.reference / row["file"]
        return found

    def score_batch(self, images: list[Image.Image], prompts: list[Prompt]) -> list[Score]:
        scores: dict[int, Score] = {}
        asked: list[tuple[list[Image.Image], str]] = []
        places = []
        for place, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
            text, _, path = self.files.get(prompt.id, (None, None, Path()))
            if text != prompt.text:
                scores[place] = Score.failed(self._lacks(prompt))
                continue
            try:
                with Image.open(path) as opened:
                    other = opened.convert("RGB")
            except UNREADABLE as error:
                scores[place] = Score.unreadable(str(path), error)
                continue
            asked += [([image, other], prompt.text), ([other, image], prompt.text)]
            places.append(place)
        answers = iter(self.write(asked))
        for place in places:
            scores[place] = choice_of(next(answers), next(answers))
        return [scores[place] for place in range(len(images))]


def choice_of(answer: str, other_way: str) -> Score:
    """Return the score of an image that is image 1 in the first question and image 2 in the second."""
    first, second = winner(answer), winner(other_way)
    evidence: dict[str, Any] = {"answers": [answer, other_way]}
    if first is None or second is None:
        return Score(float("nan"), {**evidence, "failed": "an answer of the model names no better image"})
    return Score((first + 1 - second) / 2, evidence)
