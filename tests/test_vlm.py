"""VqaScorer and AtomScorer over a tiny Qwen3-VL: probabilities as one pass of transformers gives them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from PIL import Image

from eclipse_pl.prompts.prompt import Relation, Required
from eclipse_pl.scorers.dependent_questions import QuestionScorer
from eclipse_pl.scorers.scorer import Score
from eclipse_pl.scorers.vlm import AtomScorer, VisionLanguageModel, VqaScorer
from tests.helpers.tiny_scorers import prompt, qwen_tokenizer, tiny_blip, tiny_image, tiny_qwen


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen(tmp_path_factory.mktemp("vlm") / "tiny-qwen")


def first_token(folder: Path, image: Image.Image, question: str) -> dict[str, float]:
    """One image and question in one pass, by the processor's own chat template."""
    from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

    processor = AutoProcessor.from_pretrained(folder)
    content = [{"type": "image", "image": image}, {"type": "text", "text": question}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        probabilities = Qwen3VLForConditionalGeneration.from_pretrained(folder).eval()(**inputs).logits[0, -1].softmax(0)
    return {processor.tokenizer.decode([i]): float(p) for i, p in enumerate(probabilities)}


def test_vqa_score_is_the_probability_of_yes(folder: Path) -> None:
    images = [tiny_image(0), tiny_image(1, (40, 70)), tiny_image(2)]
    prompts = [prompt("a cat"), prompt("two dogs in a park"), prompt('a "sign"')]
    scorer = VqaScorer(str(folder), precision="float32", device="cpu", batch_size=2)
    scores = scorer.score(images, prompts)
    for image, asked, score in zip(images, prompts, scores, strict=True):
        question = f'Does this figure show "{asked.text}"? Please answer Yes or No.'
        assert score.evidence == {"question": question, "yes": score.value}
        assert score.value == pytest.approx(first_token(folder, image, question)["Yes"], abs=1e-6)
    assert scorer.name == "vqa_score[tiny-qwen]" and "Does this figure show" in scorer.version
    assert len({score.value for score in scores}) == 3


def test_atoms_and_their_means(folder: Path) -> None:
    scorer = AtomScorer(str(folder), precision="float32", device="cpu", batch_size=3)
    two_dogs = prompt(category="numeracy", required=(Required("dog", 2),))
    bench = prompt(phrases=("a green bench", "a bowl"))
    near, nothing = prompt(category="spatial", relation=Relation("cat", "near", "dog")), prompt("???")
    scores = scorer.score([tiny_image(i) for i in range(4)], [two_dogs, bench, nothing, near])
    assert [len(score.evidence.get("atoms", [])) for score in scores] == [2, 3, 0, 3]
    assert "has no noun phrases, relation or counted objects, which atoms_geometric[tiny-qwen]" in str(scores[2].failure)
    dog, count = scores[0].evidence["atoms"]
    there, how_many = (first_token(folder, tiny_image(0), atom["question"]) for atom in (dog, count))
    assert dog["probability"] == pytest.approx(there["Yes"] + there["yes"], abs=1e-5)
    # "2" and "two" are tokens; "Two" is not, and is not guessed from its first letter
    assert count["probability"] == pytest.approx(how_many["2"] + how_many["two"], abs=1e-5)
    p = dog["probability"], count["probability"]
    assert scores[0].evidence["arithmetic"] == pytest.approx(sum(p) / 2, abs=1e-5)
    assert scores[0].value == scores[0].evidence["geometric"] == pytest.approx((p[0] * p[1]) ** 0.5, abs=1e-5)
    arithmetic = AtomScorer(str(folder), "arithmetic", precision="float32", device="cpu")
    (other,) = arithmetic.score([tiny_image(0)], [two_dogs])
    assert other.value == pytest.approx(scores[0].evidence["arithmetic"]) and arithmetic.name == "atoms_arithmetic[tiny-qwen]"


def test_probabilities_that_add_up_to_more_than_one_by_rounding_are_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = AtomScorer(str(folder), "arithmetic", precision="float32", device="cpu")
    rows = torch.zeros(1, 100)
    rows[0, scorer.vlm.token_ids(("Yes", "yes"))] = torch.tensor([0.75, 0.25 + 1e-6])
    monkeypatch.setattr(scorer.vlm, "answers", lambda images, questions: rows)
    assert scorer.score([tiny_image()], [prompt(phrases=("a cat",))])[0].value == 1


def test_bfloat16_is_the_default_and_says_so(folder: Path) -> None:
    scorer = VqaScorer(str(folder), device="cpu")
    (score,) = scorer.score([tiny_image()], [prompt()])
    assert isinstance(score, Score) and 0 < score.value < 1
    assert "bfloat16" in scorer.version and next(scorer.vlm.model.parameters()).dtype == torch.bfloat16


def test_answers_that_are_no_tokens(folder: Path) -> None:
    vlm = VisionLanguageModel(str(folder))
    assert len(vlm.token_ids(("Yes", " Yes", "yes"))) == 2
    with pytest.raises(ValueError, match=r"splits all of \('eleven', 'Eleven'\)"):
        vlm.token_ids(("eleven", "Eleven"))


def test_answers_that_are_no_tokens_are_refused_before_any_image_is_generated(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atoms = AtomScorer(str(folder), device="cpu")
    atoms.require_prompts([prompt(category="numeracy", required=(Required("dog", 2),))], 42)
    with pytest.raises(ValueError, match=r"splits all of \('11', ' 11'\), so it gives no probability"):
        atoms.require_prompts([prompt(category="numeracy", required=(Required("dog", 11),))], 42)
    splitting = qwen_tokenizer(words=())
    for scorer in (VqaScorer(str(folder), device="cpu"), QuestionScorer(str(folder), device="cpu")):
        scorer.require_ready()
        monkeypatch.setattr(scorer.vlm.both, "tokenizer", splitting)
        with pytest.raises(ValueError, match=r"splits all of \('Yes'"):
            scorer.require_ready()


def test_models_that_do_not_chat(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "tiny-qwen"))
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match=r"has no chat template\. Use an instruction-tuned model"):
        VqaScorer(str(copy), device="cpu").require_ready()
    blip = tiny_blip(tmp_path / "tiny-blip")
    with pytest.raises(ValueError, match=r"holds BlipForQuestionAnswering, and this scorer works with .* or \d+ others"):
        VqaScorer(str(blip), device="cpu").score([tiny_image()], [prompt()])


@pytest.mark.parametrize(
    ("make", "wrong", "match"),
    [
        (VqaScorer, {"question": "Is this it?"}, "'Is this it\\?' has no place for the prompt: write {} there"),
        (AtomScorer, {"mean": "harmonic"}, "mean is 'harmonic'; choose one of 'geometric', 'arithmetic'"),
    ],
)
def test_bad_options(make: Any, wrong: dict[str, str], match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=match):
        make("nowhere", **wrong)
