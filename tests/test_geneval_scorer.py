"""GenEvalScorer: the rules on detections, colours by CLIP, and Mask2Former against transformers' post-processing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from eclipse_pl.prompts.geneval import COLOURS
from eclipse_pl.prompts.prompt import Prompt, Required
from eclipse_pl.scorers.clip_towers import TransformersClip
from eclipse_pl.scorers.detections import Detection
from eclipse_pl.scorers.detectors import GroundingDino
from eclipse_pl.scorers.geneval import GenEvalScorer, cut_out
from eclipse_pl.scorers.mask2former import Mask2Former
from tests.helpers.tiny_scorers import box, prompt, tiny_clip, tiny_grounding_dino, tiny_image, tiny_mask2former


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("geneval")
    tiny_grounding_dino(folder / "tiny-dino")
    tiny_clip(folder / "tiny-clip")
    return folder


class HandMade(GroundingDino):
    """Returns given boxes."""

    def __init__(self, folder: Path, boxes: list[Detection], threshold: float = 0.1) -> None:
        super().__init__(str(folder), threshold=threshold, device="cpu")
        self.boxes, self.asked = boxes, list[list[str]]()

    def build(self) -> nn.Module:
        return nn.Identity()

    def find(self, images: list[Image.Image], nouns: list[list[str]]) -> list[list[Detection]]:
        self.asked += nouns
        return [self.boxes for _ in images]


class ByMeanColour(TransformersClip):
    """A CLIP to which a text is near whose colour the image has."""

    def build(self) -> nn.Module:
        return nn.Identity()

    def embed_images(self, images: Any) -> torch.Tensor:
        means = torch.tensor([image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0)) for image in images])
        return means.float() / 255

    def embed_texts(self, texts: Any) -> torch.Tensor:
        basis = {"red": (1.0, 0, 0), "green": (0, 1.0, 0), "blue": (0, 0, 1.0)}
        return torch.tensor([next((basis[c] for c in basis if c in text), (0.1, 0.1, 0.1)) for text in texts])


def score(models: Path, boxes: list[Detection], asked: Prompt, **options: Any) -> Any:
    scorer = GenEvalScorer(HandMade(models / "tiny-dino", boxes), ByMeanColour(str(models / "tiny-clip")), **options)
    image = Image.new("RGB", (100, 60), "blue")
    image.paste("red", (0, 0, 50, 60))
    (result,) = scorer.score([image], [asked])
    return result


DOG, CAT = Detection("dog", 0.8, box(5, 10, 45, 50)), Detection("cat", 0.7, box(60, 10, 95, 50))


def test_objects_colours_and_places(models: Path) -> None:
    red_dog, blue_cat = Required("dog", 1, colour="red"), Required("cat", 1, colour="blue", position=("right of", 0))
    right = score(models, [DOG, CAT], prompt("", 0, "color_attr", required=(red_dog, blue_cat)))
    assert right.value == 1 and right.evidence["reasons"] == [] and right.evidence["boxes"] == [DOG.evidence(), CAT.evidence()]
    assert right.evidence["colours"] == {"dog": ["red"], "cat": ["blue"]}
    green = score(models, [DOG, CAT], prompt("", 0, "colors", required=(Required("dog", 1, colour="green"),)))
    assert green.value == 0 and "0 green of dog (red), 1 wanted" in green.evidence["reasons"]
    left = score(
        models, [DOG, CAT], prompt("", 0, "position", required=(Required("dog", 1), Required("cat", 1, None, ("left of", 0))))
    )
    assert left.value == 0
    missing = score(models, [DOG], prompt("", 0, "two_object", required=(Required("dog", 1), Required("cat", 1))))
    assert missing.value == 0 and missing.evidence["reasons"] == ["0 of cat, 1 wanted"]


def test_thresholds_are_of_the_detector(models: Path) -> None:
    """A detector that is asked by name is hardly ever as sure as 0.9."""
    two = prompt("", 0, "counting", required=(Required("dog", 1),), excluded=(Required("dog", 2),))
    assert score(models, [DOG], two).value == 0
    assert score(models, [DOG], two, counting_confidence=0.5).value == 1
    assert score(models, [DOG, Detection("dog", 0.6, box(50, 0, 90, 60))], two, counting_confidence=0.5).value == 0
    assert score(models, [DOG], prompt("", 0, "single_object", required=(Required("dog", 1),)), confidence=0.8).value == 0
    with pytest.raises(ValueError, match=r"tiny-dino keeps nothing below 0.4, and objects count from 0.3"):
        GenEvalScorer(HandMade(models / "tiny-dino", [], threshold=0.4), ByMeanColour(str(models / "tiny-clip")))


def test_the_detector_is_asked_for_all_classes_of_the_prompt_once(models: Path) -> None:
    detector = HandMade(models / "tiny-dino", [])
    scorer = GenEvalScorer(detector, ByMeanColour(str(models / "tiny-clip")))
    dogs = prompt("", 0, "counting", required=(Required("dog", 2), Required("cat", 1)), excluded=(Required("dog", 3),))
    scorer.score([tiny_image()], [dogs])
    assert detector.asked == [["dog", "cat"]] and scorer.name == "geneval_rules[tiny-dino]"
    assert "has no required objects" in str(scorer.score([tiny_image()], [prompt()])[0].failure)
    other = GenEvalScorer(detector, ByMeanColour(str(models / "tiny-clip")), counting_confidence=0.5)
    assert other.version != scorer.version


def test_around_the_object_all_is_grey() -> None:
    image = Image.new("RGB", (10, 8), "red")
    mask = torch.zeros(8, 10, dtype=torch.bool)
    mask[2:6, 3:5] = True
    cut = cut_out(image, Detection("dog", 1.0, box(2, 2, 6, 6), mask))
    assert cut.size == (4, 4) and cut.getpixel((1, 0)) == (255, 0, 0) and cut.getpixel((0, 0)) == (0x99,) * 3
    whole = cut_out(image, Detection("dog", 1.0, box(-3, 6.6, 4, 20)))
    assert whole.getpixel((0, 0)) == (255, 0, 0) and whole.size[0] == 4
    assert cut_out(image, Detection("dog", 1.0, box(12, 9, 13, 9))).size == (1, 1)


def test_colours_by_a_real_clip(models: Path) -> None:
    """The mean of three templates, as zero-shot classification is done; against transformers' own features."""
    from transformers import CLIPModel, CLIPProcessor

    folder = models / "tiny-clip"
    processor, model = CLIPProcessor.from_pretrained(folder), CLIPModel.from_pretrained(folder).eval()
    scorer = GenEvalScorer(HandMade(models / "tiny-dino", []), TransformersClip(str(folder), device="cpu"))
    image, expected = tiny_image(3), []
    with torch.no_grad():
        for colour in COLOURS:
            texts = [f"a photo of a {colour} dog", f"a photo of a {colour}-colored dog", f"a photo of a {colour} object"]
            tokens = processor(text=texts, images=image, padding=True, truncation=True, max_length=40, return_tensors="pt")
            output = model(**tokens)
            expected.append(F.normalize(output.text_embeds.mean(0), dim=0))
        best = (torch.stack(expected) @ output.image_embeds[0]).argmax()
        whole = Detection("dog", 1.0, box(0, 0, 60, 50))
        assert scorer.colours(image, "dog", [whole]) == [COLOURS[int(best)]]
        torch.testing.assert_close(scorer.colour_embeddings("dog"), torch.stack(expected), atol=1e-5, rtol=1e-5)


def test_real_networks_end_to_end(models: Path) -> None:
    detector = GroundingDino(str(models / "tiny-dino"), threshold=0.1, device="cpu")
    scorer = GenEvalScorer(detector, TransformersClip(str(models / "tiny-clip"), device="cpu"))
    asked = prompt("", 0, "colors", required=(Required("dog", 1, colour="red"),))
    scores = scorer.score([tiny_image(i) for i in range(3)], [asked] * 3)
    assert all(s.value in (0.0, 1.0) and s.failure is None for s in scores)


@pytest.fixture(scope="module")
def mask2former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_mask2former(tmp_path_factory.mktemp("masks") / "tiny-m2f")


def test_mask2former_agrees_with_transformers(mask2former: Path) -> None:
    """Confidences of the processor's own post-processing, which goes by way of masks of 384 pixels."""
    from transformers import Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessor

    image, nouns = tiny_image(1, (64, 64)), ["couch", "dog", "person", "computer mouse"]
    processor = Mask2FormerImageProcessor.from_pretrained(mask2former)
    with torch.no_grad():
        output = Mask2FormerForUniversalSegmentation.from_pretrained(mask2former).eval()(
            **processor(image, return_tensors="pt")
        )
    (theirs,) = processor.post_process_instance_segmentation(
        output, threshold=0.0, target_sizes=[(64, 64)], return_binary_maps=True
    )
    with torch.inference_mode():
        (ours,) = Mask2Former(str(mask2former), threshold=0.0, device="cpu").detect([image], [nouns])
    names = {0: "person", 1: "couch", 2: "computer mouse", 3: "dog"}
    best = max(theirs["segments_info"], key=lambda segment: segment["score"])
    assert len(ours) == 40  # ten queries, four classes
    assert (ours[0].label, ours[0].confidence) == (names[best["label_id"]], pytest.approx(best["score"], abs=0.01))
    mask = theirs["segmentation"][theirs["segments_info"].index(best)].bool()
    assert ours[0].mask is not None and (ours[0].mask == mask).float().mean() > 0.95


def test_masks_have_the_images_size_and_boxes_lie_around_them(mask2former: Path) -> None:
    detector = Mask2Former(str(mask2former), threshold=0.05, device="cpu")
    images = [tiny_image(0), tiny_image(1, (70, 40)), tiny_image(2)]
    with torch.inference_mode():
        found = detector.detect(images, [["couch", "dog"], ["computer mouse"], ["couch"]])
    for image, detections in zip(images, found, strict=True):
        assert detections and all(d.confidence >= 0.05 for d in detections)
        for detection in detections:
            assert detection.mask is not None and detection.mask.shape == (image.height, image.width)
            rows, columns = detection.mask.nonzero(as_tuple=True)
            assert detection.box == box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert {d.label for d in found[0]} == {"couch", "dog"} and {d.label for d in found[1]} == {"computer mouse"}
    with torch.inference_mode():
        assert Mask2Former(str(mask2former), threshold=1.0, device="cpu").detect(images[:1], [["dog"]]) == [[]]
        with pytest.raises(ValueError, match="tiny-m2f knows no 'table'; its classes are dog, mouse, person, sofa"):
            detector.detect(images[:1], [["table"]])
