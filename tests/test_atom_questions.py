"""Questions made by rules: what T2I-CompBench's templates and sentences become, and the means of their answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eclipse_pl.prompts.prompt import Prompt, Relation, Required
from eclipse_pl.scorers.atom_questions import (
    arithmetic_mean,
    atom_questions,
    geometric_mean,
    number_forms,
    split_phrase,
)
from tests.helpers.tiny_scorers import prompt


@pytest.mark.parametrize(
    ("phrase", "category", "adjectives", "parts"),
    [
        ("a green bench", "color", (), ("a", "green", "bench")),
        ("an oval picture frame", "shape", (), ("an", "oval", "picture frame")),
        ("A bathroom", "color", (), ("a", "", "bathroom")),
        ("green tile", "color", (), ("", "green", "tile")),
        ("the shower curtain.", "non_spatial", (), ("the", "", "shower curtain")),
        ("the tall white candlestick", "complex", ("tall", "white"), ("the", "tall white", "candlestick")),
        (
            "The striped black and white cat",
            "complex",
            ("striped", "black", "white"),
            ("the", "striped black and white", "cat"),
        ),
        ("the leather wallet", "complex", ("brown",), ("the", "", "leather wallet")),
        ("the orange", "complex", ("orange",), ("the", "", "orange")),
        ("bench", "color", (), ("", "", "bench")),
        ("its oval reflection", "shape", (), ("its", "oval", "reflection")),
        ("two brown dogs", "color", (), ("two", "brown", "dogs")),
    ],
)
def test_phrases_are_split(phrase: str, category: str, adjectives: tuple[str, ...], parts: tuple[str, str, str]) -> None:
    assert split_phrase(phrase, category, adjectives) == parts


def asked(*args: object, **parts: object) -> list[tuple[str, str]]:
    endings = (" Please answer Yes or No.", " Please answer with one number.")
    questions = []
    for atom in atom_questions(prompt("", 0, *args, **parts)):  # type: ignore[arg-type]
        assert atom.question.endswith(endings) and atom.answers
        questions.append((atom.kind, atom.question.split(" Please")[0]))
    return questions


def test_attributes() -> None:
    assert asked("texture", phrases=("a fluffy blanket", "an apple")) == [
        ("object", "Does this picture show a blanket?"),
        ("attribute", "Would you describe the blanket in this picture as fluffy?"),
        ("object", "Does this picture show an apple?"),
    ]


def test_relations() -> None:
    assert asked("spatial", relation=Relation("apple", "on side of", "bowl")) == [
        ("object", "Does this picture show an apple?"),
        ("object", "Does this picture show a bowl?"),
        ("relation", "Is the apple on the side of the bowl in this picture?"),
    ]
    with_phrases = asked("spatial", relation=Relation("apple", "near", "bowl"), phrases=("an apple", "a bowl"))
    assert [kind for kind, _ in with_phrases] == ["object", "object", "relation"]
    assert asked("3d_spatial", relation=Relation("chicken", "hidden by", "chicken")) == [
        ("object", "Does this picture show a chicken?"),
        ("relation", "Is one chicken hidden by another chicken in this picture?"),
    ]


def test_counts() -> None:
    atoms = atom_questions(prompt("", 0, "numeracy", required=(Required("egg", 4),), phrases=("four eggs",)))
    assert [atom.kind for atom in atoms] == ["object", "count"]
    assert atoms[1].question.startswith('How many objects of the kind "egg" are there in this picture?')
    assert atoms[1].answers == ("4", "four", "Four") and atoms[0].answers == ("Yes", "yes")
    assert number_forms(11) == ("11",) and number_forms(0) == ("0", "zero", "Zero")


def test_genevals_requirements() -> None:
    dog, cat = Required("dog", 1, colour="black"), Required("cat", 1, position=("left of", 0))
    assert asked("color_attr", required=(dog, cat)) == [
        ("object", "Does this picture show a dog?"),
        ("attribute", "Would you describe the dog in this picture as black?"),
        ("object", "Does this picture show a cat?"),
        ("relation", "Is the cat left of the dog in this picture?"),
    ]
    assert [kind for kind, _ in asked("counting", required=(Required("clock", 2),))] == ["object", "count"]


def test_sentences() -> None:
    """Complex: what is there, what it is like, where it is."""
    adjectives = ("red", "brown")
    phrases = ("The red hat", "the brown coat rack")
    assert asked("complex", phrases=phrases, adjectives=adjectives, relation=Relation("hat", "on top of", "coat rack")) == [
        ("object", "Does this picture show any hat?"),
        ("attribute", "Would you describe the hat in this picture as red?"),
        ("object", "Does this picture show any coat rack?"),
        ("attribute", "Would you describe the coat rack in this picture as brown?"),
        ("relation", "Is the hat on top of the coat rack in this picture?"),
    ]
    assert asked("non_spatial", phrases=("A couple", "a field", "a field")) == [
        ("object", "Does this picture show a couple?"),
        ("object", "Does this picture show a field?"),
    ]
    assert asked("color") == []


def test_means() -> None:
    assert arithmetic_mean([0.5, 1.0]) == 0.75 and geometric_mean([0.25, 1.0]) == 0.5
    assert geometric_mean([0.0, 1.0]) == 0 and geometric_mean([0.3]) == pytest.approx(0.3)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_the_geometric_mean_is_the_stricter(values: list[float]) -> None:
    assert min(values) - 1e-9 <= arithmetic_mean(values) <= max(values) + 1e-9
    assert geometric_mean(values) <= arithmetic_mean(values) + 1e-9


@pytest.mark.parametrize(
    ("name", "place"), [("on the top of", "the top"), ("on side of", "side"), ("in front of", "front"), ("next to", "next")]
)
def test_a_phrase_of_the_relations_name_is_not_an_object(name: str, place: str) -> None:
    """spaCy finds the noun phrase "the top" in "on the top of"."""
    relation = Relation("girl", name, "frog")
    with_place, without = (
        atom_questions(Prompt("spatial/0000", "spatial", "", phrases=phrases, relation=relation))
        for phrases in (("a girl", place, "a frog"), ("a girl", "a frog"))
    )
    assert with_place == without and len(without) == 3
