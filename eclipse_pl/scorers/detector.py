"""DetectorScorer: T2I-CompBench's rules of place and count, with a detector that finds the prompt's own nouns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from eclipse_pl.prompts.prompt import Prompt, Relation
from eclipse_pl.scorers.depth import DptDepth
from eclipse_pl.scorers.detections import Detection, best
from eclipse_pl.scorers.detectors import Detector
from eclipse_pl.scorers.network_scorer import NetworkScorer
from eclipse_pl.scorers.numeracy_rules import count_objects, counted_as, numeracy_score
from eclipse_pl.scorers.scorer import Score
from eclipse_pl.scorers.spatial_rules import (
    DEPTH,
    PERSONS,
    RELATIONS,
    cut_off,
    mean_in_box,
    position_2d,
    position_3d,
    spatial_score,
)


class DetectorScorer(NetworkScorer):
    """2D and 3D relations and counts, by the official rules with another detector.

    Official scores come from UniDet. Its 722 words hold both nouns of only 200 of the 300 spatial prompts, and this scorer
    detects the nouns themselves. Its scores are therefore not UniDet's, and its name includes the detector.

    Args:
        detector: Finds the objects.
        depth: Decides which of two objects is nearer. "In front of", "behind" and "hidden by" need it.
        official_cutoff: Count 2D scores below 0.5 as 0.
        official_on_top: Give "on top of" (complex prompts) no points for position, as in the official script. False
            reads it as "on the top of".
        legacy_transposed_depth: Exchange the axes of the depth map, as the official script does.
        batch_size: Images scored at a time.
    """

    def __init__(
        self,
        detector: Detector,
        depth: DptDepth | None = None,
        official_cutoff: bool = True,
        official_on_top: bool = True,
        legacy_transposed_depth: bool = False,
        batch_size: int = 8,
    ) -> None:
        super().__init__([detector] if depth is None else [detector, depth], batch_size)
        self.detector, self.depth = detector, depth
        self.official_cutoff, self.official_on_top = official_cutoff, official_on_top
        self.legacy_transposed_depth = legacy_transposed_depth

    @property
    def name(self) -> str:
        return f"unidet_rules[{self.detector.name}]"

    @property
    def version(self) -> str:
        options = ("official_cutoff", "official_on_top", "legacy_transposed_depth")
        return ", ".join([super().version, *(f"{option} {getattr(self, option)}" for option in options)])

    def covers(self, prompt: Prompt) -> bool:
        """Leave out complex prompts of actions, for which 3-in-1 uses no detector."""
        return not (prompt.category == "complex" and prompt.subset == "action")

    def missing(self, prompt: Prompt) -> str | None:
        if prompt.relation is None:
            # The official script scores a complex prompt of place with an unknown relation as 0.
            placed = prompt.category == "complex" and self.covers(prompt)
            if not prompt.required and not placed:
                return "relation and no counted objects"
        elif prompt.relation.name not in RELATIONS:
            return f"relation among {', '.join(RELATIONS)} (it has {prompt.relation.name!r})"
        elif self._lacks_depth(prompt):
            return f"relation without depth (it has {prompt.relation.name!r}, and the scorer's `depth` is null)"
        return "nouns that the detector knows" if self.detector.refusal(_nouns(prompt)) else None

    def _lacks_depth(self, prompt: Prompt) -> bool:
        return self.depth is None and prompt.relation is not None and prompt.relation.name in DEPTH

    def require_prompts(self, prompts: Sequence[Prompt], seed: int) -> None:
        for prompt in prompts:
            if self._lacks_depth(prompt):
                raise ValueError(
                    f"Prompt {prompt.id} ({prompt.text!r}) asks which object is nearer, and {self.name} has no depth model: "
                    "set the scorer's `depth` (eclipse_pl.scorers.depth.DptDepth), or give it other categories."
                )
            if refusal := self.detector.refusal(_nouns(prompt)):
                raise ValueError(f"Prompt {prompt.id} ({prompt.text!r}): {refusal}")

    def score_batch(self, images: list[Image.Image], prompts: list[Prompt]) -> list[Score]:
        found = self.detector.detect(images, [_nouns(prompt) for prompt in prompts])
        deep = [i for i, prompt in enumerate(prompts) if prompt.relation and prompt.relation.name in DEPTH]
        maps = dict(zip(deep, self.depth.nearness([images[i] for i in deep]), strict=True)) if self.depth and deep else {}
        scores = []
        for i, (image, prompt, detections) in enumerate(zip(images, prompts, found, strict=True)):
            if prompt.relation is not None:
                value, why = self.place(image, prompt.relation, detections, maps.get(i))
            elif prompt.required:
                value, why = self.count(image, prompt, detections)
            else:
                value, why = 0.0, {"rule": "spatial_2d", "relation": None}
            boxes = [detection.evidence() for detection in detections]
            scores.append(Score(value, {**why, "size": list(image.size), "boxes": boxes}))
        return scores

    def count(self, image: Image.Image, prompt: Prompt, detections: list[Detection]) -> tuple[float, dict[str, Any]]:
        counts = count_objects(prompt.required, detections, pixel=max(image.size) / 479)
        wanted = {counted_as(required.noun): [required.count, n] for required, n in zip(prompt.required, counts, strict=True)}
        return numeracy_score(prompt.required, counts), {"rule": "numeracy", "asked_and_counted": wanted}

    def place(
        self, image: Image.Image, relation: Relation, detections: list[Detection], nearness: Any
    ) -> tuple[float, dict[str, Any]]:
        first, second = _pair(relation, detections)
        position = 0.0
        why: dict[str, Any] = {"rule": "spatial_2d" if nearness is None else "spatial_3d", "relation": relation.name}
        if first and second and nearness is None:
            name = "on the top of" if relation.name == "on top of" and not self.official_on_top else relation.name
            position = position_2d(name, first.box, second.box, max(image.size))
        elif first and second:
            depth = nearness.T if self.legacy_transposed_depth else nearness
            nearer = mean_in_box(depth, first.box) - mean_in_box(depth, second.box)
            position = position_3d(relation.name, first.box, second.box, nearer)
            why["nearer"] = round(nearer, 4)
        score = spatial_score(first, second, position)
        if nearness is None and self.official_cutoff:
            score = cut_off(score)
        scored = [object_ and object_.evidence() for object_ in (first, second)]
        return score, {**why, "position": round(position, 4), "scored": scored}


def _nouns(prompt: Prompt) -> list[str]:
    """Return the nouns that the detector looks for, each once."""
    if prompt.relation is not None:
        nouns = [PERSONS.get(noun, noun) for noun in (prompt.relation.first, prompt.relation.second)]
    else:
        nouns = [counted_as(required.noun) for required in prompt.required]
    return list(dict.fromkeys(nouns))


def _pair(relation: Relation, detections: list[Detection]) -> tuple[Detection | None, Detection | None]:
    """Return the most confident box of each noun. For two objects of one noun, the official script takes one box twice.

    This function takes the noun's two best boxes.
    """
    first, second = (PERSONS.get(noun, noun) for noun in (relation.first, relation.second))
    firsts, seconds = best(detections, first), best(detections, second)
    if first == second:
        seconds = seconds[1:]
    return (firsts[0] if firsts else None), (seconds[0] if seconds else None)
