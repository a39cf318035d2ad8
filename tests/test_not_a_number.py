"""Scorers whose network's output is not a number: the image counts as failed, and never gets a score."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from eclipse_pl.compbench.compbench import CompBench
from eclipse_pl.compbench.reference_images import SceneImages
from eclipse_pl.compbench.scoring import Scoring
from eclipse_pl.compbench.similarity import SimilarityScorer
from eclipse_pl.prompts.prompt import Prompt, Question, Relation, Required
from eclipse_pl.scorers.blip_vqa import BlipVqaScorer
from eclipse_pl.scorers.clip_score import ClipScorer
from eclipse_pl.scorers.clip_towers import TransformersClip
from eclipse_pl.scorers.dependent_questions import QuestionScorer
from eclipse_pl.scorers.depth import DptDepth
from eclipse_pl.scorers.detections import Detection
from eclipse_pl.scorers.detector import DetectorScorer
from eclipse_pl.scorers.detectors import GroundingDino, Owlv2
from eclipse_pl.scorers.feature_extractors import Dinov2Features
from eclipse_pl.scorers.features import extract, reference_features
from eclipse_pl.scorers.geneval import GenEvalScorer
from eclipse_pl.scorers.mask2former import Mask2Former
from eclipse_pl.scorers.network_scorer import NetworkScorer
from eclipse_pl.scorers.pick_score import PickScorer
from eclipse_pl.scorers.scorer import Score
from eclipse_pl.scorers.vlm import AtomScorer, VqaScorer
from eclipse_pl.world.prompt_source import WorldPrompts
from tests.helpers import tiny_scorers as tiny
from tests.helpers.scorers_for_images import Grey, MeanColour
from tests.helpers.tiny_scorers import box, prompt, tiny_image

WHY = "output is not a number; use precision bfloat16 or float32"
LEFT, FRONT = Relation("cat", "on the left of", "dog"), Relation("cat", "in front of", "dog")
ASKED = prompt(
    phrases=("a green bench", "a blue bowl"),
    required=(Required("dog", 1, colour="red"),),
    questions=(Question("Is there a bench?"), Question("Is there a bowl?")),
)


class TwoBoxes(GroundingDino):
    """A detector that sees a dog and a cat in every image, one before the other."""

    def build(self) -> torch.nn.Module:
        return torch.nn.Identity()

    def find(self, images: list[Image.Image], nouns: list[list[str]]) -> list[list[Detection]]:
        boxes = box(0, 0, 30, 30), box(10, 0, 40, 30)
        return [[Detection(noun, 0.9, one) for noun, one in zip(("dog", "cat"), boxes, strict=True)] for _ in images]


def detector(folder: Path, network: Callable[..., Any], make: Callable[[Path], Path]) -> DetectorScorer:
    return DetectorScorer(network(str(make(folder / "detector")), device="cpu"))


def geneval(folder: Path, finder: str) -> GenEvalScorer:
    clip = TransformersClip(str(tiny.tiny_clip(folder / "clip")), device="cpu")
    if finder == "mask2former":
        return GenEvalScorer(Mask2Former(str(tiny.tiny_mask2former(folder / "mask")), threshold=0.0, device="cpu"), clip)
    return GenEvalScorer(TwoBoxes(str(tiny.tiny_grounding_dino(folder / "dino")), device="cpu"), clip)


SCORERS: dict[str, Callable[[Path], NetworkScorer]] = {
    "blip": lambda folder: BlipVqaScorer(str(tiny.tiny_blip(folder / "blip")), resolution=32, device="cpu"),
    "clip": lambda folder: ClipScorer(TransformersClip(str(tiny.tiny_clip(folder / "clip")), device="cpu")),
    "pick": lambda folder: PickScorer(str(tiny.tiny_clip(folder / "clip")), device="cpu"),
    "vqa": lambda folder: VqaScorer(str(tiny.tiny_qwen(folder / "qwen")), precision="float32", device="cpu"),
    "atoms": lambda folder: AtomScorer(str(tiny.tiny_qwen(folder / "qwen")), precision="float32", device="cpu"),
    "questions": lambda folder: QuestionScorer(str(tiny.tiny_qwen(folder / "qwen")), precision="float32", device="cpu"),
    "grounding_dino": lambda folder: detector(folder, GroundingDino, tiny.tiny_grounding_dino),
    "owlv2": lambda folder: detector(folder, Owlv2, tiny.tiny_owlv2),
    "depth": lambda folder: DetectorScorer(
        TwoBoxes(str(tiny.tiny_grounding_dino(folder / "dino")), device="cpu"),
        DptDepth(str(tiny.tiny_dpt(folder / "dpt")), device="cpu"),
    ),
    "mask2former": lambda folder: geneval(folder, "mask2former"),
    "colours": lambda folder: geneval(folder, "boxes"),
}


@pytest.mark.parametrize("name", SCORERS)
def test_damaged_weights(name: str, tmp_path: Path) -> None:
    scorer = SCORERS[name](tmp_path)
    relation = FRONT if name == "depth" else LEFT if name in ("grounding_dino", "owlv2") else None
    asked = Prompt(**{**vars(ASKED), "relation": relation})
    images = [tiny_image(0), tiny_image(1)]
    assert all(score.failure is None for score in scorer.score(images, [asked] * 2))
    for network in scorer.networks:
        for parameter in network.model.parameters():
            parameter.fill_(math.nan)
    scores = scorer.score(images, [asked] * 2)
    assert [math.isnan(score.value) and WHY in str(score.failure) for score in scores] == [True, True], scores


def test_boxes_that_are_not_numbers(tmp_path: Path) -> None:
    found = GroundingDino(str(tiny.tiny_grounding_dino(tmp_path)), device="cpu")
    confidences, boxes = torch.tensor([[0.9], [0.1]]), torch.tensor([[0.5, 0.5, 0.2, 0.2], [math.nan] * 4])
    assert len(found.detections(["cat"], confidences, boxes, 10, 10)) == 1  # a box that is not kept may be anything
    with pytest.raises(ArithmeticError, match=WHY):
        found.detections(["cat"], confidences, boxes.flip(0), 10, 10)
    with pytest.raises(ArithmeticError, match=WHY):
        found.detections(["cat"], torch.tensor([[0.9], [math.nan]]), boxes, 10, 10)


def test_the_other_images_of_a_batch_keep_their_scores(tmp_path: Path) -> None:
    """A model overflows on some images only."""
    scorer = SCORERS["questions"](tmp_path)
    prompts, images = [ASKED] * 3, [tiny_image(0), tiny_image(1), tiny_image(2)]
    good = scorer.score(images, prompts)
    inputs = scorer.networks[0].inputs  # type: ignore[attr-defined]

    def overflowing(of_questions: Sequence[Sequence[Image.Image]], texts: Sequence[str]) -> dict[str, torch.Tensor]:
        found = inputs(of_questions, texts)
        if any(image.tobytes() == tiny_image(1).tobytes() for of_question in of_questions for image in of_question):
            found["pixel_values"] = found["pixel_values"] * math.inf
        return found

    scorer.networks[0].inputs = overflowing  # type: ignore[attr-defined]
    scores = scorer.score(images, prompts)
    assert [score.failure is None for score in scores] == [True, False, True] and WHY in str(scores[1].failure)
    assert [scores[0], scores[2]] == [good[0], good[2]]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_score_is_without_a_number_and_without_a_reason(value: float) -> None:
    score = Score(value, {"yes": [value]})
    assert math.isnan(score.value) and WHY in str(score.failure)
    assert "Infinity" not in json.dumps(score.evidence) and "NaN" not in json.dumps(score.evidence)
    assert Score(value, {"failed": "why", "answer": "?"}).evidence == {"failed": "why", "answer": "?"}
    assert Score(0.5, {"yes": [0.5]}).failure is None


class NoNumbers(MeanColour):
    """A scorer of somebody else, which knows nothing of this."""

    def score(self, images: Sequence[Image.Image], prompts: Any) -> list[Score]:
        return [Score(math.nan if i % 2 else 0.5) for i in range(len(images))]


def test_a_benchmark_counts_them(tmp_path: Path) -> None:
    bench = CompBench(WorldPrompts(per_category=1, categories=["colour"]), [Scoring(NoNumbers())], images_per_prompt=2)
    card = bench.run(Grey(), tmp_path, progress=False)
    assert card["failed"] == 2 and card["scores"]["mean_colour"]["colour"]["all"]["failed"] == 2
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [WHY in (row["failed"] or "") for row in rows] == [False, True, False, True]
    # scores that an earlier version wrote without a reason are counted when the benchmark is run again
    (block,) = (tmp_path / "scores" / "mean_colour").iterdir()
    content = json.loads(block.read_text())
    for row in content["rows"]:
        row["evidence"] = {}
    block.write_text(json.dumps(content))
    assert bench.run(Grey(), tmp_path, progress=False)["failed"] == 2


def test_features_and_similarity(tmp_path: Path) -> None:
    extractor = Dinov2Features(str(tiny.tiny_dinov2(tmp_path / "dinov2")), device="cpu")
    images = {"a": tiny_image(0), "b": tiny_image(1)}
    assert len(extract(images, extractor)[0]) == 2
    for parameter in extractor.model.parameters():
        parameter.fill_(math.nan)
    features, failed = extract(images, extractor)
    assert len(features) == 0 and all(WHY in reason for reason in failed.values()) and failed.keys() == images.keys()
    with pytest.raises(ValueError, match=f"2 reference images .*{WHY}"):
        reference_features(None, images, extractor)
    scorer = SimilarityScorer(extractor, SceneImages())
    assert [WHY in str(score.failure) for score in scorer.score(list(images.values()), ["a", "b"])] == [True, True]
