"""DPG-Bench, DSG-1k, GenEval 2 and GenAI-Bench through ``data_prep prompts``, and what damaged files get."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from data_prep.__main__ import main
from data_prep.upstream import UPSTREAMS
from eclipse_pl.prompts.load import FILES, load_prompts
from eclipse_pl.prompts.prompt import Prompt, PromptSet, Question
from tests.helpers.question_suites import (
    KITE,
    KITE_QUESTIONS,
    LONG,
    write_genai_bench,
    write_geneval2,
    write_propositions,
)
from tests.helpers.rule_parser import RuleParser

ROW = {
    "prompt": "two red kites",
    "atom_count": 3,
    "vqa_list": [["How many kites are there?", "two"], ["Are the kites red?", "Yes"], ["Are there any kites?", "Yes"]],
    "skills": ["count", "attribute", "object"],
}


def small(suite: str, folder: Path) -> Path:
    """A folder with a small set in the suite's format."""
    if suite == "geneval2":
        return write_geneval2(folder / FILES[suite], [ROW, {**ROW, "prompt": "two red ships", "atom_count": 4}]).parent
    if suite == "genai_bench":
        return write_genai_bench(folder, [KITE, LONG, "a ship"], {"counting": [1], "basic": [0], "advanced": [1]})
    items = {"vrd_3": (KITE, KITE_QUESTIONS), "whoops_7": (LONG, KITE_QUESTIONS[:3]), "12": ("a ship", KITE_QUESTIONS[:1])}
    return write_propositions(folder / FILES[suite], items).parent


def prepare(suite: str, source: Path, out: Path, *more: str) -> int:
    return main(["prompts", "--suite", suite, "--out", str(out), "--source", str(source), *more])


def test_questions_and_their_parents(tmp_path: Path) -> None:
    prompts = load_prompts(small("dpg", tmp_path), "dpg")
    assert [prompt.id for prompt in prompts] == ["dpg/vrd_3", "dpg/whoops_7", "dpg/12"] and prompts.name == "DPG-Bench"
    kite = prompts.prompts[0]
    assert kite.text == KITE and prompts.parser == "" and not prompts.failed
    assert kite.questions == (
        Question("Is there a kite?", "entity"),
        Question("Is there a table?", "entity"),
        Question("Is the kite red?", "attribute", parents=(0,)),
        Question("Is the kite on the table?", "relation", parents=(0, 1)),
        Question("Is there one kite on the table?", "other", parents=(3,)),
    )
    assert [len(prompt.questions) for prompt in prompts] == [5, 3, 1]


def test_dsg_reports_the_sources_of_its_prompts(tmp_path: Path) -> None:
    folder = small("dsg", tmp_path)
    assert [prompt.id for prompt in load_prompts(folder, "dsg")] == ["relation/vrd_3", "defying/whoops_7", "dsg/12"]
    assert len(load_prompts(folder, "dsg", ["relation"])) == 1
    with pytest.raises(ValueError, match="DSG-1k has no category 'pose'; its categories are relation, defying, dsg"):
        load_prompts(folder, "dsg", ["pose"])


def test_geneval2(tmp_path: Path) -> None:
    first, second = load_prompts(small("geneval2", tmp_path), "geneval2")
    assert (first.id, first.subset, second.subset) == ("geneval2/0000", "atoms_03", "atoms_04")
    assert first.questions[:2] == (
        Question("How many kites are there?", "count", "two"),
        Question("Are the kites red?", "attribute", "yes"),
    )


def test_genai_bench(tmp_path: Path) -> None:
    prompts = load_prompts(small("genai_bench", tmp_path), "genai_bench")
    assert [prompt.id for prompt in prompts] == ["basic/00000", "advanced/00001", "untagged/00002"]
    assert load_prompts(tmp_path / "genai_image.json", "genai_bench", ["basic"]).prompts == prompts.prompts[:1]
    with pytest.raises(ValueError, match="has no category 'counting'; its categories are basic, advanced, untagged"):
        load_prompts(tmp_path, "genai_bench", ["counting"])


def test_a_parser_adds_phrases_for_scorers_that_ask_about_them(tmp_path: Path) -> None:
    prompts = load_prompts(small("dpg", tmp_path), "dpg", parser=RuleParser())
    assert prompts.prompts[0].phrases == ("a red kite", "a round table") and prompts.parser == "rules-1"


def test_hashes_of_sets_without_questions_stay_as_they_were() -> None:
    without = PromptSet("ours", (Prompt("x/0", "x", "a kite"),), "")
    facts = {
        "id": "x/0", "category": "x", "text": "a kite", "subset": "", "phrases": [], "relation": None, "required": [],
        "excluded": [], "adjectives": [],
    }  # fmt: skip
    assert without.sha256 == sha256(json.dumps([facts], sort_keys=True).encode()).hexdigest()
    asked = PromptSet("ours", (Prompt("x/0", "x", "a kite", questions=(Question("Is there a kite?"),)),), "")
    assert asked.sha256 != without.sha256


@pytest.mark.parametrize("suite", ["dpg", "dsg", "geneval2", "genai_bench"])
def test_the_command(tmp_path: Path, suite: str, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = small(suite, tmp_path / "upstream"), tmp_path / "out"
    assert prepare(suite, source, out) == 2
    upstream = UPSTREAMS[suite]
    assert f"of upstream has {upstream.prompts:,}. Check --source" in capsys.readouterr().err
    assert not (out / "prompts.json").exists()
    assert prepare(suite, source, out, "--accept-changed") == 0
    told = capsys.readouterr().out
    assert f"Licence of the prompts: {upstream.licence}" in told
    assert ("longer than the 77 tokens that CLIP reads: 1 of 3." in told) == (suite != "geneval2")
    assert ("9 questions" in told) == (suite in ("dpg", "dsg"))
    record = json.loads((out / "prompts.json").read_text())
    assert set(record["files"]) == set(upstream.files) and record["licence"] == upstream.licence
    assert load_prompts(out, suite).sha256[:12] in told
    # changed where it was published, then on this machine
    changed = source / upstream.files[0]
    changed.write_text(changed.read_text().replace("red", "blue"))
    assert prepare(suite, source, out) == 2
    assert f"{upstream.files[0]} has changed since the last run" in capsys.readouterr().err
    (out / upstream.files[0]).write_text(changed.read_text())
    with pytest.raises(ValueError, match="has changed since it was downloaded; scores of its prompts are not comparable"):
        load_prompts(out, suite)


@pytest.mark.parametrize(
    ("question", "why"),
    [
        ((2, "7", "entity - whole (x)", "Is there an x?"), "line 3 depends on question 7, which the prompt does not have"),
        ((2, "one", "entity - whole (x)", "Is there an x?"), "has 'one' in its column dependency, which holds whole numbers"),
        ((1, "0", "entity - whole (x)", "Is there an x?"), "has the proposition_id '1', a new number from 1"),
        ((2, "0", "entity - whole (x)", " "), "line 3 has no question"),
    ],
)
def test_questions_that_cannot_be_read(tmp_path: Path, question: Any, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    items = {"1": (KITE, (KITE_QUESTIONS[0], question)), "2": (KITE, KITE_QUESTIONS)}
    folder = write_propositions(tmp_path / "up" / FILES["dpg"], items).parent
    prompts = load_prompts(folder, "dpg")
    assert [len(prompt.questions) for prompt in prompts] == [0, 5] and [name for name, _ in prompts.failed] == ["dpg/1"]
    assert why in prompts.failed[0][1]
    assert prepare("dpg", folder, tmp_path / "out", "--accept-changed") == 0
    assert f"warning: the questions of dpg/1 cannot be read: {prompts.failed[0][1][-20:]}"[-20:] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("suite", "content", "why"),
    [
        ("dpg", "item_id,text\n1,a kite\n", "is not a file of DPG-Bench: it has no column 'proposition_id'"),
        ("geneval2", '{"prompt": "a kite", "atom_count": 1}\n', "line 1, is not a line of GenEval 2: 'vqa_list' is missing"),
        ("geneval2", json.dumps({**ROW, "skills": []}) + "\n", "it has 3 questions and 0 skills"),
        ("genai_bench", "[]", "is not a file of GenAI-Bench: a JSON object"),
        ("genai_bench", '{"0": {"text": "a kite"}}', "are not files of GenAI-Bench: 'prompt' is missing"),
        ("dsg", "", "is empty"),
    ],
)
def test_files_of_another_form(tmp_path: Path, suite: str, content: str, why: str) -> None:
    (tmp_path / "genai_skills.json").write_text('{"basic": [], "advanced": []}')
    (tmp_path / FILES[suite]).write_text(content)
    with pytest.raises(ValueError, match=why):
        load_prompts(tmp_path, suite)


@pytest.mark.parametrize("suite", ["dpg", "geneval2", "genai_bench"])
def test_missing_files(tmp_path: Path, suite: str) -> None:
    with pytest.raises(ValueError, match=r"There is no .*`python -m data_prep prompts --suite compbench"):
        load_prompts(tmp_path, suite)


@pytest.mark.parametrize("file", ["genai_image.json", "genai_skills.json"])
@pytest.mark.parametrize("source", ["", "genai_image.json"])
def test_both_files_of_genai_bench_are_those_that_were_downloaded(tmp_path: Path, file: str, source: str) -> None:
    assert prepare("genai_bench", small("genai_bench", tmp_path / "upstream"), tmp_path / "out", "--accept-changed") == 0
    assert len(load_prompts(tmp_path / "out" / source, "genai_bench")) == 3
    (tmp_path / "out" / file).write_text((tmp_path / "out" / file).read_text() + "\n")
    with pytest.raises(ValueError, match=f"{file} has changed since it was downloaded"):
        load_prompts(tmp_path / "out" / source, "genai_bench")


def test_a_file_of_genai_bench_by_its_name(tmp_path: Path) -> None:
    small("genai_bench", tmp_path)
    (tmp_path / "genai_527.json").write_text(json.dumps({"00001": {"prompt": "a sail"}}))
    assert [prompt.text for prompt in load_prompts(tmp_path / "genai_527.json", "genai_bench")] == ["a sail"]
