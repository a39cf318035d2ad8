"""spaCy as the parser: with pipelines of rules, because its English model is not a dependency of the tests."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from eclipse_pl.prompts.compbench import CATEGORIES
from eclipse_pl.prompts.load import load_prompts
from eclipse_pl.prompts.shipped_parses import shipped_parses
from eclipse_pl.prompts.spacy_parser import SpacyParser
from tests.helpers.compbench_folder import write_compbench
from tests.helpers.rule_parser import RuleParser

CLOSED = {"DET": "a an the", "ADP": "on of to near next in front behind", "CCONJ": "and", "AUX": "is", "VERB": "hidden by"}
TAGS = {word: tag for tag, words in CLOSED.items() for word in words.split()}


@pytest.fixture(scope="module")
def spacy() -> Any:
    return pytest.importorskip("spacy", reason="spaCy is not installed")


@pytest.fixture(scope="module")
def model(spacy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of rules in a folder: closed words by list, the last word of a run is its noun, all else adjectives."""

    @spacy.language.Language.component("rules")
    def rules(document: Any) -> Any:
        for token in document:
            follows = document[token.i + 1].lower_ if token.i + 1 < len(document) else "."
            noun = follows in TAGS or not follows.isalpha()
            token.pos_ = TAGS.get(token.lower_, "NOUN" if noun else "ADJ") if token.is_alpha else "PUNCT"
        nouns = [token for token in document if token.pos_ == "NOUN"]
        for token in document:
            attached = token.pos_ in ("DET", "ADJ")
            token.head = next((noun for noun in nouns if noun.i > token.i), token) if attached else token
            token.dep_ = "ROOT" if token.head == token else "amod"
        return document

    folder = tmp_path_factory.mktemp("model")
    pipeline = spacy.blank("en")
    pipeline.add_pipe("rules")
    pipeline.meta.update({"name": "by_rule", "version": "0.1"})
    pipeline.to_disk(folder)
    return folder


def test_reads_words_and_chunks_and_drops_places(spacy: Any, model: Path) -> None:
    parser = SpacyParser(str(model))
    assert parser.version == f"spacy-{spacy.__version__}/en_by_rule-0.1"
    parse = parser.parse("a red cup  on the left of a big old table.")
    assert " ".join(word.tag for word in parse.words) == "DET ADJ NOUN ADP DET NOUN ADP DET ADJ ADJ NOUN PUNCT"
    assert parse.phrases == ("a red cup", "a big old table")


def test_a_whole_benchmark(model: Path, tmp_path: Path) -> None:
    prompts = load_prompts(write_compbench(tmp_path, lines=60), "compbench", CATEGORIES[:4], parser=SpacyParser(str(model)))
    ours = load_prompts(tmp_path, "compbench", CATEGORIES[:4], parser=RuleParser())
    assert prompts.parser != ours.parser
    assert [(prompt.phrases, prompt.relation) for prompt in prompts if prompt.category != "spatial"] == [
        (prompt.phrases, prompt.relation) for prompt in ours if prompt.category != "spatial"
    ]
    assert [prompt.relation for prompt in prompts] == [prompt.relation for prompt in ours]


def test_a_pipeline_that_says_too_little(spacy: Any, tmp_path: Path) -> None:
    spacy.blank("en").to_disk(tmp_path)
    with pytest.raises(ValueError, match="does not annotate POS; its components are none"):
        SpacyParser(str(tmp_path)).parse("a red cup")


def test_a_folder_that_is_damaged(model: Path, tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text((model / "meta.json").read_text())
    with pytest.raises(ValueError, match="cannot be loaded"):
        SpacyParser(str(tmp_path))


def test_a_missing_model(spacy: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no spaCy pipeline 'en_core_web_sn'.*; run `pip .*` and `python -m spacy download"):
        SpacyParser("en_core_web_sn")


def test_without_spacy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(
        ValueError, match=r"not installed.*; run `pip install 'eclipse_pl\[spacy\]'` and `python -m spacy download"
    ):
        SpacyParser()


def test_the_shipped_parses_are_this_spacys(spacy: Any) -> None:
    shipped = shipped_parses()
    model = shipped.parser.split("/")[1].rpartition("-")[0]
    if not spacy.util.is_package(model) or SpacyParser(model).version != shipped.parser:
        pytest.skip(f"{shipped.parser} is not installed")
    parser = SpacyParser(model)
    assert [text for text in shipped if parser.parse(text) != shipped[text]] == []
