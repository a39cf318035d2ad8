"""SimilarityScorer: how alike a generated image and the reference images of its prompt are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch.nn import functional as F

from eclipse_pl.compbench.reference_images import PromptImages
from eclipse_pl.prompts.prompt import Prompt
from eclipse_pl.scorers.feature_extractors import FeatureExtractor
from eclipse_pl.scorers.features import Features, extract, unreadable_reference
from eclipse_pl.scorers.finite import NotANumber
from eclipse_pl.scorers.network_scorer import NetworkScorer
from eclipse_pl.scorers.scorer import Score


class SimilarityScorer(NetworkScorer):
    """Mean cosine of an image and the reference images of its prompt: the DINO and CLIP-I scores of DreamBooth.

    Published DINO scores use ``DinoFeatures``, and published CLIP-I scores ``ClipFeatures`` with OpenAI's ViT-B/32.

    Args:
        extractor: Network that extracts the features.
        reference: Reference images of the prompts, such as the true image of each caption.
        batch_size: Images scored at a time.
    """

    needs_reference = True

    def __init__(self, extractor: FeatureExtractor, reference: PromptImages, batch_size: int = 32) -> None:
        super().__init__([extractor], batch_size)
        self.extractor, self.reference = extractor, reference
        self._known: dict[str, Features] = {}

    @property
    def name(self) -> str:
        return f"similarity[{self.extractor.name}]"

    @property
    def version(self) -> str:
        return f"{self.extractor.version}, reference {self.reference.identity}"

    def require_prompts(self, prompts: Sequence[Prompt], seed: int) -> None:
        for prompt in prompts:
            self.reference.images_of(prompt)

    def score_batch(self, images: list[Image.Image], prompts: list[Prompt]) -> list[Score]:
        named = {f"{number:09d}": image for number, image in enumerate(images)}
        features, failed = extract(named, self.extractor)
        if failed:
            raise NotANumber(next(iter(failed.values())))
        generated = F.normalize(features.values.double(), dim=1)
        return [self._score(row, self._features_of(prompt)) for row, prompt in zip(generated, prompts, strict=True)]

    def _score(self, image: torch.Tensor, references: Features) -> Score:
        cosines = F.normalize(references.values.double(), dim=1) @ image
        by_name = {name: round(cosine, 4) for name, cosine in zip(references.names, cosines.tolist(), strict=True)}
        return Score(float(cosines.mean()), {"references": by_name})

    def _features_of(self, prompt: Prompt) -> Features:
        """Return the features of the prompt's reference images, which are extracted once."""
        if prompt.id not in self._known:
            features, unreadable = extract(self.reference.images_of(prompt), self.extractor)
            if unreadable:
                raise unreadable_reference(unreadable)
            self._known[prompt.id] = features
        return self._known[prompt.id]

    def close(self) -> None:
        super().close()
        self._known.clear()
