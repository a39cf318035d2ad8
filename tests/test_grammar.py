"""Noun phrases and parts of speech by our grammar, in the sentences that it was made for and in what it never saw."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eclipse_pl.prompts import grammar
from eclipse_pl.prompts.grammar import GrammarParser
from eclipse_pl.prompts.lexicon import lexicon, word_classes

PARSER = GrammarParser()
CAPTIONS = Path(__file__).parent.parent.parent / "shared" / "data" / "coco" / "captions_val2017.txt"
PARSER_FOLDER = Path(grammar.__file__).parent
PHRASES = {
    # attributes
    "a crimson kettle and an oval tray": "a crimson kettle | an oval tray",
    "a yellow fire truck and striped curtains.": "a yellow fire truck | striped curtains",
    "a black and white cow": "a black and white cow",
    "a green gold and white teapot standing on a shelf": "a green gold and white teapot | a shelf",
    "a long, narrow purple hallway": "a long, narrow purple hallway",
    "The shiny, steel kettles of the cook's daughter": "The shiny, steel kettles | the cook's daughter",
    "one purple and the other green": "one purple | the other green",
    "a cylindrical can of paint": "a cylindrical can | paint",
    "light green walls and a desk light": "light green walls | a desk light",
    "a leaf covered path": "a leaf covered path",
    "a very old, freshly painted boat": "a very old, freshly painted boat",
    "red, white, and blue flags": "red, white, and blue flags",
    # verbs beside nouns that could be verbs
    "The glass jug and wooden lid rest on the metallic tray by the fluffy mat.": (
        "The glass jug | wooden lid | the metallic tray | the fluffy mat"
    ),
    "The metallic watering can and wooden spade hold the rubber hose.": (
        "The metallic watering can | wooden spade | the rubber hose"
    ),
    "The plastic knife and rubber mallet slice the fluffy bread for the glass plate.": (
        "The plastic knife | rubber mallet | the fluffy bread | the glass plate"
    ),
    "A bike ride in the park": "A bike ride | the park",
    "Two horses race past a barn.": "Two horses | a barn",
    "A farmer with a hat walks down a road": "A farmer | a hat | a road",
    "a plate with chicken slices on a table": "a plate | chicken slices | a table",
    "The pale moon rose above the hill.": "The pale moon | the hill",
    "a red rose in a vase": "a red rose | a vase",
    "The only cups left in the kitchen were green.": "The only cups | the kitchen",
    "a barn with a bell tower that is painted white": "a barn | a bell tower | that",
    "two boys with a kite run on the beach": "two boys | a kite | the beach",
    "A fox devours the last of the grapes.": "A fox | the last | the grapes",
    # people who do something
    "A girl is watching her brother play at the lake.": "A girl | her brother | the lake",
    "A boy is holding a saw and painting a fence.": "A boy | a saw | a fence",
    "A nurse is looking at a landscape painting on canvas and feeling sad.": "A nurse | a landscape painting | canvas",
    "A parent is holding them close and giving each one a kiss.": "A parent | them | each one | a kiss",
    "A cook is stirring it over and over until it's right.": "A cook | it | it",
    "A cyclist is telling someone they know how to ride up and down the hill.": "A cyclist | someone | they | the hill",
    # long sentences
    "The sharp, crisp crack of the bat hitting the ball echoed, a moment of pure joy.": (
        "The sharp, crisp crack | the bat | the ball | a moment | pure joy"
    ),
    "The tall, elegant herons slowly strode across the marsh, their long necks bending down.": (
        "The tall, elegant herons | the marsh | their long necks"
    ),
    "The soft glow of the lamps cast shadows, as the guests danced and swapped stories.": (
        "The soft glow | the lamps | shadows | the guests | stories"
    ),
    "The bells and the drums were the things that pleased her the most.": "The bells | the drums | the things | that | her",
    # words that name a place are no phrase
    "The red hat was on top of the brown coat rack.": "The red hat | the brown coat rack",
    "A cone is hanging in mid-air on the left of a cube": "A cone | a cube",
    "a dog in front of a tree": "a dog | a tree",
    "to the left is a door": "a door",
}


@pytest.mark.parametrize("text", PHRASES)
def test_phrases(text: str) -> None:
    assert " | ".join(PARSER.read(text).phrases) == PHRASES[text]


@pytest.mark.skipif(not CAPTIONS.is_file(), reason="MSCOCO's captions are not on this machine")
def test_captions_of_people_have_phrases() -> None:
    captions = CAPTIONS.read_text(encoding="utf-8").splitlines()[::25]
    assert len(captions) > 1000
    assert not [caption for caption in captions if not PARSER.read(caption).phrases]


def test_parts_of_speech() -> None:
    reading = PARSER.read("The peeling orange paint covered a rusted gate, and nobody cared.")
    told = " ".join(f"{word.text}/{word.tag}" for word in reading.words)
    assert told == (
        "The/DET peeling/ADJ orange/ADJ paint/NOUN covered/VERB a/DET rusted/ADJ gate/NOUN ,/PUNCT and/CCONJ "
        "nobody/PRON cared/VERB ./PUNCT"
    )


@given(st.text(max_size=80))
def test_any_text_is_read(text: str) -> None:
    reading = PARSER.read(text)
    assert all(phrase in text for phrase in reading.phrases)
    assert "".join(word.text for word in reading.words) == "".join(text.split())


@given(st.lists(st.sampled_from([*sorted(word for word in lexicon() if " " not in word), ",", ".", "and"]), max_size=15))
def test_words_in_any_order_are_read(words: list[str]) -> None:
    """Phrases do not overlap, stand in the order of the text, and a phrase is never a lone article."""
    text = " ".join(words)
    place = 0
    for phrase in PARSER.read(text).phrases:
        assert phrase not in ("a", "an", "the")
        place = text.index(phrase, place) + len(phrase)


def test_every_line_of_the_lexicon_has_a_class_that_is_used() -> None:
    classes = {name for names in lexicon().values() for name in names}
    sources = "".join(
        (PARSER_FOLDER / name).read_text(encoding="utf-8") for name in ("lexicon.py", "sentence.py", "tagger.py")
    )
    assert not [name for name in classes if f'"{name}"' not in sources]


def test_classes_that_refine_others() -> None:
    classes = lexicon()
    for finer, coarser in (("noun_too", "verb"), ("causative", "verb"), ("alone", "adjective"), ("several", "determiner")):
        assert not [word for word in classes if finer in classes[word] and coarser not in classes[word]]


def test_endings() -> None:
    assert {"third", "noun_too"} <= word_classes("watches") and "gerundive" in word_classes("juggling")
    assert {"past", "participle"} <= word_classes("speckled") and word_classes("bed") == {"noun"}
    assert "plural" not in word_classes("grass") and "plural" in word_classes("women")
