"""Boxes of a detector: their overlap, and the suppression of duplicates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool
from torch import Tensor


@dataclass(frozen=True)
class Box:
    """In pixels of the image, y downwards."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float

    @property
    def width(self) -> float:
        return self.x_max - self.x_min

    @property
    def height(self) -> float:
        return self.y_max - self.y_min

    @property
    def centre(self) -> tuple[float, float]:
        return (self.x_min + self.x_max) / 2, (self.y_min + self.y_max) / 2

    def area(self, pixel: float = 0.0) -> float:
        """Return the area. COCO's older tools count corners as whole pixels: they add one ``pixel`` to each side."""
        return (self.width + pixel) * (self.height + pixel)


@dataclass(frozen=True, eq=False)
class Detection:
    """One object: its noun, the detector's confidence, and its box."""

    label: str
    confidence: float
    box: Box
    mask: Bool[Tensor, "height width"] | None = None
    """Pixels of the object, from detectors with masks."""

    def evidence(self) -> dict[str, Any]:
        box = self.box
        corners = [round(value, 1) for value in (box.x_min, box.y_min, box.x_max, box.y_max)]
        return {"label": self.label, "confidence": round(self.confidence, 4), "box": corners}


def intersection(a: Box, b: Box, pixel: float = 0.0) -> float:
    width = min(a.x_max, b.x_max) - max(a.x_min, b.x_min) + pixel
    height = min(a.y_max, b.y_max) - max(a.y_min, b.y_min) + pixel
    return max(0.0, width) * max(0.0, height)


def iou(a: Box, b: Box, pixel: float = 0.0) -> float:
    """Intersection over union, and 0 for two boxes without area."""
    common = intersection(a, b, pixel)
    union = a.area(pixel) + b.area(pixel) - common
    return common / union if union > 0 else 0.0


def best(detections: Iterable[Detection], label: str) -> list[Detection]:
    """Return the detections of one label, the most confident first."""
    return sorted((d for d in detections if d.label == label), key=lambda d: -d.confidence)


def suppress(detections: Sequence[Detection], threshold: float) -> list[Detection]:
    """Non-maximum suppression within each label: of boxes with an IoU above ``threshold`` it keeps the most confident one."""
    kept: list[Detection] = []
    for candidate in sorted(detections, key=lambda d: -d.confidence):
        if not any(d.label == candidate.label and iou(d.box, candidate.box) > threshold for d in kept):
            kept.append(candidate)
    return kept


def deduplicate(detections: Sequence[Detection], pixel: float) -> list[Detection]:
    """Drop duplicates as T2I-CompBench does: boxes of a label whose IoU, or whose covered part, is above 0.9."""
    kept: list[Detection] = []
    for candidate in detections:
        if not any(d.label == candidate.label and _is_one_object(d.box, candidate.box, pixel) for d in kept):
            kept.append(candidate)
    return kept


def _is_one_object(a: Box, b: Box, pixel: float) -> bool:
    common = intersection(a, b, pixel)
    return iou(a, b, pixel) > 0.9 or common > 0.9 * a.area(pixel) or common > 0.9 * b.area(pixel)
