"""UnifiedReward's answers by hand, and through a tiny Qwen3-VL: what it writes, points, pairs in both orders, win rates."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from eclipse_pl.compbench.compbench import CompBench
from eclipse_pl.compbench.scoring import Scoring
from eclipse_pl.prompts.prompt import Prompt
from eclipse_pl.scorers.reward import PairScorer, RewardScorer, choice_of, final_score, winner
from eclipse_pl.scorers.vlm import VisionLanguageModel
from eclipse_pl.world.prompt_source import WorldPrompts
from tests.helpers.scorers_for_images import Grey, MeanColour, Random
from tests.helpers.tiny_scorers import prompt, tiny_image, tiny_qwen


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen(tmp_path_factory.mktemp("reward") / "tiny-qwen")


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("kite (object): 1\nFinal Score: 3.5", 3.5),
        ("Final Score: 2\n... on reflection,\n**Final Score:** 4", 4.0),
        ("final score: [5]", 5.0),
        ("Final Score: 7", None),
        ("Final Score: 0", None),
        ("The final score cannot be given: 3 objects are missing", None),
        ("", None),
    ],
)
def test_points(answer: str, score: float | None) -> None:
    assert final_score(answer) == score


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("Image 2 has more detail. Image 1 is better.", 1.0),
        ("image 2 is better", 0.0),
        ("At first Image 1 is better, but with the caption in mind Image 2 is better.", 0.0),
        ("Both images are equally good.", 0.5),
        ("I cannot say.", None),
    ],
)
def test_winners(answer: str, value: float | None) -> None:
    assert winner(answer) == value


@pytest.mark.parametrize(
    ("first", "second", "value"),
    [("1", "2", 1.0), ("2", "1", 0.0), ("1", "1", 0.5), ("2", "2", 0.5)],
)
def test_a_model_that_prefers_a_place_makes_a_tie(first: str, second: str, value: float) -> None:
    assert choice_of(f"Image {first} is better.", f"Image {second} is better.").value == value
    assert choice_of(f"Image {first} is better.", "Both images are equally good.").value == (0.75 if first == "1" else 0.25)
    failed = choice_of("Image 1 is better.", "?")
    assert math.isnan(failed.value) and failed.failure == "an answer of the model names no better image"


def test_what_the_model_writes_is_what_transformers_generates(folder: Path) -> None:
    """For one image and for two, alone and in a batch."""
    from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

    processor, model = AutoProcessor.from_pretrained(folder), Qwen3VLForConditionalGeneration.from_pretrained(folder).eval()
    vlm = VisionLanguageModel(str(folder), device="cpu")
    sets = [[tiny_image(0), tiny_image(1, (40, 70))], [tiny_image(2), tiny_image(3)]]
    expected = []
    for images, question in zip(sets, ["which one?", "which of both is the better one?"], strict=True):
        content = [*({"type": "image", "image": image} for image in images), {"type": "text", "text": question}]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=True, add_generation_prompt=True, return_dict=True,
            return_tensors="pt",
        )  # fmt: skip
        tokens = model.generate(**inputs, max_new_tokens=6, do_sample=False)[:, inputs["input_ids"].shape[1] :]
        expected.append(processor.batch_decode(tokens, skip_special_tokens=True)[0])
    assert vlm.write(sets, ["which one?", "which of both is the better one?"], 6) == expected
    assert vlm.write(sets[:1], ["which one?"], 6) == expected[:1] and expected[0]


def test_answers_without_a_score_are_counted_as_failed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = RewardScorer(str(folder), max_tokens=4, precision="float32", device="cpu", batch_size=2)
    (score,) = scorer.score([tiny_image()], [prompt("a kite")])
    assert score.failure == "the model's answer has no 'Final Score:' from 1 to 5" and "answer" in score.evidence
    assert scorer.name == "reward[tiny-qwen]" and "at most 4 tokens" in scorer.version
    asked: list[str] = []

    def written(images: Any, questions: Sequence[str], max_tokens: int) -> list[str]:
        asked.extend(questions)
        return [f"Final Score: {1 + len(asked) % 5}" for _ in questions]

    monkeypatch.setattr(scorer.vlm, "write", written)
    values = [score.value for score in scorer.score([tiny_image()] * 3, [prompt("a kite"), prompt("a {}"), prompt("x")])]
    assert values == [3.0, 3.0, 4.0] and "Text Caption: [a {}]" in asked[1]


class Brightest:
    """Writes that the brighter image is better."""

    def __call__(self, images: Sequence[Sequence[Image.Image]], questions: Sequence[str], max_tokens: int) -> list[str]:
        levels = [[one.getpixel((0, 0))[0] for one in pair] for pair in images]  # type: ignore[index]
        return [f"Image {1 if one > other else 2} is better." for one, other in levels]


class Bright(Grey):
    """The same, brighter."""

    identity = {"text_to_image": "bright"}  # noqa: RUF012

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image.Image]:
        return super().generate(prompts, [seed + 8 for seed in seeds])


def test_pairs_give_a_win_rate(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = WorldPrompts(2, ["colour"])
    CompBench(prompts, [Scoring(MeanColour())]).run(Grey(), tmp_path / "base", progress=False)
    pairs = PairScorer(str(folder), str(tmp_path / "base"), device="cpu")
    monkeypatch.setattr(pairs.vlm, "write", Brightest())
    card = CompBench(prompts, [Scoring(pairs)]).run(Bright(), tmp_path / "ours", progress=False)
    cell = card["scores"]["wins_over_base[tiny-qwen]"]["colour"]["all"]
    assert (cell["mean"], cell["images"], cell["interval"]) == (1.0, 4, "Clopper-Pearson")
    darker = PairScorer(str(folder), str(tmp_path / "ours"), device="cpu")
    monkeypatch.setattr(darker.vlm, "write", Brightest())
    card = CompBench(prompts, [Scoring(darker)]).run(Grey(), tmp_path / "again", progress=False)
    assert card["scores"]["wins_over_ours[tiny-qwen]"]["colour"]["all"]["mean"] == 0.0


def test_references_of_other_seeds_or_prompts_are_refused(folder: Path, tmp_path: Path) -> None:
    """Before any image is generated."""
    prompts = WorldPrompts(2, ["colour"])
    CompBench(prompts, [Scoring(MeanColour())]).run(Grey(), tmp_path / "base", progress=False)
    pairs = [Scoring(PairScorer(str(folder), str(tmp_path / "base"), device="cpu"))]
    CompBench(prompts, pairs).require_ready()
    with pytest.raises(ValueError, match=r"base has seed 42, and this benchmark's has seed 50\. Pairs need equal seeds"):
        CompBench(prompts, pairs, seed=50).run(Grey(), tmp_path / "ours", progress=False)
    for others in (WorldPrompts(3, ["colour"]), WorldPrompts(2, ["colour"], seed=1)):
        with pytest.raises(
            ValueError, match=r"base has no image of prompt colour/.*Take the folder of a benchmark of the same"
        ):
            CompBench(others, pairs).run(Grey(), tmp_path / "ours", progress=False)
    assert not (tmp_path / "ours").exists()


def test_pairs_depend_on_the_references_images_and_not_on_its_other_scores(folder: Path, tmp_path: Path) -> None:
    prompts, base = WorldPrompts(1, ["colour"]), tmp_path / "base"
    CompBench(prompts, [Scoring(MeanColour())]).run(Grey(), base, progress=False)
    version = PairScorer(str(folder), str(base), device="cpu").version
    CompBench(prompts, [Scoring(MeanColour()), Scoring(Random())]).run(Grey(), base, progress=False)
    assert "random" in (base / "rows.jsonl").read_text()
    assert PairScorer(str(folder), str(base), device="cpu").version == version
    image = next(base.rglob("*.png"))
    tiny_image().save(image)
    assert PairScorer(str(folder), str(base), device="cpu").version != version
    image.unlink()
    with pytest.raises(ValueError, match=r"1 reference images cannot be read, .*colour"):
        PairScorer(str(folder), str(base), device="cpu").require_ready()


def test_references_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"There is no .*rows\.jsonl: `reference` is the folder of a finished benchmark"):
        PairScorer(str(folder), str(tmp_path), device="cpu").require_ready()
    row = {"id": "color/0000", "prompt": "a kite", "seed": 42, "file": "a.png"}
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(row) + "\n")
    scorer = PairScorer(str(folder), str(tmp_path), precision="float32", device="cpu")
    other, lost = scorer.score([tiny_image(), tiny_image()], [prompt("a ship"), prompt("a kite")])
    assert "has no image of prompt color/0000 ('a ship')" in str(other.failure)
    assert "a.png cannot be read" in str(lost.failure)
    rows.write_text((json.dumps(row) + "\n") * 2)
    with pytest.raises(ValueError, match="has several images of prompt color/0000; pairs need one image a prompt"):
        PairScorer(str(folder), str(tmp_path), device="cpu").require_ready()
    with pytest.raises(ValueError, match=r"compares one image a prompt, and images_per_prompt is 2\. Set it to 1"):
        CompBench(WorldPrompts(1), [Scoring(scorer)], images_per_prompt=2)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [({"question": "how good?"}, "'how good\\?' has no place for the prompt"), ({"max_tokens": 0}, "max_tokens is 0")],
)
def test_bad_options(wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        RewardScorer("nowhere", **wrong)
