"""DPG-Bench's and DSG's rule by hand and against its published steps, and a tiny Qwen3-VL that answers the questions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from eclipse_pl.__main__ import main
from eclipse_pl.prompts.load import FILES, load_prompts
from eclipse_pl.prompts.prompt import Prompt, Question
from eclipse_pl.scorers.dependent_questions import FORMS, QuestionScorer, points_of, score_of
from eclipse_pl.scorers.scorer import Score
from eclipse_pl.scorers.vlm import AtomScorer
from tests.helpers.question_suites import KITE, KITE_QUESTIONS, write_geneval2, write_propositions
from tests.helpers.scorers_for_images import Grey
from tests.helpers.tiny_scorers import prompt, tiny_image, tiny_qwen
from tests.test_vlm import first_token

CHAIN = (
    Question("Is there a kite?", "entity"),
    Question("Has the kite a tail?", "entity", parents=(0,)),
    Question("Is the tail red?", "attribute", parents=(1,)),
    Question("Is there a table?", "entity"),
)


class Long(Grey):
    """Grey images by a model that reads a hundred characters."""

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image.Image]:
        return [image.resize((48, 48)) for image in super().generate(prompts, seeds)]

    def count_cut(self, prompts: Sequence[Prompt]) -> int:
        return sum(len(one.text) > 100 for one in prompts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen(tmp_path_factory.mktemp("questions") / "tiny-qwen")


@pytest.mark.parametrize(
    ("answers", "cascading", "one_level"),
    [
        ("yes yes yes yes", 1.0, 1.0),
        ("no yes yes yes", 1 / 4, 2 / 4),  # the tail's colour: its parent is void, but was answered by "yes"
        ("yes no yes yes", 2 / 4, 2 / 4),
        ("yes yes yes no", 3 / 4, 3 / 4),
        ("neither yes yes yes", 1 / 4, 2 / 4),
        ("no no no no", 0.0, 0.0),
    ],
)
def test_the_rule_by_hand(answers: str, cascading: float, one_level: float) -> None:
    score = score_of(CHAIN, answers.split())
    assert score.value == cascading and score_of(CHAIN, answers.split(), cascade=False).value == one_level
    assert [one["answer"] for one in score.evidence["questions"]] == answers.split()


def published(answers: Sequence[bool], parents: Sequence[Sequence[int]], cascade: bool) -> list[float]:
    """The steps of both scripts, over dictionaries from the number of a question from 1: DPG-Bench's looks up parents in the
    scores that it changes, DSG's in a copy of what was answered."""
    scores = {number: float(answer) for number, answer in enumerate(answers, start=1)}
    looked_up = scores if cascade else dict(scores)
    for number, of_question in enumerate(parents, start=1):
        void = False
        for parent in of_question:
            if parent != 0 and looked_up[parent] == 0:
                void = True
                break
        if void:
            scores[number] = 0.0
    return list(scores.values())


@settings(max_examples=200)
@given(st.data(), st.booleans())
def test_the_rule_is_the_published_one(data: st.DataObject, cascade: bool) -> None:
    """Also where a question depends on a later one, on itself, or on several."""
    answers = data.draw(st.lists(st.sampled_from([True, True, False]), min_size=3, max_size=6))
    parents = [data.draw(st.lists(st.integers(0, len(answers)), max_size=2)) for _ in answers]
    questions = [Question("?", parents=tuple(one - 1 for one in of_question if one)) for of_question in parents]
    words = ["yes" if answer else data.draw(st.sampled_from(["no", "neither"])) for answer in answers]
    assert points_of(questions, words, cascade) == [bool(point) for point in published(answers, parents, cascade)]


def test_a_model_answers(folder: Path, tmp_path: Path) -> None:
    prompts = load_prompts(write_propositions(tmp_path / FILES["dpg"], {"1": (KITE, KITE_QUESTIONS)}), "dpg")
    scorer = QuestionScorer(str(folder), precision="float32", device="cpu", batch_size=3)
    images = [tiny_image(1), tiny_image(2, (40, 70))]
    scores = scorer.score(images, [*prompts, *prompts])
    for image, score in zip(images, scores, strict=True):
        for evidence, (*_, question) in zip(score.evidence["questions"], KITE_QUESTIONS, strict=True):
            tokens = first_token(folder, image, f"{question} Please answer Yes or No.")
            likeliest = max(tokens, key=tokens.__getitem__)
            assert evidence["question"] == question
            assert evidence["answer"] == next((name for name, forms in FORMS.items() if likeliest in forms), "neither")
    assert scorer.name == "questions[tiny-qwen]" and "Please answer Yes or No." in scorer.version
    assert QuestionScorer(str(folder), cascade=False, device="cpu").name == "questions_one_level[tiny-qwen]"


def test_the_likeliest_token_decides(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = QuestionScorer(str(folder), precision="float32", device="cpu")
    yes, no = (scorer.vlm.token_ids(forms) for forms in FORMS.values())
    rows = torch.zeros(4, 100)
    for row, token in enumerate([yes[0], no[0], next(one for one in range(100) if one not in {*yes, *no}), yes[-1]]):
        rows[row, token] = 0.4
    monkeypatch.setattr(scorer.vlm, "answers", lambda images, questions: rows)
    (score,) = scorer.score([tiny_image()], [prompt("a kite", questions=CHAIN)])
    assert [one["answer"] for one in score.evidence["questions"]] == ["yes", "no", "neither", "yes"] and score.value == 0.5
    report = scorer.report([score, Score.failed("broken")])
    assert report == {"questions": 4, "neither": 1, "yes_by_kind": {"entity": 2 / 3, "attribute": 0.0}}


def test_prompts_without_such_questions(folder: Path) -> None:
    scorer = QuestionScorer(str(folder), device="cpu")
    counted = prompt(questions=(Question("How many kites are there?", "count", "two"),))
    for score in scorer.score([tiny_image(), tiny_image()], [prompt(), counted]):
        assert "has no published yes-or-no questions, which questions[tiny-qwen] needs" in str(score.failure)
    assert scorer.report([]) == {}


def test_geneval2_is_scored_by_soft_tifa(folder: Path, tmp_path: Path) -> None:
    row = {"prompt": "two kites", "atom_count": 2, "skills": ["count", "object"]}
    row["vqa_list"] = [["How many kites are in the image?", "two"], ["Are there any kites in the image?", "Yes"]]
    (asked,) = load_prompts(write_geneval2(tmp_path / FILES["geneval2"], [row]), "geneval2")
    (score,) = AtomScorer(str(folder), precision="float32", device="cpu").score([tiny_image()], [asked])
    count, there = (first_token(folder, tiny_image(), f"{one} Answer in one word.") for one, _ in row["vqa_list"])
    p = count["2"] + count["two"], there["Yes"] + there["yes"]
    assert [atom["kind"] for atom in score.evidence["atoms"]] == ["count", "object"]
    assert score.evidence["arithmetic"] == pytest.approx(sum(p) / 2, abs=1e-5)
    assert score.value == pytest.approx((p[0] * p[1]) ** 0.5, abs=1e-5)


@pytest.mark.long
def test_a_scorecard_states_cut_prompts_and_other_answers(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the front door, with two images a prompt: the mean over questions, then images, then prompts."""
    items = {"1": (KITE, KITE_QUESTIONS), "2": (f"{KITE} {'x' * 100}", KITE_QUESTIONS[:2])}
    write_propositions(tmp_path / "dpg" / FILES["dpg"], items)
    part = Path("experiments/parts/protocol/dpg.yaml")
    protocol = yaml.safe_load(part.read_text())
    (scoring,) = protocol["init_args"]["scorers"]
    scoring["scorer"]["init_args"] |= {"path": str(folder), "precision": "float32"}
    protocol["init_args"]["prompts"]["init_args"]["folder"] = str(tmp_path / "dpg")
    protocol["init_args"] |= {"images_per_prompt": 2, "block": 3}
    (tmp_path / "protocol.yaml").write_text(yaml.safe_dump(protocol))
    generate = {"class_path": "tests.test_dependent_questions.Long"}
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(generate))
    words = [
        f"--protocol={tmp_path / 'protocol.yaml'}",
        f"--text_to_image={tmp_path / 'model.yaml'}",
        f"--out={tmp_path / 'o'}",
    ]
    assert main(["benchmark", *words]) == 0
    card = json.loads((tmp_path / "o" / "scorecard.json").read_text())
    rows = [json.loads(line) for line in (tmp_path / "o" / "rows.jsonl").read_text().splitlines()]
    name = "questions[tiny-qwen]"
    evidence = [row["scores"][name]["evidence"]["questions"] for row in rows]
    assert [len(one) for one in evidence] == [5, 5, 2, 2] and card["cut_prompts"] == 1
    means = [sum(answer["counts"] for answer in one) / len(one) for one in evidence]
    assert card["scores"][name]["dpg"]["all"]["mean"] == pytest.approx(sum(means) / 4)
    answers = card["answers"][name]
    assert answers["questions"] == 14 and answers["neither"] == sum(a["answer"] == "neither" for one in evidence for a in one)
    told = capsys.readouterr().out
    assert "1 of 2 prompts are longer than the text encoder reads: it cut them." in told
    assert f"questions[tiny-qwen]: {answers['neither']} of 14 answers" in " ".join(told.split())
