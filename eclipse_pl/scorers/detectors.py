"""Detectors that find objects by name: Grounding DINO and OWLv2."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from eclipse_pl.scorers.detections import Box, Detection, suppress
from eclipse_pl.scorers.finite import require_finite
from eclipse_pl.scorers.network import PretrainedNetwork


class Detector(PretrainedNetwork):
    """Finds objects by name.

    Args:
        path: Folder or hub id.
        threshold: Least confidence of a box. Confidences enter the scores and differ between detectors, so calibrate it on
            images that you scored yourself. The defaults are ours and uncalibrated.
        nms_iou: Of boxes of one label with an IoU above it, the most confident one is kept. 1 keeps all.
        **options: Those of PretrainedNetwork.
    """

    def __init__(self, path: str, threshold: float, nms_iou: float, **options: Any) -> None:
        super().__init__(path, **options)
        for name, value in (("threshold", threshold), ("nms_iou", nms_iou)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; it must lie between 0 and 1.")
        self.threshold, self.nms_iou = threshold, nms_iou

    @property
    def version(self) -> str:
        return f"{super().version}, threshold {self.threshold:g}, NMS {self.nms_iou:g}"

    def detect(self, images: list[Image.Image], nouns: list[list[str]]) -> list[list[Detection]]:
        """Find the nouns of each image, in pixels of the image, the most confident box first."""
        found: dict[int, list[Detection]] = {i: [] for i in range(len(images))}
        # Batches hold images of one size: with padding, an image's boxes would depend on the other images.
        for size in {image.size for image in images}:
            if rows := [i for i, image in enumerate(images) if image.size == size and nouns[i]]:
                found.update(zip(rows, self.find([images[i] for i in rows], [nouns[i] for i in rows]), strict=True))
        return [suppress(detections, self.nms_iou) for detections in found.values()]

    def refusal(self, nouns: Sequence[str]) -> str | None:
        """Say which of the nouns it cannot find. Detectors that find objects by name know all."""
        return None

    @abstractmethod
    def find(self, images: list[Image.Image], nouns: list[list[str]]) -> list[list[Detection]]:
        """Find all boxes above the threshold in images of one size."""

    def detections(
        self,
        nouns: list[str],
        confidences: Float[Tensor, "boxes nouns"],
        boxes: Float[Tensor, "boxes 4"],
        width: int,
        height: int,
    ) -> list[Detection]:
        """Label each box with its likeliest noun. ``boxes``: centre and size, as parts of ``width`` and ``height``."""
        best, which = require_finite(confidences).max(1)
        keep = best >= self.threshold
        centre, size = require_finite(boxes[keep]).float().cpu().split(2, dim=1)
        corners = torch.cat([centre - size / 2, centre + size / 2], 1) * torch.tensor([width, height, width, height])
        return [
            Detection(nouns[label], confidence, Box(*box))
            for label, confidence, box in zip(which[keep].tolist(), best[keep].tolist(), corners.tolist(), strict=True)
        ]


class GroundingDino(Detector):
    """Grounding DINO, MM Grounding DINO or LLMDet (``IDEA-Research/grounding-dino-tiny``).

    One text names all nouns of an image. The confidence of a box for a noun is that of the noun's likeliest token at the
    noun's place in the text. A word that several nouns share therefore counts for the right one.
    """

    classes = ("GroundingDinoForObjectDetection", "MMGroundingDinoForObjectDetection")

    def __init__(self, path: str, threshold: float = 0.3, nms_iou: float = 0.7, **options: Any) -> None:
        super().__init__(path, threshold, nms_iou, **options)

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
        """Return "[CLS] cat. wooden table. [SEP]" as token ids, and the first and last place of each noun's tokens."""
        ids, places = [self.tokenizer.cls_token_id], []
        for noun in nouns:
            tokens = self.tokenizer(noun.lower(), add_special_tokens=False).input_ids
            places.append((len(ids), len(ids) + len(tokens)))
            ids += [*tokens, self.tokenizer.convert_tokens_to_ids(".")]
        return [*ids, self.tokenizer.sep_token_id], places


class Owlv2(Detector):
    """OWLv2 (``google/owlv2-base-patch16-ensemble``). It gives every object many boxes and needs the suppression."""

    classes = ("Owlv2ForObjectDetection",)
    reads = ("both",)

    def __init__(self, path: str, threshold: float = 0.2, nms_iou: float = 0.3, **options: Any) -> None:
        super().__init__(path, threshold, nms_iou, **options)

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
            side = max(image.size)  # boxes are parts of the padded square
            confidences = logits[:, : len(asked)].float().sigmoid()  # further columns are padding queries
            found.append(self.detections(asked, confidences, boxes, side, side))
        return found
