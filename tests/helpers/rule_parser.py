"""A parser for the tests' own sentences, by rules: the tests do without spaCy."""

from __future__ import annotations

import re

from eclipse_pl.prompts.parser import DROPPED_PHRASES, Parse, Parser, Word

CLOSED = {
    "DET": "a an the",
    "NUM": "one two three four five six seven eight",
    "ADP": "on of to near next in front behind above against under with beyond",
    "CCONJ": "and",
    "AUX": "is was",
    "VERB": "hidden by watching leaned rolled sang stood",
    "ADV": "quickly softly quietly nearby",
    "ADJ": "red green blue white black yellow purple orange round oval cubic conical square oblong tiny huge tall "
    "wooden metallic fluffy rubber glass leather",
}
TAGS = {word: tag for tag, words in CLOSED.items() for word in words.split()}


class RuleParser(Parser):
    """Words of ``CLOSED`` by list, all others are nouns; a phrase is a run of determiners, numbers, adjectives and nouns."""

    version = "rules-1"

    def parse(self, text: str) -> Parse:
        found = list(re.finditer(r"[\w-]+|[^\w\s]", text))
        words = tuple(Word(match.group(), tag_of(match.group())) for match in found)
        letters = "".join({"DET": "d", "NUM": "d", "ADJ": "a", "NOUN": "n"}.get(word.tag, " ") for word in words)
        phrases = (text[found[run.start()].start() : found[run.end() - 1].end()] for run in re.finditer("d?a*n+", letters))
        return Parse(words, tuple(phrase for phrase in phrases if phrase not in DROPPED_PHRASES))


def tag_of(word: str) -> str:
    return TAGS.get(word.lower(), "NOUN" if word[0].isalnum() else "PUNCT")
