"""Detectors that are asked for objects by name: Grounding DINO and OWLv2."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from eclipse_pl.scorers.detections import Box, Detection, suppress
from eclipse_pl.scorers.network import Precision, PretrainedNetwork


class Detector(PretrainedNetwork):
    """Finds objects by name.

    Args:
        path: folder or hub id.
        threshold: boxes below this confidence are not kept. Confidences enter the scores, and detectors differ in what theirs
            mean: calibrate it for each on images that you scored yourself. The defaults are ours, uncalibrated.
        nms_iou: of boxes of one label whose IoU is above it the most confident one stays; 1 keeps all.
    """

    def __init__(
        self, path: str, threshold: float, nms_iou: float, precision: Precision = "float32", device: str = "auto"
    ) -> None:
        super().__init__(path, precision, device)
        for name, value in (("threshold", threshold), ("nms_iou", nms_iou)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; it must lie between 0 and 1.")
        self.threshold, self.nms_iou = threshold, nms_iou

    @property
    def version(self) -> str:
        return f"{super().version}, threshold {self.threshold:g}, NMS {self.nms_iou:g}"

    def detect(self, images: list[Image.Image], nouns: list[list[str]]) -> list[list[Detection]]:
        """What was found of each image's own nouns, in pixels of the image, the most confident first."""
        found: dict[int, list[Detection]] = {i: [] for i in range(len(images))}
        # Images of one size together: padding would change what is found, with the company that an image happens to be in.
        for size in {image.size for image in images}:
            if rows := [i for i, image in enumerate(images) if image.size == size and nouns[i]]:
                found.update(zip(rows, self.find([images[i] for i in rows], [nouns[i] for i in rows]), strict=True))
        return [suppress(detections, self.nms_iou) for detections in found.values()]

    @abstractmethod
    def find(self, images: list[Image.Image], nouns: list[list[str]]) -> list[list[Detection]]:
        """All boxes above the threshold in images of one size."""

    def detections(
        self,
        nouns: list[str],
        confidences: Float[Tensor, "boxes nouns"],
        boxes: Float[Tensor, "boxes 4"],
        width: int,
        height: int,
    ) -> list[Detection]:
        """Each box under its likeliest noun. ``boxes``: centre and size, as parts of ``width`` and ``height``."""
        best, which = confidences.max(1)
        keep = best >= self.threshold
        centre, size = boxes[keep].float().cpu().split(2, dim=1)
        corners = torch.cat([centre - size / 2, centre + size / 2], 1) * torch.tensor([width, height, width, height])
        return [
            Detection(nouns[label], confidence, Box(*box))
            for label, confidence, box in zip(which[keep].tolist(), best[keep].tolist(), corners.tolist(), strict=True)
        ]


class GroundingDino(Detector):
    """Grounding DINO, MM Grounding DINO or LLMDet (``IDEA-Research/grounding-dino-tiny``).

    It is asked in one text for all nouns of an image. The confidence of a box for a noun is that of the noun's likeliest
    token, read off the noun's own place in the text, so that words which several nouns share are not confused.
    """

    classes: ClassVar[tuple[str, ...]] = ("GroundingDinoForObjectDetection", "MMGroundingDinoForObjectDetection")

    def __init__(
        self, path: str, threshold: float = 0.3, nms_iou: float = 0.7, precision: Precision = "float32", device: str = "auto"
    ) -> None:
        super().__init__(path, threshold, nms_iou, precision, device)

    @cached_property
    def tokenizer(self) -> Any:
        return self.processor("AutoTokenizer")

    @cached_property
    def image_processor(self) -> Any:
        return self.processor("AutoImageProcessor")

    def find(self, images: list[Image.Image], nouns: list[list[str]]) -> list[list[Detection]]:
        texts = [self.text(asked) for asked in nouns]
        pixels = self.image_processor(images=images, return_tensors="pt").to(self.device)
        ids = pad_sequence([torch.tensor(ids) for ids, _ in texts], batch_first=True, padding_value=-1).to(self.device)
        output = self.model(
            pixel_values=pixels["pixel_values"].to(self.precision),
            pixel_mask=pixels["pixel_mask"],
            input_ids=ids.where(ids >= 0, self.tokenizer.pad_token_id),
            token_type_ids=torch.zeros_like(ids),
            attention_mask=(ids >= 0).long(),
        )
        found = []
        for image, asked, (_, places), logits, boxes in zip(
            images, nouns, texts, output.logits, output.pred_boxes, strict=True
        ):
            tokens = logits.float().sigmoid()
            confidences = torch.stack([tokens[:, first:last].amax(1) for first, last in places], 1)
            found.append(self.detections(asked, confidences, boxes, image.width, image.height))
        return found

    def text(self, nouns: list[str]) -> tuple[list[int], list[tuple[int, int]]]:
        """ "[CLS] cat. wooden table. [SEP]" as token ids, and where each noun's tokens begin and end."""
        ids, places = [self.tokenizer.cls_token_id], []
        for noun in nouns:
            tokens = self.tokenizer(noun.lower(), add_special_tokens=False).input_ids
            places.append((len(ids), len(ids) + len(tokens)))
            ids += [*tokens, self.tokenizer.convert_tokens_to_ids(".")]
        return [*ids, self.tokenizer.sep_token_id], places


class Owlv2(Detector):
    """OWLv2 (``google/owlv2-base-patch16-ensemble``), which gives every object many boxes: suppression is not optional."""

    classes: ClassVar[tuple[str, ...]] = ("Owlv2ForObjectDetection",)

    def __init__(
        self, path: str, threshold: float = 0.2, nms_iou: float = 0.3, precision: Precision = "float32", device: str = "auto"
    ) -> None:
        super().__init__(path, threshold, nms_iou, precision, device)

    @cached_property
    def both(self) -> Any:
        return self.processor("AutoProcessor")

    def find(self, images: list[Image.Image], nouns: list[list[str]]) -> list[list[Detection]]:
        queries = [[f"a photo of a {noun}" for noun in asked] for asked in nouns]
        inputs = self.both(text=queries, images=images, return_tensors="pt").to(self.device)
        output = self.model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            pixel_values=inputs["pixel_values"].to(self.precision),
        )
        found = []
        for image, asked, logits, boxes in zip(images, nouns, output.logits, output.pred_boxes, strict=True):
            side = max(image.size)  # images are padded to a square, and boxes are parts of that
            confidences = logits[:, : len(asked)].float().sigmoid()  # further columns are padding queries
            found.append(self.detections(asked, confidences, boxes, side, side))
        return found
