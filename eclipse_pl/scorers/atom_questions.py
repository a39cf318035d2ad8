"""Questions about the objects, attributes, relations and counts (the atoms) of a parsed prompt.

The method is Soft-TIFA's (GenEval 2, Meta, 2025). The questions are ours, except where the prompt's suite publishes some.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from eclipse_pl.prompts.prompt import Prompt, Question, Relation, Required

VERSION = 2
"""Increase it when a rule below changes: scores of different questions are not comparable."""

YES = ("Yes", "yes")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
ATTRIBUTE_CATEGORIES = ("color", "colour", "shape", "texture")
"""Categories whose phrases are an attribute and a noun."""
_DETERMINERS = {
    "a", "an", "the", "some", "any", "this", "that", "these", "those", "each", "every", "another", "several", "many", "both",
    "its", "his", "her", "their", "our", "your", "my", *NUMBERS,
}  # fmt: skip


@dataclass(frozen=True)
class Atom:
    """One question and its right answers."""

    kind: str
    """``object``, ``attribute``, ``relation`` or ``count``."""
    question: str
    answers: tuple[str, ...]


def atom_questions(prompt: Prompt) -> list[Atom]:
    """Return every question about a prompt, each once: those that its suite publishes, or ours. It may have none."""
    if prompt.questions:
        return [_published(question) for question in prompt.questions]
    if prompt.required:
        atoms = [atom for required in prompt.required for atom in _of_required(required, prompt)]
    else:
        atoms = [atom for phrase in prompt.phrases if not _is_place(phrase, prompt) for atom in _of_phrase(phrase, prompt)]
        if prompt.relation is not None:
            atoms += _of_relation(prompt.relation, objects=not prompt.phrases)
    return list({atom.question: atom for atom in atoms}.values())


def _published(question: Question) -> Atom:
    """Return a question of GenEval 2 (or of DPG-Bench) in the words of GenEval 2's script."""
    answer = question.answer
    words = {"yes": YES} | {number: number_forms(place) for place, number in enumerate(NUMBERS)}
    return Atom(question.kind, f"{question.text} Answer in one word.", words.get(answer, (answer, answer.capitalize())))


def split_phrase(phrase: str, category: str, adjectives: Sequence[str]) -> tuple[str, str, str]:
    """Return determiner, attribute and noun: ("a", "green", "bench"). A missing part is "".

    The attribute is the adjectives at the start of the phrase, where the parser found adjectives in the prompt. Otherwise, in
    the categories of attributes, it is the first of several words ("oval | picture frame").
    """
    words = phrase.strip(" .,!?").split()
    determiner = words.pop(0).lower() if len(words) > 1 and words[0].lower() in _DETERMINERS else ""
    known = {adjective.lower() for adjective in adjectives}
    first = 0
    while first < len(words) - 1 and (words[first].lower().strip(",") in known or (first and words[first].lower() == "and")):
        first += 1
    if not known and category in ATTRIBUTE_CATEGORIES and len(words) > 1:
        first = 1
    return determiner, " ".join(words[:first]), " ".join(words[first:])


def _of_phrase(phrase: str, prompt: Prompt) -> list[Atom]:
    determiner, attribute, noun = split_phrase(phrase, prompt.category, prompt.adjectives)
    atoms = [_yes("object", f"Does this picture show {_one(noun) if determiner in ('a', 'an') else f'any {noun}'}?")]
    if attribute:
        atoms.append(_yes("attribute", f"Would you describe the {noun} in this picture as {attribute}?"))
    return atoms


def _is_place(phrase: str, prompt: Prompt) -> bool:
    """Return whether a phrase is part of the relation's name ("the top" of "on the top of", "front" of "in front of")."""
    return prompt.relation is not None and f" {phrase.lower()} " in f" {prompt.relation.name} "


def _of_relation(relation: Relation, objects: bool) -> list[Atom]:
    first, second = relation.first, relation.second
    atoms = [_yes("object", f"Does this picture show {_one(noun)}?") for noun in (first, second) if objects]
    # a question needs an article that T2I-CompBench's words for a place lack
    name = relation.name.replace("on side of", "on the side of")
    subject = f"Is one {first} {name} another {second}" if first == second else f"Is the {first} {name} the {second}"
    return [*atoms, _yes("relation", f"{subject} in this picture?")]


def _of_required(required: Required, prompt: Prompt) -> list[Atom]:
    noun = required.noun
    atoms = [_yes("object", f"Does this picture show {_one(noun)}?")]
    if required.count > 1 or prompt.category == "numeracy":  # in other categories "a dog" means at least one
        question = f'How many objects of the kind "{noun}" are there in this picture? Please answer with one number.'
        atoms.append(Atom("count", question, number_forms(required.count)))
    if required.colour is not None:
        atoms.append(_yes("attribute", f"Would you describe the {noun} in this picture as {required.colour}?"))
    if required.position is not None:
        name, other = required.position
        atoms += _of_relation(Relation(noun, name, prompt.required[other].noun), objects=False)
    return atoms


def _yes(kind: str, question: str) -> Atom:
    return Atom(kind, f"{question} Please answer Yes or No.", YES)


def number_forms(number: int) -> tuple[str, ...]:
    """Return a model's possible ways to write a count: 4, four, Four."""
    if number >= len(NUMBERS):
        return (str(number),)
    return str(number), NUMBERS[number], NUMBERS[number].capitalize()


def _one(noun: str) -> str:
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"


def arithmetic_mean(probabilities: Sequence[float]) -> float:
    """Soft-TIFA of atoms: the expected fraction of right answers."""
    return sum(probabilities) / len(probabilities)


def geometric_mean(probabilities: Sequence[float]) -> float:
    """Soft-TIFA of prompts: one wrong answer spoils the prompt."""
    if min(probabilities) <= 0:
        return 0.0
    return math.exp(sum(math.log(p) for p in probabilities) / len(probabilities))
