"""Parts of speech and noun phrases of a text, read once from left to right by rules; no model.

The reader knows three places: outside of a noun phrase, inside of one that still lacks its noun ("the soft, fluffy"), and
behind its noun ("the soft, fluffy snow"). What a word may be stands in ``words.txt``; which of it it is, its place decides.
"""

from __future__ import annotations

from eclipse_pl.prompts.lexicon import CLOSED, VERBAL, is_causative
from eclipse_pl.prompts.sentence import Sentence

TAGS = {
    "punctuation": "PUNCT",
    "number": "NUM",
    "determiner": "DET",
    "subordinator": "SCONJ",
    "preposition": "ADP",
    "conjunction": "CCONJ",
    "auxiliary": "AUX",
    "pronoun": "PRON",
    "adverb": "ADV",
}
"""Universal part of speech of each closed class; the first that fits."""


class Tagger(Sentence):
    """``tags`` (universal parts of speech) of the words, and the noun ``phrases`` (first word, one after the last)."""

    def __init__(self, words: list[str]) -> None:
        super().__init__(words)
        self.tags: list[str] = []
        self.phrases: list[tuple[int, int]] = []
        self._start: int | None = None
        """Where the noun phrase at hand begins."""
        self._end: int | None = None
        """One after its noun, once it has one."""
        self._finite = False
        """Whether the clause has its verb: then a word that may be another is rather a noun."""
        self._verb: frozenset[str] = frozenset()
        """Classes of the last verb of the clause: what "and" adds is of the same form."""
        self._joined = False
        """Whether "and" joined two phrases that no verb followed yet, which makes a plural."""
        self._subject: frozenset[str] = frozenset()
        """Classes of the noun of the clause's first phrase."""
        self._causative = False
        for i in range(len(words)):
            tag = self._choose(i)
            self._place(i, tag)
            self._remember(i, tag)
            self.tags.append(tag)
        self._close()

    def _choose(self, i: int) -> str:
        classes, before = self.classes[i], self._tag_before()
        if self.words[i] in ("'s", "’s"):
            return "PART" if before == "NOUN" else "AUX"
        if classes & CLOSED:
            return self._closed(i)
        if self._lacking:
            return self._before_noun(i)
        unknown_verb = not classes and self.is_(i + 1, "determiner", "pronoun")
        if self._before_is(i, "takes_base") and ("base" in classes or unknown_verb):
            return "VERB"
        if before == "AUX" and classes & VERBAL - {"base", "third"} and not classes & {"noun", "adjective"}:
            return "VERB"
        if self._end is not None or before == "PRON":
            return self._after_noun(i)
        return self._outside(i)

    def _closed(self, i: int) -> str:
        word, classes, defined = self.words[i], self.classes[i], self.is_(i - 1, "defining")
        if word == "that" and self._tag_before() == "NOUN":
            verb = i + 1 + self.is_(i + 1, "adverb")
            return "PRON" if self.is_(verb, "auxiliary", "pronoun", *VERBAL) else "SCONJ"
        if word == "her" and not self.nounish(i + 1):
            return "PRON"
        phrase_follows = self.nounish(i + 1) or self.is_(i + 1, "determiner")
        if "predeterminer" in classes and (self._tag_before() == "AUX" or not phrase_follows):
            return "NOUN" if defined else "ADV"
        if self._lacking and word == "back":
            return "NOUN"
        if self._lacking and defined and classes & {"preposition", "adverb"} and word != "most":
            return ("ADV" if "adverb" in classes else "ADJ") if self.noun_follows(i, lacking=True) else "NOUN"
        return next(tag for name, tag in TAGS.items() if name in classes)

    def _before_noun(self, i: int) -> str:
        classes, follows = self.classes[i], self.noun_follows(i, lacking=True)
        defined = any(self.is_(j, "defining") for j in range(self._start or 0, i)) or "ADJ" in self.tags[self._start :]
        if classes & {"noun", "gerund"}:
            return "NOUN"
        if "shade" in classes:
            return "ADJ" if follows and self.adjective_like(i + 1) else "NOUN"
        if classes & {"adjective", "gerundive", "participle"}:
            if follows or ("adjective" in classes and self.is_(i + 1, "adjective")):
                return "ADJ"
            return "NOUN" if defined or "adjective" in classes else "VERB"
        return "VERB" if not defined and classes & VERBAL and "noun_too" not in classes else "NOUN"

    def _after_noun(self, i: int) -> str:
        classes, complement, follows = self.classes[i], self.complement(i), self.noun_follows(i, lacking=False)
        pronoun = self._tag_before() == "PRON"
        first = frozenset() if self._start is None else self.classes[self._start]
        several = self.is_(i - 1, "plural")
        governor = self.tags[self._start - 1] if self._start else ""
        plural, joined = several or "several" in first, self._joined or (governor == "ADP" and "plural" in self._subject)
        has_object = self.is_(i + 1, "determiner", "pronoun") and not self.is_(i + 1, "number", "relative")
        if classes & {"noun", "shade"}:
            return "NOUN"
        if "compound_participle" in classes and follows and not pronoun:
            return "ADJ"
        if "gerund" in classes:
            return "VERB" if has_object or plural or pronoun else "NOUN"
        if "past_noun_too" in classes:
            free = not self._finite or "participle" in classes
            return "VERB" if pronoun or (free and (complement or self.is_(i + 1, "plural"))) else "NOUN"
        if classes & {"gerundive", "past", "participle"}:
            return "VERB"
        if "third" in classes:
            if pronoun or has_object or "noun_too" not in classes:
                return "VERB"
            compound = "several" in first or (governor in ("ADP", "VERB") and "one" not in first)
            return "NOUN" if self._finite or (compound and not several) or self.is_(i + 1, "auxiliary") else "VERB"
        if "base" in classes:
            if pronoun or (self._causative and (complement or plural)):
                return "VERB"
            if "noun_too" not in classes:
                return "VERB" if plural or not self._finite else "NOUN"
            if not self._finite and (has_object or (joined and complement)):
                return "VERB"
            return "VERB" if plural and (complement or not self._finite) else "NOUN"
        if "adjective" in classes:
            return "NOUN" if "alone" in classes and not follows and not pronoun else "ADJ"
        if pronoun:
            return "VERB" if has_object or self.is_(i + 1, "preposition") else "NOUN"
        agrees = plural != ("plural" in classes)  # a verb in -s is not known from a plural
        return "VERB" if self.is_(i + 1, "defining") and agrees and not self._finite and classes <= {"plural"} else "NOUN"

    def _outside(self, i: int) -> str:
        classes, before, follows = self.classes[i], self._tag_before(), self.noun_follows(i, lacking=False)
        coordinate = before == "CCONJ" and bool(self._verb)
        if "noun" in classes:
            return "NOUN"
        if "shade" in classes:
            return "ADJ" if follows and self.adjective_like(i + 1) else "NOUN"
        if "adjective" in classes:
            return "NOUN" if "alone" in classes and not follows and before != "AUX" else "ADJ"
        if "gerund" in classes:
            takes = self.is_(i + 1, "determiner", "pronoun") or (before in ("VERB", "CCONJ") and self.complement(i))
            return "VERB" if takes else "NOUN"
        if "gerundive" in classes:
            if before == "ADP":
                return "ADJ" if follows and self._before_is(i, "quiet") else "VERB"
            return "ADJ" if before == "CCONJ" and follows and not self._verb else "VERB"
        if "participle" in classes and "past_noun_too" not in classes:
            return "ADJ" if follows and not coordinate and before != "NOUN" else "VERB"
        if "past" in classes:
            return "VERB"
        if classes & {"base", "third"}:
            alike = coordinate and bool(classes & self._verb & {"base", "third"})
            if alike and (self.complement(i) or self.is_(i + 1, "end") or "noun_too" not in classes):
                return "VERB"
            return "NOUN" if "noun_too" in classes or before == "ADP" else "VERB"
        return "NOUN"

    def _place(self, i: int, tag: str) -> None:
        """Begin, go on with or end the noun phrase at hand."""
        if tag == "PRON":
            self._close()
            self.phrases.append((i, i + 1))
        elif tag in ("DET", "NUM"):
            if self._end is not None or ("article" in self.classes[i] and not self.is_(i - 1, "predeterminer")):
                self._close()
            self._begin(i)
        elif tag == "NOUN":
            self._begin(i)
            self._end = i + 1
        elif tag == "PART" and self._end is not None:
            self._end = None  # its noun is still to come: "the bride's beauty"
        elif self._describes(i, tag):
            self._begin(i)
        elif not (self._start is not None and self.tags[-1] in ("ADJ", "PUNCT") and self.joins_adjectives(i)):
            self._close()

    def _describes(self, i: int, tag: str) -> bool:
        """Whether an adjective or adverb belongs to a noun that is still to come."""
        if tag == "ADV":
            return self._end is None and self.nounish(i + 1) and (self._lacking or self.nounish(i))
        return tag == "ADJ" and (self.noun_follows(i, self._lacking) or (self._lacking and self.is_(i + 1, "adjective")))

    def _begin(self, i: int) -> None:
        self._start = i if self._start is None else self._start

    def _close(self) -> None:
        """End the phrase at hand. Where it lacks a noun its last adjective is one ("the other"); a lone determiner is none."""
        if self._start is not None:
            tags, end = self.tags[self._start :], self._end
            if end is None and tags[-1] == "ADJ":
                self.tags[-1] = "NOUN"
            if end is None and len(tags) > 1 and tags[-1] in ("ADJ", "DET", "PART"):
                end = len(self.tags) - (tags[-1] == "PART")
            if end is not None:
                self.phrases.append((self._start, end))
                self._subject = self._subject or self.classes[end - 1] | {"noun"}
        self._start = self._end = None

    def _remember(self, i: int, tag: str) -> None:
        """Keep what later words need to know of the clause."""
        if tag in ("VERB", "AUX"):
            self._finite = self._finite or tag == "AUX" or "gerundive" not in self.classes[i]
            self._verb, self._joined = self.classes[i] | {tag}, False
            self._causative = is_causative(self.words[i])
        elif tag == "CCONJ":
            self._joined = self._tag_before() == "NOUN" or self.words[i - 1 : i] == [","]
            self._finite = self._causative = False
        elif tag == "SCONJ" or (tag == "PRON" and "relative" in self.classes[i]) or self.words[i] in (".", ";", ":", "!", "?"):
            self._finite, self._verb, self._joined, self._causative = False, frozenset(), False, False
            self._subject = frozenset()

    @property
    def _lacking(self) -> bool:
        """Whether the noun phrase at hand lacks its noun."""
        return self._start is not None and self._end is None

    def _tag_before(self) -> str:
        """Tag of the word before, adverbs passed over; "" at the beginning."""
        return next((tag for tag in reversed(self.tags) if tag != "ADV"), "")

    def _before_is(self, i: int, name: str) -> bool:
        """Whether the word before, adverbs passed over, is of the class ``name``."""
        j = i - 1
        while j > 0 and self.tags[j] == "ADV":
            j -= 1
        return self.is_(j, name)
