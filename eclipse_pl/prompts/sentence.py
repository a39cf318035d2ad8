"""The words of a text with all that each may be, and what can be seen ahead of them."""

from __future__ import annotations

from eclipse_pl.prompts.lexicon import CLOSED, VERBAL, lexicon, word_classes

FIXED = {"compound": "noun", "adverbial": "adverb", "relation": "preposition"}
"""Several words that are read as one: their class in ``words.txt``, and the class of the one."""


class Sentence:
    """``words`` in lower case, and the ``classes`` that each may belong to."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.classes = [word_classes(word) for word in words]
        for length in (4, 3, 2):
            for i in range(len(words) - length + 1):
                for name in FIXED.keys() & lexicon().get(" ".join(words[i : i + length]), frozenset()):
                    self.classes[i : i + length] = [frozenset({FIXED[name]})] * length
        for i in range(1, len(words)):
            each_one = words[i] in ("one", "ones") and self.is_(i - 1, "determiner", "adjective", "participle")
            can_of_soup = words[i] in ("can", "cans") and not self.is_(i + 1, "base", "adverb", "auxiliary", "pronoun")
            if can_of_soup or (each_one and self.is_(i + 1, "end", *CLOSED)):
                self.classes[i] = frozenset({"noun"})

    def is_(self, i: int, *names: str) -> bool:
        """Whether word ``i`` may belong to one of the classes; "end" is the end of the text and every punctuation mark."""
        if not 0 <= i < len(self.words) or "punctuation" in self.classes[i]:
            return "end" in names
        return not self.classes[i].isdisjoint(names)

    def complement(self, i: int) -> bool:
        """Whether behind ``i`` stands what rather follows a verb than a noun."""
        return self.is_(i + 1, "determiner", "preposition", "pronoun", "adverb", "adjective") and self.words[i + 1] != "of"

    def adjective_like(self, i: int) -> bool:
        return self.is_(i, "adjective", "participle", "gerundive", "shade") and not self.is_(i, "noun")

    def nounish(self, i: int) -> bool:
        """Whether a noun phrase that lacks its noun may go on with word ``i``."""
        if i >= len(self.words) or self.classes[i] & CLOSED - {"adverb"}:
            return False
        if "adverb" in self.classes[i]:
            return self.is_(i + 1, "adjective", "participle") and self.noun_follows(i, lacking=True)
        return not self.is_(i, *VERBAL) or self.is_(i, "noun_too", "past_noun_too", "adjective", "gerundive", "participle")

    def noun_follows(self, i: int, lacking: bool) -> bool:
        """Whether the noun that an adjective ``i`` would belong to comes behind at most adjectives, adverbs, commas and "and".

        ``lacking``: whether the noun phrase at ``i`` still lacks its noun.
        """
        j = i + 1
        while j < len(self.words):
            if self.words[j] == "," or "conjunction" in self.classes[j]:
                joined = self._joined_by(j, lacking)
                if joined is None:
                    return False
                j = joined
            if self.classes[j] & CLOSED - {"adverb"}:
                return False
            adjective = self.adjective_like(j) and not (self.is_(j, "shade", "alone") and not self.nounish(j + 1))
            if not adjective and "adverb" not in self.classes[j]:
                return self.nounish(j)
            j += 1
        return False

    def joins_adjectives(self, i: int) -> bool:
        """Whether ``i`` is a comma or "and" that adds one more adjective to a noun phrase that lacks its noun."""
        if self.words[i] != "," and "conjunction" not in self.classes[i]:
            return False
        joined = self._joined_by(i, lacking=True)
        return joined is not None and self.noun_follows(joined - 1, lacking=True)

    def _joined_by(self, i: int, lacking: bool) -> int | None:
        """The adjective that a comma or "and" adds, if one does.

        Behind a comma it may be a noun where one is ``lacking``: "the sparkling, crystal chandeliers".
        """
        comma = self.words[i] == ","
        if comma and self.is_(i + 1, "conjunction"):
            i, comma = i + 1, False
        if comma and lacking and self.nounish(i + 1):
            return i + 1
        adjective = i + 1 + self.is_(i + 1, "adverb")
        return adjective if self.adjective_like(adjective) else None
