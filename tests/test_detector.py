"""DetectorScorer: the rules meet a detector; Grounding DINO, OWLv2 and DPT through the path by which published ones load."""

from __future__ import annotations

import math
import shutil
from dataclasses import astuple
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from eclipse_pl.prompts.prompt import Relation, Required
from eclipse_pl.scorers.clip_towers import TransformersClip
from eclipse_pl.scorers.depth import DptDepth
from eclipse_pl.scorers.detections import Detection
from eclipse_pl.scorers.detector import DetectorScorer
from eclipse_pl.scorers.detectors import Detector, GroundingDino, Owlv2
from eclipse_pl.scorers.geneval import GenEvalScorer
from eclipse_pl.scorers.mask2former import Mask2Former
from tests.helpers.tiny_scorers import (
    box,
    prompt,
    tiny_dpt,
    tiny_grounding_dino,
    tiny_image,
    tiny_mask2former,
    tiny_owlv2,
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detectors")
    tiny_grounding_dino(folder / "tiny-dino")
    tiny_owlv2(folder / "tiny-owl")
    tiny_dpt(folder / "tiny-dpt")
    return folder


class HandMade(GroundingDino):
    """A detector that returns given boxes and records the nouns."""

    def __init__(self, folder: Path, boxes: list[Detection]) -> None:
        super().__init__(str(folder), threshold=0.0, device="cpu")
        self.boxes, self.asked = boxes, list[list[str]]()

    def build(self) -> nn.Module:
        return nn.Identity()

    def find(self, images: list[Image.Image], nouns: list[list[str]]) -> list[list[Detection]]:
        self.asked += nouns
        return [[box for box in self.boxes if box.label in asked] for asked in nouns]


class HandMadeDepth(DptDepth):
    def build(self) -> nn.Module:
        return nn.Identity()

    def nearness(self, images: list[Image.Image]) -> list[torch.Tensor]:
        return [torch.arange(image.width) / image.width * torch.ones(image.height, 1) for image in images]


CAT = Detection("cat", 0.9, box(0, 20, 10, 30))
DOG = Detection("dog", 0.8, box(45, 20, 55, 30))
CAT_OF_10 = Detection("cat", 0.9, box(0, 0, 10, 10))
CAT_TOO = Detection("cat", 0.7, box(20, 20, 30, 30))


def score(models: Path, boxes: list[Detection], text: str = "", options: dict[str, Any] | None = None, **parts: Any) -> Any:
    scorer = DetectorScorer(HandMade(models / "tiny-dino", boxes), **(options or {}))
    (result,) = scorer.score([tiny_image()], [prompt(text, **parts)])
    return result


def test_two_objects_in_place(models: Path) -> None:
    result = score(models, [CAT, DOG, CAT_TOO], relation=Relation("cat", "on the left of", "dog"))
    assert result.value == pytest.approx(0.25 * 0.9 + 0.25 * 0.8 + 0.5)
    evidence = result.evidence
    assert evidence["position"] == 1 and evidence["size"] == [60, 50] and evidence["rule"] == "spatial_2d"
    assert evidence["scored"] == [CAT.evidence(), DOG.evidence()] and len(evidence["boxes"]) == 3
    wrong = score(models, [CAT, DOG], relation=Relation("cat", "on the right of", "dog"))
    assert wrong.value == 0 and wrong.evidence["position"] == 0


def test_near_is_a_part_of_the_longer_side(models: Path) -> None:
    """Of 60 pixels, and not of 50: a reach of 18.8."""
    near = Relation("cat", "near", "dog")
    for x, position in ((17, 1), (19, 150 / 479 * 60 / 30)):
        boxes = [CAT_OF_10, Detection("dog", 0.8, box(x, 30, x + 10, 40))]
        assert score(models, boxes, relation=near).evidence["position"] == pytest.approx(position, abs=1e-4)


def test_a_missing_object(models: Path) -> None:
    relation = Relation("cat", "near", "bird")
    assert score(models, [CAT], relation=relation).value == 0
    soft = score(models, [CAT], options={"official_cutoff": False}, relation=relation)
    assert soft.value == pytest.approx(0.225) and soft.evidence["scored"] == [CAT.evidence(), None]
    nothing = score(models, [], options={"official_cutoff": False}, relation=relation)
    assert nothing.value == 0 and nothing.evidence["boxes"] == [] and nothing.failure is None


def test_persons_are_persons_and_nouns_are_asked_for_once(models: Path) -> None:
    detector = HandMade(models / "tiny-dino", [])
    scorer = DetectorScorer(detector)
    prompts = [
        prompt(relation=Relation("girl", "near", "desk")),
        prompt(relation=Relation("chicken", "next to", "chicken")),
        prompt(required=(Required("man", 2), Required("ship", 1), Required("boy", 1))),
    ]
    scorer.score([tiny_image()] * 3, prompts)
    assert detector.asked == [["person", "desk"], ["chicken"], ["person", "boat"]]


def test_two_objects_of_one_noun_are_two_boxes(models: Path) -> None:
    relation = Relation("cat", "on the left of", "cat")
    two = score(models, [CAT, CAT_TOO], relation=relation)
    assert two.value == pytest.approx(0.25 * 0.9 + 0.25 * 0.7 + 0.5)
    assert score(models, [CAT], options={"official_cutoff": False}, relation=relation).value == pytest.approx(0.225)


def test_on_top_of(models: Path) -> None:
    boxes = [Detection("cat", 0.9, box(20, 0, 30, 10)), Detection("dog", 0.8, box(20, 30, 30, 40))]
    relation = Relation("cat", "on top of", "dog")
    assert score(models, boxes, relation=relation).evidence["position"] == 0
    assert score(models, boxes, options={"official_on_top": False}, relation=relation).evidence["position"] == 1


def test_depth_axes(models: Path) -> None:
    """The hand-made depth grows from left to right; the image is wider than high."""
    boxes = [Detection("cat", 0.4, box(10, 20, 30, 40)), Detection("dog", 0.2, box(20, 20, 40, 40))]  # IoU 1/3
    depth = HandMadeDepth(str(models / "tiny-dpt"))
    front, behind = Relation("dog", "in front of", "cat"), Relation("cat", "behind", "dog")
    for relation in (front, behind):
        result = score(models, boxes, options={"depth": depth}, relation=relation)
        assert result.value == pytest.approx(0.15 + 0.5 * 2 / 3)  # below a half, and no cut-off in 3D
        assert result.evidence["rule"] == "spatial_3d" and abs(result.evidence["nearer"]) == pytest.approx(10 / 60, abs=1e-3)
    wrong = score(models, boxes, options={"depth": depth}, relation=Relation("cat", "in front of", "dog"))
    assert wrong.value == pytest.approx(0.15)
    # rows and columns exchanged, both boxes have the same rows
    legacy = score(models, boxes, options={"depth": depth, "legacy_transposed_depth": True}, relation=front)
    assert legacy.evidence["nearer"] == 0 and legacy.value == pytest.approx(0.15)


def test_counts(models: Path) -> None:
    required = (Required("cat", 2), Required("dog", 3))
    result = score(models, [CAT, DOG, CAT_TOO], required=required)
    assert result.value == 0.75 and result.evidence["asked_and_counted"] == {"cat": [2, 2], "dog": [3, 1]}


def test_doubles_are_measured_in_pixels_of_the_official_frame(models: Path) -> None:
    """479 a longer side: 60 / 479 = 0.1253 here. (3.5885 + 0.1253) / 4.1253 = 0.9003 of the second box, 4 wide, is inside.

    With the pixel of the shorter side (0.1044), or with none, it is below 0.9; 3.54 is above it with a whole pixel only.
    """
    for inside, cats in ((3.5885, 1), (3.54, 2)):
        boxes = [CAT_OF_10, Detection("cat", 0.8, box(10 - inside, 0, 14 - inside, 4))]
        result = score(models, boxes, required=(Required("cat", cats),))
        assert result.evidence["asked_and_counted"] == {"cat": [cats, cats]}


def test_prompts_that_cannot_be_scored(models: Path) -> None:
    assert "has no relation and no counted objects, which unidet_rules[tiny-dino] needs" in str(score(models, []).failure)
    inside = score(models, [], relation=Relation("cat", "inside", "box"))
    assert "has no relation among next to, on side of" in str(inside.failure) and "'inside'" in str(inside.failure)
    behind = score(models, [], relation=Relation("cat", "behind", "box"))
    assert "has no relation without depth (it has 'behind', and the scorer's `depth` is null)" in str(behind.failure)


def test_prompts_that_need_depth_are_refused_before_any_image_is_generated(models: Path) -> None:
    near, behind = (prompt(relation=Relation("cat", name, "box")) for name in ("near", "behind"))
    scorer = DetectorScorer(HandMade(models / "tiny-dino", []))
    with pytest.raises(ValueError, match=r"color/0000 .* unidet_rules\[tiny-dino\] has no depth model: set .* `depth`"):
        scorer.require_prompts([near, behind], 42)
    scorer.require_prompts([near], 42)
    DetectorScorer(scorer.detector, HandMadeDepth(str(models / "tiny-dpt"))).require_prompts([near, behind], 42)


def test_nouns_that_are_no_class_of_the_detector(models: Path) -> None:
    detector = Mask2Former(str(tiny_mask2former(models / "tiny-m2f")), device="cpu")
    placed = [prompt(relation=Relation("couch", "near", noun)) for noun in ("dog", "kettle")]
    counted = [prompt(required=(Required("couch", 1), Required(noun, 1))) for noun in ("dog", "kettle")]
    clip = TransformersClip("nowhere")
    for scorer, prompts in ((DetectorScorer(detector), placed), (GenEvalScorer(detector, clip), counted)):
        scorer.require_prompts(prompts[:1], 42)
        with pytest.raises(ValueError, match=r"color/0000 .*: tiny-m2f knows no 'kettle'; its classes are dog, mouse"):
            scorer.require_prompts(prompts, 42)
        assert [scorer.missing(one) for one in prompts] == [None, "nouns that the detector knows"]
    assert "model" not in detector.__dict__


def test_a_complex_prompt_without_a_known_relation_scores_nothing_and_stays_in_the_mean(models: Path) -> None:
    """One of T2I-CompBench's 30 spatialaction prompts says "below"."""
    below = prompt("the cup is below the shelf", category="complex", subset="spatialaction")
    relation = Relation("cat", "on the left of", "dog")
    scorer = DetectorScorer(HandMade(models / "tiny-dino", [CAT, DOG]))
    prompts = [below, prompt(category="complex", subset="spatial", relation=relation), below]
    scores = scorer.score([tiny_image()] * 3, prompts)
    assert [score.value for score in scores] == [0.0, pytest.approx(0.925), 0.0] and scores[0].failure is None
    action = prompt("the dog ran", category="complex", subset="action")
    assert scorer.score([tiny_image()], [action])[0].failure


def test_name_and_version(models: Path) -> None:
    dino, owl = GroundingDino(str(models / "tiny-dino")), Owlv2(str(models / "tiny-owl"))
    assert [DetectorScorer(d).name for d in (dino, owl)] == ["unidet_rules[tiny-dino]", "unidet_rules[tiny-owl]"]
    version = DetectorScorer(dino).version
    assert "threshold 0.3, NMS 0.7" in version and "official_cutoff True" in version
    assert DetectorScorer(dino, official_cutoff=False).version != version
    assert DetectorScorer(dino, DptDepth(str(models / "tiny-dpt"))).version != version


@pytest.mark.long
def test_grounding_dino_agrees_with_transformers(models: Path) -> None:
    """One noun: boxes and confidences of the processor's own post-processing."""
    from transformers import AutoImageProcessor, AutoTokenizer, GroundingDinoForObjectDetection, GroundingDinoProcessor

    folder, image = models / "tiny-dino", tiny_image(1)
    processor = GroundingDinoProcessor(AutoImageProcessor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))
    model = GroundingDinoForObjectDetection.from_pretrained(folder).eval()
    inputs = processor(images=image, text=[["blue table"]], return_tensors="pt")
    with torch.no_grad():
        output = model(**inputs)
    # the tokens of [CLS], "." and [SEP] are no part of the noun
    output.logits[..., [0, 3, 4]] = -torch.inf
    (theirs,) = processor.post_process_grounded_object_detection(output, threshold=0.0, target_sizes=[(50, 60)])
    with torch.inference_mode():
        (ours,) = GroundingDino(str(folder), threshold=0.0, nms_iou=1.0, device="cpu").detect([image], [["Blue table"]])
    order = theirs["scores"].argsort(descending=True)
    assert [d.confidence for d in ours] == pytest.approx(theirs["scores"][order].tolist(), abs=1e-6)
    for detection, corners in zip(ours, theirs["boxes"][order].tolist(), strict=True):
        assert astuple(detection.box) == pytest.approx(corners, abs=1e-3)


def test_grounding_dino_reads_each_noun_at_its_own_place(models: Path) -> None:
    detector = GroundingDino(str(models / "tiny-dino"), threshold=0.0, device="cpu")
    ids, places = detector.text(["Blue table", "blue bowl", "cat"])
    words = detector.tokenizer.convert_ids_to_tokens(ids)
    assert words == ["[CLS]", "blue", "table", ".", "blue", "bowl", ".", "cat", ".", "[SEP]"]
    assert [words[first:last] for first, last in places] == [["blue", "table"], ["blue", "bowl"], ["cat"]]


def test_owlv2_agrees_with_transformers(models: Path) -> None:
    from transformers import Owlv2ForObjectDetection, Owlv2Processor

    folder, image = models / "tiny-owl", tiny_image(1)
    processor = Owlv2Processor.from_pretrained(folder)
    inputs = processor(text=[["a photo of a cat", "a photo of a dog"]], images=image, return_tensors="pt")
    with torch.no_grad():
        output = Owlv2ForObjectDetection.from_pretrained(folder).eval()(**inputs)
    (theirs,) = processor.post_process_grounded_object_detection(
        output, threshold=0.5, target_sizes=[(50, 60)], text_labels=[["cat", "dog"]]
    )
    with torch.inference_mode():
        detector = Owlv2(str(folder), threshold=0.5, nms_iou=1.0, device="cpu")
        ours, _ = detector.detect([image, tiny_image(2)], [["cat", "dog"], ["table"]])
    assert 0 < len(ours) == len(theirs["scores"]) < 16
    assert [one.confidence for one in ours] == sorted((one.confidence for one in ours), reverse=True)
    scores = output.logits[0].sigmoid()
    scores = scores[scores.max(-1).values > 0.5].tolist()
    expected = zip(theirs["boxes"].tolist(), theirs["scores"].tolist(), theirs["text_labels"], scores, strict=True)
    for corners, confidence, label, both in expected:
        detection = min(ours, key=lambda one: math.dist((*astuple(one.box), one.confidence), (*corners, confidence)))
        ours.remove(detection)
        tied = max(both) - min(both) < 1e-5  # by the last bits
        assert detection.confidence == pytest.approx(confidence, abs=1e-5) and (detection.label == label or tied)
        assert astuple(detection.box) == pytest.approx(corners, abs=1e-2)


@pytest.mark.parametrize("make", [GroundingDino, Owlv2])
def test_what_is_found_does_not_depend_on_the_company(models: Path, make: type[Detector]) -> None:
    folder = models / ("tiny-dino" if make is GroundingDino else "tiny-owl")
    detector = make(str(folder), threshold=0.0, device="cpu")
    images, nouns = [tiny_image(0), tiny_image(1, (30, 40)), tiny_image(2)], [["cat", "dog"], ["blue table"], ["star"]]
    with torch.inference_mode():
        together = detector.detect(images, nouns)
        alone = [detector.detect([image], [asked])[0] for image, asked in zip(images, nouns, strict=True)]
    for ours, theirs in zip(together, alone, strict=True):
        assert len(ours) == len(theirs) > 0
        assert [d.confidence for d in ours] == pytest.approx([d.confidence for d in theirs], abs=1e-5)
        assert all(a.confidence >= b.confidence for a, b in pairwise(ours))


def test_depth_agrees_with_transformers_and_has_the_images_size(models: Path, tmp_path: Path) -> None:
    from transformers import DPTForDepthEstimation, DPTImageProcessor

    images = [tiny_image(0), tiny_image(1, (30, 80))]
    model = DPTForDepthEstimation.from_pretrained(models / "tiny-dpt").eval()
    with torch.no_grad():
        model.head.head[4].bias += 1  # the farthest pixel is not at 0
    folder = Path(shutil.copytree(models / "tiny-dpt", tmp_path / "tiny-dpt"))
    model.save_pretrained(folder)
    with torch.inference_mode():
        ours = DptDepth(str(folder), device="cpu").nearness(images)
    pixels = DPTImageProcessor.from_pretrained(folder)(images=images, return_tensors="pt").pixel_values
    with torch.no_grad():
        theirs = model(pixel_values=pixels).predicted_depth
    assert theirs.min() > 0
    assert [tuple(depth.shape) for depth in ours] == [(50, 60), (80, 30)]
    for depth, raw in zip(ours, theirs, strict=True):
        assert depth.min() >= 0 and depth.max() <= 1
        corner = (raw[0, 0] - raw.min()) / (raw.max() - raw.min())  # corners are aligned
        assert float(depth[0, 0]) == pytest.approx(float(corner), abs=1e-5)


def test_a_published_depth_model_lacks_what_nothing_reads(models: Path, tmp_path: Path) -> None:
    """Intel's checkpoints have no residual layer in the first fusion layer, which has no residual."""
    from safetensors.torch import load_file, save_file

    copy = Path(shutil.copytree(models / "tiny-dpt", tmp_path / "tiny-dpt"))
    weights = load_file(copy / "model.safetensors")
    first = [key for key in weights if key.startswith("neck.fusion_stage.layers.0.residual_layer1.")]
    save_file({key: value for key, value in weights.items() if key not in first}, copy / "model.safetensors", {"format": "pt"})
    with torch.inference_mode():
        ours, whole = (DptDepth(str(f), device="cpu").nearness([tiny_image(0)])[0] for f in (copy, models / "tiny-dpt"))
    assert first and torch.equal(ours, whole)
    weights.pop("head.head.0.weight")
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="lack 1 of the tensors of DPTForDepthEstimation, head"):
        DptDepth(str(copy), device="cpu").load()


@pytest.mark.long
def test_real_models_end_to_end(models: Path) -> None:
    relation, required = Relation("cat", "behind", "dog"), (Required("cat", 2),)
    depth = DptDepth(str(models / "tiny-dpt"))
    for detector in (GroundingDino(str(models / "tiny-dino")), Owlv2(str(models / "tiny-owl"))):
        scorer = DetectorScorer(detector, depth)
        scores = scorer.score([tiny_image(0), tiny_image(1)], [prompt(relation=relation), prompt(required=required)])
        assert all(0 <= score.value <= 1 and score.failure is None for score in scores)
        scorer.close()
        assert "model" not in detector.__dict__ and "model" not in depth.__dict__


def test_bad_options(models: Path) -> None:
    with pytest.raises(ValueError, match=r"threshold is 30\.0; it must lie between 0 and 1"):
        GroundingDino(str(models / "tiny-dino"), threshold=30.0)
    with pytest.raises(ValueError, match=r"holds Owlv2ForObjectDetection, and this scorer works with GroundingDinoFor"):
        GroundingDino(str(models / "tiny-owl")).load()
