"""Mask2Former on the classes of COCO, which finds objects with masks, as GenEval's detector does."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from eclipse_pl.scorers.detections import Box, Detection
from eclipse_pl.scorers.detectors import Detector
from eclipse_pl.scorers.finite import require_finite

OTHER_NAMES = {
    "computer mouse": "mouse", "tv remote": "remote", "computer keyboard": "keyboard", "tv": "tvmonitor", "couch": "sofa",
    "airplane": "aeroplane", "motorcycle": "motorbike", "potted plant": "pottedplant", "dining table": "diningtable",
}  # fmt: skip
"""GenEval's names of COCO's classes -> labels of some published models."""


class Mask2Former(Detector):
    """A ``Mask2FormerForUniversalSegmentation`` (``facebook/mask2former-swin-small-coco-instance``).

    It has the architecture of GenEval's detector (mmdetection's Swin-S) and comes from another training run: check the
    thresholds. It finds its own classes only. Its confidence is the class's times the mean of the mask. Suppression is off,
    as in GenEval.
    """

    classes = ("Mask2FormerForUniversalSegmentation",)
    reads = ("image_processor",)
    unused = r"criterion\."  # for training only

    def __init__(self, path: str, threshold: float = 0.3, nms_iou: float = 1.0, **options: Any) -> None:
        super().__init__(path, threshold, nms_iou, **options)

    @cached_property
    def labels(self) -> dict[str, int]:
        return {name.lower(): number for number, name in self.config.id2label.items()}

    def label(self, noun: str) -> int:
        if refusal := self.refusal([noun]):
            raise ValueError(refusal)
        return self.labels[noun if noun in self.labels else OTHER_NAMES[noun]]

    def refusal(self, nouns: Sequence[str]) -> str | None:
        for noun in nouns:
            if noun not in self.labels and OTHER_NAMES.get(noun) not in self.labels:
                return (
                    f"{self.name} knows no {noun!r}; its classes are {', '.join(sorted(self.labels))}. For other objects use "
                    "a detector that finds objects by name (eclipse_pl.scorers.detectors)."
                )
        return None

    def find(self, images: list[Image.Image], nouns: list[list[str]]) -> list[list[Detection]]:
        asked = [{self.label(noun): noun for noun in of_image} for of_image in nouns]
        inputs = self.image_processor(images=images, return_tensors="pt").to(self.device)
        pixels, padding = inputs["pixel_values"], inputs["pixel_mask"]
        output = self.model(pixel_values=pixels.to(self.precision), pixel_mask=padding)
        found: list[list[Detection]] = []
        for i, image in enumerate(images):
            classes = require_finite(output.class_queries_logits[i].float().softmax(-1)[:, list(asked[i])])
            query, which = (classes >= self.threshold).nonzero(as_tuple=True)
            masks = output.masks_queries_logits[i, query].float()
            if len(query):  # masks belong to the padded image
                height, width = (int(padding[i].any(axis).sum()) for axis in (1, 0))
                whole = F.interpolate(masks[None], pixels.shape[2:], mode="bilinear")[..., :height, :width]
                masks = F.interpolate(whole, (image.height, image.width), mode="bilinear")[0]
            confidences = require_finite(classes[query, which] * _mean_inside(masks)).tolist()
            labels = [list(asked[i].values())[number] for number in which.tolist()]
            found.append(
                [
                    Detection(label, confidence, _around(mask), mask)
                    for label, confidence, mask in zip(labels, confidences, (masks > 0).cpu(), strict=True)
                    if confidence >= self.threshold and mask.any()
                ]
            )
        return found


def _mean_inside(masks: Float[Tensor, "queries height width"]) -> Float[Tensor, " queries"]:
    """Mean probability over the pixels of each mask."""
    inside = (masks > 0).float()
    return (masks.sigmoid() * inside).flatten(1).sum(1) / inside.flatten(1).sum(1).clamp(min=1)


def _around(mask: Tensor) -> Box:
    rows, columns = mask.any(1).nonzero().flatten().tolist(), mask.any(0).nonzero().flatten().tolist()
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
