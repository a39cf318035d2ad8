"""QuestionScorer: the yes-or-no questions of DPG-Bench and DSG-1k, and their rule for questions that depend on others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from eclipse_pl.prompts.prompt import Prompt, Question
from eclipse_pl.scorers.scorer import Score
from eclipse_pl.scorers.vlm import VlmScorer

YES, NO, NEITHER = "yes", "no", "neither"
FORMS = {YES: ("Yes", "yes", " Yes", " yes"), NO: ("No", "no", " No", " no")}
"""How a model may write an answer. A form that its tokenizer splits is left out."""


class QuestionScorer(VlmScorer):
    """Share of a prompt's published questions that a vision-language model answers by "yes" (DPG-Bench, Hu et al., 2024; DSG,
    Cho et al., ICLR 2024).

    The answer is the likeliest first token. One that is neither yes nor no counts as no, and the scorecard states the share
    of such answers. The published scores of DPG-Bench are mPLUG-large's, so the name includes the model that answers here.

    Args:
        path: Folder or hub id of the model.
        cascade: Whether a question that its parent made void makes its own children void too, as in DPG-Bench's script.
            DSG's only looks at the answers to the parents.
        instruction: Follows every question.
        **options: Those of VlmScorer.
    """

    def __init__(self, path: str, cascade: bool = True, instruction: str = "Please answer Yes or No.", **options: Any) -> None:
        super().__init__(path, **options)
        self.cascade, self.instruction = cascade, instruction

    @property
    def name(self) -> str:
        return f"questions{'' if self.cascade else '_one_level'}[{self.vlm.name}]"

    @property
    def version(self) -> str:
        return f"{super().version}, {self.instruction}"

    def require_ready(self) -> None:
        super().require_ready()
        for forms in FORMS.values():
            self.vlm.token_ids(forms)

    def missing(self, prompt: Prompt) -> str | None:
        yes_or_no = prompt.questions and all(question.answer == YES for question in prompt.questions)
        return None if yes_or_no else "published yes-or-no questions"

    def score_batch(self, images: list[Image.Image], prompts: list[Prompt]) -> list[Score]:
        asked = [
            (image, f"{question.text} {self.instruction}")
            for image, prompt in zip(images, prompts, strict=True)
            for question in prompt.questions
        ]
        answers = iter(self.likeliest(asked, FORMS, NEITHER))
        return [score_of(prompt.questions, [next(answers) for _ in prompt.questions], self.cascade) for prompt in prompts]

    def report(self, scores: Sequence[Score]) -> dict[str, Any]:
        """Return the number of questions, of answers that are neither yes nor no, and the share of "yes" by kind of question.

        Shares by kind are of the answers before the rule, as DPG-Bench reports its categories.
        """
        answers = [answer for score in scores for answer in score.evidence.get("questions", [])]
        if not answers:
            return {}
        kinds: dict[str, list[bool]] = {}
        for answer in answers:
            kinds.setdefault(answer["kind"], []).append(answer["answer"] == YES)
        return {
            "questions": len(answers),
            "neither": sum(answer["answer"] == NEITHER for answer in answers),
            "yes_by_kind": {kind: sum(yes) / len(yes) for kind, yes in kinds.items()},
        }


def score_of(questions: Sequence[Question], answers: Sequence[str], cascade: bool = True) -> Score:
    """Return the mean over questions of those that count and are answered by "yes"."""
    points = points_of(questions, answers, cascade)
    evidence = [
        {"question": question.text, "kind": question.kind, "answer": answer, "counts": point}
        for question, answer, point in zip(questions, answers, points, strict=True)
    ]
    return Score(sum(points) / len(points), {"questions": evidence})


def points_of(questions: Sequence[Question], answers: Sequence[str], cascade: bool = True) -> list[bool]:
    """Return which questions count as answered by "yes". One whose parent is not answered by "yes" never does.

    With ``cascade``, a parent is one that counts itself. Questions are taken in the suite's order, as in DPG-Bench's script:
    a parent that comes later has its bare answer.
    """
    given = [answer == YES for answer in answers]
    points = list(given)
    for place, question in enumerate(questions):
        points[place] &= all((points if cascade else given)[parent] for parent in question.parents)
    return points
